"""Comparing runs: the exact McNemar test, what differs, and what cannot be compared."""

import json
import shutil

import pytest
from scipy.stats import binom

from cnn_keras.errors import Fault
from pipelines.analysis import compare_runs
from tests.conftest import cnn


def measured(name, rights, digests=None):
    answers = [(f"{name}/{number}", "a", "a" if right else "b") for number, right in enumerate(rights)]
    contents = digests or [f"content {number}" for number in range(len(rights))]
    examples = dict(zip((answer[0] for answer in answers), contents, strict=True))
    return compare_runs.Measured(name, {}, {}, examples, 0.0, answers, list(examples))


def test_only_examples_on_which_two_runs_disagree_count():
    first, second = measured("one", [1, 1, 1, 0, 0, 1]), measured("two", [1, 0, 0, 0, 1, 0])
    difference = compare_runs.mcnemar(first, second)
    assert (difference.shared, difference.only_first, difference.only_second) == (6, 3, 1)
    assert difference.p == pytest.approx(2 * binom.cdf(1, 4, 0.5))  # twice the tail: both directions


def test_the_difference_of_paired_accuracies_has_newcombes_interval():
    first = measured("one", [1] * 36 + [0] * 2 + [1] * 12)
    second = measured("two", [1] * 36 + [1] * 2 + [0] * 12)
    difference = compare_runs.mcnemar(second, first)
    assert difference.difference == pytest.approx(0.2)
    assert difference.interval == pytest.approx((0.0569, 0.3404), abs=5e-5)  # table III of the paper, method 10
    assert "+20.00 points (95 % interval +5.69 to +34.04)" in compare_runs.sentence(difference)


def test_equal_answers_are_no_difference():
    assert compare_runs.mcnemar(measured("one", [1, 0]), measured("two", [1, 0])).p == 1


def test_examples_with_another_truth_are_not_shared():
    first, second = measured("one", [1, 1]), measured("two", [1, 1])
    second.answers[1] = ("two/1", "z", "z")
    assert compare_runs.mcnemar(first, second).shared == 1


def test_examples_are_the_same_by_content_and_copies_count_as_often_as_both_have_them():
    first, second = measured("one", [1, 1, 0], ["x", "x", "y"]), measured("two", [0, 1, 0, 0], ["y", "z", "x", "x"])
    assert compare_runs.mcnemar(first, second).shared == 3
    assert compare_runs.mcnemar(first, second).only_first == 2
    assert compare_runs.mcnemar(first, second, by_content=False).shared == 0  # their paths differ


def test_a_lopsided_difference_is_called_better_and_a_small_one_noise():
    good, bad = measured("good", [1] * 20), measured("bad", [0] * 20)
    assert "good is better" in compare_runs.sentence(compare_runs.mcnemar(bad, good))
    assert "may be noise" in compare_runs.sentence(
        compare_runs.mcnemar(measured("a", [1, 0, 1]), measured("b", [1, 1, 1]))
    )
    assert "share no test examples" in compare_runs.sentence(compare_runs.mcnemar(measured("a", []), measured("b", [])))


@pytest.fixture
def pair(exported, tmp_path):
    """The exported run, and a copy of it whose recipe says another learning rate."""
    runs = tmp_path / "runs"
    source = exported.run
    name = f"{source.parent.name}/{source.name}"
    shutil.copytree(source, runs / name)
    shutil.copytree(source, runs / f"{name}-other")
    recipe = runs / f"{name}-other" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("learning_rate: 0.", "learning_rate: 1."))
    return name, f"{name}-other", runs


def test_what_differs_is_shown_and_the_rest_is_not(pair, capsys):
    name, other, runs = pair
    assert cnn("compare", name, other, "--runs", runs, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["settings"]) == ["train.learning_rate"]
    assert found["same_data"]
    assert found["same_test"]
    assert found["matched_by"] == "content"
    assert found["differences"][0]["p"] == 1
    assert cnn("compare", name, other, "--runs", runs) == 0
    shown = capsys.readouterr().out
    assert "train.learning_rate" in shown
    assert "may be noise" in shown


def test_a_data_set_that_moved_is_the_same_data(pair, capsys):
    name, other, runs = pair
    for path in (runs / other / "evaluate" / "predictions.csv", runs / other / "prepare" / "split.csv"):
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *(f"elsewhere/{row}" for row in rows)]) + "\n")
    found = compare_runs.compare([name, other], runs)
    tested = compare_runs.read(name, runs).answers
    assert found["differences"][0]["shared"] == len(tested) > 0
    assert (found["same_data"], found["same_test"]) == (True, True)
    split = runs / other / "prepare" / "split.csv"
    split.write_text("\n".join(row.rpartition(",")[0] for row in split.read_text().splitlines()) + "\n")
    assert cnn("compare", name, other, "--runs", runs) == 0
    shown = capsys.readouterr().out
    assert "matched by their paths" in shown
    assert "share no test examples" in shown


def test_another_split_of_the_same_data_is_told(pair, capsys):
    name, other, runs = pair
    answers = runs / other / "evaluate" / "predictions.csv"
    answers.write_text("\n".join(answers.read_text().splitlines()[:-3]) + "\n")
    assert cnn("compare", name, other, "--runs", runs) == 0
    assert "not the same split of the same data" in capsys.readouterr().out


def test_training_time_is_that_of_all_epochs_also_before_a_resume(pair):
    name, other, runs = pair
    manifest = runs / name / "train" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"seconds": 0.1, "resumed": True}))
    rows = (runs / name / "train" / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("seconds")
    spent = sum(float(row.split(",")[column]) for row in rows[1:])
    assert compare_runs.compare([name, other], runs)["training_seconds"][0] == pytest.approx(spent) != 0.1


def test_a_run_that_is_not_there_is_named_with_those_that_are(pair):
    name, _, runs = pair
    with pytest.raises(Fault, match=f"no result of classify/none.*{name}"):
        compare_runs.compare([name, "classify/none"], runs)
    with pytest.raises(Fault, match="at least two different runs"):
        compare_runs.compare([name, name], runs)


def labelled(name, scores, truths):
    answers = [(f"{name}/{number}", truth, "") for number, truth in enumerate(truths)]
    examples = {f"{name}/{number}": f"content {number}" for number in range(len(truths))}
    return compare_runs.Measured(name, {}, {}, examples, 0.0, answers, list(examples), probabilities=scores)


def test_of_several_labels_the_gain_of_average_precision_decides():
    truths = ["a|b", "a", "b", "", "a", "b"] * 10
    right = {label: [float(label in truth.split("|")) for truth in truths] for label in "ab"}
    wrong = {"b": [1 - value for value in right["b"]], "a": right["a"]}  # in another order
    good, bad = labelled("good", right, truths), labelled("bad", wrong, truths)
    found = compare_runs.difference(bad, good)
    assert found.shared == 60
    share = sum("b" in truth for truth in truths) / 60
    assert found.gain == pytest.approx(
        (1 - share) / 2, abs=0.02
    )  # of all b behind the others no rank is better than its share
    assert found.gain_interval[0] > 0
    assert "good is better" in compare_runs.sentence(found)
    same = compare_runs.difference(good, labelled("again", right, truths))
    assert same.gain == 0
    assert "may be noise" in compare_runs.sentence(same)
