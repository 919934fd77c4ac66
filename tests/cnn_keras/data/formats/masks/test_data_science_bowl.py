"""A folder for each picture with a mask for each thing: boxes and masks are those of the pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data import run_length
from cnn_keras.data.sources import segmentation
from cnn_keras.errors import Fault
from tests.cnn_keras.data.sources.test_detection import picture, put, read


def mask(*parts, size=(20, 40)):
    values = np.zeros(size, np.uint8)
    for top, bottom, left, right in parts:
        values[top:bottom, left:right] = 255
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


def nuclei(folder):
    for name, things in {"3f": [(2, 6, 3, 9), (10, 15, 20, 33)], "a0": [(0, 20, 0, 40)], "empty": []}.items():
        put(folder / f"stage1_train/{name}/images/{name}.png", picture())
        for number, one in enumerate(things):
            put(folder / f"stage1_train/{name}/masks/{number:02}.png", mask(one))
    return folder


def test_every_mask_is_one_thing_with_the_box_of_its_pixels(tmp_path):
    found = read("dsb", nuclei(tmp_path))
    first, second, bare = found.items
    assert found.classes == ("nucleus",)
    assert first.id == "stage1_train/3f/images/3f.png"
    assert [one.box for one in first.objects] == [(3, 2, 9, 6), (20, 10, 33, 15)]
    assert [int(run_length.decode(one.mask).sum()) for one in first.objects] == [24, 65]
    assert second.objects[0].box == (0, 0, 40, 20)
    assert [kind for kind, _ in bare.troubles] == ["without annotation"]


def test_segmentation_paints_the_things_and_tells_them_apart(tmp_path):
    found = segmentation.load("dsb", path=nuclei(tmp_path))
    painted = found.items[0].mask((20, 40))
    assert found.names == {0: "background", 1: "nucleus"}
    assert (painted.values == 1).sum() == 24 + 65
    assert len(np.unique(painted.instances)) == 3


def test_a_broken_or_an_empty_mask_is_one_trouble(tmp_path):
    nuclei(tmp_path)
    put(tmp_path / "stage1_train/3f/masks/02.png", b"none")
    put(tmp_path / "stage1_train/3f/masks/03.png", mask())
    item = read("dsb", tmp_path).items[0]
    assert [kind for kind, _ in item.troubles] == ["malformed annotation"] * 2
    assert len(item.objects) == 2


def test_other_folders_are_refused_and_folders_of_masks_name_the_source(tmp_path):
    put(tmp_path / "elsewhere/a.png", picture())
    with pytest.raises(Fault, match="images/ and masks/"):
        read("dsb", tmp_path / "elsewhere")
    with pytest.raises(Fault, match=r"data\.source=dsb"):
        segmentation.load("folder", path=nuclei(tmp_path / "nuclei"))
