"""WebDataset's archives and TFRecord files: what is in them, and what is wrong with them."""

import gzip
import tarfile

import pytest
import tensorflow as tf

from cnn_keras.data.sources import classification
from cnn_keras.errors import Fault, Unreadable
from tests.packed_files import add, example

IMAGE = b"\xff\xd8 an image"


def archive(path, **files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as opened:
        for name, data in files.items():
            add(opened, name.replace("__", "."), data)


def records(path, *examples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in examples:
            writer.write(example(one).SerializeToString())


def test_an_image_and_the_class_beside_it_are_a_sample(tmp_path):
    archive(tmp_path / "train-0000.tar", a__jpg=IMAGE, a__cls=b"1\n", a__json=b"{}", b__cls=b"dog", b__PNG=IMAGE + b"2")
    archive(tmp_path / "val-0000.tar", c__jpg=b"3", c__cls=b"0")
    items = classification.items("webdataset", path=tmp_path, classes=("cat", "bird"))
    assert [(item.id, item.label, item.split, item.read()) for item in items] == [
        ("train-0000.tar/a.jpg", "bird", "train", IMAGE),
        ("train-0000.tar/b.PNG", "dog", "train", IMAGE + b"2"),
        ("val-0000.tar/c.jpg", "cat", "validation", b"3"),
    ]
    (first, _) = classification.items("webdataset", path=tmp_path / "train-0000.tar", group=r"/(.)\.")
    assert (first.label, first.group) == ("1", "a")


def test_examples_have_their_class_as_text_or_as_a_number(tmp_path):
    records(
        tmp_path / "train-00000-of-00001",
        {"image/encoded": IMAGE, "image/class/label": 2, "image/class/text": b"dog"},
        {"image": IMAGE + b"2", "label": 1},
    )
    items = classification.items("tfrecord", path=tmp_path)
    assert [(item.id, item.label, item.split, item.read()) for item in items] == [
        ("train-00000-of-00001/000000", "dog", "train", IMAGE),
        ("train-00000-of-00001/000001", "1", "train", IMAGE + b"2"),
    ]


def test_what_is_no_image_with_a_class_says_why(tmp_path):
    archive(tmp_path / "a.tar", a__jpg=IMAGE, b__cls=b"1", c__jpg=IMAGE, c__cls=b"7")
    records(tmp_path / "a.tfrecord", {"image": IMAGE}, {"label": 1}, {"image": IMAGE, "label": -1})
    with tf.io.TFRecordWriter(str(tmp_path / "b.tfrecord")) as writer:
        writer.write(b"no example")
    for source, expected in (("webdataset", 3), ("tfrecord", 4)):
        items = classification.items(source, path=tmp_path, classes=("cat", "dog"))
        assert len(items) == expected
        for item in items:
            with pytest.raises(Unreadable):
                item.read()


@pytest.mark.parametrize("source", ["webdataset", "tfrecord"])
@pytest.mark.parametrize("damage", ["cut", "packed", "none"])
def test_a_damaged_or_compressed_file_and_a_folder_without_one_are_refused(tmp_path, source, damage):
    path = tmp_path / ("a.tar" if source == "webdataset" else "a.tfrecord")
    if source == "webdataset":
        archive(path, a__jpg=IMAGE * 1000, a__cls=b"1")
    else:
        records(path, {"image": IMAGE * 1000, "label": 1})
    data = path.read_bytes()
    path.unlink()
    if damage != "none":
        path.write_bytes(data[: len(IMAGE) * 500] if damage == "cut" else gzip.compress(data))
    with pytest.raises(Fault) as fault:
        classification.items(source, path=tmp_path)
    assert fault.value.code == Fault.DATA
