"""`cnn bench detectors`: every detector has its seconds, and the ladder says how many times faster the next is."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from pipelines.analysis import detector_benchmark
from pipelines.analysis.detector_benchmark import Ladder, Step
from pipelines.analysis.sliding_window import Cost
from tests.conftest import cnn

COST = Cost(1764, (4, 4), 4_000_000, 100_000, 2.0, 0.1, 0.0, 0, 0)
LADDER = Ladder([Step("R-CNN", 2000, 28.0, 2.0), Step("Fast R-CNN", 2000, 1.0, 2.0), Step("YOLO", 0, 0.1)], COST)


def test_the_table_counts_the_search_and_compares_with_the_slowest():
    console = Console(file=io.StringIO(), width=120)
    detector_benchmark.show(LADDER, console)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["R-CNN", "2,000", "28", "30", "1.0"] in lines
    assert ["Fast", "R-CNN", "2,000", "1", "3", "10.0"] in lines
    assert ["YOLO", "–", "0.1", "0.1", "300.0"] in lines
    assert "20.0 times faster" in console.file.getvalue()


def test_json_says_the_same():
    found = detector_benchmark.plain(LADDER)
    assert [step["faster"] for step in found["steps"]] == pytest.approx([1, 10, 300])
    assert found["windows"]["faster"] == 20


def test_pictures_are_framed_alike(tmp_path):
    from PIL import Image

    Image.new("RGB", (90, 60), (200, 0, 0)).save(tmp_path / "red.png")
    (one,) = detector_benchmark.photographs([tmp_path / "red.png"], side=32)
    np.testing.assert_array_equal(one, np.broadcast_to([200, 0, 0], (32, 32, 3)))
    (own,) = detector_benchmark.photographs([], side=64)
    assert own.shape == (64, 64, 3)
    assert own.std() > 20


def test_a_side_that_yolo_cannot_take_is_refused(capsys):
    assert cnn("bench", "detectors", "--side", "100") == 2
    assert "side must be a multiple of 32, got 100" in capsys.readouterr().err


@pytest.mark.slow
def test_all_four_are_measured(capsys, monkeypatch):
    """A few regions at random stand for the search, for which OpenCV need not be there."""
    from pipelines.data.boxes import proposals

    corners = np.sort(np.random.default_rng(0).uniform(size=(60, 2, 2)), axis=1).reshape(60, 4).astype("float32")
    monkeypatch.setattr(proposals, "proposals", lambda image, *, most: corners[:most])
    assert cnn("bench", "detectors", "--side", "64", "--rounds", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in found["steps"]] == ["R-CNN", "Fast R-CNN", "Faster R-CNN", "YOLO"]
    assert [step["regions"] for step in found["steps"]] == [60, 60, 300, 0]
    assert all(step["seconds"] > 0 for step in found["steps"])
    assert found["windows"]["windows"] == 81
