"""Answers for images of any size: what patches say together is what one look at everything would have said."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras import models
from cnn_keras.ops import sliding_window
from cnn_keras.ops.sliding_window import Patches


def pointwise(images):
    """Probabilities of three classes that depend on the pixel alone."""
    value = tf.cast(images[..., 0], tf.float32)
    return tf.nn.softmax(tf.stack([value, tf.fill(tf.shape(value), 90.0), 180 - value], axis=-1) / 20)


def noise(*sizes):
    return np.random.default_rng(0).integers(0, 256, (*sizes, 1)).astype(np.uint8)


def in_graph(function, axes):
    """As the exported model has it: no size is known when the graph is made."""
    return tf.function(function, input_signature=[tf.TensorSpec([None] * axes + [1], tf.uint8)], autograph=False)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5])
@pytest.mark.parametrize(
    ("extent", "size"), [((37, 53), (16, 12)), ((5, 40), (16, 12)), ((16, 12), (16, 12)), ((9, 14, 21), (8, 6, 4))]
)
def test_patches_say_what_one_look_says_where_a_pixel_is_all_that_counts(extent, size, overlap):
    ask = in_graph(
        lambda image: sliding_window.predict_patches(pointwise, image, Patches(size, size, overlap)), len(extent)
    )
    said, expected = ask(noise(*extent)), pointwise(noise(*extent)).numpy()
    np.testing.assert_array_equal(said.labels, expected.argmax(axis=-1))
    np.testing.assert_allclose(said.confidence, expected.max(axis=-1), atol=1e-5)  # the weights sum to one


@pytest.mark.parametrize("extent", [(30, 45), (7, 64)])
def test_a_network_without_padding_leaves_no_seam(extent):
    """Patches of any size say what one large one does that sees all of the picture and its mirror image."""
    small, large = (models.build("unet.unet", input_shape=(side, side, 1), filters=2, depth=1) for side in (32, 96))
    large.set_weights(small.get_weights())

    def asked(network, lost=16):
        size, answered = network.input.shape[1:3], network.output.shape[1:3]
        assert size[0] - answered[0] == lost
        answer = lambda patches: tf.nn.softmax(network(tf.cast(patches, tf.float32) / 255))  # noqa: E731
        return sliding_window.predict_patches(answer, tf.constant(noise(*extent)), Patches(size, answered, overlap=0.0))

    parts, once = asked(small), asked(large)
    np.testing.assert_allclose(parts.confidence, once.confidence, atol=1e-5)
    np.testing.assert_array_equal(parts.labels, once.labels)


def test_neighbours_fade_into_each_other():
    """Two patches that disagree: the answer changes where both count the same, and nowhere jumps the confidence."""
    seen = []

    def opinionated(patches):
        first = patches[:, 0, 0, 0] == 7  # the patch with the picture's first pixel
        seen.append(first)
        sure = tf.one_hot(tf.where(first, 0, 1), 2)
        return tf.tile(sure[:, None, None], [1, 8, 8, 1])

    picture = np.zeros((8, 12, 1), np.uint8)
    picture[0, 0] = 7
    said = sliding_window.predict_patches(opinionated, tf.constant(picture), Patches((8, 8), (8, 8), 0.5))
    np.testing.assert_array_equal(said.labels[0], [0] * 6 + [1] * 6)
    np.testing.assert_allclose(said.confidence[3], [1, 1, 1, 1, 0.8, 0.6, 0.6, 0.8, 1, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("extent", [(40, 60), (600, 90), (20, 30)])
def test_a_whole_picture_is_answered_in_its_own_size(extent, fit):
    """Halves, black and white, stay halves, whatever the size of the network."""
    picture = np.full((*extent, 1), 30, np.uint8)
    picture[:, extent[1] // 2 :] = 220
    ask = in_graph(lambda image: sliding_window.predict_whole(pointwise, image, (40, 60), fit=fit), 2)
    said = ask(picture)
    assert said.labels.shape == extent
    wrong = said.labels != np.where(picture[..., 0] < 90, 2, 0)
    assert wrong.numpy().any(axis=0).sum() <= 2  # columns at the edge between them
    assert float(tf.reduce_min(said.confidence)) > 0.4


def test_a_whole_picture_of_the_networks_size_is_left_as_it_is():
    said, expected = (
        sliding_window.predict_whole(pointwise, noise(40, 60), (40, 60), fit="pad"),
        pointwise(noise(40, 60)).numpy(),
    )
    np.testing.assert_array_equal(said.labels, expected.argmax(axis=-1))
    np.testing.assert_allclose(said.confidence, expected.max(axis=-1), atol=1e-5)


def test_mirror_images_go_on_for_ever():
    assert sliding_window.reflect(tf.range(-4, 8), 3).numpy().tolist() == [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]
