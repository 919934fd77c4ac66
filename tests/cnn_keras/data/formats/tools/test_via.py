"""VIA's JSON and CSV: every shape that has an inside, and the class whatever its attribute is called."""

import csv
import json
import math

import numpy as np
import pytest

from cnn_keras.data import run_length
from cnn_keras.data.sources import segmentation
from cnn_keras.errors import Fault
from tests.cnn_keras.data.sources.test_detection import picture, put, read

RECT = {"name": "rect", "x": 10, "y": 4, "width": 12, "height": 8}
POLYGON = {"name": "polygon", "all_points_x": [10, 20, 20], "all_points_y": [4, 4, 14]}
CIRCLE = {"name": "circle", "cx": 20, "cy": 10, "r": 6}
ELLIPSE = {"name": "ellipse", "cx": 20, "cy": 10, "rx": 12, "ry": 4}


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes or {"type": "bolt"}}


def entry(*regions, name="a.png"):
    return {"filename": name, "size": 99, "regions": list(regions), "file_attributes": {}}


def written(folder, found):
    put(folder / "a.png", picture())
    return put(folder / "via.json", json.dumps(found))


def objects(folder, *regions):
    (item,) = read("via", written(folder, {"a.png99": entry(*regions)})).items
    return item.objects


def test_shapes_are_the_boxes_and_masks_that_were_drawn(tmp_path):
    rect, polygon, circle, ellipse, turned = objects(
        tmp_path, *map(region, (RECT, POLYGON, CIRCLE, ELLIPSE, ELLIPSE | {"theta": math.pi / 2}))
    )
    assert rect.box == (10, 4, 22, 12)
    assert run_length.rasterize(rect.mask, (20, 40)).sum() == 12 * 8
    assert (polygon.box, polygon.mask) == ((10, 4, 20, 14), ((10, 4, 20, 4, 20, 14),))
    np.testing.assert_allclose(circle.box, (14, 4, 26, 16))
    np.testing.assert_allclose(ellipse.box, (8, 6, 32, 14))
    np.testing.assert_allclose(turned.box, (16, -2, 24, 22))
    assert run_length.rasterize(circle.mask, (20, 40)).sum() == pytest.approx(math.pi * 36, rel=0.05)


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"type": "bolt"}, "bolt"),
        ({"Class": "bolt", "colour": "red"}, "bolt"),
        ({"fruit": "apple"}, "apple"),
        ({"name": {"bolt": True, "nut": False}}, "bolt"),
        ({"label": 7}, "7"),
    ],
)
def test_the_class_is_the_attribute_that_names_one(tmp_path, attributes, name):
    assert [one.name for one in objects(tmp_path, region(RECT, **attributes))] == [name]


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (region(RECT, colour="red", size="big"), "malformed annotation"),
        (region(RECT, name={"bolt": True, "nut": True}), "malformed annotation"),
        (region(RECT | {"x": None}), "malformed annotation"),
        (region(RECT | {"width": -4}), "malformed annotation"),
        (region(POLYGON | {"all_points_x": [1, 2]}), "malformed annotation"),
        (region(POLYGON | {"all_points_x": 7}), "malformed annotation"),
        (region({"name": "point", "cx": 1, "cy": 2}), "line or point, no thing"),
        (region({"name": "polyline", "all_points_x": [1, 2, 3], "all_points_y": [1, 2, 3]}), "line or point, no thing"),
        (region({"name": "star"}), "unknown shape"),
        ({"shape_attributes": RECT}, "malformed annotation"),
        (None, "malformed annotation"),
    ],
)
def test_a_region_that_is_no_thing_is_one_trouble_and_the_rest_is_read(tmp_path, found, kind):
    (item,) = read("via", written(tmp_path, {"a": entry(found, region(RECT))})).items
    assert [kind for kind, _ in item.troubles] == [kind]
    assert len(item.objects) == 1


def test_projects_of_both_versions_and_the_table_say_the_same(tmp_path):
    expected = [("a.png", ((10, 4, 22, 12),)), ("b.png", ())]
    put(tmp_path / "b.png", picture())
    first, second = entry(region(RECT)), entry(name="b.png")
    old = {"a": first | {"regions": {"0": region(RECT)}}, "b": second | {"regions": {}}}
    project = {"_via_settings": {}, "_via_attributes": {}, "_via_img_metadata": {"a": first, "b": second}}
    for found in ({"a": first, "b": second}, old, project):
        items = read("via", written(tmp_path, found)).items
        assert [(item.id, tuple(one.box for one in item.objects)) for item in items] == expected
        assert [kind for kind, _ in items[1].troubles] == ["without annotation"]
    with (tmp_path / "via.csv").open("w", newline="") as file:
        table = csv.writer(file)
        attributes = ("#filename", "file_size", "file_attributes", "region_count", "region_id")
        table.writerow([*attributes, "region_shape_attributes", "region_attributes"])
        table.writerow(["a.png", 99, "{}", 1, 0, json.dumps(RECT), json.dumps({"type": "bolt"})])
        table.writerow(["b.png", 99, "{}", 0, 0, "{}", "{}"])
    items = read("via", tmp_path / "via.csv").items
    assert [(item.id, tuple(one.box for one in item.objects)) for item in items] == expected


def test_segmentation_paints_the_regions(tmp_path):
    found = segmentation.load("via", path=written(tmp_path, {"a": entry(region(RECT), region(CIRCLE, type="nut"))}))
    values = found.items[0].mask((20, 40)).values
    assert found.names == {0: "background", 1: "bolt", 2: "nut"}
    assert values[5, 11] == 1
    assert values[10, 24] == 2


@pytest.mark.parametrize("found", [{}, [], {"a": {"filename": "a.png"}}, {"images": [], "annotations": []}])
def test_a_file_that_holds_no_regions_is_refused(tmp_path, found):
    with pytest.raises(Fault, match="VIA") as fault:
        read("via", written(tmp_path, found))
    assert fault.value.code == Fault.DATA
