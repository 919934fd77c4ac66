"""Files of annotations with anything anywhere: what comes out are items, troubles and Faults, nothing else."""

import contextlib
import copy
import json
import os
import random
import shutil

import numpy as np
import pytest

from cnn_keras.data import run_length
from cnn_keras.data.annotation import Item, Landmark, Object
from cnn_keras.data.sources import detection
from cnn_keras.data.sources.detection import FORMATS
from cnn_keras.errors import Fault, Unreadable
from pipelines.data.boxes import box_config, box_dataset, box_files, box_validation, conversion
from pipelines.data.validation import Examined
from tests.cnn_keras.data.sources.test_detection import ITEMS, WHERE, picture, put

WRONG = (
    None, True, -1, 0, 1e400, float("nan"), 10**400, 2**70, "", "x", "a\0b", "\ud800", "/", "../../x", "x" * 5000, [],
    {}, [[]], [None], {"a": 1}, [[1, 2], 3], "1e999", -(10**13),
)  # fmt: skip
BYTES = (b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b'"', b"<", b"&", b"\n", b"9" * 5000, b"[" * 5000, b"-", b"nan ")


def used(source, path):
    """Do with what a source holds all that is done before a network sees it."""
    data = box_config.Data(source=source, path=path, masks=True)
    found = box_dataset.load_source(data, 0)
    examined = []
    for item in found.items:
        try:
            item.read()
            examined.append(Examined(item.id, [], (20, 40)))
        except (OSError, Unreadable):
            examined.append(Examined(None, []))
    box_validation.check_boxes(found.items, examined, data)
    for item in found.items:
        for one in item.objects:
            if one.mask is not None:
                try:
                    assert run_length.rasterize(one.mask, (20, 40)).shape == (20, 40)
                except Unreadable:
                    continue


def survives(source, path, folder):
    for attempt in (lambda: used(source, path), lambda: list(conversion.convert(source, path, to="coco", out=folder))):
        with contextlib.suppress(Fault):
            attempt()
    shutil.rmtree(folder, ignore_errors=True)


def places(value, at=()):
    """Where something stands in a JSON value."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*at, key))


def replaced(value, at, wrong):
    if not at:
        return wrong
    value = copy.deepcopy(value)
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = wrong
    return value


RECTANGLE = {"x": 25, "y": 20, "width": 50, "height": 40, "rotation": 30, "rectanglelabels": ["bolt"]}
REGION = {"type": "rectanglelabels", "original_width": 40, "original_height": 20, "value": RECTANGLE}
DOCUMENTS = {
    "coco": {
        "info": {"contributor": "Label Studio"},
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 40}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 5], "iscrowd": 0,
             "segmentation": [[2, 3, 12, 3, 12, 8]]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 5], "iscrowd": 1,
             "segmentation": {"size": [20, 40], "counts": [100, 50, 650]}},
        ],
        "categories": [{"id": 1, "name": "bolt"}],
    },
    "labelme": {
        "version": "5.5.0", "imagePath": "a.png", "imageData": None, "imageHeight": 20, "imageWidth": 40,
        "shapes": [
            {"label": "bolt", "points": [[2, 3], [12, 8]], "group_id": 1, "shape_type": kind, "flags": {}, "mask": None}
            for kind in ("rectangle", "circle", "mask", "polygon")
        ],
    },
    "via": {
        "a.png1": {
            "filename": "a.png",
            "regions": [
                {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 9, "height": 5},
                 "region_attributes": {"type": "bolt"}},
                {"shape_attributes": {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [2, 2, 8]},
                 "region_attributes": {"type": {"bolt": True}}},
                {"shape_attributes": {"name": "ellipse", "cx": 9, "cy": 9, "rx": 4, "ry": 2, "theta": 0.5},
                 "region_attributes": {"type": "bolt"}},
            ],
        }
    },
    "labelstudio": [{"id": 1, "data": {"image": "/data/a.png"}, "annotations": [{"result": [REGION]}]}],
}  # fmt: skip


@pytest.mark.parametrize("each", [2, pytest.param(len(WRONG), marks=pytest.mark.slow)])
@pytest.mark.parametrize("source", DOCUMENTS)
def test_any_value_may_stand_anywhere_in_json(tmp_path, source, each):
    put(tmp_path / "a.png", picture())
    generator = random.Random(source)
    for at in places(DOCUMENTS[source]):
        for wrong in generator.sample(WRONG, each):
            put(tmp_path / "a.json", json.dumps(replaced(DOCUMENTS[source], at, wrong)))
            survives(source, tmp_path if source == "labelme" else tmp_path / "a.json", tmp_path / "out")


def test_any_number_may_stand_in_a_line_of_yolo(tmp_path):
    put(tmp_path / "images/a.png", picture())
    for head in ("", "kpt_shape: [2, 3]\n"):
        path = put(tmp_path / "data.yaml", f"{head}train: images\nnames: [bolt]\n")
        for wrong in (*map(str, WRONG[4:13]), "2", "nan", "inf", "1e308"):
            wrong = wrong.encode("utf-8", "replace").decode()
            for line in (
                "0 .5 .5 .5 {}",
                "{} .5 .5 .5 .5",
                "0 .1 .1 .9 .1 .5 {}",
                "0 .5 .5 .2 .2 .1 .1 2 .3 .3 {}",
                "{}",
            ):
                put(tmp_path / "labels/a.txt", line.format(wrong))
                survives("yolo", path, tmp_path / "out")


SETTINGS = ("path", "train", "val", "test", "names", "kpt_shape", "kpt_names")


@pytest.mark.parametrize("key", SETTINGS)
def test_any_value_may_stand_in_a_data_yaml(tmp_path, key):
    put(tmp_path / "images/a.png", picture())
    put(tmp_path / "labels/a.txt", "0 .5 .5 .5 .5")
    for wrong in (wrong for wrong in WRONG if wrong not in ("/", 10**400)):
        described = {"train": "images", "names": ["bolt"], key: wrong}
        path = put(tmp_path / "data.yaml", json.dumps(described))
        survives("yolo", path, tmp_path / "out")


@pytest.mark.parametrize("format_", FORMATS)
def test_bytes_may_be_flipped_lost_and_put_in_anywhere(tmp_path, format_):
    marked = [item._replace(objects=tuple(one._replace(landmarks=(Landmark("m", 1, 2),)) for one in item.objects))
              for item in ITEMS[:2]]  # fmt: skip
    inside = np.ones((20, 40), bool)
    marked.append(Item("e.png", picture, (Object((0, 0, 40, 20), "ant", mask=run_length.encode(inside)),), "test"))
    detection.write(format_, marked, tmp_path / "set", classes=["zebra", "ant"])
    files = [file for file in sorted((tmp_path / "set").rglob("*")) if file.suffix in (".json", ".xml", ".txt", ".csv")]
    generator = random.Random(format_)
    for _ in range(60):
        file = generator.choice(files)
        before = file.read_bytes()
        start = generator.randrange(len(before) + 1)
        end = start + generator.choice((0, 1, 1, 7, 10**6))
        file.write_bytes(before[:start] + generator.choice((*BYTES, bytes([generator.randrange(256)]))) + before[end:])
        survives(format_, tmp_path / "set" / WHERE[format_], tmp_path / "out")
        file.write_bytes(before)


@pytest.mark.parametrize("format_", FORMATS)
def test_special_files_are_told_apart_before_they_are_opened(tmp_path, format_):
    detection.write(format_, ITEMS[:2], tmp_path / "set", classes=["zebra", "ant"])
    whole = tmp_path / "whole"
    (tmp_path / "set").rename(whole)
    for file in [file for file in sorted(whole.rglob("*")) if file.is_file()]:
        for kind in ("pipe", "folder", "device", "nowhere", "itself"):
            shutil.copytree(whole, tmp_path / "set")
            special = tmp_path / "set" / file.relative_to(whole)
            special.unlink()
            if kind == "pipe":
                os.mkfifo(special)
            elif kind == "folder":
                special.mkdir()
            else:
                special.symlink_to({"device": "/dev/zero", "nowhere": "gone", "itself": special.name}[kind])
            survives(format_, tmp_path / "set" / WHERE[format_], tmp_path / "out")
            shutil.rmtree(tmp_path / "set")


@pytest.mark.parametrize("source", [*FORMATS, "labelstudio", "via", "dsb", "points"])
def test_a_path_that_no_file_can_have_is_a_fault(tmp_path, source):
    for name in ("x" * 300, "a/" * 3000, "a\0b", "file/below"):
        put(tmp_path / "file", "")
        data = box_config.Data(source=source, path=tmp_path / name)
        assert box_files.files_digest(data) is None
        with pytest.raises(Fault) as caught:
            box_dataset.load_source(data, 0)
        assert caught.value.code in (Fault.INPUT, Fault.DATA)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path, format_):
    put(tmp_path / "file", "")
    for out in ("x" * 300, "file/below", "file"):
        with pytest.raises(Fault, match=r"the folder to write|--out must be a folder"):
            detection.write(format_, ITEMS, tmp_path / out, classes=["zebra", "ant", "mouse 2"])


def test_the_digest_of_files_bears_any_path_in_a_data_yaml(tmp_path):
    for wrong in ("/", "..", "a\0b", "x" * 300, 7, ["a"]):
        path = put(tmp_path / "data.yaml", json.dumps({"path": wrong, "train": "images", "names": ["bolt"]}))
        assert box_files.files_digest(box_config.Data(source="yolo", path=path))
