"""Preparing pictures with masks: what is wrong is told and counted, numbers mean what they should, facts are true."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnn_keras.data import input_pipeline
from cnn_keras.errors import Fault
from cnn_keras.losses import segmentation
from pipelines.data import validation
from pipelines.data.validation import Problem
from pipelines.tasks.segment import dataset, records
from pipelines.tasks.segment.config import Composites, Data, files_digest


def run_of(**data):
    data = Data(**{"source": "folder", "size": (32, 32), **data})
    recipe = SimpleNamespace(data=data, seed=0, fold=None, train=SimpleNamespace(batch_size=4))
    console = Console(file=io.StringIO(), width=200)
    return SimpleNamespace(recipe=recipe, console=console, share=(0, 1), parallel_map=None, training_facts=None)


def prepared(tmp_path, **data):
    run = run_of(**{"path": tmp_path / "source", **data})
    (tmp_path / "prepare").mkdir(parents=True)
    facts = dataset.prepare(run, tmp_path / "prepare")
    run.finished, run.facts = (lambda stage: tmp_path / "prepare"), (lambda stage: facts)
    return run, facts, run.console.file.getvalue()


def write_scenes(folder, count=12, values=(0, 1, 2)):
    """Pictures of three sizes, each with a square of one class and a disc of another, and their masks."""
    drawn = np.random.default_rng(0)
    for number in range(count):
        height, width = ((24, 40), (40, 24), (32, 32))[number % 3]
        mask = np.full((height, width), values[0], np.uint8)
        y, x = np.mgrid[:height, :width]
        mask[4:14, 4:14] = values[1]
        mask[(y - height + 8) ** 2 + (x - width + 8) ** 2 < 25] = values[2]
        pixels = drawn.integers(0, 60, (height, width, 3)).astype(np.uint8)
        pixels[mask == values[1]] = (220, 30, 30)
        pixels[mask == values[2]] = (30, 30, 220)
        for name, array in (("images", pixels), ("masks", mask)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / f"{number:02d}.png")


def listed(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("whole")
    write_scenes(tmp_path / "source")
    return tmp_path / "prepare", *prepared(tmp_path, classes=("ground", "square", "disc"), fit="pad")


def test_what_is_prepared_is_counted_and_drawn(whole):
    folder, _, facts, said = whole
    assert facts["classes"] == ["ground", "square", "disc"]
    assert sum(facts["splits"].values()) == 12
    assert sum(pixels["square"] for pixels in facts["pixels"].values()) == 12 * 100
    assert facts["problems"] == {}
    for name in ("contact_sheet.png", "class_balance.png", "split.csv", "data.json"):
        assert (folder / name).stat().st_size > 0
    assert "3 classes: 9 train, 1 validation, 2 test" in said
    assert "pictures of 24×40 (4), 40×24 (4), 32×32 (4) become 32×32 (pad)" in said
    assert {row["size"] for row in listed(folder / "split.csv")} == {"24x40", "40x24", "32x32"}


def test_masks_are_recorded_by_class_and_read_as_they_came(whole):
    folder, run, _, _ = whole
    for one in records.examples(run.recipe, folder, "train"):
        assert one.image.shape[:2] == one.truth.shape
        for number, colour in ((1, (220, 30, 30)), (2, (30, 30, 220))):
            assert (one.image[one.truth == number] == colour).all()
        assert set(np.unique(one.mask)) == {1, 2, 3}


def test_batches_are_framed_alike_and_what_lies_beyond_is_not_known(whole):
    _, run, facts, _ = whole
    seen = 0
    for given in records.ordered_batches(run, "train", patches=None):
        images, masks = given["image"].numpy(), given["mask"].numpy()
        assert images.shape == (len(images), 32, 32, 3)
        assert masks.shape == (len(images), 32, 32, 1)
        red = images[..., 0] > 200
        assert (masks[red] == 2).mean() > 0.9
        assert not images[masks[..., 0] == 0].any()  # black, beyond the picture
        seen += len(images)
    assert seen == facts["splits"]["train"]


def test_training_batches_depend_on_the_seed_alone(whole):
    _, run, _, _ = whole
    first, again = (next(iter(records.training(run, range(1), None, patches=None, stored=None))) for _ in range(2))
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["mask"], again["mask"])


def test_everything_wrong_with_masks_is_told_by_kind(tmp_path):
    write_scenes(tmp_path / "source", count=20)
    masks = tmp_path / "source" / "masks"
    odd = np.array(Image.open(masks / "00.png"))
    odd[0, :5] = 77
    Image.fromarray(odd).save(masks / "00.png")
    Image.fromarray(odd[:-1]).save(masks / "03.png")
    (masks / "04.png").unlink()
    (masks / "05.png").write_bytes(b"no picture")
    (tmp_path / "source" / "images" / "06.png").write_bytes(b"no picture")
    void = np.array(Image.open(masks / "07.png"))
    void[:2] = 255
    Image.fromarray(void).save(masks / "07.png")
    _, facts, said = prepared(tmp_path, classes=("ground", "square", "disc"), max_bad=0.3)
    kinds = ["mask of another size", "without a mask", "unreadable mask", "undecodable", "unknown number"]
    assert facts["problems"] == dict.fromkeys(kinds, 1)
    assert all(f"1 {kind}" in said for kind in kinds)
    rows = {row["kind"]: row for row in listed(tmp_path / "prepare" / "problems.csv")}
    assert rows["unknown number"]["detail"] == "77 (5 pixels)"
    assert (rows["unknown number"]["action"], rows["without a mask"]["action"]) == ("pixels ignored", "dropped")
    assert sum(facts["splits"].values()) == 16


def test_many_unknown_pixels_are_refused(tmp_path):
    write_scenes(tmp_path / "source")
    with pytest.raises(Fault, match=r"data.max_bad must be at least the share of pixels.*name them in data.classes"):
        prepared(tmp_path, classes={0: "ground", 1: "square"}, max_bad=0.01)


def test_many_unusable_masks_are_refused(tmp_path):
    write_scenes(tmp_path / "source")
    for file in (tmp_path / "source" / "masks").glob("0[0-5].png"):
        file.unlink()
    with pytest.raises(Fault, match=r"data.max_bad must be at least the share of unusable files"):
        prepared(tmp_path)


@pytest.mark.parametrize(
    ("values", "data", "classes"),
    [
        ((0, 255, 255), {}, ["0", "255"]),  # nothing else: 255 is no void
        ((0, 7, 9), {}, ["0", "7", "9"]),
        ((0, 7, 255), {}, ["0", "7"]),
        ((0, 7, 255), {"ignore": None}, ["0", "7", "255"]),
        ((0, 128, 255), {"classes": {0: "ground", 128: "square", 255: "disc"}}, ["ground", "square", "disc"]),
        ((0, 1, 2), {"classes": {0: "ground", 1: "thing", 2: "thing"}}, ["ground", "thing"]),
    ],
)
def test_numbers_mean_what_the_recipe_says_or_are_classes_themselves(tmp_path, values, data, classes):
    write_scenes(tmp_path / "source", values=values)
    _, facts, _ = prepared(tmp_path, **data)
    assert facts["classes"] == classes
    assert min(facts["pixels"]["train"].values()) > 0


def test_a_folder_of_which_nothing_can_be_used_says_why(tmp_path):
    write_scenes(tmp_path / "source")
    for file in (tmp_path / "source" / "masks").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(Fault, match=r"share of unusable files.*12 of 12"):
        prepared(tmp_path)
    assert {row["kind"] for row in listed(tmp_path / "problems.csv")} == {"unreadable mask"}


def test_a_mask_of_one_number_is_a_fault(tmp_path):
    write_scenes(tmp_path / "source", values=(0, 0, 0))
    with pytest.raises(Fault, match=r"masks of 2 to 254 classes, got 1: 0; data.classes names the numbers"):
        prepared(tmp_path)


def test_a_mask_that_is_a_picture_is_no_mask(tmp_path):
    write_scenes(tmp_path / "source")
    noise = np.random.default_rng(0).integers(0, 2**16, (24, 40)).astype(np.uint16)
    Image.fromarray(noise).save(tmp_path / "source" / "masks" / "00.png")
    _, facts, said = prepared(tmp_path, max_bad=0.2)
    assert facts["problems"] == {"unreadable mask": 1}
    assert "different numbers" in said


def test_borders_are_recorded_as_the_weight_of_ground_between_things(tmp_path):
    write_scenes(tmp_path / "source")
    run, _, _ = prepared(tmp_path, classes=("ground", "square", "disc"), borders=12.0)
    one = next(records.examples(run.recipe, tmp_path / "prepare", "train"))
    expected = segmentation.border_weights(one.truth, sigma=12.0)  # each class has one thing
    np.testing.assert_allclose(one.mask[..., 1] / 255, expected, atol=0.5 / 255 + 1e-6)
    assert one.mask[..., 1].max() > 100
    given = next(iter(records.ordered_batches(run, "train", patches=None)))
    assert given["mask"].shape[-1] == 2
    assert set(input_pipeline.mask_example(borders=True).features) == {"id", "image", "mask", "borders"}


def test_the_normalisation_is_that_of_the_training_pixels(whole):
    folder, run, facts, _ = whole
    pixels = np.concatenate([one.image.reshape(-1, 3) for one in records.examples(run.recipe, folder, "train")])
    np.testing.assert_allclose(facts["normalization"]["mean"], pixels.mean(axis=0))
    np.testing.assert_allclose(facts["normalization"]["variance"], pixels.var(axis=0))


def test_groups_stay_in_one_split(tmp_path):
    write_scenes(tmp_path / "source", count=18)
    prepared(tmp_path, group=r"\d(\d)\.png")
    splits = {}
    for row in listed(tmp_path / "prepare" / "split.csv"):
        splits.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"size": (8, 8, 8)}, "fit must be patch for volumes"),
        ({"size": (8, 8, 8), "fit": "patch", "normalize": "rescale"}, "normalize must be standardise or each"),
        ({"channels": 2}, "channels must be 1 or 3"),
        ({"normalize": "each"}, "must be standardise or rescale for pictures"),
        ({"balance": 0.5}, "require fit: patch"),
    ],
)
def test_settings_that_do_not_fit_are_refused(data, told):
    with pytest.raises(ValueError, match=told):
        Data(source="folder", **data)


def test_names_that_go_with_nothing_are_refused():
    with pytest.raises(Fault, match=r"data\.classes goes with masks in a folder or painted things"):
        dataset.load_source(Data(source="nuclei", classes=("a", "b")), 0)
    with pytest.raises(Fault, match=r"data\.composites .*source: composites"):
        dataset.load_source(Data(source="nuclei", composites=Composites()), 0)
    with pytest.raises(Fault, match=r"data.path is required with source: folder"):
        files_digest(Data(source="folder"))


def test_volumes_are_written_whole_and_read_again(tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="`make samples` installs nibabel")
    for number in range(5):
        values = np.random.default_rng(number).normal(size=(6, 5 + number, 4)).astype(np.float32)
        for name, data in (("images", values), ("labels", (values > 0).astype(np.uint8))):
            (tmp_path / "source" / name).mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "source" / name / f"{number}.nii.gz")
    run, facts, said = prepared(
        tmp_path, size=(4, 4, 4), channels=1, fit="patch", normalize="each", validation=0.2, classes=("low", "high")
    )
    assert facts["normalization"] is None
    assert "and 2 other sizes from 6×5×4 to 6×9×4 are read in patches of 4×4×4" in said
    first = next(records.examples(run.recipe, tmp_path / "prepare", "train"))
    np.testing.assert_array_equal(first.truth, first.image[..., 0] > 0)
    held = records.store(run, "train")
    assert held.images.shape == (sum(facts["pixels"]["train"].values()), 1)
    first_held = held.images[: held.starts[1]] if len(held.starts) > 1 else held.images
    assert float(np.mean(first_held)) == pytest.approx(0, abs=1e-5)
    assert float(np.std(first_held)) == pytest.approx(1, abs=1e-4)


def test_what_does_not_fit_into_memory_is_refused_with_the_remedy(whole):
    folder, run, _, _ = whole
    data = run.recipe.data.model_copy(update={"memory_gb": 1e-6, "fit": "patch"})
    small = SimpleNamespace(recipe=SimpleNamespace(data=data, seed=0), finished=lambda stage: folder)
    with pytest.raises(Fault, match=r"data\.memory_gb must be at least.*fit: pad, which streams"):
        records.store(small, "train")


@pytest.mark.parametrize("given", [("ground", "thing"), None])
def test_masks_of_0_and_255_are_the_two_classes_of_a_list(tmp_path, given):
    write_scenes(tmp_path / "source", values=(0, 255, 255))
    if given is None:
        (tmp_path / "source" / "classes.txt").write_text("ground\nthing\n")
    _, facts, said = prepared(tmp_path, **({"classes": given} if given else {}))
    assert facts["classes"] == ["ground", "thing"]
    assert facts["pixels"]["train"]["thing"] > 0
    assert "masks hold two numbers: 0 is ground, 255 is thing" in said


def test_pixels_that_are_ignored_are_told_by_number_and_count(tmp_path):
    write_scenes(tmp_path / "source", values=(0, 1, 255))
    _, _, said = prepared(tmp_path, classes=("ground", "square"))
    assert "of no class, and not evaluated: 255 7.0%" in said
    with pytest.raises(Fault, match=r"got 5% and 7%: 255 7\.0%; masks hold 0 82\.8%.*\{0: background, 1: object\}"):
        prepared(tmp_path / "again", path=tmp_path / "source", classes=("ground", "square"), max_bad=0.05)


def test_a_model_that_would_never_see_the_object_is_not_trained(tmp_path):
    write_scenes(tmp_path / "source", values=(0, 0, 255))
    with pytest.raises(Fault, match=r"two classes or more of ground, square, disc, got ground alone; they hold 0 9\d"):
        prepared(tmp_path, classes=("ground", "square", "disc"))


def test_shades_between_0_and_255_are_no_classes(tmp_path):
    write_scenes(tmp_path / "source", values=(0, 255, 255))
    for file in (tmp_path / "source" / "masks").iterdir():
        values = np.array(Image.open(file))
        values[4, 4:8], values[5, 4:8] = 37, 100
        Image.fromarray(values).save(file)
    with pytest.raises(
        Fault, match=r"looks like 0 and 255 with shades .* data\.classes=\{0: background, 255: object\}"
    ):
        prepared(tmp_path)
    _, facts, said = prepared(tmp_path / "named", path=tmp_path / "source", classes={0: "ground", 255: "thing"})
    assert facts["problems"] == {"unknown number": 12}
    assert "of no class, and not evaluated: 37 0.4%, 100 0.4%" in said


def test_colours_are_named_by_the_recipe(tmp_path):
    write_scenes(tmp_path / "source")
    palette = np.array([[9, 0, 0], [0, 200, 0], [255, 255, 255]], np.uint8)
    for file in (tmp_path / "source" / "masks").iterdir():
        Image.fromarray(palette[np.array(Image.open(file))]).save(file)
    named = {"#090000": "ground", "#00c800": "square", "255": "disc"}  # a recipe's keys are texts
    _, facts, _ = prepared(tmp_path, classes=named)
    assert facts["classes"] == ["ground", "square", "disc"]
    assert sum(pixels["square"] for pixels in facts["pixels"].values()) == 12 * 100


def test_pictures_without_an_annotation_count_as_unusable(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    problems = [Problem("without annotation", f"{number}.png", taken="kept as background") for number in range(3)]
    (tmp_path / "prepare").mkdir()
    with pytest.raises(Fault, match=r"got 10% and 3 of 20 unusable"):
        validation.report(problems, 20, path=tmp_path / "prepare" / "problems.csv", max_bad=0.1, console=console)
    validation.report(problems, 30, path=tmp_path / "problems.csv", max_bad=0.1, console=console)
