"""Intake: every item is read once and answered for, copies are found, and too many bad images are refused."""

import csv
import io
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rich.console import Console

from cnn_keras.data.files.file_tree import refuse
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources.classification import Item
from cnn_keras.errors import Fault, Unreadable
from pipelines.data import validation
from pipelines.data.validation import Examined, Problem
from tests.odd_images import bad_checksum_png, encoded, oriented, picture


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def item(name, data, label="cat", split=None):
    return Item(name, label, lambda: data, split)


def noise(seed):
    return encode_png(np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8))


def unread(name):
    raise FileNotFoundError(2, "No such file or directory", f"/photos/{name}")


def test_each_item_is_answered_for_in_its_order(console):
    items = [
        item("good", noise(0)),
        item("empty", b""),
        item("text", b"text"),
        item("broken", bad_checksum_png()),
        Item("gone", "cat", lambda: unread("gone")),
        item("avif", encoded(picture(), "AVIF")),
        item("turned", oriented(picture(), "PNG", 6, transparency=(0, 0, 40))),
        Item("readme", "", lambda: refuse("not an image", "its suffix")),
    ]
    examined = validation.examine(items, console=console)
    assert [[problem.kind for problem in found.problems] for found in examined] == [
        [],
        ["empty"],
        ["undecodable"],
        ["undecodable"],
        ["unreadable"],
        ["unsupported"],
        ["exif-rotated", "transparent"],
        ["not an image"],
    ]
    assert [found.digest is not None for found in examined] == [True, *[False] * 5, True, False]
    assert all(problem.id == one.id for one, found in zip(items, examined, strict=True) for problem in found.problems)
    assert examined[4].problems[0].detail == "No such file or directory: /photos/gone"


def test_the_digest_is_of_the_pixels_and_not_of_the_file(console):
    image = picture()
    files = [
        encoded(image, "PNG"),
        encoded(image, "PNG", compress_level=1),
        encoded(image, "BMP"),
        encoded(image.rotate(180), "PNG"),
        encoded(image.transpose(2), "PNG"),
        encode_png(np.zeros((2, 6, 1), np.uint8)),
        encode_png(np.zeros((3, 4, 1), np.uint8)),
    ]
    digests = [
        found.digest
        for found in validation.examine([item(str(n), data) for n, data in enumerate(files)], console=console)
    ]
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests)) == 5  # the last two have the same bytes in another shape
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


def test_a_bug_is_not_taken_for_a_bad_image(console):
    with pytest.raises(ZeroDivisionError):
        validation.examine([Item("a", "cat", lambda: 1 / 0)], console=console)


def test_reading_is_parallel_and_holds_no_more_than_a_window(console, monkeypatch):
    monkeypatch.setattr(validation, "WINDOW", 8)
    monkeypatch.setattr(validation, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(4))
    data, begun, lock = noise(0), [], threading.Lock()
    at_once = threading.Barrier(4, timeout=30)

    def reading(row):
        with lock:
            begun.append(row)
        if row < 4:
            at_once.wait()  # passes only when four threads read at the same time
        return data

    rows = [Item(str(row), "cat", lambda row=row: reading(row)) for row in range(40)]
    assert len(validation.examine(rows, console=console)) == 40
    assert sorted(begun) == list(range(40))
    # the items of a window are begun before the first of the next
    assert all({*begun[start : start + 8]} == {*range(start, start + 8)} for start in range(0, 40, 8))


def test_bytes_are_let_go_of_when_an_item_has_been_examined(console, monkeypatch):
    monkeypatch.setattr(validation, "WINDOW", 4)
    held, most = 0, 0

    class Counted(bytes):
        def __init__(self, *_):
            nonlocal held, most
            held += 1
            most = max(most, held)

        def __del__(self):
            nonlocal held
            held -= 1

    data = noise(0)
    examined = validation.examine([Item(str(n), "cat", lambda: Counted(data)) for n in range(40)], console=console)
    assert len(examined) == 40
    assert most <= 8
    assert held == 0


def test_progress_counts_every_item(monkeypatch, console):
    told = []
    original = validation.progress

    def watched(console):
        bar = original(console)
        monkeypatch.setattr(bar, "advance", lambda task: told.append(time.monotonic()))
        return bar

    monkeypatch.setattr(validation, "progress", watched)
    validation.examine([item(str(n), noise(n)) for n in range(5)], console=console)
    assert len(told) == 5


def test_what_pillow_finds_odd_is_not_printed(console, recwarn):
    broken_exif = encoded(picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\x00\x03\x01\x12\0\x03")
    (found,) = validation.examine([item("a", broken_exif)], console=console)
    assert found.digest
    assert not recwarn


def test_an_interrupted_validation_goes_on_behind_what_its_journal_says(tmp_path, monkeypatch, console):
    monkeypatch.setattr(validation, "WINDOW", 4)
    journal, read = tmp_path / "journal", []

    def counted(name, data):
        return Item(name, "cat", lambda: read.append(name) or data)

    items = [
        counted(f"ü{number}", oriented(picture(), "PNG", 6) if number == 1 else noise(number)) for number in range(9)
    ]
    items[2] = counted("ü2", b"")
    whole = validation.examine(items, console=console)
    stopped = [*items[:6], Item("ü6", "cat", lambda: 1 / 0), *items[7:]]
    with pytest.raises(ZeroDivisionError):
        validation.examine(stopped, console=console, journal=journal)
    with journal.open("ab") as file:
        file.write(b'["half a line", ')  # as a kill leaves it
    read.clear()
    items[2] = counted("ü2", noise(2))  # mended meanwhile
    again = validation.examine(items, console=console, journal=journal)
    assert sorted(read) == [f"ü{number}" for number in (2, 4, 5, 6, 7, 8)]
    assert again[2].digest
    assert [*again[:2], *again[3:]] == [*whole[:2], *whole[3:]]
    read.clear()
    assert validation.examine(items, console=console, journal=journal) == again
    assert read == ["ü2"]  # the journal has it as it was at first


def found(*digests):
    return [Examined(digest, []) for digest in digests]


def test_copies_are_reported_worse_when_they_contradict_each_other():
    items = [
        item("first", b""),
        item("copy", b""),
        item("other label", b"", "dog"),
        item("other split", b"", split="test"),
        item("both", b"", "dog", "test"),
        item("alone", b""),
        item("bad", b""),
        item("bad too", b""),
    ]
    problems = validation.duplicates(items, found("x", "x", "x", "x", "x", "y", None, None))
    assert [(problem.id, problem.kind) for problem in problems] == [
        ("copy", "duplicate"),
        ("other label", "duplicate with another label"),
        ("other split", "duplicate across splits"),
        ("both", "duplicate with another label"),
    ]
    assert {problem.detail for problem in problems} == {"same content as first"}
    assert {problem.action for problem in problems} == {"kept"}


PROBLEMS = [
    *(Problem("duplicate", f"copy {number}", "same content as 1.png") for number in range(5)),
    Problem("empty", "cat/[red]1.png", "the file is empty"),
    Problem("huge", "a,b.png", "9000x9000 pixels"),
    Problem("not an image", "readme.txt", "its suffix"),
]


def test_the_report_groups_by_kind_worst_first_and_writes_everything(tmp_path, console):
    path = tmp_path / "stage" / "problems.csv"
    path.parent.mkdir()
    validation.report(PROBLEMS, 21, path=path, max_bad=0.1, console=console)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["id"], row["detail"]) for row in rows] == [problem[:3] for problem in PROBLEMS]
    assert [row["action"] for row in rows] == ["kept"] * 5 + ["dropped"] * 2 + ["skipped"]
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    headings = [line for line in lines if line.endswith(":")]
    assert headings == ["1 empty, dropped:", "1 huge, dropped:", "1 not an image, skipped:", "5 duplicate, kept:"]
    assert "cat/[red]1.png  the file is empty" in lines
    assert "… and 2 more, all in problems.csv" in lines


def test_what_differs_is_among_the_examples(tmp_path, console):
    problems = [Problem("voxel size", f"c{number}", f"1×1×{5 if number == 8 else 1} mm") for number in range(9)]
    validation.report(problems, 9, path=tmp_path / "problems.csv", max_bad=0.1, console=console)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    assert lines[1:] == ["c0  1×1×1 mm", "c1  1×1×1 mm", "c8  1×1×5 mm", "… and 6 more, all in problems.csv"]


def test_too_many_bad_images_arerefused_and_the_list_is_kept(tmp_path, console):
    path = tmp_path / ".prepare.partial" / "problems.csv"
    path.parent.mkdir()
    with pytest.raises(Fault) as fault:
        validation.report(PROBLEMS, 20, path=path, max_bad=0.1, console=console)  # 2 of 19 images: one item is none
    assert fault.value.code == Fault.DATA
    assert "got 10% and 2 of 19 unusable (11%)" in str(fault.value)
    assert str(tmp_path / "problems.csv") in str(fault.value)
    assert (tmp_path / "problems.csv").read_text() == path.read_text()


def test_a_share_of_bad_images_that_is_allowed_is_notrefused(tmp_path, console):
    validation.report(PROBLEMS, 21, path=tmp_path / "problems.csv", max_bad=0.1, console=console)
    validation.report([], 0, path=tmp_path / "problems.csv", max_bad=0.0, console=console)
    assert (tmp_path / "problems.csv").read_text() == "kind,action,id,detail\n"


def test_every_kind_that_can_arise_has_its_action():
    assert {Problem(kind, "").action for kind in ("empty", "undecodable", "unsupported", "huge", "unreadable")} == {
        "dropped"
    }
    assert {Problem(kind, "").action for kind in ("hidden", "not an image", "without a class", "empty class")} == {
        "skipped"
    }
    assert Problem("animated", "").action == "kept"
    with pytest.raises(Unreadable):
        refuse("hidden", "")


def test_the_digest_of_files_looks_at_no_special_file_and_takes_any_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"1")
    first = validation.files_digest(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a" / "loop")
    assert validation.files_digest(tmp_path, tmp_path / ("n" * 300), tmp_path / "x\0y", tmp_path / "absent") == first
    (tmp_path / "a" / "2.png").write_bytes(b"2")
    assert validation.files_digest(tmp_path) != first


def test_the_sizes_that_came_in_and_what_they_become_are_one_line():
    told = validation.sizes_told([(32, 32)] * 5, (224, 224), "stretch", "image")
    assert told == "images of 32×32 become 224×224 (stretch)"
    assert validation.sizes_told([(250,)], (128,), "stretch", "signal") == "signals of 250 become 128 (stretch)"
    assert validation.sizes_told([(9, 8)], (9, 8), "pad", "picture") == "pictures of 9×8"
    many = [(1, 1), (2, 2), (2, 2), (3, 3), (9, 9), (5, 4)]
    told = validation.sizes_told(many, (4, 4), "patch", "picture")
    assert told == (
        "pictures of 2×2 (2), 1×1 (1), 3×3 (1) and 2 other sizes from 1×1 to 9×9 are read in patches of 4×4"
    )
