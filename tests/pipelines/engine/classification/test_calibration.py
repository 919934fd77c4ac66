"""Calibrated probabilities: what a report says of them, and answers that are not accepted, by every engine alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError
from scipy import special

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine.classification import calibration
from pipelines.engine.classification.classifier_config import Evaluate
from pipelines.export import savedmodel
from pipelines.inference.predict import predictor_of
from pipelines.serving.converted import classification as converted
from pipelines.tasks.classify import config as classify_config


def overconfident(seed, count=2000):
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=4.0, size=(count, 4))
    kept = special.softmax(logits, axis=1)
    labels = (generator.random(count)[:, None] > kept.cumsum(axis=1)).sum(axis=1).clip(max=3)
    return special.softmax(3 * logits, axis=1), labels


def test_the_report_says_what_the_temperature_and_the_rejection_bring():
    validation, test = overconfident(0), overconfident(1)
    report = calibration.measure(validation, test, error=0.1)
    assert report["temperature"] == pytest.approx(3, rel=0.1)
    before = calibration.measure((np.eye(4), np.arange(4)), test, error=None)
    assert before["temperature"] == 1
    assert "rejection" not in before
    assert report["log_loss"] < before["log_loss"]
    assert report["calibration_error"] < 0.5 * before["calibration_error"]
    rejection = report["rejection"]
    low, high = rejection["wrong_interval"]
    assert low <= rejection["wrong"] <= high
    assert rejection["wrong"] <= 0.1
    assert 0 < rejection["answered"] < 1
    assert len(calibration.lines(before["log_loss"], report)) == 2


def test_what_cannot_be_shown_accepts_every_answer():
    few = tuple(column[:20] for column in overconfident(0))
    report = calibration.measure(few, overconfident(1), error=0.001)
    assert report["rejection"] == {"error": 0.001, "threshold": None}


def test_a_rejection_needs_calibrated_answers():
    with pytest.raises(ValidationError, match="reject_error"):
        Evaluate(calibrate=False, reject_error=0.1)


def test_many_crops_and_several_labels_are_not_rejected_by_the_confidence_of_one_view():
    with pytest.raises(ValidationError, match="crops"):
        classify_config.Evaluate(crops="ten", reject_error=0.1)
    assert not classify_config.Evaluate(crops="ten").calibrates
    assert classify_config.Evaluate(reject_error=0.1).calibrates
    with pytest.raises(Fault, match=r"evaluate\.reject_error requires data\.labels: single"):
        recipes.load("classify/composites-resnet20", ["evaluate.reject_error=0.1"])


def test_an_answer_below_the_confidence_is_not_accepted_by_any_engine(tmp_path):
    """A network that passes two numbers of each picture on as logits."""
    image = keras.Input((1, 2, 1), dtype="uint8")
    logits = keras.layers.Flatten()(keras.layers.Rescaling(1 / 50)(image))
    model = keras.Model(image, logits)
    pictures = np.array([[0, 200], [100, 90]], np.uint8).reshape(2, 1, 2, 1)
    savedmodel.write_classifier(model, tmp_path, shape=Shape((1, 2), 1), names=["a", "b"], accepted_from=0.9)
    served = tf.saved_model.load(str(tmp_path))
    outputs = served.signatures["serving_tensor"](image=tf.constant(pictures))
    assert outputs["accepted"].numpy().tolist() == [True, False]
    description = {
        "preprocessing": {"channels": 1, "size": [1, 2], "fit": "stretch"},
        "classes": ["a", "b"],
        "accepted_from": 0.9,
    }

    def ask(picture):
        return {"probabilities": savedmodel.probabilities(model, picture[None])[0].numpy()}

    other = converted.images(description, ask)["serving_tensor"]
    assert [bool(other.answer(image=picture)["accepted"]) for picture in pictures] == [True, False]
    assert set(other.signature.outputs) == set(outputs)
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / savedmodel.REJECTION).write_text('{"accepted_from": 0.9}')
    predictor = predictor_of(served, tmp_path, top=2)
    sure, unsure = (predictor._ask([None], [tf.io.encode_png(picture).numpy()])[0] for picture in pictures)
    assert (sure.accepted, unsure.accepted) == (True, False)
