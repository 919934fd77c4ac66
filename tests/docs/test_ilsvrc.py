"""The table of ImageNet's challenge is in order, and the depths in it are those of the networks here."""

import re

import keras
import pytest

from cnn_keras import models
from tests.docs.documents import ROOT

PAGE = (ROOT / "docs" / "explanation" / "ilsvrc.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| 20")]
HERE = {row[5].strip("`"): int(row[3]) for row in ROWS if row[5] != "–"}


def depth(model):
    """How many convolutions and dense layers the longest way from the input passes."""
    depths = {}
    for layer in model.layers:
        before = [depths[source._keras_history.operation.name] for source in _inputs(layer)]
        depths[layer.name] = max(before, default=0) + isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    return depths[
        model.output["logits"]._keras_history.operation.name if isinstance(model.output, dict) else layer.name
    ]


def _inputs(layer):
    return [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)


@pytest.mark.parametrize("name", HERE)
def test_a_network_is_as_deep_as_the_table_says(name):
    assert depth(models.build(name)) == HERE[name]
    keras.utils.clear_session()


def test_errors_fall_from_winner_to_winner_and_every_year_has_one():
    best = {}
    for year, _, error, *_ in ROWS:
        best[int(year)] = min(best.get(int(year), 100.0), float(re.fullmatch(r"([\d.]+) %", error)[1]))
    assert list(best) == list(range(2010, 2018))
    assert list(best.values()) == sorted(best.values(), reverse=True)
