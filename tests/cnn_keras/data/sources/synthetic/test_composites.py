"""Composites: exact boxes and masks, the same scenes for a seed, and splits that share no cut-out."""

import importlib.util
import io
import os

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data import annotation, run_length
from cnn_keras.data.sources import detection
from cnn_keras.data.sources.synthetic import composites
from cnn_keras.errors import Fault


def pixels(item):
    return np.asarray(Image.open(io.BytesIO(item.read())))


@pytest.fixture(scope="module")
def scenes():
    return detection.load("composites", count=40, side=96)


def test_every_split_has_its_share_of_scenes_of_ten_classes(scenes):
    assert scenes.classes == tuple("0123456789")
    assert [sum(item.split == split for item in scenes.items) for split in ("train", "validation", "test")] == [
        28,
        4,
        8,
    ]
    assert len({item.id for item in scenes.items}) == 40
    assert all(1 <= len(item.objects) <= 5 for item in scenes.items)


def test_boxes_are_those_of_the_masks_and_masks_do_not_overlap(scenes):
    for item in scenes.items:
        decoded = [run_length.decode(one.mask) for one in item.objects]
        assert sum(mask.astype(int) for mask in decoded).max() == 1
        for one, mask in zip(item.objects, decoded, strict=True):
            rows, columns = np.nonzero(mask)
            assert one.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_what_is_seen_through_the_mask_is_handwriting_that_stands_out(scenes):
    """The ink differs from the photograph around it, and is one colour."""
    for item in scenes.items[:10]:
        image = pixels(item).astype(float)
        assert image.shape == (96, 96, 3)
        for one in item.objects:
            mask = run_length.decode(one.mask)
            left, top, right, bottom = (int(edge) for edge in one.box)
            inside = image[top:bottom, left:right]
            around = inside[~mask[top:bottom, left:right]]
            ink = np.median(inside[mask[top:bottom, left:right]], axis=0)
            assert len(around) == 0 or np.abs(ink - around.mean(axis=0)).max() > 25


def test_a_seed_gives_the_same_scenes_and_another_one_others(scenes):
    same = composites.read(count=40, side=96).items
    other = composites.read(count=40, side=96, seed=1).items
    assert [item.objects for item in same] == [item.objects for item in scenes.items]
    assert same[3].read() == scenes.items[3].read()
    assert sum(one.objects == two.objects for one, two in zip(same, other, strict=True)) == 0


def test_splits_share_no_cutout(monkeypatch):
    used = {}
    real = composites._scene

    def watched(stock, layout, seed, number):
        used.setdefault(id(stock), stock)
        return real(stock, layout, seed, number)

    monkeypatch.setattr(composites, "_scene", watched)
    composites.read(count=20, side=64)
    stocks = list(used.values())
    seen = [{one.tobytes() for options in stock.cutouts.values() for one in options} for stock in stocks]
    assert len(stocks) == 3
    assert sum(map(len, seen)) == len(set.union(*seen)) > 1700


def test_a_folder_of_cutouts_is_pasted_as_it_is(tmp_path):
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        for number in range(4):
            cutout = np.zeros((20, 30, 4), np.uint8)
            cutout[5:15, 3:27] = (*colour, 255)
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(cutout, "RGBA").save(tmp_path / name / f"{number}.png")
    found = composites.read(count=10, side=64, cutouts="folder", path=tmp_path, things=(2, 3))
    assert found.classes == ("blue", "red")
    for item in found.items:
        image = pixels(item)
        for one in item.objects:
            colour = np.median(image[run_length.decode(one.mask)], axis=0)
            assert (colour.argmax(), one.name) in ((0, "red"), (2, "blue"))


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), os.mkfifo])
def test_a_cutout_that_cannot_be_read_is_named(tmp_path, make):
    (tmp_path / "red").mkdir()
    make(tmp_path / "red" / "broken.png")
    with pytest.raises(Fault, match=r"red/broken\.png must be a readable picture") as fault:
        composites.read(count=10, side=64, cutouts="folder", path=tmp_path)
    assert fault.value.code == Fault.DATA


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 3}, "count"),
        ({"things": (3, 1)}, "things"),
        ({"scale": (0.0, 0.5)}, "scale"),
        ({"side": 8}, "side"),
        ({"cutouts": "folder"}, "sub-folder of cut-outs"),
        ({"cutouts": "letters"}, "digits, mnist5k or folder"),
        ({"backgrounds": "sky"}, "sklearn or skimage"),
    ],
)
def test_settings_that_make_no_scene_are_faults(arguments, message):
    with pytest.raises(Fault, match=message):
        composites.read(**arguments)


@pytest.mark.skipif(not importlib.util.find_spec("deepforest"), reason="`make samples` installs deepforest")
def test_the_trees_are_all_there_one_photograph_is_held_out_and_one_part_validates():
    found = detection.load("deepforest")
    assert found.classes == ("tree",)
    assert [(item.split, len(item.objects)) for item in found.items] == [
        ("train", 61), ("train", 37), ("train", 447), ("validation", 127), ("test", 279),
    ]  # fmt: skip
    assert sum(len(item.objects) for item in found.items) == 951
    for item in found.items:
        assert annotation.image_size is not None
        height, width = item.size
        assert all(
            0 <= one.box[0] < one.box[2] <= width and 0 <= one.box[1] < one.box[3] <= height for one in item.objects
        )
    assert pixels(found.items[0]).shape == (400, 400, 3)
