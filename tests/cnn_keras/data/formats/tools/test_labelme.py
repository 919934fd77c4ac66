"""LabelMe's shapes as its own export has them: groups, exact masks, and pictures that moved."""

import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Item, Object
from cnn_keras.data.sources import detection, segmentation
from cnn_keras.errors import Fault, Unreadable
from tests.cnn_keras.data.sources.test_detection import picture, put, read


def shape(kind, points, label="bolt", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def stored(inside):
    out = io.BytesIO()
    Image.fromarray(inside).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def labelled(folder, shapes, name="a.png", **more):
    put(folder / name, picture())
    found = {"shapes": shapes, "imagePath": name, "imageHeight": 20, "imageWidth": 40, **more}
    put((folder / name).with_suffix(".json"), json.dumps(found))
    return next(item for item in read("labelme", folder).items if item.id == name)


def test_a_mask_is_kept_and_its_second_corner_is_its_last_pixel(tmp_path):
    inside = np.zeros((11, 11), bool)
    inside[2:, :7] = True
    (one,) = labelled(tmp_path, [shape("mask", [[10, 8], [20, 18]], mask=stored(inside))]).objects
    assert one.box == (10, 8, 21, 19)
    found = run_length.rasterize(one.mask, (20, 40))
    np.testing.assert_array_equal(found[8:19, 10:21], inside)
    assert found.sum() == inside.sum()


@pytest.mark.parametrize(
    "data", [None, 7, "", "x", stored(np.ones((5, 5), bool)), base64.b64encode(b"\x89PNG").decode()]
)
def test_a_mask_that_is_none_is_named(tmp_path, data):
    (one,) = labelled(tmp_path, [shape("mask", [[10, 8], [20, 18]], mask=data)]).objects
    assert one.box == (10, 8, 21, 19)
    assert isinstance(one.mask, run_length.Malformed)


def test_shapes_of_one_label_and_group_are_one_thing(tmp_path):
    left, right = [[1, 2], [9, 2], [9, 12], [1, 12]], [[20, 2], [30, 2], [30, 15]]
    shapes = [
        shape("polygon", left, group_id=1), shape("polygon", right, group_id=1),
        shape("polygon", left, "nut", group_id=1), shape("polygon", left), shape("polygon", right),
        shape("mask", [[0, 16], [3, 19]], "pin", group_id=2, mask=stored(np.ones((4, 4), bool))),
        shape("rectangle", [[10, 16], [14, 20]], "pin", group_id=2),
    ]  # fmt: skip
    bolt, nut, *alone, pin = labelled(tmp_path, shapes).objects
    assert (bolt.name, bolt.box, len(bolt.mask)) == ("bolt", (1, 2, 30, 15), 2)
    assert (nut.name, nut.box) == ("nut", (1, 2, 9, 12))
    assert [one.box for one in alone] == [(1, 2, 9, 12), (20, 2, 30, 15)]
    assert (pin.box, run_length.rasterize(pin.mask, (20, 40)).sum()) == ((0, 16, 14, 20), 32)


def test_rectangles_and_circles_are_exact_and_lines_are_no_things(tmp_path):
    four = [[2, 2], [12, 2], [12, 8], [2, 8]]
    shapes = [
        shape("rectangle", [[12, 8], [2, 2]]), shape("rectangle", four), shape("oriented_rectangle", four),
        shape("rotation", four, difficult=True), shape("circle", [[25, 10], [25, 18]]),
        *(shape(kind, four) for kind in ("line", "linestrip", "points")), shape("point", [[3, 3]]), shape("star", four),
    ]  # fmt: skip
    item = labelled(tmp_path, shapes)
    *boxes, circle = item.objects
    assert [one.box for one in boxes] == [(2, 2, 12, 8)] * 4
    assert [run_length.rasterize(one.mask, (20, 40)).sum() for one in boxes] == [60] * 4
    assert [one.difficult for one in boxes] == [False, False, False, True]
    assert circle.box == (17, 2, 33, 18)
    assert run_length.rasterize(circle.mask, (20, 40)).sum() == pytest.approx(math.pi * 64, rel=0.03)
    assert [kind for kind, _ in item.troubles] == ["line or point, no thing"] * 4 + ["unknown shape"]
    assert (
        segmentation.rasterize(annotation.Annotations([item])).items[0].mask((20, 40)).values.min() == 0
    )  # all is known


def test_files_that_name_one_picture_are_those_of_their_own_names(tmp_path):
    for number, edge in enumerate((9, 8, 7)):
        if number < 2:
            put(tmp_path / f"{number}.png", picture())
        found = {"shapes": [shape("rectangle", [[1, 1], [edge, edge]])], "imagePath": "0.png"}
        put(tmp_path / f"{number}.json", json.dumps(found))
    found = {item.id: item for item in read("labelme", tmp_path).items}
    assert [found[name].objects[0].box[2] for name in ("0.png", "1.png")] == [9, 8]
    assert [kind for kind, _ in found["1.png"].troubles] == ["name of another picture"]
    with pytest.raises(Unreadable, match=r"it names 0\.png, which another file annotates"):
        found["2.jpg: 2.json"].read()


def test_a_picture_that_moved_is_found_and_never_background(tmp_path):
    for number, path in enumerate(["D:\\old\\0.png", "/home/me/1.png", "renamed.png", "gone.png"]):
        if number < 3:
            put(tmp_path / f"{number}.png", picture())
        found = {"shapes": [shape("rectangle", [[1, 1], [9, 9]])], "imagePath": path}
        put(tmp_path / f"{number}.json", json.dumps(found))
    found = {item.id: item for item in read("labelme", tmp_path).items}
    assert sorted(found) == ["0.png", "1.png", "2.png", "gone.png"]
    assert all(len(item.objects) == 1 for item in found.values())
    assert [found[name].read() for name in ("0.png", "1.png", "2.png")] == [picture()] * 3
    with pytest.raises(Unreadable) as missing:
        found["gone.png"].read()
    assert missing.value.kind == "missing image"


def test_a_file_in_another_encoding_is_one_trouble_and_its_picture_is_not_background(tmp_path):
    labelled(tmp_path, [shape("rectangle", [[1, 1], [9, 9]])])
    put(tmp_path / "b.png", picture())
    put(tmp_path / "b.json", json.dumps({"shapes": []}).encode() + "螺栓".encode("gb18030"))
    found = {item.id: item for item in read("labelme", tmp_path).items}
    assert sorted(found) == ["a.png", "b.json"]
    with pytest.raises(Unreadable, match="UTF-8"):
        found["b.json"].read()


def test_files_of_another_tool_are_refused_with_its_name(tmp_path):
    put(tmp_path / "a.png", picture())
    put(tmp_path / "a.json", json.dumps({"a.png12": {"filename": "a.png", "regions": []}}))
    with pytest.raises(Fault, match="VIA's"):
        read("labelme", tmp_path)


def test_masks_survive_being_written(tmp_path):
    inside = np.zeros((20, 40), bool)
    inside[3:9, 5:17], inside[5, 6] = True, False
    parts = ((1.0, 1.0, 5.0, 1.0, 5.0, 5.0), (8.0, 8.0, 12.0, 8.0, 12.0, 12.0))
    objects = (
        Object((5, 3, 17, 9), "run", mask=run_length.encode(inside)),
        Object((1, 1, 12, 12), "parts", mask=parts),
        Object((2, 2, 9, 9), "plain"),
    )
    detection.write("labelme", [Item("a.png", picture, objects)], tmp_path / "out", classes=["run", "parts", "plain"])
    run, several, plain = read("labelme", tmp_path / "out").items[0].objects
    np.testing.assert_array_equal(run_length.rasterize(run.mask, (20, 40)), inside)
    assert run.box == (5, 3, 17, 9)
    assert several.mask == parts
    assert (plain.box, plain.mask) == ((2, 2, 9, 9), run_length.rectangle((2, 2, 9, 9)))
