"""ROC curves: of two classes with chance beside them, of few classes each against the rest."""

import numpy as np
import pytest

from cnn_keras.metrics import classification
from pipelines.engine.classification.classification_report import classification_report
from pipelines.plots import roc
from pipelines.plots.charts import LINES
from pipelines.plots.image_grid import BLUE
from tests.pipelines.plots.test_charts import area, pixels


def test_a_ranking_is_drawn_with_chance_beside_it(tmp_path):
    likely, labels = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    probabilities = np.stack([1 - likely, likely], axis=1)
    report = classification_report(labels, probabilities, ["healthy", "ill"])
    picture = pixels(roc.two_classes(classification.ranking(probabilities, labels), report, tmp_path / "roc.png"))
    left, right = np.split(picture, 2, axis=1)
    assert area(left, BLUE) > 200
    assert area(right, BLUE) > 200


@pytest.mark.parametrize("classes", [3, 10])
def test_each_class_is_drawn_against_the_rest(tmp_path, classes):
    drawn = np.random.default_rng(0)
    labels = drawn.integers(0, classes, 300)
    probabilities = drawn.dirichlet(np.ones(classes), 300) + np.eye(classes)[labels] * np.linspace(0.1, 1, classes)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = [f"class {number}" for number in range(classes)]
    report = classification_report(labels, probabilities, names)
    rankings = classification.one_vs_rest(probabilities, labels)
    picture = pixels(roc.one_vs_rest(rankings, report, tmp_path / "roc.png"))
    assert all(area(picture, color) > 100 for color in LINES[: min(classes, len(LINES))])
