"""Annotations: what every format says, by name; what is wrong with it; and that nothing changes on the way round."""

import base64
import io
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Item, Object
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import detection
from cnn_keras.data.sources.detection import FORMATS
from cnn_keras.errors import Fault, Unreadable
from pipelines.data.boxes import box_files
from tests.conftest import cnn


def picture(height=20, width=40, shade=100):
    return encode_png(np.full((height, width, 3), shade, np.uint8))


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data) if isinstance(data, bytes) else path.write_text(data)
    return path


def read(source, path, **arguments):
    if source == "yolo":
        arguments["described"] = box_files.read_description(path)
    return detection.load(source, path=path, **arguments)


ITEMS = [
    Item("a.png", lambda: picture(20, 40, 1), (Object((2, 4, 10, 16), "zebra"), Object((0, 0, 40, 20), "ant", True)),
         "train"),
    Item("deep/b.png", lambda: picture(30, 50, 2), (Object((1.5, 2.25, 20.5, 29), "ant"),), "train"),
    Item("c.png", lambda: picture(10, 10, 3), (), "validation"),
    Item("d.png", lambda: picture(16, 16, 4), (Object((3, 3, 9, 12), "mouse 2"),), "test"),
]  # fmt: skip
WHERE = {"coco": "annotations", "voc": ".", "yolo": "data.yaml", "csv": "boxes.csv", "labelme": "."}


def said(found, *, flags):
    """What items say, by the name of the picture, the least that a format must keep."""
    return {
        item.id.rpartition("/")[2]: (
            item.split,
            item.read(),
            sorted((one.name, *np.round(one.box, 5).tolist(), one.difficult and flags) for one in item.objects),
        )
        for item in found.items
    }


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(FORMATS, 2)])
def test_annotations_survive_being_written_and_read_in_any_two_formats(tmp_path, first, second):
    classes = ["zebra", "ant", "mouse 2"]  # not in order of the alphabet
    detection.write(first, ITEMS, tmp_path / "one", classes=classes)
    once = read(first, tmp_path / "one" / WHERE[first])
    detection.write(second, once.items, tmp_path / "two", classes=sorted(classes))
    twice = read(second, tmp_path / "two" / WHERE[second])
    flags = "yolo" not in (first, second)
    assert said(twice, flags=flags) == said(annotation.Annotations(ITEMS), flags=flags)


def test_a_class_keeps_its_name_whatever_its_number(tmp_path):
    detection.write("yolo", ITEMS, tmp_path / "a", classes=["zebra", "ant", "mouse 2"])
    detection.write("yolo", ITEMS, tmp_path / "b", classes=["mouse 2", "zebra", "ant"])
    lines = [(tmp_path / side / "labels/train/a.txt").read_text() for side in "ab"]
    assert [line[0] for line in lines] == ["0", "1"]
    first, second = (read("yolo", tmp_path / side / "data.yaml") for side in "ab")
    assert said(first, flags=True) == said(second, flags=True)
    assert second.classes == ("mouse 2", "zebra", "ant")


def test_coco_is_read_with_its_crowds_its_masks_and_its_strange_ids(tmp_path):
    document = {
        "images": [{"id": "x7", "file_name": "a.png", "height": 20, "width": 40}],
        "categories": [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": "x7", "category_id": 3, "bbox": [2, 3, 10, 5], "iscrowd": 0,
             "segmentation": [[2, 3, 12, 3, 12, 8]]},
            {"id": 2, "image_id": "x7", "category_id": 90, "bbox": [0, 0, 40, 20], "iscrowd": 1,
             "segmentation": {"size": [20, 40], "counts": [0, 800]}},
            {"id": 3, "image_id": "x7", "category_id": 17, "bbox": [0, 0, 4, 2]},
            {"id": 4, "image_id": "x7", "category_id": 3, "bbox": [0, 0, "wide", 2]},
        ],
    }  # fmt: skip
    put(tmp_path / "images" / "a.png", picture())
    found = read("coco", put(tmp_path / "annotations" / "instances_val2017.json", json.dumps(document)))
    (item,) = found.items
    assert found.classes == ("cat", "dog")
    assert (item.split, item.size, item.read()) == ("validation", (20, 40), picture())
    assert item.objects[0] == Object((2, 3, 12, 8), "dog", mask=((2, 3, 12, 3, 12, 8),))
    assert item.objects[1].crowd
    assert run_length.decode(item.objects[1].mask).all()
    assert [kind for kind, _ in item.troubles] == ["unknown class", "malformed annotation"]
    assert "17" in item.troubles[0][1]


def test_voc_counts_pixels_from_one_and_pictures_without_a_file_are_background(tmp_path):
    xml = """<annotation><filename>a.png</filename><size><width>40</width><height>20</height></size>
      <object><name>cat</name><difficult>1</difficult>
        <bndbox><xmin>1</xmin><ymin>3</ymin><xmax>40</xmax><ymax>10</ymax></bndbox></object>
      <object><name>dog</name><bndbox><xmin>x</xmin><ymin>3</ymin><xmax>4</xmax><ymax>5</ymax></bndbox></object>
    </annotation>"""
    put(tmp_path / "Annotations/a.xml", xml)
    put(tmp_path / "Annotations/broken.xml", "<annotation>")
    for name in ("a.png", "b.png"):
        put(tmp_path / "JPEGImages" / name, picture())
    put(tmp_path / "ImageSets/Main/val.txt", "a\n")
    found = {item.id: item for item in read("voc", tmp_path).items}
    assert found["a.png"].objects == (Object((0, 2, 40, 10), "cat", difficult=True),)
    assert found["a.png"].split == "validation"
    assert [kind for kind, _ in found["a.png"].troubles] == ["malformed annotation"]
    assert [kind for kind, _ in found["b.png"].troubles] == ["without annotation"]
    with pytest.raises(Unreadable, match="no element found") as caught:
        found["broken.xml"].read()
    assert caught.value.kind == "broken annotation"


def test_yolo_lines_are_shares_of_the_picture_as_a_person_sees_it(tmp_path):
    sideways = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # 40 × 20 in the file, 20 × 40 upright
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(sideways, "JPEG", exif=exif)
    put(tmp_path / "set/images/train/a.png", picture())
    put(tmp_path / "set/images/train/turned.jpg", sideways.getvalue())
    put(tmp_path / "set/images/train/bare.png", picture())
    lines = "1 0.5 0.5 0.5 0.2\n0 0 0 1 0 1 0.5\n7 .5 .5 .1 .1\n0 1 2\n\n0 .5 .5 .1 .1 0.9\n"
    put(tmp_path / "set/labels/train/a.txt", lines)
    put(tmp_path / "set/labels/train/turned.txt", "0 0.5 0.5 1 0.5\n")
    path = put(tmp_path / "data.yaml", "path: set\ntrain: images/train\nnames: {0: cat, 1: no}\n")
    found = {item.id: item for item in read("yolo", path).items}
    box, polygon, scored = found["train/a.png"].objects
    assert (box.name, polygon.name) == ("no", "cat")
    np.testing.assert_allclose(box.box, [10, 8, 30, 12])
    np.testing.assert_allclose(polygon.box, [0, 0, 40, 10])
    np.testing.assert_allclose(polygon.mask[0], [0, 0, 40, 0, 40, 10])
    np.testing.assert_allclose(scored.box, [18, 9, 22, 11])
    assert [kind for kind, _ in found["train/a.png"].troubles] == ["unknown class", "malformed annotation"]
    assert "a.txt, line 3" in found["train/a.png"].troubles[0][1]
    np.testing.assert_allclose(found["train/turned.jpg"].objects[0].box, [0, 10, 20, 30])
    assert [kind for kind, _ in found["train/bare.png"].troubles] == ["without annotation"]


def test_yolo_takes_lists_of_pictures_and_folders_written_as_seen_from_below(tmp_path):
    put(tmp_path / "valid/images/a.png", picture())
    put(tmp_path / "valid/labels/a.txt", "0 .5 .5 1 1")
    put(tmp_path / "loose/b.png", picture())
    put(tmp_path / "loose/b.txt", "0 .5 .5 .5 1")
    put(tmp_path / "list.txt", "./loose/b.png\n")
    path = put(tmp_path / "data.yaml", "train: list.txt\nval: ../valid/images\nnames: [cat]\n")
    found = {item.id: item for item in read("yolo", path).items}
    assert found["valid/a.png"].split == "validation"
    assert [one.box for one in found["valid/a.png"].objects] == [(0, 0, 40, 20)]
    assert [one.box for one in found["loose/b.png"].objects] == [(10, 0, 30, 20)]


@pytest.mark.parametrize("header", ["path,left,top,right,bottom,label", "image_path,xmin,ymin,xmax,ymax,label"])
def test_a_table_is_read_under_both_kinds_of_names(tmp_path, header):
    put(tmp_path / "a.png", picture())
    put(tmp_path / "b.png", picture())
    path = put(tmp_path / "boxes.csv", f"{header}\na.png,1,2,3,4.5,Tree\na.png,1,2,x,4,Tree\nb.png,,,,,\n")
    first, second = read("csv", path).items
    assert first.objects == (Object((1, 2, 3, 4.5), "Tree"),)
    assert first.troubles[0][0] == "malformed annotation"
    assert "line 3" in first.troubles[0][1]
    assert second.objects == ()
    assert second.troubles == ()


def test_a_table_may_have_spaces_before_its_quoted_cells(tmp_path):
    put(tmp_path / "a, b.png", picture())
    rows = 'filename, width, height, class, xmin, ymin, xmax, ymax\n"a, b.png", 40, 20, "big, red", 1, 2, 3, 4\n'
    (item,) = read("csv", put(tmp_path / "boxes.csv", rows)).items
    assert (item.id, item.objects) == ("a, b.png", (Object((1, 2, 3, 4), "big, red"),))


def test_labelme_shapes_become_boxes_and_a_picture_may_be_inside_the_file(tmp_path):
    shapes = [
        {"label": "cat", "points": [[9, 8], [2, 3]], "shape_type": "rectangle", "flags": {"difficult": True}},
        {"label": "dog", "points": [[1, 1], [5, 1], [3, 6]], "shape_type": "polygon"},
        {"label": "eye", "points": [[10, 10], [13, 14]], "shape_type": "circle"},
        {"label": "dog", "points": [[1, 1]], "shape_type": "point"},
    ]
    inside = base64.b64encode(picture()).decode()
    put(tmp_path / "a.json", json.dumps({"shapes": shapes, "imagePath": "gone.png", "imageData": inside}))
    put(tmp_path / "b.png", picture())
    put(tmp_path / "b.json", json.dumps({"shapes": [], "imagePath": "b.png"}))
    put(tmp_path / "c.json", "{")
    found = {item.id: item for item in read("labelme", tmp_path).items}
    cat, dog, eye = found["gone.png"].objects
    assert cat == Object((2, 3, 9, 8), "cat", difficult=True, mask=((2, 3, 9, 3, 9, 8, 2, 8),))
    assert dog == Object((1, 1, 5, 6), "dog", mask=((1, 1, 5, 1, 3, 6),))
    assert eye.box == (5, 5, 15, 15)
    assert found["gone.png"].read() == picture()
    assert [kind for kind, _ in found["gone.png"].troubles] == ["line or point, no thing"]
    assert found["b.png"].objects == ()
    with pytest.raises(Unreadable, match="must be JSON"):
        found["c.json"].read()


def test_one_picture_that_is_missing_is_a_trouble_and_all_of_them_are_a_fault(tmp_path):
    table = "path,left,top,right,bottom,label\na.png,1,1,2,2,x\nb.png,1,1,2,2,x\n"
    path = put(tmp_path / "boxes.csv", table)
    with pytest.raises(Fault) as caught:
        read("csv", path)
    assert all(part in str(caught.value) for part in ("a.png", str(tmp_path), "boxes.csv", "data.images"))
    assert caught.value.code == Fault.DATA
    put(tmp_path / "elsewhere/a.png", picture())
    first, second = read("csv", path, images=tmp_path / "elsewhere").items
    assert first.read() == picture()
    with pytest.raises(Unreadable) as missing:
        second.read()
    assert missing.value.kind == "missing image"


@pytest.mark.parametrize(
    ("source", "name", "content", "message"),
    [
        ("coco", "a.json", "[]", "a mapping"),
        ("coco", "a.json", "{", "must be JSON"),
        ("coco", "a.json", '{"images": []}', "images, annotations and categories"),
        ("coco", "a.json", '{"images": [{"id": 1}], "annotations": [], "categories": []}', "file_name"),
        ("csv", "a.csv", "path,label\n", "left is missing"),
        ("yolo", "a.yaml", "train: gone\nnames: [a]\n", "'gone'"),
        ("yolo", "a.yaml", "train: .\n", "must hold names.*the keys train"),
        ("yolo", "a.yaml", "names: [a]\n", "train, val or test"),
        ("yolo", "a.yaml", "- 1\n", "a mapping"),
    ],
)
def test_files_that_are_something_else_are_faults(tmp_path, source, name, content, message):
    with pytest.raises(Fault, match=message) as caught:
        read(source, put(tmp_path / name, content))
    assert name in str(caught.value)


def test_a_path_that_is_not_there_is_told_with_what_is(tmp_path):
    put(tmp_path / "beside.txt", "")
    for source in ("coco", "voc", "csv", "labelme", "yolo"):
        with pytest.raises(Fault, match=r"beside\.txt"):
            read(source, tmp_path / "gone")


def test_groups_sources_and_formats_are_checked(tmp_path):
    detection.write("csv", ITEMS, tmp_path / "one", classes=["zebra", "ant", "mouse 2"])
    found = read("csv", tmp_path / "one/boxes.csv", group=r"(\w+)\.png$")
    assert {item.group for item in found.items} == {"a", "b", "c", "d"}
    with pytest.raises(Fault, match=r"data\.source must be one of coco, voc"):
        detection.load("pascal")
    with pytest.raises(Fault, match="new or empty"):
        detection.write("coco", ITEMS, tmp_path / "one", classes=[])
    with pytest.raises(Fault, match=r"a\.png twice"):
        detection.write("voc", [ITEMS[0], ITEMS[0]], tmp_path / "two", classes=["zebra", "ant"])
    assert [path.name for path in tmp_path.iterdir()] == ["one"]  # nothing half-written


def test_the_command_converts_by_name_and_tells_what_gets_lost(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detection.write("labelme", ITEMS, tmp_path / "one", classes=["zebra", "ant", "mouse 2"])
    assert cnn("convert", "labelme", "one", "--to", "yolo", "--out", "two") == 0
    told = capsys.readouterr().out
    assert "4 images, 4 objects of 3 classes as yolo" in told
    assert "difficult: lost for 1 objects" in told
    found = said(read("yolo", tmp_path / "two/data.yaml"), flags=False)
    assert found == said(annotation.Annotations(ITEMS), flags=False)
    assert cnn("convert", "labelme", "one", "--to", "kitti") == Fault.INPUT
    assert "--to must be one of" in capsys.readouterr().err


def test_masks_are_cocos(tmp_path):
    coco = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    samples = [generator.random((7, 5)) < 0.5, np.zeros((3, 4), bool), np.ones((3, 4), bool), np.eye(4, dtype=bool)]
    for mask in samples:
        runs = run_length.encode(mask)
        compressed = coco.encode(np.asfortranarray(mask, np.uint8))
        assert coco.frPyObjects(runs, *mask.shape)["counts"] == compressed["counts"]
        np.testing.assert_array_equal(run_length.decode(runs), mask)
        np.testing.assert_array_equal(run_length.decode(compressed), mask)
        np.testing.assert_array_equal(run_length.decode(run_length.crop(runs, (1, 0, 4, 3))), mask[0:3, 1:4])
    assert run_length.crop(((5, 6, 7, 8),), (2, 3, 9, 9)) == ((3, 3, 5, 5),)


def test_voc_is_decoded_as_it_declares_and_a_broken_file_is_one_trouble(tmp_path):
    body = "<annotation><filename>{}.png</filename><object><name>{}</name><bndbox><xmin>3</xmin><ymin>5</ymin>" \
           "<xmax>10</xmax><ymax>16</ymax></bndbox></object></annotation>"  # fmt: skip
    for name, label, encoding, head in (
        ("a", "Käfer", "utf-8-sig", ""),
        ("b", "Käfer", "utf-16", '<?xml version="1.0" encoding="utf-16"?>'),
        ("c", "Käfer", "latin-1", '<?xml version="1.0" encoding="ISO-8859-1"?>'),
        ("d", "螺栓", "gb18030", '<?xml version="1.0" encoding="gb18030"?>'),
        ("e", "Käfer", "latin-1", ""),
        ("f", "x", "utf-8", '<?xml version="1.0" encoding="klingon"?>'),
    ):
        put(tmp_path / f"{name}.png", picture())
        put(tmp_path / f"{name}.xml", (head + body.format(name, label)).encode(encoding))
    found = {item.id: item for item in read("voc", tmp_path).items}
    assert {name: [(one.name, one.box) for one in item.objects] for name, item in found.items()} == {
        **{f"{name}.png": [("Käfer", (2, 4, 10, 16))] for name in "abc"},
        "d.png": [("螺栓", (2, 4, 10, 16))], "e.xml": [], "f.xml": [],
    }  # fmt: skip
    for name in ("e.xml", "f.xml"):
        with pytest.raises(Unreadable) as caught:
            found[name].read()
        assert caught.value.kind == "broken annotation"


def voc(folder, names):
    for name in names:
        put(folder / "JPEGImages" / f"{name}.png", picture())
        put(folder / "Annotations" / f"{name}.xml", f"<annotation><filename>{name}.png</filename></annotation>")


def test_xml_files_that_name_one_picture_are_those_of_their_own_names(tmp_path):
    voc(tmp_path, ["a", "b"])
    for name in ("b", "c"):
        put(tmp_path / f"Annotations/{name}.xml", "<annotation><filename>a.png</filename></annotation>")
    found = {item.id: item for item in read("voc", tmp_path).items}
    assert sorted(found) == ["a.png", "b.png", "c.jpg: c.xml"]
    assert [kind for kind, _ in found["b.png"].troubles] == ["name of another picture"]
    with pytest.raises(Unreadable, match=r"it names a\.png, which another file annotates"):
        found["c.jpg: c.xml"].read()


def test_lists_with_spaces_dots_suffixes_and_marks_prescribe_the_splits(tmp_path):
    voc(tmp_path, ["my photo 1", "my photo 10", "v1.2.b", "0001", "0002", "left"])
    put(tmp_path / "ImageSets/Main/train.txt", "\ufeffmy photo 1\r\n0001.png\r\n")
    put(tmp_path / "ImageSets/Main/Val.txt", "v1.2.b\nJPEGImages/0002.png  -1\n")
    put(tmp_path / "ImageSets/Main/test.txt", "my photo 10\nnobody\n0001\n")
    found = {item.id: item for item in read("voc", tmp_path).items}
    assert {name: item.split for name, item in found.items() if item.file} == {
        "my photo 1.png": "train", "my photo 10.png": "test", "v1.2.b.png": "validation", "0002.png": "validation",
        "0001.png": "test", "left.png": None,
    }  # fmt: skip
    assert [kind for kind, _ in found["0001.png"].troubles] == ["in two lists"]
    for name, kind in (("test.txt: nobody", "missing image"), ("left.png", "not listed")):
        with pytest.raises(Unreadable) as caught:
            found[name].read()
        assert caught.value.kind == kind


def test_trainval_is_trained_on_where_no_list_says_what_of_it(tmp_path):
    voc(tmp_path, ["a", "b", "c"])
    put(tmp_path / "ImageSets/Main/trainval.txt", "a\nb\n")
    put(tmp_path / "splits/test.txt", "c\n")
    assert {item.id: item.split for item in read("voc", tmp_path).items} == {
        "a.png": "train", "b.png": "train", "c.png": "test",
    }  # fmt: skip
    put(tmp_path / "ImageSets/Main/train.txt", "a\n")
    put(tmp_path / "ImageSets/Main/val.txt", "b\n")
    assert [item.split for item in read("voc", tmp_path).items] == ["train", "validation", "test"]


def test_a_list_that_names_no_picture_stops(tmp_path):
    voc(tmp_path, ["a", "b"])
    put(tmp_path / "ImageSets/Main/train.txt", "c\nd\n")
    with pytest.raises(Fault, match=r"train\.txt must name pictures") as caught:
        read("voc", tmp_path)
    assert caught.value.code == Fault.DATA


def test_hidden_folders_are_never_data(tmp_path):
    voc(tmp_path / "voc", ["a"])
    detection.write("labelme", ITEMS[:1], tmp_path / "labelme", classes=["zebra", "ant"])
    detection.write("yolo", ITEMS[:1], tmp_path / "yolo", classes=["zebra", "ant"])
    for source, where in (("voc", "voc"), ("labelme", "labelme"), ("yolo", "yolo/data.yaml")):
        once = said(read(source, tmp_path / where), flags=False)
        for folder in [inner for inner in (tmp_path / where.partition("/")[0]).rglob("*") if inner.is_dir()]:
            for hidden in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
                for file in [file for file in folder.glob("*.*") if file.is_file()]:
                    put(folder / hidden / f"{file.stem}-checkpoint{file.suffix}", file.read_bytes())
        assert said(read(source, tmp_path / where), flags=False) == once


@pytest.mark.parametrize("pictures", ["data", "images", "JPEGImages"])
def test_pictures_are_found_beside_the_folder_or_the_file_of_labels(tmp_path, pictures):
    put(tmp_path / pictures / "a.png", picture())
    row = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [2, 4, 8, 12]}
    listed = {"images": [{"id": 0, "file_name": "a.png"}], "annotations": [row]}
    path = put(tmp_path / "labels.json", json.dumps({**listed, "categories": [{"id": 0, "name": "bolt"}]}))
    box = "<xmin>3</xmin><ymin>5</ymin><xmax>10</xmax><ymax>16</ymax>"
    body = f"<object><name>bolt</name><bndbox>{box}</bndbox></object>"
    put(tmp_path / "labels/a.xml", f"<annotation><filename>a.png</filename>{body}</annotation>")
    for source, where in (("coco", path), ("voc", tmp_path)):
        (item,) = read(source, where).items
        assert item.read() == picture()
        assert [(one.name, one.box) for one in item.objects] == [("bolt", (2, 4, 10, 16))]


@pytest.mark.parametrize("pictures", ["images", "JPEGImages", "Images", "imgs"])
def test_labels_lie_beside_the_folder_of_pictures_whatever_it_is_called(tmp_path, pictures):
    put(tmp_path / "train" / pictures / "A.PNG", picture())
    put(tmp_path / "train/labels/a.txt", "0 .5 .5 .5 .5")
    (item,) = read("yolo", put(tmp_path / "data.yaml", f"train: train/{pictures}\nnames: [bolt]\n")).items
    assert [one.box for one in item.objects] == [(10, 5, 30, 15)]


POSE = {
    "kpt_shape: [4, 3]\n": "0.25 0.25 2 0.5 0.5 1 0 0 0 0.9 0.1 2",
    "kpt_shape: [4, 2]\n": "0.25 0.25 0.5 0.5 0 0 0.9 0.1",
}


@pytest.mark.parametrize("head", POSE)
def test_a_pose_is_a_box_and_landmarks(tmp_path, head):
    put(tmp_path / "images/a.png", picture())
    put(tmp_path / "labels/a.txt", f"0 0.5 0.5 0.5 0.5 {POSE[head]}\n0 0.5 0.5 0.5 0.5 0.1 0.2\n")
    described = f"{head}kpt_names: {{0: [nose, tail, paw, ear]}}\ntrain: images\nnames: [cat]\n"
    (item,) = read("yolo", put(tmp_path / "data.yaml", described)).items
    (one,) = item.objects
    assert (one.name, one.box, one.mask) == ("cat", (10, 5, 30, 15), None)
    nose, tail, paw, ear = one.landmarks
    assert (nose.name, nose.x, nose.y, nose.visible) == ("nose", 10, 5, True)
    assert (tail.x, tail.y, tail.visible) == (20, 10, "3" not in head)  # 1 is known and hidden
    assert (paw.visible, ear.visible) == (False, True)
    assert [kind for kind, _ in item.troubles] == ["malformed annotation"]


def test_a_pose_without_kpt_shape_is_no_polygon(tmp_path):
    put(tmp_path / "images/a.png", picture())
    put(tmp_path / "labels/a.txt", "0 0.5 0.5 0.5 0.5 0.9 0.1 2 0.2 0.3 2\n0 .5 .5 .5 .5\n")
    (item,) = read("yolo", put(tmp_path / "data.yaml", "train: images\nnames: [cat]\n")).items
    assert len(item.objects) == 1
    assert [kind for kind, _ in item.troubles] == ["landmarks without kpt_shape in data.yaml"]


def test_darknets_data_lists_of_pictures_and_files_of_names_are_read(tmp_path):
    for place in ("obj_train_data", "images"):
        put(tmp_path / place / "0.png", picture())
    put(tmp_path / "obj_train_data/0.txt", "0 .5 .5 .5 .5")
    put(tmp_path / "labels/0.txt", "0 .5 .5 .5 .5")
    put(tmp_path / "obj.names", "bolt\nnut\n")
    put(tmp_path / "train.txt", "data/obj_train_data/0.png\n")
    forms = {
        "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        "list.yaml": "train: train.txt\nnames: obj.names\n",
        "pictures.yaml": "train: [images/0.png]\nval: images/0.png\nnames: {0: bolt, 1: nut}\n",
    }
    for name, content in forms.items():
        found = read("yolo", put(tmp_path / name, content))
        assert [(item.split, one.name, one.box) for item in found.items for one in item.objects] == [
            ("train", "bolt", (10, 5, 30, 15))
        ]
        assert found.classes == ("bolt", "nut")
    for name in forms:
        (tmp_path / name).unlink()
    (item, other) = read(
        "yolo", box_files.describing(tmp_path)
    ).items  # a file of names beside pictures, no split known
    assert (item.split, other.split) == (None, None)


def test_splits_are_named_in_any_capitals_and_a_picture_of_two_is_told(tmp_path):
    for name in ("a", "b"):
        put(tmp_path / f"images/{name}.png", picture())
        put(tmp_path / f"images/{name}.txt", "0 .5 .5 .5 .5")
    put(tmp_path / "Train.txt", "images/a.png\n")
    put(tmp_path / "Validation.txt", "images/a.png\nimages/b.png\n")
    content = "path: .\nTrain: Train.txt\nValidation: Validation.txt\nnames: {0: bolt}\n"
    found = read("yolo", put(tmp_path / "data.yaml", content))
    assert {item.id: item.split for item in found.items} == {"a.png": "train", "b.png": "validation"}
    assert [(note.kind, note.detail, note.taken) for note in found.notes] == [
        ("picture in two splits", "validation: 1 × such as images/a.png", "kept for train")
    ]


@pytest.mark.parametrize(
    ("key", "place"), [("val", "../valid/images"), ("test", "test/images"), ("test", "test.txt"), ("test", "/a/images")]
)
def test_a_split_that_is_not_there_stops(tmp_path, key, place):
    put(tmp_path / "train/images/a.png", picture())
    put(tmp_path / "train/labels/a.txt", "0 .5 .5 .5 .5")
    with pytest.raises(Fault, match=f"{key} must be there") as fault:
        read("yolo", put(tmp_path / "data.yaml", f"train: train/images\nnames: [bolt]\n{key}: {place}\n"))
    assert fault.value.code == Fault.DATA


def test_the_test_set_that_roboflow_names_without_one_is_left_out_and_reported(tmp_path):
    put(tmp_path / "train/images/a.png", picture())
    put(tmp_path / "train/labels/a.txt", "0 .5 .5 .5 .5")
    found = read("yolo", put(tmp_path / "data.yaml", "train: train/images\nnames: [bolt]\ntest: ../test/images\n"))
    assert [item.split for item in found.items] == ["train"]
    assert [note.kind for note in found.notes] == ["split that is not there"]


def test_lines_of_kitti_are_named_in_a_data_set_of_yolo(tmp_path):
    put(tmp_path / "images/a.png", picture())
    put(tmp_path / "labels/a.txt", "0 .5 .5 .5 .5\nCar 0 0 0 1 2 9 8 0 0 0 0 0 0 0\n")
    (item,) = read("yolo", put(tmp_path / "data.yaml", "train: images\nnames: [bolt]\n")).items
    assert [kind for kind, _ in item.troubles] == ["line of KITTI's, for source kitti"]


def test_oriented_boxes_of_yolo_are_polygons_with_the_box_around_them(tmp_path):
    put(tmp_path / "images/a.png", picture())
    put(tmp_path / "labels/a.txt", "0 .5 .1 .75 .5 .5 .9 .25 .5\n")
    (item,) = read("yolo", put(tmp_path / "data.yaml", "train: images\nnames: [bolt]\n")).items
    (one,) = item.objects
    assert one.box == pytest.approx((10, 2, 30, 18))
    assert one.mask == (pytest.approx((20, 2, 30, 10, 20, 18, 10, 10)),)


def test_open_images_shares_become_pixels_with_names_and_other_shares_are_refused(tmp_path):
    put(tmp_path / "1.jpg", picture())
    put(tmp_path / "class-descriptions-boxable.csv", "/m/01,Bolt\n")
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
    path = put(tmp_path / "boxes.csv", f"{header}1,xclick,/m/01,1,0.25,0.5,0.5,1,0\n1,xclick,/m/02,1,0,1,0,1,1\n")
    (item,) = read("csv", path).items
    assert item.objects == (Object((10, 10, 20, 20), "Bolt"), Object((0, 0, 40, 20), "/m/02", crowd=True))
    path = put(tmp_path / "shares.csv", "path,left,top,right,bottom,label\n1.jpg,0.25,0.5,0.5,1,Bolt\n")
    with pytest.raises(Fault, match="shares of the picture"):
        read("csv", path)
    with pytest.raises(Fault, match="looks like data"):
        read("csv", put(tmp_path / "bare.csv", "1.jpg,10,12,34,36,bolt\n"))


def test_a_table_of_makesense_is_read_with_the_header_that_the_message_names(tmp_path):
    put(tmp_path / "1.jpg", picture())
    row = "bolt,10,12,24,7,1.jpg,40,20\n"
    with pytest.raises(Fault, match="makesense") as fault:
        read("csv", put(tmp_path / "bare.csv", row))
    header = next(word for word in str(fault.value).split() if word.startswith("label_name,"))
    (item,) = read("csv", put(tmp_path / "boxes.csv", f"{header}\n{row}")).items
    assert item.objects == (Object((10, 12, 34, 19), "bolt"),)
    assert item.size == (20, 40)


def test_data_yaml_trains_from_anywhere(tmp_path):
    for name, items, expected in (
        ("both", ITEMS, {"train": "images/train", "val": "images/val", "test": "images/test"}),
        ("none", [item._replace(split=None) for item in ITEMS], {"train": "images/train", "val": "images/train"}),
        ("test", ITEMS[3:], {"train": "images/test", "val": "images/test", "test": "images/test"}),
    ):
        detection.write("yolo", items, tmp_path / name, classes=["zebra", "ant", "mouse 2"])
        described = box_files.read_description(tmp_path / name / "data.yaml")
        assert {key: value for key, value in described.items() if key != "names"} == expected  # and no path
        assert all((tmp_path / name / place).is_dir() for place in expected.values())


@pytest.mark.parametrize("way", ["absolute", "above", "link", "folder"])
@pytest.mark.parametrize("source", ["coco", "csv", "labelme", "yolo"])
def test_convert_copies_nothing_from_outside_the_data_set(tmp_path, capsys, source, way):
    secret = put(tmp_path / "elsewhere/secret.png", picture())
    inside = put(tmp_path / "set/inside.png", picture(shade=5))
    name = {"absolute": str(secret), "above": "../elsewhere/secret.png"}.get(way, "link.png")
    if way == "link":
        (tmp_path / "set/link.png").symlink_to(secret)
    if way == "folder":
        (tmp_path / "set/linked").symlink_to(secret.parent)
        name = "linked/secret.png"
    names = [name, "inside.png"]
    path = tmp_path / "set"
    if source == "coco":
        images = [{"id": number, "file_name": one} for number, one in enumerate(names)]
        rows = [{"id": number, "image_id": number, "category_id": 1, "bbox": [1, 1, 5, 5]} for number in (0, 1)]
        found = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
        path = put(tmp_path / "set/a.json", json.dumps(found))
    if source == "csv":
        rows = "".join(f"{one},1,1,5,5,cat\n" for one in names)
        path = put(tmp_path / "set/a.csv", f"path,left,top,right,bottom,label\n{rows}")
    if source == "labelme":
        for number, one in enumerate(names):
            shapes = [{"label": "cat", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}]
            put(tmp_path / f"set/{number}.json", json.dumps({"shapes": shapes, "imagePath": one}))
    if source == "yolo":
        put(inside.with_suffix(".txt"), "0 .5 .5 .5 .5")
        path = put(tmp_path / "set/data.yaml", f"train: {json.dumps(names)}\nnames: [cat]\n")
    assert cnn("convert", source, str(path), "--to", "csv", "--out", str(tmp_path / "out")) == 0
    assert "outside the data set" in capsys.readouterr().out
    copied = [file for file in (tmp_path / "out").rglob("*") if file.suffix == ".png"]
    assert [file.read_bytes() for file in copied] == [inside.read_bytes()]
    inside.unlink()
    assert cnn("convert", source, str(path), "--to", "csv", "--out", str(tmp_path / "none")) == Fault.DATA
    assert not list(tmp_path.glob("none/**/*.png"))
    capsys.readouterr()


def test_convert_writes_nothing_that_is_no_picture(tmp_path, capsys):
    put(tmp_path / "set/a.png", picture())
    put(tmp_path / "set/b.png", b"root:x:0:0")
    path = put(tmp_path / "set/a.csv", "path,left,top,right,bottom,label\na.png,1,1,5,5,cat\nb.png,1,1,5,5,cat\n")
    assert cnn("convert", "csv", str(path), "--to", "coco", "--out", str(tmp_path / "out")) == 0
    assert "1 × undecodable, such as b.png" in capsys.readouterr().out
    assert [file.name for file in (tmp_path / "out").rglob("*.png")] == ["a.png"]
