"""Augmentations by tensorflow-addons, beside other libraries that do the same."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from cnn_keras.data.transforms import addons, augment, transform
from cnn_keras.errors import Fault

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
Y, X = np.mgrid[:40, :56]
SMOOTH = np.stack([4 * Y, 4 * X, 2 * Y + 2 * X], axis=-1).astype(np.uint8)


def changed(step, image, seed=(0, 0)):
    return transform.Chain([step], compiled=False)({"image": image}, [seed])["image"].numpy().astype(int)


def test_the_mean_is_that_of_the_neighbours():
    expected = scipy.ndimage.uniform_filter(NOISE.astype(float), (3, 3, 1), mode="mirror")
    assert np.abs(changed(addons.addons_mean_filter(chance=1.0), NOISE) - expected).max() <= 0.51


@pytest.mark.parametrize("size", [3, 5])
def test_the_median_is_that_of_the_neighbours(size):
    expected = scipy.ndimage.median_filter(NOISE, (size, size, 1), mode="mirror")
    np.testing.assert_array_equal(changed(addons.addons_median_filter(size=size, chance=1.0), NOISE), expected)


@pytest.mark.parametrize("step", [addons.addons_mean_filter(chance=0.0), addons.addons_median_filter(chance=0.0)])
def test_a_chance_of_zero_changes_nothing(step):
    np.testing.assert_array_equal(changed(step, NOISE), NOISE)


@pytest.mark.parametrize("warp", [addons.addons_dense_warp, addons.addons_sparse_warp])
def test_a_warp_of_no_amount_changes_nothing_and_a_small_one_moves_pixels_a_little(warp):
    assert np.abs(changed(warp(amount=0.0), SMOOTH) - SMOOTH).max() <= 1
    moved = changed(warp(amount=2.0), SMOOTH)[8:-8, 8:-8, :2] - SMOOTH[8:-8, 8:-8, :2].astype(int)
    assert 0.25 < np.abs(moved / 4).mean() < 4  # of the place, in pixels


@pytest.mark.parametrize(
    "name", ["addons_mean_filter", "addons_median_filter", "addons_dense_warp", "addons_sparse_warp"]
)
def test_one_is_named_in_a_recipe_and_gives_the_same_compiled(name):
    steps = augment.compose([name])
    plain, again = (steps({"image": NOISE}, (3, 4))["image"].numpy() for _ in range(2))
    np.testing.assert_array_equal(plain, again)
    part = augment.catalogue()[name]()
    slow, fast = (
        transform.Chain([part], compiled=way)({"image": SMOOTH}, [(5, 6)])["image"].numpy().astype(int)
        for way in (False, True)
    )
    assert np.abs(slow - fast).max() <= 1


@pytest.mark.parametrize("key", ["boxes", "landmarks", "mask"])
def test_a_warp_refuses_what_it_cannot_move(key):
    example = {"image": NOISE, key: tf.zeros((40, 56, 1) if key == "mask" else (1, 4))}
    with pytest.raises(
        Fault, match=rf"augment\.addons_dense_warp moves the picture alone, got {key} too; take elastic"
    ):
        augment.compose(["addons_dense_warp"])(example, (0, 0))


def test_a_filter_of_one_pixel_is_refused():
    with pytest.raises(Fault, match=r"augment\.addons_median_filter\.size must be a whole number of at least 2, got 1"):
        augment.compose([{"addons_median_filter": {"size": 1}}])
