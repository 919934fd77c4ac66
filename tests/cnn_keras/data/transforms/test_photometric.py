"""Colours: what is moved by how much, fitted principal components, holes, blur and noise."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from cnn_keras.data.transforms import augment, rand_augment, transform
from cnn_keras.errors import Fault
from tests.cnn_keras.data.transforms.test_augment import COLOURS, FITTED, SEEDS

PHOTO = np.random.default_rng(0).integers(0, 256, (70, 80, 3), np.uint8)


def of(step, image=PHOTO, seed=(1, 2)):
    return step({"image": image}, seed)["image"].numpy()


@pytest.mark.parametrize(
    "step",
    [
        augment.saturate(),
        augment.tint(shift=0),
        augment.pca_colour(amount=0, **FITTED),
        augment.grey(chance=0),
        augment.cutout(size=0),
        augment.blur(sigma=0),
        augment.noise(amount=0),
    ],
    ids=lambda step: step.name,
)
def test_settings_of_zero_change_nothing(step):
    np.testing.assert_array_equal(of(step), PHOTO)


@pytest.mark.parametrize("name", [*COLOURS, "rand_augment"])
def test_compiled_or_not_it_is_the_same_picture(name):
    parts = augment.rand_augment().steps if name == "rand_augment" else [COLOURS[name]]
    plain, fast = (
        transform.Chain(parts, compiled=way)({"image": PHOTO}, [(5, 6)] * len(parts))["image"].numpy().astype(int)
        for way in (False, True)
    )
    assert np.abs(plain - fast).max() <= 1


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_a_tint_moves_each_channel_by_a_number_of_its_own(seed):
    moved = of(augment.tint(shift=0.1), np.full((4, 4, 3), 128, np.uint8), seed).astype(int) - 128
    assert (moved == moved[0, 0]).all()
    assert len(set(moved[0, 0])) > 1
    assert np.abs(moved).max() <= 26


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_saturation_and_hue_keep_greys_and_brightness(seed):
    step = augment.saturate(saturation=1, hue=180)
    greys = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[:, None, None], 3, axis=2)
    np.testing.assert_allclose(of(step, greys, seed), greys, atol=1)
    pale = (PHOTO // 16 + 120).astype(np.uint8)  # nothing is cut off
    luma = [image @ [0.299, 0.587, 0.114] for image in (pale, of(step, pale, seed))]
    np.testing.assert_allclose(*luma, atol=1.5)


def test_a_hue_of_half_a_turn_is_the_opposite_colour():
    from cnn_keras.data.transforms.photometric import GREYED, TURNED, mix_channels

    matrix = tf.constant(GREYED + np.cos(np.pi) * (np.eye(3) - GREYED) + np.sin(np.pi) * TURNED, tf.float32)
    np.testing.assert_allclose(mix_channels(tf.constant([[[60.0, 20, 20]]]), matrix)[0, 0], [3.9, 43.9, 43.9], atol=0.1)
    quarter = tf.constant(GREYED + TURNED, tf.float32)
    twice = mix_channels(mix_channels(tf.constant([[[60.0, 20, 20]]]), quarter), quarter)
    np.testing.assert_allclose(twice[0, 0], [3.9, 43.9, 43.9], atol=0.1)


def test_pca_colours_are_fitted_on_the_pictures_they_get():
    rng = np.random.default_rng(0)
    factors = rng.normal(0, 1, (20000, 1)) * [40, 30, 10] + rng.normal(0, 2, (20000, 3)) + 128
    images = np.clip(factors, 0, 255).astype(np.uint8).reshape(20, 10, 100, 3)
    fitted = augment.fit(["mirror", {"pca_colour": {"amount": 0.2}}], lambda: iter([images[:10], images[10:]]))
    values, vectors = (np.array(fitted["pca_colour"][key]) for key in ("values", "vectors"))
    covariance = np.cov(images.reshape(-1, 3).T / 255)
    np.testing.assert_allclose(covariance @ vectors.T, vectors.T * values, atol=1e-5)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(vectors[0], np.array([40, 30, 10]) / np.sqrt(2600), atol=0.02)
    assert (np.diff(values) <= 0).all()
    even = np.full((4, 4, 3), 128, np.uint8)
    steps_ = augment.compose([{"pca_colour": {"amount": 2.0}}], fitted=fitted)
    moved = np.array([steps_({"image": even}, (0, n))["image"][0, 0].numpy().astype(int) - 128 for n in range(60)])
    along = moved @ vectors[0]
    assert np.abs(moved - along[:, None] * vectors[0]).max() < 3  # along the first component, by far the largest
    assert 0.7 < along.std() / (255 * 2.0 * values[0]) < 1.3


def test_nothing_is_read_where_nothing_is_fitted():
    assert augment.fit(["mirror", {"affine": {}}], lambda: pytest.fail("read")) == {}


def test_pca_colours_without_a_fit_are_a_fault_where_they_are_used_not_where_they_are_checked():
    steps_ = augment.compose(["pca_colour"])
    with pytest.raises(Fault, match="must be given values and vectors, fitted on the training split"):
        steps_({"image": PHOTO[:4, :4]}, (0, 0))


def test_grey_takes_the_colours_away_as_often_as_it_was_told():
    grey = sum(np.ptp(of(augment.grey(chance=0.3), PHOTO[:3, :3], (0, n)), axis=-1).max() == 0 for n in range(200))
    assert 40 < grey < 85


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_a_cutout_is_a_square_and_the_rest_stays(seed):
    image = np.full((20, 30, 1), 200, np.uint8)
    found = of(augment.cutout(size=0.5, fill=7), image, seed)[..., 0]
    rows, columns = np.nonzero(found == 7)
    assert 25 <= len(rows) <= 100  # a quarter of it when the place is a corner
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height <= 10
    assert width <= 10
    assert len(rows) == height * width
    assert (found[found != 7] == 200).all()


def test_a_blur_keeps_the_mean_and_makes_neighbours_alike():
    step = augment.blur(sigma=4)
    seed = next((0, number) for number in range(20) if step.draw((0, number))[0] > 0.5)
    found = of(step, PHOTO, seed).astype(float)
    assert found.mean() == pytest.approx(PHOTO.mean(), abs=1)
    assert np.abs(np.diff(found, axis=0)).mean() < 0.5 * np.abs(np.diff(PHOTO.astype(float), axis=0)).mean()


def test_a_blur_is_scipys():
    from scipy.ndimage import gaussian_filter

    step = augment.blur(sigma=2)
    drawn = float(step.draw((0, 3))[0])
    expected = gaussian_filter(PHOTO.astype(float), (2 * drawn, 2 * drawn, 0), mode="reflect", radius=(5, 5, 0))
    np.testing.assert_allclose(of(step, PHOTO, (0, 3)), expected, atol=0.6)


def test_a_blur_wider_than_the_picture_works():
    assert of(augment.blur(sigma=9), np.full((5, 4, 1), 90, np.uint8)).max() == 90


def test_noise_is_centred_independent_and_as_strong_as_drawn():
    step, grey = augment.noise(amount=0.1), np.full((100, 100, 3), 128, np.uint8)
    for seed in ((0, 3), (-7, -9)):
        moved = of(step, grey, seed).astype(float) - 128
        spread = 25.5 * float(step.draw(seed)[1])
        assert abs(moved.mean()) < 0.1 * spread
        assert moved.std() == pytest.approx(spread, rel=0.05)
        for axis in (0, 1, 2):
            pairs = np.corrcoef(np.roll(moved, 1, axis).ravel(), moved.ravel())
            assert abs(pairs[0, 1]) < 0.03
    assert (of(step, grey, (0, 3)) != of(step, grey, (1, 3))).any()
    assert (of(step, grey, (0, 3)) != of(step, grey, (0, 4))).any()


def test_the_operations_of_randaugment_are_pillows():
    from PIL import Image, ImageEnhance, ImageOps

    photo = (PHOTO * 0.6 + 20).astype(np.uint8)
    pillow = Image.fromarray(photo)
    up = 1.45
    expected = {
        "identity": pillow,
        "auto_contrast": ImageOps.autocontrast(pillow),
        "equalize": ImageOps.equalize(pillow),
        "solarize": ImageOps.solarize(pillow, 128),
        "posterize": ImageOps.posterize(pillow, 6),
        "saturation": ImageEnhance.Color(pillow).enhance(up),
        "contrast": ImageEnhance.Contrast(pillow).enhance(up),
        "brightness": ImageEnhance.Brightness(pillow).enhance(up),
        "sharpness": ImageEnhance.Sharpness(pillow).enhance(up),
    }
    changes = rand_augment._changes(tf.constant(photo, tf.float32), 0.5, tf.constant(1.0))
    assert tuple(expected) == rand_augment.COLOURS
    for name, change in zip(rand_augment.COLOURS, changes, strict=True):
        found = np.clip(change().numpy(), 0, 255)
        np.testing.assert_allclose(found, np.asarray(expected[name], float), atol=2, err_msg=name)


def test_randaugment_draws_all_its_augmentations_about_equally_often():
    step = augment.rand_augment(count=1)
    kinds = [int(rand_augment._drawn(step.geometry.draw((0, n)), 0)[0]) for n in range(700)]
    counts = np.bincount(kinds, minlength=14)
    assert len(counts) == 14
    assert counts.min() > 25


def test_both_halves_of_randaugment_draw_the_same():
    """Either the place or the colours change, never both, where one is drawn."""
    y, x = np.mgrid[:40, :40]
    image = np.stack([100 + y, 100 + x, np.full_like(x, 140)], axis=-1).astype(np.uint8)
    step = augment.rand_augment(count=1, magnitude=5, fill="nearest")
    for number in range(30):
        chain = augment.compose([{"rand_augment": {"count": 1, "magnitude": 5, "fill": "nearest"}}])
        seed = tf.random.experimental.stateless_fold_in((0, number), 0)
        kind = int(rand_augment._drawn(step.geometry.draw(seed), 0)[0])
        moved = chain({"image": image, "landmarks": [[0.2, 0.3, 1]]}, (0, number))
        if kind < len(rand_augment.GEOMETRY):
            np.testing.assert_allclose(moved["landmarks"][0, :2], [0.2, 0.3], atol=0.5)
            assert np.abs(moved["landmarks"][0, :2].numpy() - [0.2, 0.3]).max() > 1e-3
            assert (moved["image"].numpy()[..., 2] == 140).all()
        else:
            np.testing.assert_allclose(moved["landmarks"][0, :2], [0.2, 0.3], atol=1e-6)
