"""`cnn augment`: a row for each augmentation of a recipe, on pictures of its data."""

import numpy as np
import pytest
from PIL import Image

from cnn_keras.errors import Fault
from pipelines.analysis import augmentation_preview as seeing
from pipelines.engine import recipe as recipes
from tests.conftest import cnn, write_digits

RECIPE = """\
task: classify
data: {source: folder, path: photos, size: [28, 28], channels: 1}
augment: [{affine: {rotate: 20}}, mirror, mixup]
model: {builder: lenet.lenet5_modern}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("augment")
    write_digits(folder / "photos", classes=3, each=4)
    (folder / "photos" / "0" / "broken.png").write_bytes(b"no picture")
    path = folder / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def rows(monkeypatch):
    """What would be drawn: (title, pictures) of each row."""
    drawn = []
    monkeypatch.setattr("pipelines.plots.image_grid.augmentation_sheet", lambda rows, path: drawn.extend(rows) or path)
    return drawn


def test_the_sheet_is_written_where_one_says(recipe, tmp_path, capsys):
    assert cnn("augment", recipe, "--output", tmp_path / "sheet.png") == 0
    assert f"wrote {tmp_path / 'sheet.png'}" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 800


def test_there_is_a_row_for_each_augmentation_and_one_for_all(recipe, rows, tmp_path):
    seeing.sheet(recipes.load(str(recipe)), tmp_path / "sheet.png")
    assert [title for title, _ in rows] == ["affine   rotate: 20", "mirror", "mixup", "all of them, as in training"]
    for _, images in rows:
        assert len(images) == seeing.DRAWN + 1
        assert {image.shape for image in images} == {(28, 28, 1)}
        assert len({np.asarray(image).tobytes() for image in images}) > 1


def test_the_first_pictures_are_of_different_classes(recipe):
    loaded = recipes.load(str(recipe))
    examples = seeing._examples(loaded, (28, 28))
    assert len({example["image"].tobytes() for example in examples}) == seeing.DRAWN
    assert [item.label for item in seeing._spread([*map(Labelled, "aaabbc")])] == ["a", "b", "c", "a", "b", "a"]


class Labelled:
    def __init__(self, label):
        self.label = label


@pytest.mark.slow
def test_every_augmentation_can_be_shown_with_its_boxes_and_masks(recipe, rows, tmp_path):
    from cnn_keras.data.transforms import augment

    seeing.sheet(recipes.load(str(recipe)), tmp_path / "sheet.png", every=True, marks=True)
    colour_only = {"saturate", "pca_colour", "grey", "rand_augment"}
    assert {title.split()[0] for title, _ in rows} == augment.catalogue().keys() - colour_only
    marked = dict(rows)["flip"][0]
    assert marked.shape == (168, 168, 3)  # enlarged, so that thin lines are thin
    assert (marked == seeing.BOX).all(axis=-1).any()


def test_marks_are_drawn_where_they_are():
    image = np.full((200, 200, 3), 250, np.uint8)
    mask = np.zeros((200, 200), np.uint8)
    mask[100:150, 100:150] = 1
    boxes = [[0.1, 0.2, 0.4, 0.5], [0, 0, 0, 0]]
    drawn = seeing._marked({"image": image, "mask": mask, "boxes": boxes})
    rows, columns = np.nonzero((drawn == seeing.BOX).all(axis=-1))
    assert (rows.min(), columns.min(), rows.max(), columns.max()) == (40, 20, 99, 79)
    assert (drawn[120, 120] != 250).any()
    assert (drawn[160, 160] == 250).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "augment=[]"], "augment must list at least one augmentation, got none"),
        (["--output", "sheet.jpg"], "--output must end in .png, got sheet.jpg"),
        (["--set", "augment=[miror]"], "augment.miror: unknown augmentation; did you mean mirror?"),
        (["--output", "no.yaml/sheet.png"], "--output must be a file that can be written, got no.yaml/sheet.png"),
    ],
)
def test_what_cannot_be_drawn_is_a_fault(recipe, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no.yaml").write_text("a file, not a folder")
    assert cnn("augment", recipe, *arguments) == Fault.INPUT
    assert message in " ".join(capsys.readouterr().err.split())
