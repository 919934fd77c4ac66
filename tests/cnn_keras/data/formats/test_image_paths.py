"""Names of pictures that were written on another machine: found where that is certain, told once by kind."""

import unicodedata
from pathlib import Path

import pytest

from cnn_keras.data.formats import image_paths
from cnn_keras.data.formats.image_paths import BACKSLASH, CAPITALS, LETTERS, PREFIX, UPLOAD, Places
from tests.cnn_keras.data.sources.test_detection import picture, put, read


@pytest.mark.parametrize(
    ("stated", "there", "kind"),
    [
        ("images\\1.png", "images/1.png", BACKSLASH),
        (".\\1.png", "1.png", BACKSLASH),
        ("D:\\photos\\old\\1.png", "1.png", BACKSLASH),
        ("project/train/1.png", "train/1.png", PREFIX),
        ("/home/me/project/train/1.png", "train/1.png", PREFIX),
        ("train/1.png", "Train/1.PNG", CAPITALS),
        (unicodedata.normalize("NFD", "Käfer.png"), "Käfer.png", LETTERS),
        (unicodedata.normalize("NFD", "käfer.png"), "Käfer.png", CAPITALS),
        ("/data/upload/1/ab12cd34-1.png", "1.png", UPLOAD),
        ("ab12cd34-1.png", "ab12cd34-1.png", None),  # is called so
        ("./train/1.png", "train/1.png", None),
        ("a\\b.png", "a\\b.png", None),  # is called so
    ],
)
def test_a_name_is_found_and_told_by_kind(tmp_path, stated, there, kind):
    put(tmp_path / there, picture())
    places = Places([tmp_path])
    assert places.files([stated])[stated] == tmp_path / there
    assert [note.kind for note in places.notes(tmp_path / "a.json")] == ([kind] if kind else [])


def test_two_names_that_become_one_lead_nowhere(tmp_path):
    put(tmp_path / "1.png", picture())
    places = Places([tmp_path])
    assert places.files(["a/1.png", "b/1.png"]) == {"a/1.png": None, "b/1.png": None}
    assert places.files(["00000000-1.png", "11111111-1.png"]) == {"00000000-1.png": None, "11111111-1.png": None}
    assert Places([tmp_path]).files(["1.png", "b/1.png"]) == {"1.png": tmp_path / "1.png", "b/1.png": None}


@pytest.mark.parametrize("name", ["", "a\0b.png", "x" * 300 + ".png", "\ud800.png", "/", "..", "a/" * 2000 + "b.png"])
def test_names_that_no_file_can_have_are_of_none(tmp_path, name):
    put(tmp_path / "1.png", picture())
    assert Places([tmp_path]).file(name) is None
    assert isinstance(image_paths.ids(tmp_path, {name: None})[name], str)


def test_ids_leave_out_what_all_absolute_names_share():
    names = {"C:\\data\\one\\a.png": None, "C:\\data\\two\\a.png": None, "rel/b.png": None}
    assert set(image_paths.ids(Path("/set"), names).values()) == {"rel/b.png", "one/a.png", "two/a.png"}


def test_every_source_finds_backslashes_and_prefixes(tmp_path):
    put(tmp_path / "images/1.png", picture())
    table = put(tmp_path / "a.csv", "path,left,top,right,bottom,label\nset\\images\\1.png,1,1,9,9,bolt\n")
    (item,) = read("csv", table).items
    assert (item.id, item.read()) == ("images/1.png", picture())
    put(tmp_path / "labels/1.txt", "0 .5 .5 .5 .5")
    for train in ("images", "set/images", ".\\images", "/content/set/images"):
        found = read("yolo", put(tmp_path / "data.yaml", f"train: '{train}'\nnames: [bolt]\n"))
        assert [(item.id, len(item.objects)) for item in found.items] == [("1.png", 1)]
        assert len(found.notes) == (train != "images")
