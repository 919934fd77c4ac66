"""Tables of labels and annotations of boxes as images with any number of labels."""

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from cnn_keras.data.sources import detection, multi_label
from cnn_keras.errors import Fault, Unreadable


def write_images(folder, count=4):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")


@pytest.fixture
def photos(tmp_path):
    write_images(tmp_path)
    return tmp_path


EXPECTED = {"0.png": ("cat", "dog"), "1.png": (), "2.png": ("dog",)}


def labels_of(items):
    return {item.id: item.labels for item in items}


@pytest.mark.parametrize(
    "text",
    [
        "path,labels\n0.png,cat|dog\n1.png,\n2.png,dog\n",
        'path,label\n0.png,"dog, cat"\n1.png,\n2.png,dog\n',
        "path,tags\n0.png,dog ; cat\n1.png,\n2.png,dog\n",
        "path,cat,dog\n0.png,1,1\n1.png,0,0\n2.png,0.0,True\n",
    ],
)
def test_names_in_one_column_and_a_column_for_each_class_say_the_same(photos, text):
    (photos / "labels.csv").write_text(text)
    assert labels_of(multi_label.items("csv", path=photos / "labels.csv")) == EXPECTED


@pytest.mark.parametrize(
    "columns",
    [
        {"labels": [["cat", "dog"], [], ["dog"]]},
        {"labels": ["cat|dog", None, "dog"]},
        {"cat": [1, 0, 0], "dog": [True, False, True]},
    ],
)
def test_a_parquet_file_is_a_table_too(photos, columns):
    table = pyarrow.table({"path": ["0.png", "1.png", "2.png"], **columns})
    parquet.write_table(table, photos / "labels.parquet")
    assert labels_of(multi_label.items("csv", path=photos / "labels.parquet")) == EXPECTED


def test_a_separator_of_ones_own_parts_names_that_hold_the_usual_ones(photos):
    (photos / "labels.csv").write_text("path,labels\n0.png,red; bright/dog\n")
    items = multi_label.items("csv", path=photos / "labels.csv", separator="/")
    assert labels_of(items) == {"0.png": ("dog", "red; bright")}


def test_images_may_lie_in_another_folder_and_rows_prescribe_split_and_group(photos, tmp_path):
    write_images(tmp_path / "elsewhere")
    (photos / "table").mkdir()
    (photos / "table" / "labels.csv").write_text("path,split,group,cat\n0.png,val,a,1\n1.png,train,b,0\n")
    items = multi_label.items("csv", path=photos / "table" / "labels.csv", images=tmp_path / "elsewhere")
    assert [(item.split, item.group) for item in items] == [("validation", "a"), ("train", "b")]
    assert items[0].read()


@pytest.mark.parametrize("row", ["0.png,2,0", "0.png,,0", "0.png,cat,0", ",1,0", "1.png,1,1"])
def test_a_row_that_says_something_else_is_an_item_that_cannot_be_read(photos, row):
    (photos / "labels.csv").write_text(f"path,cat,dog\n1.png,1,0\n{row}\n")
    good, bad = multi_label.items("csv", path=photos / "labels.csv")
    assert good.read()
    with pytest.raises(Unreadable) as refused:
        bad.read()
    assert refused.value.kind == "broken annotation"


@pytest.mark.parametrize(
    "text", ["", "path\n0.png\n", "image,cat\n0.png,1\n", "path,cat\n", "path,cat\nnowhere.png,1\n"]
)
def test_a_table_that_is_none_is_refused(photos, text):
    (photos / "labels.csv").write_text(text)
    with pytest.raises(Fault):
        multi_label.items("csv", path=photos / "labels.csv")


def test_a_file_that_is_no_parquet_is_refused(photos):
    (photos / "labels.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(Fault) as refused:
        multi_label.items("csv", path=photos / "labels.parquet")
    assert refused.value.code == Fault.DATA


def test_of_composites_the_classes_that_are_in_a_scene_are_its_labels():
    settings = {"count": 20, "side": 48, "things": (0, 3)}
    annotations = detection.load("composites", **settings)
    items = multi_label.items("composites", **settings)
    assert [set(item.labels) for item in items] == [{each.name for each in item.objects} for item in annotations.items]
    assert {item.split for item in items} == {"train", "validation", "test"}
    assert any(not item.labels for item in items)


@pytest.mark.parametrize("format_", ["coco", "voc"])
def test_annotations_of_boxes_say_which_classes_are_there(tmp_path, format_):
    annotations = detection.load("composites", count=12, side=48, things=(0, 3))
    detection.write(format_, annotations.items, tmp_path / "set", classes=annotations.classes)
    items = multi_label.items(format_, path=tmp_path / "set")
    expected = sorted((item.split, tuple(sorted({each.name for each in item.objects}))) for item in annotations.items)
    assert sorted((item.split, item.labels) for item in items) == expected
