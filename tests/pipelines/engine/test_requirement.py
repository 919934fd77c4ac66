"""Requirements on a metric: how they are read, held and compared."""

import math

import pytest

from cnn_keras.errors import Fault
from pipelines.engine.requirement import best, reaches
from pipelines.tracking.requirement import Requirement


@pytest.mark.parametrize(
    ("text", "metric", "operator", "bound"),
    [
        ("accuracy >= 0.98", "accuracy", ">=", 0.98),
        ("test_accuracy>0.5", "test_accuracy", ">", 0.5),
        ("  log loss <= 1e-1 ", "log loss", "<=", 0.1),
        ("error < .05", "error", "<", 0.05),
    ],
)
def test_a_requirement_is_a_metric_an_operator_and_a_number(text, metric, operator, bound):
    assert Requirement.parse(text) == (metric, operator, bound)


@pytest.mark.parametrize("text", ["", "accuracy", "accuracy = 0.9", "accuracy >= good", ">= 0.9", "a >= 0.9 b"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(Fault, match=r"must read like 'accuracy >= 0\.98'"):
        Requirement.parse(text)


@pytest.mark.parametrize(
    ("text", "held"),
    [("x >= 1", (False, True, True)), ("x > 1", (False, False, True)), ("x <= 1", (True, True, False)),
     ("x < 1", (True, False, False))],
)  # fmt: skip
def test_the_bound_itself_belongs_to_the_operators_with_an_equals_sign(text, held):
    assert tuple(Requirement.parse(text).holds(value) for value in (0.9, 1.0, 1.1)) == held


@pytest.mark.parametrize("operator", [">=", ">", "<=", "<"])
def test_nan_meets_no_requirement(operator):
    assert not Requirement("accuracy", operator, 0.5).holds(math.nan)


def test_more_is_better_above_a_bound_and_worse_below_one():
    assert Requirement.parse("accuracy >= 0.9").prefers(0.95, 0.94)
    assert Requirement.parse("error < 0.1").prefers(0.04, 0.05)
    assert not Requirement.parse("accuracy >= 0.9").prefers(0.95, 0.95)
    assert not Requirement.parse("error < 0.1").prefers(0.05, 0.05)


def test_an_unknown_metric_is_answered_with_those_there_are():
    with pytest.raises(Fault, match=r"got 'acuracy'; recorded: accuracy, loss"):
        Requirement.parse("acuracy >= 0.9").figure({"loss": 0.1, "accuracy": 0.95})


@pytest.mark.parametrize(
    ("values", "lowest", "place"),
    [
        ([], True, None),
        ([math.nan, None], True, None),
        ([math.nan, 2.0, 1.0, 1.0], True, 2),
        ([math.nan, 1.0, 2.0, 2.0], False, 2),
        ([math.inf, 3.0, -math.inf], True, 1),
    ],
)
def test_the_best_value_is_the_first_of_equals_and_always_a_number(values, lowest, place):
    assert best(values, lowest=lowest) == place


def test_any_number_is_better_than_none():
    rising, falling = Requirement.parse("accuracy >= 0"), Requirement.parse("loss <= 9")
    for requirement in (rising, falling):
        assert requirement.prefers(0.5, math.nan)
        assert not requirement.prefers(math.nan, 0.5)
        assert not requirement.holds(math.nan)


def test_what_is_no_number_reaches_no_requirement():
    assert reaches(0.5, 0.5)
    for value in (0.4, math.nan, None, -math.inf):
        assert not reaches(value, 0.0 if value != 0.4 else 0.5)
