"""FaceNet's networks, siamese embeddings and what compares them."""

import keras
import numpy as np
import pytest

from cnn_keras import layers, models
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile
from cnn_keras.models import siamese


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def network(dimension=8):
    return models.build("facenet.small", input_shape=(24, 16, 1), classes=dimension, filters=4, depths=(1, 1))


def test_nn1_has_the_papers_parameters_by_its_dense_layers():
    """Counted with narrow hidden layers, because the real ones take half a gigabyte."""

    def dense(hidden):
        return (7 * 7 * 256 + 1) * 2 * hidden + (hidden + 1) * 2 * hidden + (hidden + 1) * 128

    total = model_profile.totals(model_profile.rows(models.build("facenet.nn1", hidden=16)))
    assert total.parameters - dense(16) + dense(4096) == 140_025_664


def test_nn2_has_the_papers_sizes():
    built = models.build("facenet.nn2")
    sizes = {name: built.get_layer(name).output.shape[1:] for name in ("stage3", "stage4", "stage5", "inception3b")}
    assert sizes == {
        "inception3b": (28, 28, 320),
        "stage3": (14, 14, 640),
        "stage4": (7, 7, 1024),
        "stage5": (7, 7, 1024),
    }


def test_l2_pooling_is_the_length_of_what_a_window_sees():
    images = noise(2, 5, 4, 3)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.empty_like(images)
    for row in range(5):
        for column in range(4):
            window = padded[:, row : row + 3, column : column + 3]
            expected[:, row, column] = np.sqrt(np.square(window).sum(axis=(1, 2)))
    np.testing.assert_allclose(layers.L2Pooling(3)(images), expected, rtol=1e-5)


def test_embeddings_have_length_one_and_no_weights_of_their_own():
    base = network()
    embedding = siamese.embedding(base)
    rows = np.asarray(embedding(noise(3, 24, 16, 1)))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert embedding.count_params() == base.count_params()


def test_a_mirrored_embedding_does_not_tell_a_picture_from_its_mirror_image():
    embedding = siamese.embedding(network(), mirrored=True)
    images = noise(3, 24, 16, 1)
    np.testing.assert_allclose(embedding(images), embedding(images[:, :, ::-1]), atol=1e-5)
    single = siamese.embedding(network())
    assert np.abs(np.asarray(single(images)) - np.asarray(single(images[:, :, ::-1]))).max() > 1e-3


def test_a_tapped_network_keeps_the_places_of_a_layer_and_drops_what_stands_behind():
    base = network()
    tapped = siamese.arcface_head(base, "stage1", dimension=5, dropout=0.1)
    assert tapped.output.shape == (None, 5)
    height, width, maps = base.get_layer("stage1").output.shape[1:]
    assert tapped.get_layer("logits").kernel.shape == (height * width * maps, 5)
    with pytest.raises(Fault, match=r"layer must be one of small.*got 'stage9'; it has stage1, stage2"):
        siamese.arcface_head(base, "stage9")


def test_without_a_head_the_distance_is_squared_and_with_one_a_probability():
    left, right = noise(4, 6), noise(4, 6)[::-1].copy()
    distance = siamese.matcher(6)({"left": left, "right": right})
    np.testing.assert_allclose(distance, np.square(left - right).sum(axis=1), rtol=1e-5)
    head = siamese.VerificationHead()
    found = siamese.matcher(6, head)({"left": left, "right": right})
    logit = 0.8 * 6**0.5 - np.abs(left - right).sum(axis=1)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(logit)), rtol=1e-4)


def test_the_chi_squared_form_divides_by_the_sizes_of_both():
    left, right = np.array([[0.6, -0.8]], "float32"), np.array([[1.0, 0.0]], "float32")
    head = siamese.VerificationHead("chi-squared")
    logit = float(head([left, right])[0])
    assert logit == pytest.approx(0.8 * 2**0.5 - (0.16 / 1.6 + 0.64 / 0.8), abs=1e-4)


@pytest.mark.parametrize("head", [None, *siamese.HEADS])
def test_a_matcher_and_an_embedding_load_from_their_files(head, tmp_path):
    embedding = siamese.embedding(network(), mirrored=True)
    matcher = siamese.matcher(8, head and siamese.VerificationHead(head))
    embedding.save(tmp_path / "embedding.keras")
    matcher.save(tmp_path / "matcher.keras")
    images = noise(2, 24, 16, 1)
    rows = np.asarray(keras.models.load_model(tmp_path / "embedding.keras")(images))
    np.testing.assert_array_equal(rows, embedding(images))
    pair = {"left": rows, "right": rows[::-1].copy()}
    loaded = keras.models.load_model(tmp_path / "matcher.keras")
    np.testing.assert_array_equal(loaded(pair), matcher(pair))


@pytest.mark.parametrize("head", [None, "absolute"])
def test_distances_are_in_single_precision_whatever_trains_the_network(head):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        matcher = siamese.matcher(8, head and siamese.VerificationHead(head, dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert matcher.output.dtype == "float32"
