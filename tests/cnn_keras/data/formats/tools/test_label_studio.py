"""Label Studio's own JSON: rectangles turn about their upper left corner."""

import json
import re

import numpy as np
import pytest

from cnn_keras.data import run_length
from cnn_keras.data.formats import image_paths
from cnn_keras.data.sources import segmentation
from cnn_keras.errors import Fault
from tests.cnn_keras.data.sources.test_detection import picture, put, read


def region(kind, label="bolt", **value):
    return {"type": kind, "original_width": 40, "original_height": 20, "value": {**value, kind: [label]}}


def tasks(*regions, image="/data/upload/1/a.png", **more):
    return [{"id": 1, "data": {"image": image}, "annotations": [{"result": list(regions), **more}]}]


def written(folder, found):
    put(folder / "images/a.png", picture())
    return put(folder / "export.json", json.dumps(found))


def test_shares_become_pixels_and_a_turned_rectangle_is_a_polygon(tmp_path):
    plain = region("rectanglelabels", x=25, y=20, width=50, height=40)
    turned = region("rectanglelabels", "nut", x=50, y=20, width=20, height=40, rotation=90)
    (item,) = read("labelstudio", written(tmp_path, tasks(plain, turned))).items
    assert (item.id, item.size, item.read()) == ("images/a.png", (20, 40), picture())
    first, second = item.objects
    assert (first.name, first.box, first.mask) == ("bolt", (10, 4, 30, 12), None)
    assert second.box == pytest.approx((12, 4, 20, 12))  # 8 × 8 pixels left of the corner (20, 4), not right of it
    assert run_length.rasterize(second.mask, (20, 40)).sum() == 64


def test_polygons_and_ellipses_are_read_and_what_is_odd_is_told(tmp_path):
    shapes = (
        region("polygonlabels", points=[[10, 10], [50, 10], [50, 60]]),
        region("ellipselabels", x=50, y=50, radiusX=20, radiusY=20),
        region("keypointlabels", x=5, y=5),
        region("rectanglelabels", x="a", y=5, width=1, height=1),
        {"type": "choices", "value": {"choices": ["good"]}},
        None,
    )
    (item,) = read("labelstudio", written(tmp_path, tasks(*shapes, image="/data/local-files/?d=proj%2Fa.png"))).items
    polygon, ellipse = item.objects
    assert polygon.box == (4, 2, 20, 12)
    np.testing.assert_allclose(ellipse.box, (12, 6, 28, 14))
    assert [kind for kind, _ in item.troubles] == ["unknown shape", "malformed annotation", "malformed annotation"]


def packed(painted):
    """The runs of an RGBA picture whose alpha is painted: repeated rows of four, and the rest as it is."""
    flat = np.repeat(painted.ravel()[:, None] * 255, 4, axis=1).ravel()
    bits = f"{len(flat):032b}" + f"{7:05b}" + f"{2:04b}{3:04b}{7:04b}{15:04b}"
    start = 0
    while start < len(flat):
        alike = int(np.argmax(np.append(flat[start:] != flat[start], True)))
        if alike > 8:
            count = min(alike, 256)
            bits += "110" + f"{count - 1:08b}{flat[start]:08b}"
        else:
            count = min(8, len(flat) - start)
            bits += "000" + f"{count - 1:03b}" + "".join(f"{value:08b}" for value in flat[start : start + count])
        start += count
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def test_what_the_brush_painted_is_a_mask_with_the_box_around_it(tmp_path):
    painted = np.zeros((20, 40), bool)
    painted[3:9, 5:30] = painted[4, 32] = True
    good = region("brushlabels", format="rle", rle=packed(painted))
    bad = [region("brushlabels", format="rle", rle=rle) for rle in (good["value"]["rle"][:-9], [300], "abc", None)]
    other = region("brushlabels", format="rle", rle=packed(painted[:10]))
    (item,) = read("labelstudio", written(tmp_path, tasks(good, *bad, other))).items
    (one,) = item.objects
    assert (one.name, one.box) == ("bolt", (5, 3, 33, 9))
    np.testing.assert_array_equal(run_length.rasterize(one.mask, (20, 40)), painted)
    assert [kind for kind, _ in item.troubles] == ["malformed annotation"] * 5
    found = segmentation.load("labelstudio", path=tmp_path / "export.json")
    np.testing.assert_array_equal(found.items[0].mask((20, 40)).values, painted)


def test_masks_of_the_brush_without_their_pictures_are_refused_by_name(tmp_path):
    put(tmp_path / "task-1-annotation-1-by-1-tag-Cat-0.png", picture())
    with pytest.raises(Fault, match="labelstudio") as fault:
        segmentation.load("folder", path=tmp_path)
    assert fault.value.code == Fault.DATA


def test_uploaded_pictures_are_found_by_the_names_that_they_had(tmp_path):
    plain = region("rectanglelabels", x=25, y=20, width=50, height=40)
    for image in ("/data/upload/1/ab12cd34-a.png", "/data/local-files/?d=photos/ab12cd34-a.png"):
        found = read("labelstudio", written(tmp_path, tasks(plain, image=image)))
        assert [(item.id, len(item.objects)) for item in found.items] == [("images/a.png", 1)]
        assert [note.kind for note in found.notes] == [image_paths.UPLOAD]


def test_tasks_without_an_annotation_are_doubted_and_other_files_refused(tmp_path):
    (item,) = read("labelstudio", written(tmp_path, tasks(was_cancelled=True))).items
    assert [kind for kind, _ in item.troubles] == ["without annotation"]
    for found in ({}, [], [7], [{"image": "a.png"}]):
        with pytest.raises(Fault, match="Label Studio"):
            read("labelstudio", written(tmp_path, found))


def test_an_export_whose_boxes_leave_their_pictures_names_the_format_that_keeps_them(tmp_path):
    put(tmp_path / "images/a.png", picture())
    coco = {
        "info": {"contributor": "Label Studio"},
        "images": [{"id": 0, "file_name": "images\\a.png", "height": 20, "width": 40}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [20, 4, 30, 8]}],
        "categories": [{"id": 0, "name": "bolt"}],
    }
    put(tmp_path / "classes.txt", "bolt\n")
    put(tmp_path / "labels/a.txt", "0 0.9 0.5 0.5 0.2\n")
    put(tmp_path / "notes.json", "{}")
    for source, path in (("coco", put(tmp_path / "result.json", json.dumps(coco))), ("yolo", tmp_path / "classes.txt")):
        found = read(source, path)
        assert [len(item.objects) for item in found.items] == [1]
        assert [note.taken for note in found.notes if "leave" in note.kind] == [
            "export its own JSON and read it with source labelstudio"
        ]


def test_a_picture_of_another_machine_is_missed_beside_the_file_and_no_other_folder_is_listed(tmp_path):
    put(tmp_path / "export.json", json.dumps(tasks(image="/data/upload/1/b.png")))
    with pytest.raises(Fault, match=re.escape(f"{tmp_path} holds export.json")) as fault:
        read("labelstudio", tmp_path / "export.json")
    assert "; / holds" not in str(fault.value)
