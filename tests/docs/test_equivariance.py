"""What the page on learning says of shifts and turns is what the benchmark prints."""

import re

import pytest

from tests.benchmarks import bench_equivariance as bench
from tests.docs.documents import ROOT


def test_layers_move_with_their_image_by_whole_strides_to_the_last_bit():
    moved = {name: [bench.equivariance(name, shift) for shift in bench.SHIFTS] for name in bench.LAYERS}
    assert moved["convolution"] == [0, 0, 0, 0]
    assert moved["max pooling 4×4"] == [None, None, 0, 0]
    assert {value for values in moved.values() for value in values} == {None, 0}


def test_edges_do_not_turn_with_their_image_and_a_round_blur_does():
    assert bench.turned(bench.edges) > 1
    assert bench.turned(bench.blurred) == pytest.approx(0, abs=1e-12)


def test_pooling_makes_small_shifts_matter_less_as_the_page_says():
    page = (ROOT / "docs" / "how-to" / "learn.md").read_text("utf-8")
    shown = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert [name for name, *_ in shown] == list(bench.LAYERS)
    for name, *figures in shown:
        assert figures == [f"{bench.invariance(name, shift):.3f}" for shift in bench.SHIFTS]
    by_pooling = [bench.invariance(f"max pooling {side}×{side}", 1) for side in (2, 4, 8)]
    assert by_pooling == sorted(by_pooling, reverse=True)
