"""COCO's JSON as tools write it: odd rows are troubles of their own, files of other kinds are left alone."""

import gzip
import json
from functools import partial

import numpy as np
import pytest

from cnn_keras.data import run_length
from cnn_keras.data.sources import segmentation
from cnn_keras.errors import Fault, Unreadable
from pipelines.data.boxes import box_config, box_dataset
from tests.cnn_keras.data.sources.test_detection import picture, put, read

CATEGORIES = [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}]
SQUARE = [10, 4, 20, 4, 20, 14, 10, 14]


def document(names, **more):
    """A picture of 20 × 40 for each name, with one box; `more` changes the first annotation."""
    images = [{"id": number, "file_name": name, "height": 20, "width": 40} for number, name in enumerate(names, 1)]
    rows = [
        {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 4, 10, 10]}
        for number in range(1, len(names) + 1)
    ]
    rows[0] |= more
    return {"images": images, "annotations": rows, "categories": CATEGORIES}


def written(folder, names, found):
    for name in names:
        put(folder / name, picture())
    return put(folder / "a.json", json.dumps(found))


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[]], "three points or more"),
        ([[10, 4]], "three points or more"),
        ([[10, 4, 20, 14]], "three points or more"),
        ([[10, 4, 20, 4, 20]], "three points or more"),
        (SQUARE, "a list of lists"),
        ([[str(edge) for edge in SQUARE]], "finite numbers"),
        ([[10, 4, 20, 4, float("nan"), 14]], "finite numbers"),
        ([[10, 4, 20, 4, 10**400, 14]], "finite numbers"),
        ("none", "neither polygons nor run lengths"),
        (7, "neither polygons nor run lengths"),
        ({"counts": [100, 50, 650]}, "'size' is missing"),
        ({"size": [20, 40], "counts": [100.0, 50.0, 650.0]}, "whole numbers"),
        ({"size": [20, 40], "counts": ["100", "50", "650"]}, "whole numbers"),
        ({"size": [20, 40], "counts": [100, -50, 750]}, "whole numbers"),
        ({"size": [20, 40], "counts": [100, 50, 651]}, "make up the 800 pixels"),
        ({"size": [20], "counts": [20]}, "height and width"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "at most"),
        ({"size": [20, 40], "counts": "Z"}, "make up|within a number"),
        ({"size": [20, 40], "counts": "\u20ac"}, "compressed text"),
    ],
)
def test_a_mask_that_is_none_is_named_and_keeps_its_box(tmp_path, segmentation, reason):
    found = read("coco", written(tmp_path, ["a.png", "b.png"], document(["a.png", "b.png"], segmentation=segmentation)))
    first, second = (item.objects[0] for item in found.items)
    assert first.box == second.box == (10, 4, 20, 14)
    assert isinstance(first.mask, run_length.Malformed)
    with pytest.raises(Unreadable, match=reason) as caught:
        run_length.rasterize(first.mask, (20, 40))
    assert caught.value.kind == "malformed mask"


def test_compressed_run_lengths_are_what_cocos_own_code_reads():
    coco = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(3)
    for shape in ((1, 1), (7, 5), (60, 90)):
        mask = generator.random(shape) < 0.4
        text = coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
        found = run_length.parse({"size": list(shape), "counts": text})
        assert found == run_length.encode(mask) | {"counts": found["counts"]}
        np.testing.assert_array_equal(run_length.decode(found), mask)


def test_a_polygon_far_outside_is_not_given_to_native_code():
    with pytest.raises(Unreadable, match="far outside"):
        run_length.rasterize(((0, 0, 1e9, 0, 1e9, 1e9),), (20, 40))
    zigzag = tuple(edge for step in range(20_000) for edge in (step % 2 * 39, step % 20))
    with pytest.raises(Unreadable, match="outline"):
        run_length.rasterize((zigzag,), (20, 40))


@pytest.mark.parametrize(
    "row", [None, 7, [], "x", {"id": 9}, {"id": 9, "image_id": [1]}, {"id": 9, "image_id": {"a": 1}}]
)
def test_a_row_of_no_image_is_one_dropped_box_and_the_rest_is_read(tmp_path, row):
    found = document(["a.png"])
    found["annotations"].append(row)
    held = read("coco", written(tmp_path, ["a.png"], found))
    assert [len(item.objects) for item in held.items] == [1]
    assert [(note.kind, note.taken) for note in held.notes] == [("malformed annotation", "box dropped")]


@pytest.mark.parametrize("bbox", [{"x": 1, "y": 2, "width": 3, "height": 4}, 5, "1234", [1, 2, 3], None, [1, 2, [3], 4],
                                  [float("nan"), 1, 2, 3], [10**400, 1, 2, 3], [1e300, 1, 2, 3]])  # fmt: skip
def test_a_box_that_is_none_is_a_trouble_of_its_picture(tmp_path, bbox):
    found = document(["a.png", "b.png"], bbox=bbox)
    found["images"][0]["height"] = [1]
    first, second = read("coco", written(tmp_path, ["a.png", "b.png"], found)).items
    assert (first.objects, first.size) == ((), None)
    assert [kind for kind, _ in first.troubles] == ["malformed annotation"]
    assert len(second.objects) == 1


def test_ids_that_differ_in_type_alone_are_one_id(tmp_path):
    found = document(["a.png", "b.png", "c.png"])
    for row, as_written in zip(found["annotations"], (str, float, int), strict=True):
        row["image_id"], row["category_id"] = as_written(row["image_id"]), as_written(row["category_id"])
    items = read("coco", written(tmp_path, ["a.png", "b.png", "c.png"], found)).items
    assert [[(one.name, one.box) for one in item.objects] for item in items] == [[("bolt", (10, 4, 20, 14))]] * 3
    assert not any(item.troubles for item in items)


@pytest.mark.parametrize(
    "address",
    ["https://example.org/upload/7/my%20photo{}.png", "s3://bucket/my photo{}.png", "gs://b/x/my%20photo{}.png"],
)
def test_an_address_on_a_server_is_the_picture_of_its_name(tmp_path, address):
    files = ["my photo1.png", "my photo2.png"]
    found = read("coco", written(tmp_path, files, document([address.format(1), address.format(2)])))
    assert [item.id for item in found.items] == files
    assert [len(item.objects) for item in found.items] == [1, 1]
    assert [note.kind for note in found.notes] == ["address on a server"]


def test_odd_images_are_items_that_cannot_be_read(tmp_path):
    found = document(["a.png", "b.png"])
    found["images"] += [None, {"id": 5}, {"id": 2, "file_name": "c.png"}]
    found["annotations"].append({"id": 9, "image_id": 77, "category_id": 1, "bbox": [1, 1, 2, 2]})
    held = read("coco", written(tmp_path, ["a.png", "b.png", "c.png"], found))
    kinds = {}
    for item in held.items:
        try:
            kinds[item.id] = item.read() and "read"
        except Unreadable as error:
            kinds[item.id] = error.kind
    assert kinds == {
        "a.png": "read", "b.png": "broken annotation", "c.png": "broken annotation", "image_id 77": "missing image",
        "a.json, image 3": "broken annotation", "a.json, image 4": "broken annotation",
    }  # fmt: skip


def test_a_folder_of_many_kinds_gives_each_picture_once_and_names_the_others(tmp_path):
    for split in ("train", "val"):
        name = f"{split}1.png"
        put(tmp_path / f"{split}2017" / name, picture())
        boxes = document([name])
        caption = {**document([name]), "annotations": [{"id": 1, "image_id": 1, "caption": "a bolt"}]}
        posed = document([name], keypoints=[0, 0, 0, 20, 10, 2])
        for kind, found in (("instances", boxes), ("captions", caption), ("person_keypoints", posed)):
            put(tmp_path / "annotations" / f"{kind}_{split}2017.json", json.dumps(found))
    for path in (tmp_path, tmp_path / "annotations"):
        held = read("coco", path)
        assert [(item.id, item.split, len(item.objects)) for item in held.items] == [
            ("train1.png", "train", 1), ("val1.png", "validation", 1),
        ]  # fmt: skip
        assert [note.id.rpartition("/")[2] for note in held.notes] == [
            "captions_train2017.json", "captions_val2017.json",
            "person_keypoints_train2017.json", "person_keypoints_val2017.json",
        ]  # fmt: skip


def test_two_files_that_list_one_picture_are_refused_by_name(tmp_path):
    written(tmp_path, ["a.png"], document(["a.png"]))
    put(tmp_path / "b.json", json.dumps(document(["a.png"])))
    with pytest.raises(Fault, match=r"a\.png in a\.json and b\.json"):
        read("coco", tmp_path)


def test_roboflows_folders_are_the_splits(tmp_path):
    for folder in ("train", "valid", "test"):
        put(tmp_path / folder / "a.png", picture())
        put(tmp_path / folder / "_annotations.coco.json", json.dumps(document(["a.png"])))
        put(
            tmp_path / "csv" / folder / "_annotations.csv",
            "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,20,bolt,10,4,20,14\n",
        )
        put(tmp_path / "csv" / folder / "a.png", picture())
    for source, path in (("coco", tmp_path), ("csv", tmp_path / "csv")):
        held = read(source, path)
        assert {(item.id, item.split) for item in held.items} == {
            ("train/a.png", "train"), ("valid/a.png", "validation"), ("test/a.png", "test"),
        }  # fmt: skip
        assert all(item.objects[0].box == (10, 4, 20, 14) for item in held.items)


def test_an_absolute_name_leaves_the_machines_folders_out_of_the_id(tmp_path):
    for inner in ("one/a.png", "two/a.png"):
        put(tmp_path / "elsewhere" / inner, picture())
        put(tmp_path / "set" / inner, picture())
    for folder in ("elsewhere", "set"):
        names = [str(tmp_path / folder / inner) for inner in ("one/a.png", "two/a.png")]
        path = put(tmp_path / "set" / f"{folder}.json", json.dumps(document(names)))
        assert [item.id for item in read("coco", path).items] == ["one/a.png", "two/a.png"]


def test_files_of_other_tools_are_refused_with_what_they_are(tmp_path):
    via = {"a.png12": {"filename": "a.png", "size": 12, "regions": [], "file_attributes": {}}}
    for found, said in (
        (via, "VIA's"),
        ([{"id": 1, "data": {"image": "a.png"}, "annotations": []}], "source labelstudio"),
        ({"description": "", "size": {"height": 1, "width": 1}, "objects": []}, "Supervisely's"),
        ({"assets": {"1": {"asset": {"name": "a.png"}, "regions": []}}, "tags": []}, "VoTT's"),
        ({"info": {}, "categories": {}, "items": []}, "Datumaro's"),
        ({"shapes": [], "imagePath": "a.png"}, "source labelme"),
        ({"name": "parts", "tags": [], "assets": {}}, "VoTT's"),
        ({**document(["a.png"]), "annotations": [{"image_id": 1, "segments_info": []}]}, "panoptic"),
    ):
        put(tmp_path / "a.png", picture())
        path = put(tmp_path / "a.json", json.dumps(found))
        with pytest.raises(Fault, match=said) as caught:
            read("coco", path)
        assert caught.value.code == Fault.DATA


def test_pictures_of_which_none_is_annotated_are_refused_and_among_annotated_ones_they_are_background(tmp_path):
    put(tmp_path / "a.png", picture())
    put(tmp_path / "b.png", picture(shade=7))
    whole = document(["a.png"])
    empty = {**document(["b.png"]), "annotations": []}
    path = put(tmp_path / "test.json", json.dumps(empty))
    given = {"source": "coco", "path": path}
    for load in (partial(box_dataset.load_source, box_config.Data(**given), 0), partial(segmentation.load, **given)):
        with pytest.raises(Fault, match="at least one annotated object") as fault:
            load()
        assert fault.value.code == Fault.DATA
    put(tmp_path / "train.json", json.dumps(whole))
    found = read("coco", tmp_path)
    assert [(item.id, len(item.objects)) for item in found.items] == [("b.png", 0), ("a.png", 1)]
    assert [(note.kind, note.id) for note in found.notes] == [("file without annotations", "test.json")]


def test_a_folder_of_another_tools_lists_is_refused_with_what_they_are(tmp_path):
    listed = [{"image": "a.png", "annotations": [{"label": "bolt", "coordinates": {}}]}]
    put(tmp_path / "train" / "_annotations.createml.json", json.dumps(listed))
    with pytest.raises(Fault, match="CreateML's"):
        read("coco", tmp_path)


@pytest.mark.parametrize(
    "pack", [gzip.compress, lambda data: b"PK\3\4" + data, lambda data: b"7z\xbc\xaf\x27\x1c" + data]
)
def test_a_packed_file_is_to_be_unpacked_and_not_to_be_decoded(tmp_path, pack):
    put(tmp_path / "a.json.gz", pack(b"{}"))
    with pytest.raises(Fault, match="unpack it first") as fault:
        read("coco", tmp_path / "a.json.gz")
    assert fault.value.code == Fault.DATA


def test_cvats_own_xml_is_refused_with_what_to_export(tmp_path):
    put(tmp_path / "images/1.png", picture())
    put(tmp_path / "annotations.xml", '<?xml version="1.0"?><annotations><image id="0" name="1.png"/></annotations>')
    with pytest.raises(Fault, match=r"Pascal VOC 1\.1") as fault:
        read("voc", tmp_path)
    assert fault.value.code == Fault.DATA
