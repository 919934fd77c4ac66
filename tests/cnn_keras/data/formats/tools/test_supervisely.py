"""Supervisely's projects: rectangles, polygons with holes, and bitmaps at an origin."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data import run_length
from cnn_keras.data.sources import segmentation
from cnn_keras.errors import Fault
from tests.cnn_keras.data.sources.test_detection import picture, put, read


def shape(kind, *exterior, interior=(), name="bolt"):
    return {"classTitle": name, "geometryType": kind, "points": {"exterior": exterior, "interior": interior}}


def bitmap(inside, origin, *, indexed=True):
    """As Supervisely writes it: an indexed PNG file whose first colour is clear; or one of grey."""
    image = Image.fromarray(inside.astype(np.uint8) * (1 if indexed else 255))
    options = {}
    if indexed:
        image.putpalette([0, 0, 0, 255, 255, 255])
        options = {"transparency": 0}
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    data = base64.b64encode(zlib.compress(out.getvalue())).decode()
    return {"classTitle": "nut", "geometryType": "bitmap", "bitmap": {"data": data, "origin": origin}}


def project(folder, *objects, size=(20, 40), name="a.png.json"):
    classes = [
        {"title": "nut", "shape": "bitmap"},
        {"title": "bolt", "shape": "any"},
        {"title": "tip", "shape": "point"},
    ]
    put(folder / "meta.json", json.dumps({"classes": classes, "tags": [], "projectType": "images"}))
    put(folder / "train/img/a.png", picture())
    put(folder / "val/img/b.png", picture(shade=7))
    document = {"description": "", "size": {"height": size[0], "width": size[1]}, "objects": objects}
    put(folder / "train/ann" / name, json.dumps(document))
    return folder


@pytest.mark.parametrize("name", ["a.png.json", "a.json"])
def test_rectangles_and_polygons_are_read_and_data_sets_are_splits(tmp_path, name):
    triangle = shape("polygon", [0, 0], [20, 0], [0, 20])
    path = project(tmp_path, shape("rectangle", [2, 3], [9, 7]), triangle, name=name)
    put(path / "val/ann/b.png.json", json.dumps({"size": {"height": 20, "width": 40}, "objects": []}))
    found = read("supervisely", path)
    assert found.classes == ("nut", "bolt")
    assert [(item.id, item.split) for item in found.items] == [
        ("train/img/a.png", "train"),
        ("val/img/b.png", "validation"),
    ]
    first, second = found.items[0].objects
    assert (first.name, first.box) == ("bolt", (2, 3, 10, 8))  # the second corner is the last pixel
    assert run_length.rasterize(first.mask, (20, 40)).sum() == 8 * 5
    assert (second.box, second.mask) == ((0, 0, 20, 20), ((0, 0, 20, 0, 0, 20),))


@pytest.mark.parametrize("indexed", [True, False])
def test_bitmaps_lie_at_their_origin_and_holes_are_left_out(tmp_path, indexed):
    inside = np.array([[0, 1, 1], [1, 1, 0]], bool)
    square = shape("polygon", [4, 4], [16, 4], [16, 16], [4, 16], interior=[[[8, 8], [12, 8], [12, 12], [8, 12]]])
    path = project(tmp_path, bitmap(inside, [30, 5], indexed=indexed), square)
    cat, ring = read("supervisely", path).items[0].objects
    assert (cat.name, cat.box) == ("nut", (30, 5, 33, 7))
    whole = np.zeros((20, 40), bool)
    whole[5:7, 30:33] = inside
    np.testing.assert_array_equal(run_length.rasterize(cat.mask, (20, 40)), whole)
    assert run_length.rasterize(ring.mask, (20, 40)).sum() == 12 * 12 - 4 * 4
    values = segmentation.load("supervisely", path=path).items[0].mask((20, 40)).values
    assert (values[5, 31], values[5, 5], values[10, 10]) == (1, 2, 0)


def test_what_is_no_thing_is_one_trouble_and_the_rest_is_read(tmp_path):
    broken = bitmap(np.ones((2, 2), bool), [1, 1])
    cases = {
        "line or point, no thing": [shape("point", [1, 1])],
        "unknown shape": [shape("cuboid", [1, 1])],
        "malformed annotation": [
            None,
            shape("rectangle", [1, 1], [5, 5], name=""),
            shape("polygon", [1, 1], [2, 2]),
            shape("polygon", [1, "x"], [2, 2], [3, 3]),
            broken | {"bitmap": {"data": "AAAA", "origin": [1, 1]}},
            broken | {"bitmap": {"origin": [1, 1]}},
            bitmap(np.zeros((2, 2), bool), [1, 1]),
        ],
    }
    objects = [one for group in cases.values() for one in group]
    item = read("supervisely", project(tmp_path, shape("rectangle", [2, 3], [9, 7]), *objects)).items[0]
    assert len(item.objects) == 1
    assert [kind for kind, _ in item.troubles] == [kind for kind, group in cases.items() for _ in group]


def test_a_folder_without_annotations_of_supervisely_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(Fault, match=r"data\.path must"):
            read("supervisely", path)
    put(tmp_path / "ann/a.png.json", "{}")
    with pytest.raises(Fault, match="pictures that are there"):
        read("supervisely", tmp_path)
