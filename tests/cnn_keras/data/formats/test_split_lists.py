"""Lists of splits: names are matched however they are written, and what matches nothing is told."""

import pytest

from cnn_keras.data.formats import split_lists
from cnn_keras.errors import Fault

PICTURES = {
    "images/frame.10.jpg": ["frame.10"],
    "images/my photo 1.jpg": ["my photo 1"],
    "images/a.png": ["a"],
    "images/b/a.png": ["b/a"],
}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("frame.10", ["images/frame.10.jpg"]),
        ("frame.10.jpg", ["images/frame.10.jpg"]),
        ("my photo 1", ["images/my photo 1.jpg"]),
        ("my photo 1.jpg", ["images/my photo 1.jpg"]),
        ('"my photo 1.jpg"', ["images/my photo 1.jpg"]),
        ("frame.10  -1", ["images/frame.10.jpg"]),
        ("/elsewhere/images/frame.10.jpg /elsewhere/masks/frame.10.png", ["images/frame.10.jpg"]),
        ("C:\\data\\images\\frame.10.jpg", ["images/frame.10.jpg"]),
        ("b/a", ["images/b/a.png"]),
        ("images/a.png", ["images/a.png"]),
        ("a", ["images/a.png", "images/b/a.png"]),
        ("frame.10.jpg,masks/frame.10.png", ["images/frame.10.jpg"]),
    ],
)
def test_a_line_of_a_list_finds_its_pictures(tmp_path, line, found):
    (tmp_path / "Train.txt").write_text(f"\ufeff{line}\r\n", encoding="utf-8")
    assert split_lists.read([tmp_path], PICTURES) == ({one: ["train"] for one in found}, [], True)


def test_names_that_match_nothing_and_pictures_in_two_lists_are_told(tmp_path):
    (tmp_path / "val.txt").write_text("a.png\nnobody\n")
    (tmp_path / "test.txt").write_text("images/a.png\n")
    listed = split_lists.read([tmp_path, tmp_path / "nowhere"], PICTURES)
    assert listed.splits["images/a.png"] == ["test", "validation"]
    assert listed.strangers == [(tmp_path / "val.txt", "nobody")]
    assert not listed.whole


@pytest.mark.parametrize(
    ("content", "said"), [(b"x\ny\n", "got 'x' and 1 more lines of which none matches"), (b"K\xe4fer\n", "UTF-8")]
)
def test_a_list_that_matches_nothing_or_is_no_text_stops(tmp_path, content, said):
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(Fault, match=said) as fault:
        split_lists.read([tmp_path], PICTURES)
    assert fault.value.code == Fault.DATA


def lists(folder, **lines):
    for name, text in lines.items():
        (folder / f"{name}.txt").write_text(text)
    return split_lists.read([folder], PICTURES)


def test_pascal_vocs_lists_of_a_class_are_the_split_where_there_is_no_other_list(tmp_path):
    found = lists(
        tmp_path,
        dog_train="frame.10  1\nmy photo 1 -1\n",
        cat_train="frame.10 -1\nmy photo 1  0\n",
        cat_val="images/a.png -1\n",
    )
    assert found.splits == {
        "images/frame.10.jpg": ["train"],
        "images/my photo 1.jpg": ["train"],
        "images/a.png": ["validation"],
    }
    assert found.whole


def test_the_list_of_a_split_counts_more_than_those_of_its_classes(tmp_path):
    found = lists(tmp_path, train="frame.10\n", dog_train="frame.10 1\nmy photo 1 1\n", dog_trainval="a 1\n")
    assert found.splits == {"images/frame.10.jpg": ["train"]}


def test_a_list_of_train_and_val_together_is_what_trains_where_they_are_not_parted(tmp_path):
    found = lists(tmp_path, dog_trainval="frame.10 1\n", dog_test="images/a.png -1\n")
    assert found.splits == {"images/frame.10.jpg": ["train"], "images/a.png": ["test"]}


def test_a_file_whose_lines_are_no_list_of_a_class_is_left_alone(tmp_path):
    assert lists(tmp_path, loss_train="epoch 1\n0.25\n") == ({}, [], False)
