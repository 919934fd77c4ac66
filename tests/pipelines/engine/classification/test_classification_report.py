"""The report's numbers against hand-worked ones and scikit-learn's own."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from cnn_keras.metrics.classification import wilson_interval
from pipelines.engine.classification.classification_report import classification_report

# Answers 0, 0, 1, 1 to truths 0, 0, 0, 1 of three classes.
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]], np.float32)
TRUTH = np.array([0, 0, 0, 1])


def random_answers(classes, examples=200):
    random = np.random.default_rng(0)
    return random.integers(0, classes, examples), random.dirichlet(np.ones(classes), examples)


def test_four_answers_by_hand():
    report = classification_report(TRUTH, PROBABILITIES, ["cat", "dog", "owl"])
    assert report["examples"] == 4
    assert report["accuracy"] == 0.75
    assert report["log_loss"] == pytest.approx(-np.log([0.8, 0.6, 0.2, 0.8]).mean())
    cat, dog, owl = report["classes"]
    assert cat == {
        "name": "cat",
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "support": 3,
    }
    assert dog == {
        "name": "dog",
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "support": 1,
    }
    assert owl == {"name": "owl", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_two_classes_have_areas_and_others_have_none():
    likely = np.array([0.1, 0.4, 0.35, 0.8])
    two = np.stack([1 - likely, likely], axis=1)
    report = classification_report(np.array([0, 0, 1, 1]), two, ["healthy", "ill"])
    assert report["positive"] == "ill"
    assert report["auc"] == 0.75
    assert report["average_precision"] == pytest.approx(5 / 6)
    for name in ("auc", "average_precision"):
        low, high = report[f"{name}_interval"]
        assert 0 <= low < report[name] < high <= 1
    json.dumps(report)
    assert "auc" not in classification_report(np.array([1, 1, 1, 1]), two, ["healthy", "ill"])
    assert "auc" not in classification_report(TRUTH, PROBABILITIES, ["cat", "dog", "owl"])


def test_few_classes_are_ranked_each_against_the_rest():
    labels, probabilities = random_answers(4)
    report = classification_report(labels, probabilities, list("abcd"))
    assert report["macro_auc"] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))
    low, high = report["macro_auc_interval"]
    assert low < report["macro_auc"] < high
    assert [row["name"] for row in report["one_vs_rest"]] == list("abcd")
    cat, dog = classification_report(TRUTH, PROBABILITIES, ["cat", "dog", "owl"])["one_vs_rest"]
    assert (cat["auc"], dog["auc"]) == (1, 1)  # no owl is there
    alone = classification_report(np.zeros(4, int), PROBABILITIES, ["cat", "dog", "owl"])
    assert "macro_auc" not in alone
    labels, probabilities = random_answers(11)
    assert "macro_auc" not in classification_report(labels, probabilities, list("abcdefghijk"))


def test_macro_numbers_leave_out_a_class_without_examples():
    report = classification_report(TRUTH, PROBABILITIES, ["cat", "dog", "owl"])
    assert report["macro_precision"] == pytest.approx(0.75)
    assert report["macro_recall"] == pytest.approx(5 / 6)
    assert report["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)


def test_macro_f1_and_log_loss_agree_with_scikit_learn():
    labels, probabilities = random_answers(7)
    report = classification_report(labels, probabilities, list("abcdefg"))
    assert report["macro_f1"] == pytest.approx(f1_score(labels, probabilities.argmax(1), average="macro"))
    assert report["log_loss"] == pytest.approx(log_loss(labels, probabilities))


def test_the_report_survives_json():
    labels, probabilities = random_answers(12)
    report = classification_report(labels, probabilities.astype(np.float16), [str(name) for name in range(12)])
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(("classes", "told"), [(2, False), (10, False), (11, True)])
def test_top_5_is_told_when_it_is_a_feat(classes, told):
    labels, probabilities = random_answers(classes)
    report = classification_report(labels, probabilities, [str(name) for name in range(classes)])
    assert ("top_5_accuracy" in report) == told


def test_wilson_interval_of_a_published_example():
    # Newcombe (1998), table I, method 3: 81 of 263 and 15 of 148.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_wilson_interval_stays_inside_and_holds_the_share():
    assert wilson_interval(360, 360)[1] == pytest.approx(1)
    assert wilson_interval(360, 360)[0] < 1
    assert wilson_interval(0, 5)[0] == pytest.approx(0)
    low, high = wilson_interval(354, 360)
    assert 0.96 < low < 354 / 360 < high < 1


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="class_names must have one name for each of 3"):
        classification_report(TRUTH, PROBABILITIES, ["cat", "dog"])
