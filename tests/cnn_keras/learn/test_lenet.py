"""LeNet-5 in NumPy: against Keras's model of the same weights, and a training of it."""

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from cnn_keras import models
from cnn_keras.learn import lenet


def digits(count):
    """The first of scikit-learn's digits, enlarged to 32×32: images (count, 32, 32, 1), 0 to 1, and labels."""
    data = load_digits()
    images = np.repeat(np.repeat(data.images[:count], 4, axis=1), 4, axis=2)[..., np.newaxis] / 16
    return images, data.target[:count]


def test_softmax_and_cross_entropy_are_keras_also_of_large_logits():
    logits, labels = np.array([[1.0, 2, 3], [1000, -1000, 999]]), np.array([2, 1])
    np.testing.assert_allclose(lenet.softmax(logits), keras.ops.convert_to_numpy(keras.ops.softmax(logits)), rtol=1e-6)
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    np.testing.assert_allclose(lenet.cross_entropy(logits, labels), float(theirs), rtol=1e-6)


def test_dropout_keeps_the_mean_and_drops_its_share():
    x = np.ones((200, 200))
    y, factors = lenet.dropout(x, 0.25, np.random.default_rng(0))
    np.testing.assert_array_equal(y, x * factors)
    assert set(np.unique(factors)) == {0, 4 / 3}
    np.testing.assert_allclose([(y == 0).mean(), y.mean()], [0.25, 1], atol=0.01)


def test_outputs_and_gradients_of_the_whole_network_equal_those_of_tensorflow():
    images, labels = digits(4)
    weights = lenet.initial(10, seed=3)
    model = models.build("lenet.lenet5_modern")
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    with tf.GradientTape() as tape:
        logits = model(images.astype(np.float32), training=False)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    slopes = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    maps = lenet.forward(images, weights)
    np.testing.assert_allclose(maps["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(lenet.cross_entropy(maps["logits"], labels), float(loss), rtol=1e-5)
    ours = [gradient for pair in lenet.backward(maps, labels, weights).values() for gradient in pair]
    theirs = {variable.path: slope for variable, slope in zip(model.trainable_variables, slopes, strict=True)}
    names = [f"{name}/{kind}" for name in ("logits", "f6", "c5", "c3", "c1") for kind in ("kernel", "bias")]
    for name, gradient in zip(names, ours, strict=True):
        np.testing.assert_allclose(gradient, theirs[name], atol=1e-5, err_msg=name)


def test_steps_are_those_of_keras_and_it_learns_a_batch_by_heart():
    images, labels = digits(20)
    weights = lenet.initial(10)
    velocities = {name: tuple(np.zeros_like(value) for value in pair) for name, pair in weights.items()}
    model = models.build("lenet.lenet5_modern")
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    model.compile(
        keras.optimizers.SGD(0.02, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    losses = []
    for number in range(20):
        losses.append(lenet.step(images, labels, weights, velocities, rate=0.02))
        if number < 3:
            model.train_on_batch(images.astype(np.float32), labels)
            np.testing.assert_allclose(model.get_layer("c1").get_weights()[0], weights["c1"][0], atol=1e-5)
    assert losses[-1] < 0.5 * losses[0]
    right = lenet.forward(images, weights)["logits"].argmax(axis=1) == labels
    assert right.mean() >= 0.9


def test_a_relu_that_no_example_reaches_is_dead_and_never_learns():
    images, labels = digits(20)
    weights = lenet.initial(10)
    weights["f6"][1][:] = [-1e3] * 40 + [0] * 44  # so large a step has been made once
    _, bias = lenet.backward(lenet.forward(images, weights), labels, weights)["f6"]
    assert not bias[:40].any()
    assert bias[40:].any()


def test_units_that_begin_the_same_stay_the_same():
    images, labels = digits(20)
    weights = lenet.initial(10)
    for kernel, _ in weights.values():
        kernel[:] = 0.01
    velocities = {name: tuple(np.zeros_like(value) for value in pair) for name, pair in weights.items()}
    for _ in range(3):
        lenet.step(images, labels, weights, velocities, rate=0.1)
    assert np.ptp(weights["c1"][0], axis=-1).max() < 1e-12
    assert np.ptp(weights["f6"][0], axis=-1).max() < 1e-12
    drawn = lenet.initial(10)["f6"][0]
    assert np.ptp(drawn, axis=-1).max() > 0.1


def test_he_s_initialisation_keeps_the_variance_from_layer_to_layer():
    images = np.random.default_rng(0).normal(size=(16, 32, 32, 1))
    maps = lenet.forward(images, lenet.initial(10))
    small = lenet.forward(images, {name: (0.1 * kernel, bias) for name, (kernel, bias) in lenet.initial(10).items()})
    assert 0.3 < maps["logits"].std() / maps["c1"].std() < 3
    assert small["logits"].std() / small["c1"].std() < 1e-3
