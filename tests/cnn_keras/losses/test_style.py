"""Content, style and colours against NumPy, finite differences and the papers' own words."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.losses import style

DRAW = np.random.default_rng(0)
TAPS = ("near", "far")


def features(*shape):
    return DRAW.normal(size=shape).astype("float32")


def tiny(images):
    """A tower of two layers: smooth, so that finite differences say the truth."""
    kernel = tf.constant(np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype("float32") / 255)
    near = tf.nn.softplus(tf.nn.conv2d(images, kernel, 1, "SAME"))
    further = tf.constant(np.random.default_rng(2).normal(size=(3, 3, 4, 5)).astype("float32"))
    return {"near": near, "far": tf.nn.softplus(tf.nn.conv2d(near, further, 2, "SAME"))}


def objective(weights, reference=None):
    reference = [picture(9, 8)] if reference is None else reference
    return style.Objective(tiny, {"far": 1.0}, {"near": 3.0, "far": 1.0}, weights, reference=reference)


def picture(height, width):
    return tf.constant(DRAW.uniform(0, 255, (1, height, width, 3)).astype("float32"))


def test_the_gram_matrix_is_that_of_numpy():
    found = features(2, 5, 4, 3)
    wanted = np.einsum("nhwc,nhwd->ncd", found, found) / 20
    np.testing.assert_allclose(style.gram_matrix(found), wanted, rtol=1e-5, atol=1e-6)  # some cancel out


def test_the_style_loss_of_equal_sizes_is_the_papers():
    ours, theirs = features(1, 6, 5, 4), features(1, 6, 5, 4)
    flat, other = ours.reshape(30, 4).astype(float), theirs.reshape(30, 4).astype(float)
    wanted = np.sum((flat.T @ flat - other.T @ other) ** 2) / (2 * 6 * 5 * 4) ** 2
    np.testing.assert_allclose(
        style.style_loss(style.gram_matrix(ours), style.gram_matrix(theirs)), [wanted], rtol=1e-4
    )


def test_the_content_loss_is_half_the_squared_distance():
    ours, theirs = features(2, 3, 4, 5), features(2, 3, 4, 5)
    wanted = ((ours - theirs) ** 2).sum(axis=(1, 2, 3)) / 2
    np.testing.assert_allclose(style.content_loss(ours, theirs), wanted, rtol=1e-5)


def test_total_variation_is_tensorflows():
    images = tf.constant(features(2, 7, 6, 3))
    np.testing.assert_allclose(style.total_variation(images), tf.image.total_variation(images), rtol=1e-5)


def test_histograms_do_not_mind_where_a_value_stands():
    ours = features(1, 6, 5, 4)
    elsewhere = ours.reshape(1, 30, 4)[:, DRAW.permutation(30)].reshape(ours.shape)
    np.testing.assert_allclose(style.histogram_loss(ours, style.quantiles(elsewhere)), 0, atol=1e-12)
    np.testing.assert_allclose(style.histogram_loss(ours + 2, style.quantiles(elsewhere)), 4, rtol=1e-5)


def test_a_masked_gram_matrix_is_that_of_the_region_alone():
    found, mask = features(1, 6, 5, 4), np.zeros((2, 6, 5), "float32")
    mask[0, :, :2] = mask[1, :, 2:] = 1
    left, right = style.gram_matrix(found[:, :, :2]), style.gram_matrix(found[:, :, 2:])
    np.testing.assert_allclose(style.gram_matrix(found, mask), tf.concat([left, right], 0), rtol=1e-4)


@pytest.mark.parametrize("term", ["content", "style", "variation", "histogram"])
def test_the_gradient_of_every_term_is_that_of_finite_differences(term):
    found = objective(style.Weights(**{**dict.fromkeys(style.Weights._fields, 0.0), term: 100.0}))
    image, kept, wanted = picture(6, 7), found.content_of(picture(6, 7)), found.style_of(picture(9, 8))

    def value(given):
        return tf.add_n(list(found.terms(given, kept, wanted).values()))[0]

    with tf.GradientTape() as tape:
        tape.watch(image)
        total = value(image)
    gradient = tape.gradient(total, image)
    for _ in range(3):
        direction = DRAW.normal(size=image.shape).astype("float32") * 0.05
        slope = (value(image + direction) - value(image - direction)) / 2
        assert float(slope) == pytest.approx(float(tf.reduce_sum(gradient * direction)), rel=0.03, abs=1e-4)


def test_a_picture_has_no_loss_against_its_own_content_and_style():
    found = objective(style.Weights(1.0, 1.0, 0.0, 1.0))
    image = picture(6, 7)
    terms = found.terms(image, found.content_of(image), found.style_of(image))
    assert set(terms) == {"content", "style", "histogram"}
    for term in terms.values():
        np.testing.assert_allclose(term, 0, atol=1e-9)


def test_features_have_unit_mean_square_on_the_reference_whatever_the_network_s_scale():
    reference = picture(9, 8)
    found = objective(style.Weights(), [reference]).features(reference)
    for layer in TAPS:
        assert float(tf.reduce_mean(found[layer] ** 2)) == pytest.approx(1, rel=1e-4)


def test_a_blend_s_loss_is_the_mean_of_the_losses_but_for_a_constant():
    found = objective(style.Weights(0.0, 1.0))
    styles = [found.style_of(picture(9, 8)), found.style_of(picture(5, 6))]
    images, kept = [picture(6, 7), picture(6, 7)], found.content_of(picture(6, 7))
    blended = style.blend(styles, [3, 1])

    def losses(wanted):
        return np.array([float(found.terms(image, kept, wanted)["style"][0]) for image in images])

    mean = 0.75 * losses(styles[0]) + 0.25 * losses(styles[1])
    assert np.ptp(mean - losses(blended)) < 1e-5 * mean.max()


def test_styles_side_by_side_are_each_wanted_where_its_mask_is():
    found = objective(style.Weights(0.0, 1.0))
    one, other = (np.full((1, 64, 64, 3), value, "float32") for value in (40.0, 200.0))
    image = np.concatenate([one[:, :, :32], other[:, :, 32:]], axis=2)
    masks = np.zeros((2, 64, 64), "float32")
    masks[0, :, :30] = masks[1, :, 34:] = 1
    styles = [found.style_of(tf.constant(part)) for part in (one, other)]
    kept = found.content_of(tf.constant(image))
    sizes = {"near": (64, 64), "far": (32, 32)}
    right, wrong = (style.combine_regions(order, masks, sizes) for order in (styles, styles[::-1]))
    losses = [float(found.terms(tf.constant(image), kept, wanted)["style"][0]) for wanted in (right, wrong)]
    assert losses[0] < 0.2 * losses[1]


def test_a_recoloured_picture_has_the_other_s_colours():
    image, like = (DRAW.integers(60, 180, (40, 30, 3)).astype("uint8") for _ in range(2))
    like = (like * [0.5, 0.8, 1.0] + 20).astype("uint8")
    got = style.match_colors(image, like).reshape(-1, 3).astype(float)
    wanted = like.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(got.mean(axis=0), wanted.mean(axis=0), atol=0.5)
    np.testing.assert_allclose(np.cov(got.T), np.cov(wanted.T), atol=10)


def test_kept_colours_are_the_content_s_and_the_luminance_the_painting_s():
    painted, content = (DRAW.integers(100, 150, (8, 9, 3)).astype("uint8") for _ in range(2))
    yiq = [part.astype(float) @ style.LUMA.T for part in (style.with_colors_of(painted, content), painted, content)]
    np.testing.assert_allclose(yiq[0][..., 0], yiq[1][..., 0], atol=1)
    np.testing.assert_allclose(yiq[0][..., 1:], yiq[2][..., 1:], atol=1)
