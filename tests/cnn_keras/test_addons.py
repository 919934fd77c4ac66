"""What of tensorflow-addons works on Keras 3, what does not, and that one file alone knows the package."""

import ast
import math
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import cnn_keras
from cnn_keras import addons

ROOT = Path(cnn_keras.__file__).parents[1]
IDENTITY = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]


def embedder():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(4), keras.layers.UnitNormalization()])


def classifier():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="sigmoid")])


def distance():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, activation="softplus")])


IDENTITIES = np.repeat(np.arange(3), 4)
FEATURES = np.random.default_rng(0).normal(np.eye(3, 6)[IDENTITIES], 0.3).astype("float32")
LOSSES = {
    "TripletSemiHardLoss": (embedder, IDENTITIES),
    "TripletHardLoss": (embedder, IDENTITIES),
    "ContrastiveLoss": (distance, (IDENTITIES == 0).astype("float32")),
    "SigmoidFocalCrossEntropy": (classifier, np.eye(3, dtype="float32")[IDENTITIES]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_same_when_compiled_by_xla(name):
    build, labels = LOSSES[name]
    answers, loss = build()(FEATURES), getattr(addons.losses, name)()
    compiled = tf.function(loss, jit_compile=True)
    np.testing.assert_allclose(compiled(labels, answers), loss(labels, answers), rtol=1e-4)


@pytest.fixture
def no_determinism():
    """A training by `cnn_keras` leaves TensorFlow deterministic, in which case Keras does not compile by XLA."""
    from tensorflow.python.framework import config

    before = config.is_op_determinism_enabled()
    config.disable_op_determinism()
    yield
    if before:
        config.enable_op_determinism()


@pytest.mark.usefixtures("no_determinism")
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["graph", "jit"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_trains_a_model_inside_fit(name, jit):
    keras.utils.set_random_seed(0)
    build, labels = LOSSES[name]
    model = build()
    model.compile(keras.optimizers.SGD(0.05), getattr(addons.losses, name)(), jit_compile=jit)
    losses = model.fit(FEATURES, labels, batch_size=12, epochs=10, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_contrastive_loss_equals_the_sum_worked_by_hand():
    # Same identity at distance 0.2: 0.2². Different at 0.4: (1 - 0.4)². Different beyond the margin: 0.
    loss = addons.losses.ContrastiveLoss(margin=1.0)(tf.constant([1.0, 0.0, 0.0]), tf.constant([0.2, 0.4, 1.5]))
    assert float(loss) == pytest.approx((0.04 + 0.36 + 0.0) / 3)


def test_hard_triplet_loss_equals_the_sum_worked_by_hand():
    # On a line: identity 0 at 0 and 3, identity 1 at 4 and 6. For each anchor the farthest positive, the
    # nearest negative and the margin 1: max(3 - 4 + 1, 0), max(3 - 1 + 1, 0), max(2 - 1 + 1, 0) and
    # max(2 - 3 + 1, 0).
    embeddings = tf.constant([[0.0], [3.0], [4.0], [6.0]])
    loss = addons.losses.TripletHardLoss(distance_metric="L2")(tf.constant([0, 0, 1, 1]), embeddings)
    assert float(loss) == pytest.approx((0 + 3 + 2 + 0) / 4, abs=1e-4)


def test_focal_loss_equals_the_product_worked_by_hand():
    loss = addons.losses.SigmoidFocalCrossEntropy()(tf.constant([[1.0]]), tf.constant([[0.9]]))
    assert float(loss[0]) == pytest.approx(-0.25 * 0.1**2 * math.log(0.9), rel=1e-4)


IMAGE_OPERATIONS = {
    "rotate": lambda image: addons.image.rotate(image, 0.0, interpolation="bilinear"),
    "shear_x": lambda image: addons.image.shear_x(image, 0.0, replace=0),
    "shear_y": lambda image: addons.image.shear_y(image, 0.0, replace=0),
    "transform": lambda image: addons.image.transform(image, IDENTITY),
    "translate": lambda image: addons.image.translate(image, [0.0, 0.0]),
    "dense_image_warp": lambda image: still_warp(image, addons.image.dense_image_warp, tf.zeros((1, 8, 8, 2))),
    "sparse_image_warp": lambda image: still_warp(image, sparse_warp, tf.constant([[[1.0, 1], [6, 2], [3, 6]]])),
    "random_cutout": lambda image: addons.image.random_cutout(image[None], (0, 0))[0],
}


def still_warp(image, warp, arguments):
    return tf.cast(tf.round(warp(tf.cast(image, tf.float32)[None], arguments)[0]), tf.uint8)


def sparse_warp(images, points):
    return addons.image.sparse_image_warp(images, points, points)[0]


@pytest.mark.parametrize("name", IMAGE_OPERATIONS)
def test_an_image_operation_that_moves_nothing_returns_its_image_inside_tf_data(name):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices(images).map(IMAGE_OPERATIONS[name], num_parallel_calls=2)
    np.testing.assert_array_equal(np.stack(list(dataset.as_numpy_iterator())), images)


def test_translate_moves_right_and_down():
    image = np.zeros((5, 5, 1), np.float32)
    image[1, 1] = 1
    moved = addons.image.translate(image, [2, 1]).numpy()
    assert np.argwhere(moved[..., 0]).tolist() == [[2, 3]]


@pytest.mark.parametrize("name", ["GIoULoss", "PinballLoss"])
def test_losses_with_a_dropped_reduction_do_not_work(name):
    with pytest.raises(ValueError, match="reduction=auto"):
        getattr(addons.losses, name)()


def test_compiled_kernels_do_not_work():
    with pytest.raises((UserWarning, tf.errors.NotFoundError), match=r"custom op|undefined symbol"):
        addons.image.euclidean_dist_transform(np.ones((4, 4, 1), np.uint8))


@pytest.mark.parametrize("name", ["layers", "metrics", "optimizers"])
def test_sub_packages_that_fail_are_not_offered(name):
    with pytest.raises(AttributeError, match="offers image and losses"):
        getattr(addons, name)


OPEN = """
import warnings
import keras, tensorflow  # their own warnings are not the door's
warnings.simplefilter("error")
filters = list(warnings.filters)
from cnn_keras import addons
assert addons.losses.TripletHardLoss and addons.image.rotate
assert warnings.filters == filters, "the door changed the warning filters"
"""


@pytest.mark.slow
def test_opening_the_door_warns_of_nothing_and_leaves_the_filters_as_they_were():
    opened = subprocess.run([sys.executable, "-c", OPEN], cwd=ROOT, capture_output=True, text=True, check=False)
    assert opened.returncode == 0, opened.stderr
    assert "end of life" not in (opened.stdout + opened.stderr).lower()


def names_the_package(node):
    match node:
        case ast.Import(names=names):
            modules = [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), level=0):
            modules = [module]
        case ast.Call(func=ast.Name("import_module") | ast.Attribute(attr="import_module"), args=[first, *_]):
            modules = [ast.unparse(first).lstrip("f").strip("'\"")]
        case _:
            return False
    return any(module.split(".")[0] == "tensorflow_addons" for module in modules)


def test_only_addons_imports_tensorflow_addons():
    sources = [path for folder in ("cnn_keras", "pipelines", "tests") for path in (ROOT / folder).rglob("*.py")]
    importers = [
        path.relative_to(ROOT).as_posix()
        for path in sources
        if any(names_the_package(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    ]
    assert importers == ["cnn_keras/addons.py"]
