"""`cnn similar` and `data.group_similar`: pictures that look alike, and their splits."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_keras.errors import Fault
from tests.conftest import cnn

RECIPE = """\
task: classify
data: {source: folder, path: photos, size: [28, 28], channels: 1}
model: {builder: lenet.lenet5_modern}
"""


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """Sixty smooth random pictures of two classes, each with one that is like it, a little brighter."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for label in "ab":
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for number in range(30):
            small = Image.fromarray(generator.integers(0, 200, (9, 9), np.uint8))
            picture = small.resize((60, 48), Image.Resampling.BICUBIC)
            picture.save(folder / f"{number}.png")
            picture.point(lambda value: value + 20).resize((80, 64)).save(folder / f"{number}-again.png")
    (tmp_path / "photos.yaml").write_text(RECIPE)
    return tmp_path


def similar(capsys, *arguments):
    assert cnn("similar", "classify/photos", "--json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


def rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_pairs_across_splits_are_listed_and_drawn(scenes, capsys):
    assert cnn("prepare", "photos.yaml") == 0
    capsys.readouterr()
    splits = {row["id"]: row["split"] for row in rows("runs/classify/photos/prepare/split.csv")}
    parted = {name for name in splits if "-" not in name and splits[name] != splits[name.replace(".", "-again.")]}
    found = similar(capsys)
    assert (found["pictures"], found["pairs"]) == (120, len(parted))
    assert {min(row["first"], row["second"], key=len) for row in rows(found["csv"])} == parted
    assert sum(found["splits"].values()) == len(parted) > 5
    with Image.open(found["sheet"]) as sheet:
        assert sheet.width > 300
    assert similar(capsys, "--within")["pairs"] == 60
    assert cnn("similar", "photos.yaml", "-o", scenes / "out") == 0
    assert "data.group_similar=8" in capsys.readouterr().out
    assert (scenes / "out" / "similar.csv").is_file()


def test_with_group_similar_no_pair_is_parted(scenes, capsys):
    assert cnn("prepare", "photos.yaml", "--set", "data.group_similar=8") == 0
    assert "120 images look like others, in 60 groups" in " ".join(capsys.readouterr().out.split())
    found = similar(capsys)
    assert (found["pairs"], found["splits"], found["sheet"]) == (0, {}, None)
    counts = json.loads((scenes / "runs/classify/photos/prepare/data.json").read_text())["splits"]
    assert counts.keys() == {"train", "validation", "test"}
    assert cnn("similar", "photos.yaml") == 0
    assert "no pair of 120 pictures" in capsys.readouterr().out


def test_a_run_that_is_not_prepared_and_a_distance_beyond_reason_are_refused(scenes, capsys):
    assert cnn("similar", "classify/photos") == Fault.INPUT
    assert "must be a prepared run" in capsys.readouterr().err
    assert cnn("similar", "classify/photos", "--distance", "65") == Fault.INPUT
    assert cnn("prepare", "photos.yaml", "--set", "data.group_similar=65") == Fault.INPUT
