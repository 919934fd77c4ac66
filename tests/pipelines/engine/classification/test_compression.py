"""Pruned weights are the smallest and stay zero; a student's loss is the formula of the paper."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine.classification import compression
from pipelines.engine.classification.classifier_config import Distill
from pipelines.engine.recipe import Train
from pipelines.engine.training import trainer
from pipelines.export import savedmodel
from tests.conftest import cnn


def network(seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Conv2D(4, 3, name="c"), keras.layers.Flatten(), keras.layers.Dense(3, name="d")]
    return keras.Sequential([keras.Input((5, 5, 1)), *layers])


def examples(count=32):
    random = np.random.default_rng(0)
    return random.normal(size=(count, 5, 5, 1)).astype("float32"), random.integers(0, 3, count)


def test_the_smallest_weights_of_every_kernel_are_pruned_and_biases_are_not():
    model = network()
    before = [kernel.numpy() for kernel in compression.kernels(model)]
    compression.prune(model, 0.75)
    for kernel, values in zip(compression.kernels(model), before, strict=True):
        kept = kernel.numpy() != 0
        assert kept.sum() == values.size / 4
        assert np.abs(values[kept]).min() > np.abs(values[~kept]).max()
        np.testing.assert_array_equal(kernel.numpy()[kept], values[kept])
    assert compression.zeros(model) == 0.75


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_pruned_weights_stay_zero_while_the_others_are_trained(optimizer):
    model, (x, y) = network(), examples()
    compression.prune(model, 0.6)
    before = [kernel.numpy() for kernel in compression.kernels(model)]
    compression.keep_zeros(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    settings = Train(optimizer=optimizer, weight_decay=1e-3)
    trainer.compile_model(model, settings, loss=loss, metrics=[], steps=4)
    model.fit(x, y, epochs=3, batch_size=8, verbose=0)
    for kernel, values in zip(compression.kernels(model), before, strict=True):
        np.testing.assert_array_equal(kernel.numpy() == 0, values == 0)
        assert np.abs(kernel.numpy() - values).max() > 1e-4


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.5), (4.0, 0.9), (2.0, 1.0)])
def test_the_loss_of_a_student_is_the_formula_and_validation_is_by_the_labels(temperature, weight):
    student, teacher, (x, y) = network(0), network(1), examples()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile_model(student, Train(optimizer="sgd", learning_rate=1e-9), loss=loss, metrics=[], steps=1)
    compression.distill(student, teacher, Distill(path=Path(), temperature=temperature, weight=weight))

    def log_softmax(logits):
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    ours, theirs = (model(x).numpy().astype(float) for model in (student, teacher))
    hard = -log_softmax(ours)[np.arange(len(y)), y].mean()
    soft = -(np.exp(log_softmax(theirs / temperature)) * log_softmax(ours / temperature)).sum(axis=1).mean()
    (trained,) = student.fit(x, y, batch_size=32, verbose=0).history["loss"]
    assert trained == pytest.approx((1 - weight) * hard + weight * temperature**2 * soft, rel=1e-5)
    assert student.evaluate(x, y, verbose=0) == pytest.approx(hard, rel=1e-5)


def test_a_student_of_the_teachers_probabilities_alone_becomes_the_teacher():
    student, teacher, (x, y) = network(0), network(1), examples(256)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile_model(student, Train(learning_rate=0.03), loss=loss, metrics=[], steps=1)
    compression.distill(student, teacher, Distill(path=Path(), weight=1.0))
    student.fit(x, y, epochs=60, batch_size=256, verbose=0)
    apart = np.abs(tf.nn.softmax(student(x)) - tf.nn.softmax(teacher(x))).max()
    assert apart < 0.15
    assert (np.argmax(student(x), 1) == np.argmax(teacher(x), 1)).mean() > 0.9


def test_chance_is_not_pruned_and_a_teacher_is_of_the_same_classes_and_size(exported, tmp_path):
    student = savedmodel.load_keras(exported.run / "train" / "model.keras")
    settings = Distill(path=exported.run)
    assert compression.load_teacher(settings, list("0123"), student).trainable is False
    with pytest.raises(Fault, match="a run of the same classes"):
        compression.load_teacher(settings, ["a", "b"], student)
    with pytest.raises(Fault, match="a run of the same inputs"):
        compression.load_teacher(settings, list("0123"), keras.Model(entry := keras.Input((5, 5, 1)), network()(entry)))
    with pytest.raises(Fault, match=r"train\.distill\.path must be the folder of a trained classifier"):
        compression.load_teacher(Distill(path=tmp_path), list("0123"), student)
    with pytest.raises(Fault, match=r"train\.prune requires model\.weights"):
        recipes.load(str(exported.recipe), ["train.prune=0.5"])
    with pytest.raises(Fault, match="prune and ema do not go with each other"):
        recipes.load(str(exported.recipe), ["train.prune=0.5", "train.ema=0.9", f"model.weights={exported.recipe}"])


@pytest.mark.slow
def test_a_run_is_pruned_and_taught_and_its_export_answers_as_it_does(exported, tmp_path):
    weights = exported.run / "train" / "model.keras"
    settings = [
        f"model.weights={weights}", "train.prune=0.8", "train.epochs=2", "name=pruned",
        f"train.distill.path={exported.run}", "evaluate.baselines=false",
    ]  # fmt: skip
    overrides = [word for setting in settings for word in ("--set", setting)]
    assert cnn("run", exported.recipe, *overrides, "--runs", tmp_path) == 0  # the export is compared with the model
    folder = tmp_path / "classify" / "pruned"
    assert compression.zeros(savedmodel.load_keras(folder / "train" / "model.keras")) == pytest.approx(0.8, abs=1e-3)
