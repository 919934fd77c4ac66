"""Every network of the catalogue against its paper and against the promises that all networks keep."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest

import cnn_keras
from cnn_keras import anatomy, models
from cnn_keras.fault import Fault

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass(frozen=True)
class Figures:
    """What the literature says of a network, and the small input at which its promises are tried.

    Multiply-adds are those of convolutions and dense layers; `total` counts the statistics of batch
    normalisation too. The builder's defaults give the published figures, `small` the network of the promises.
    """

    trainable: int
    multiply_adds: int
    total: int | None = None
    small: dict = field(default_factory=lambda: {"input_shape": (32, 32, 3), "classes": 5})
    marks: tuple = ()


SLOW = (pytest.mark.slow,)
TABLE = {
    "introductory.two_conv": Figures(3_241_354, 7_059_968),
    "lenet.lenet5": Figures(60_000, 325_680),
    "lenet.lenet5_modern": Figures(61_706, 416_520),
}
ROWS = [pytest.param(name, marks=figures.marks, id=name) for name, figures in TABLE.items()]


def test_every_builder_of_the_catalogue_has_its_row():
    assert set(models.catalogue()) == set(TABLE)


@pytest.mark.parametrize("name", ROWS)
def test_parameters_and_multiply_adds_equal_the_published_figures(name):
    figures = TABLE[name]
    total = anatomy.totals(anatomy.rows(models.build(name)))
    assert total.trainable == figures.trainable
    assert total.parameters == (figures.total or figures.trainable)
    assert total.multiply_adds == figures.multiply_adds


@pytest.fixture(scope="module", params=ROWS)
def case(request):
    """A small network, freshly initialised, with the arguments that made it; all its tests run in a row."""
    keras.utils.set_random_seed(0)
    arguments = TABLE[request.param].small
    return models.build(request.param, **arguments), arguments


def images_for(arguments, count=4):
    return np.random.default_rng(0).normal(size=(count, *arguments["input_shape"])).astype("float32")


def test_images_become_float_logits(case):
    model, arguments = case
    logits = model(images_for(arguments))
    assert logits.shape == (4, arguments["classes"])
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert model.get_layer("logits").output is model.output


def test_a_saved_network_loads_and_answers_the_same(case, tmp_path):
    model, arguments = case
    images = images_for(arguments)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_every_weight_moves_after_one_step(case):
    model, arguments = case
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    model.train_on_batch(images_for(arguments), np.arange(4) % arguments["classes"])
    still = [
        weight.path
        for weight, old, new in zip(model.weights, before, model.get_weights(), strict=True)
        if np.array_equal(old, new)
    ]
    assert still == []


def test_importing_the_catalogue_imports_no_tensorflow():
    code = "import sys, cnn_keras.models; sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow')))"
    root = Path(cnn_keras.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_builder_is_named_by_its_file_and_its_function():
    from cnn_keras.models import lenet

    assert models.catalogue()["lenet.lenet5"] is lenet.lenet5


def test_helpers_of_a_family_are_not_in_the_catalogue():
    assert not any("._" in name for name in models.catalogue())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("lenet.lenet", "lenet.lenet5"), ("lenet5", "lenet.lenet5"), ("two_conv", "introductory")],
)
def test_an_unknown_builder_is_refused_with_the_nearest_names(name, nearest):
    with pytest.raises(Fault, match=f"must be a builder.*got '{name}'; did you mean {nearest}"):
        models.build(name)


def test_a_name_like_no_other_is_refused_with_all_names():
    with pytest.raises(Fault, match="known are introductory"):
        models.signature("zzzzzzzz")


def test_an_unknown_argument_is_refused_with_the_signature_and_the_nearest_argument():
    with pytest.raises(Fault, match=r"poling must be an argument of .*dropout=0\.0\).*; did you mean pooling\?"):
        models.check("lenet.lenet5_modern", input_shape=(32, 32, 1), classes=10, poling="max")


def test_a_missing_argument_is_refused_by_its_name(monkeypatch):
    def network(*, input_shape, classes=10):
        raise AssertionError("check must not build")

    monkeypatch.setattr(models, "catalogue", lambda: {"family.network": network})
    with pytest.raises(Fault, match=r"input_shape must be given to family\.network\(\*, input_shape"):
        models.check("family.network", classes=3)


def test_arguments_that_fit_are_accepted_without_building(monkeypatch):
    def network(*, input_shape, classes=10):
        raise AssertionError("check must not build")

    monkeypatch.setattr(models, "catalogue", lambda: {"family.network": network})
    models.check("family.network", input_shape=(28, 28, 1))


@pytest.mark.parametrize("name", ["lenet.lenet5", "lenet.lenet5_modern", "introductory.two_conv"])
@pytest.mark.parametrize("input_shape", [(28, 28, 1), (28, 28, 3), (32, 32, 4), (40, 52, 1)])
def test_small_networks_take_digits_colour_and_larger_images(name, input_shape):
    model = models.build(name, input_shape=input_shape, classes=7)
    assert model(np.zeros((2, *input_shape), "float32")).shape == (2, 7)


def test_lenet5_of_padded_mnist_has_as_many_parameters_as_at_32_pixels():
    assert models.build("lenet.lenet5", input_shape=(28, 28, 1)).count_params() == 60_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "mean"}, "pooling must be one of max, average, got 'mean'"),
        ({"activation": "sigmoid"}, "activation must be one of relu, tanh, got 'sigmoid'"),
        ({"input_shape": (27, 28, 1)}, "input_shape must be at least 28×28"),
    ],
)
def test_lenet5_refuses_what_it_cannot_build(arguments, message):
    with pytest.raises(Fault, match=message):
        models.build("lenet.lenet5_modern", **arguments)


def test_lenet5_modern_takes_pooling_activation_and_dropout():
    options = {"pooling": "average", "activation": "tanh", "dropout": 0.5}
    model = models.build("lenet.lenet5_modern", **options)
    assert type(model.get_layer("s2")).__name__ == "AveragePooling2D"
    assert model.get_layer("c1").activation is keras.activations.tanh
    assert model.get_layer("f6_dropout").rate == 0.5
    assert model.count_params() == 61_706
