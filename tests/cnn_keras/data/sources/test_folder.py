"""A messy folder of real images, from its files to the report: every bad and odd file is named by kind and path."""

import csv
import io

import pytest
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits

from cnn_keras.data.sources import classification
from pipelines.data import validation
from tests.odd_images import animation, bomb, deep, encoded, oriented, palette, picture

GOOD = 60


def odd_files(digit):
    """Kind: its files. `digit` is the encoded first image of the folder."""
    return {
        "empty": {"0/empty.png": b""},
        "undecodable": {"1/text.jpg": b"not an image", "2/torn.jpg": encoded(picture(60, 80), "JPEG")[:-200]},
        "unsupported": {"0/scan.avif": encoded(picture(), "AVIF")},
        "huge": {"1/bomb.png": bomb(8000)},
        "animated": {"2/film.gif": animation("GIF")},
        "gif": {"2/film.gif": animation("GIF")},
        "exif-rotated": {"0/turned.jpg": oriented(picture(), "JPEG", 6)},
        "palette": {"1/palette.png": palette(transparent=False)},
        "16-bit": {"2/deep.png": encoded(deep(), "PNG")},
        "cmyk": {"0/print.jpg": encoded(picture(seed=5).convert("CMYK"), "JPEG")},
        "duplicate with another label": {"2/copy.png": digit},
        "not an image": {"1/notes.txt": b"taken in spring"},
        "hidden": {"1/.DS_Store": b"\0\0\0\1Bud1"},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty digits of each of three classes, as PNG and JPEG, and the odd files among them."""
    folder = tmp_path_factory.mktemp("photos")
    images, labels = load_digits(return_X_y=True)
    for label in range(3):
        (folder / str(label)).mkdir()
        for row, image in enumerate(images[labels == label][: GOOD // 3]):
            pixels = Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8"))
            pixels.save(folder / str(label) / f"{row:02d}.{'png' if row % 2 == 0 else 'jpg'}", quality=95)
    for files in odd_files((folder / "0" / "00.png").read_bytes()).values():
        for name, data in files.items():
            (folder / name).write_bytes(data)
    return folder


def test_every_bad_or_odd_file_is_named_by_kind_and_path(folder, tmp_path):
    console = Console(file=io.StringIO(), width=200)
    items = classification.items("folder", path=folder)
    examined = validation.examine(items, console=console)
    problems = [problem for each in examined for problem in each.problems] + validation.duplicates(items, examined)
    validation.report(problems, len(items), path=tmp_path / "problems.csv", max_bad=0.1, console=console)
    expected = {(kind, name) for kind, files in odd_files(b"").items() for name in files}
    with (tmp_path / "problems.csv").open(newline="") as file:
        assert {(row["kind"], row["id"]) for row in csv.DictReader(file)} == expected
    said = console.file.getvalue()
    for kind, name in expected:
        assert f" {kind}, " in said
        assert name in said
    assert sum(each.digest is not None for each in examined) == GOOD + 6
    assert len(items) == GOOD + 13
