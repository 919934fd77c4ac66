"""Monte Carlo dropout in a report and in the exported graph: the same means, figures that can be counted by hand."""

import csv
import json
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError
from rich.console import Console

import pipelines
from cnn_keras.data import input_pipeline
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.errors import Fault
from cnn_keras.ops import monte_carlo_dropout
from pipelines.engine.classification import dropout_samples
from pipelines.export import savedmodel
from pipelines.inference import predict
from pipelines.tasks import classify
from pipelines.tasks.classify.config import Evaluate, Recipe
from pipelines.tasks.signals.config import Recipe as Signals
from tests.conftest import RECIPE, cnn, write_digits

SETTINGS = (
    "evaluate.dropout_samples=8",
    "export.dropout_samples=true",
    "evaluate.calibrate=false",
    "evaluate.insight=false",
    "evaluate.baselines=false",
    "evaluate.require={}",
    "train.epochs=1",
)


def recipe(kind=Recipe, **sections):
    data, model = {"source": "folder"}, {"builder": "lenet.lenet5_modern", "dropout": 0.5}
    return kind(task="classify", name="small", data=data, model=model, **sections)


def test_the_report_counts_what_the_samples_say(tmp_path):
    keras.utils.set_random_seed(0)
    entry = keras.Input((4,))
    model = keras.Model(entry, keras.layers.Dense(3)(keras.layers.Dropout(0.5)(entry)))
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 3, 40)
    single = tf.nn.softmax(model(values)).numpy()
    part = dropout_samples.measure(
        model,
        5,
        lambda ask: ask(values),
        single=single,
        labels=labels,
        names=["a", "b", "c"],
        ids=[str(row) for row in range(40)],
        folder=tmp_path,
    )
    shares, information, _ = monte_carlo_dropout.sampled(model, values, count=5)
    right = shares.numpy().argmax(axis=1) == labels
    assert part["accuracy"] == pytest.approx(right.mean())
    assert part["single_accuracy"] == pytest.approx((single.argmax(axis=1) == labels).mean())
    assert part["log_loss"] == pytest.approx(-np.log(shares.numpy()[range(40), labels]).mean(), abs=1e-5)
    pairs = [(one, other) for one in information.numpy()[~right] for other in information.numpy()[right]]
    above = [1.0 if one > other else 0.5 if one == other else 0.0 for one, other in pairs]
    assert part["error_auc"]["information"] == pytest.approx(np.mean(above), abs=1e-6)
    rows = list(csv.DictReader((tmp_path / dropout_samples.FILE).read_text().splitlines()))
    assert [row["truth"] for row in rows] == ["abc"[label] for label in labels]
    np.testing.assert_allclose([float(row["mutual_information"]) for row in rows], information, atol=1e-5)
    assert "5 samples" in dropout_samples.line({"calibration_error": 0.1, "log_loss": 1.0, "dropout_samples": part})


def test_a_network_without_dropout_is_refused_before_data_is_read():
    plain = recipe(evaluate={"dropout_samples": 4})
    classify.check(plain)
    without = plain.model_copy(update={"model": plain.model.model_copy(update={"dropout": 0.0})})
    with pytest.raises(Fault, match="dropout"):
        classify.check(without)


@pytest.mark.parametrize("kind", [Recipe, Signals])
@pytest.mark.parametrize("evaluate", [{}, {"dropout_samples": 4}, {"calibrate": False}])
def test_what_is_exported_was_measured_and_has_no_temperature(kind, evaluate):
    with pytest.raises(ValidationError, match=r"export\.dropout_samples requires"):
        recipe(kind, export={"dropout_samples": True}, evaluate=evaluate)
    recipe(kind, export={"dropout_samples": True}, evaluate={"dropout_samples": 4, "calibrate": False})


def test_one_sample_is_no_ensemble():
    with pytest.raises(ValidationError, match="dropout_samples"):
        Evaluate(dropout_samples=1)


@pytest.mark.slow
def test_the_exported_graph_averages_the_samples_as_evaluate_did(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "photos")
    (tmp_path / "small.yaml").write_text(RECIPE)
    given = [word for one in SETTINGS for word in ("--set", one)]
    assert cnn("run", "small.yaml", *given) == 0
    run = tmp_path / "runs" / "classify" / "small"
    report = json.loads((run / "evaluate" / "report.json").read_text())["dropout_samples"]
    test = input_pipeline.arrays(run / "prepare", "test", Shape((28, 28), 1, "stretch"), limit=1000)
    (saved,) = (run / "export" / "small").glob("[0-9]*")
    serve = tf.saved_model.load(str(saved)).signatures["serving_tensor"]
    shares = serve(image=tf.constant(test.images))["probabilities"].numpy()
    assert (shares.argmax(axis=1) == test.labels).mean() == pytest.approx(report["accuracy"])
    np.testing.assert_array_equal(shares, serve(image=tf.constant(test.images))["probabilities"])
    assert "8 passes with dropout" in (saved / "card.md").read_text()
    facts = json.loads((run / "export" / "manifest.json").read_text())["facts"]
    assert facts["register"]["metrics"]["test_accuracy"] == pytest.approx(report["accuracy"])
    model = savedmodel.load_keras(run / "train" / "model.keras")
    passes = tf.nn.softmax(monte_carlo_dropout.samples(model, test.images, count=8)).numpy()
    with (run / "evaluate" / dropout_samples.FILE).open(newline="") as lines:
        information = {row["id"]: float(row["mutual_information"]) for row in csv.DictReader(lines)}
    names = [str(name) for name in json.loads((run / "prepare" / "manifest.json").read_text())["facts"]["classes"]]
    rows = pipelines.load(run).predict([tmp_path / "photos" / name for name in information], top=2)
    for answers, row, expected in zip(passes, rows, information.values(), strict=True):
        assert row["mutual_information"] == pytest.approx(expected, abs=1e-4)
        for one in row["classes"]:
            own = answers[:, names.index(one["label"])]
            assert (one["probability"], one["deviation"]) == pytest.approx((own.mean(), own.std()), abs=1e-4)
    assert max(row["classes"][0]["deviation"] for row in rows) > 0.01
    capsys.readouterr()
    first = tmp_path / "photos" / next(iter(information))
    assert cnn("predict", "classify/small", first, "--csv", tmp_path / "answers.csv") == 0
    assert f"± {100 * rows[0]['classes'][0]['deviation']:.1f}" in capsys.readouterr().out
    (told,) = csv.DictReader((tmp_path / "answers.csv").read_text().splitlines())
    assert float(told["mutual_information"]) == pytest.approx(rows[0]["mutual_information"], abs=1e-5)
    assert float(told[f"sd({told['label']})"]) == pytest.approx(rows[0]["classes"][0]["deviation"], abs=1e-5)


def test_signals_tell_the_spread_of_their_passes(tmp_path):
    keras.utils.set_random_seed(0)
    entry = keras.Input((6, 1))
    model = keras.Model(entry, keras.layers.Dense(3)(keras.layers.Dropout(0.5)(keras.layers.Flatten()(entry))))
    samples = partial(monte_carlo_dropout.sampled, count=7)
    savedmodel.write_tensor_classifier(
        model,
        tmp_path / "model" / "1",
        tensor="signal",
        shape=(6, 1),
        fit="stretch",
        names=["a", "b", "c"],
        answer=partial(monte_carlo_dropout.probabilities, count=7),
        samples=samples,
    )
    values = np.random.default_rng(0).normal(size=(6, 1)).astype(np.float32)
    asked = predict.predictor_of(predict.load(tmp_path / "model" / "1"), tmp_path / "model" / "1", top=3)
    (answer,) = asked.predict([values], Console(quiet=True))
    expected = samples(model, values[None])
    assert answer.every == pytest.approx(dict(zip("abc", expected.probabilities[0].numpy(), strict=True)), abs=1e-6)
    deviations = dict(zip("abc", expected.deviations[0].numpy(), strict=True))
    assert answer.spread.deviations == pytest.approx(deviations, abs=1e-6)
    assert answer.spread.mutual_information == pytest.approx(float(expected.mutual_information[0]), abs=1e-6)
