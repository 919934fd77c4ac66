"""Regions of interest against slow, plain NumPy: anchors, proposals, RoIPool, RoIAlign."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.errors import Fault
from cnn_keras.ops.roi import VARIANCES, Anchors, Apart, Proposals, RoIAlign, RoIPool, Together

BORDERS = [[0, 0, 1, 1], [0, 0, 0.05, 0.05], [0.97, 0.9, 1, 1], [0, 0.5, 1, 0.55], [0.31, 0.27, 0.66, 0.93], [0] * 4]


def random_regions(rng, count):
    corners = np.sort(rng.uniform(size=(count, 2, 2)), axis=1).reshape(count, 4)
    return np.concatenate([corners, BORDERS]).astype("float32")


def pooled(features, region, size):
    """RoIPool of one region, bin by bin: Fast R-CNN, section 2.1."""
    height, width, channels = features.shape
    result = np.zeros((size, size, channels), "float32")
    spans = []
    for low, high, side in ((region[1], region[3], height), (region[0], region[2], width)):
        start = min(int(np.floor(np.float32(low) * np.float32(side) + np.float32(0.5))), side - 1)
        end = min(max(int(np.floor(np.float32(high) * np.float32(side) + np.float32(0.5))), start + 1), side)
        spans.append(
            [(start + i * (end - start) // size, start - (-(i + 1) * (end - start) // size)) for i in range(size)]
        )
    for row, (top, bottom) in enumerate(spans[0]):
        for column, (left, right) in enumerate(spans[1]):
            result[row, column] = features[top:bottom, left:right].max(axis=(0, 1))
    return result


def interpolated(features, y, x):
    """The map's value at a point, (0, 0) being its corner: bilinear, constant in the outer half places, 0 outside."""
    height, width, channels = features.shape
    if not (-0.5 <= y <= height + 0.5 and -0.5 <= x <= width + 0.5):
        return np.zeros(channels)
    y, x = np.clip(y - 0.5, 0, height - 1), np.clip(x - 0.5, 0, width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = (1 - u) * features[top, left] + u * features[top, right]
    return (1 - v) * upper + v * ((1 - u) * features[bottom, left] + u * features[bottom, right])


def aligned(features, region, size, samples):
    """RoIAlign of one region, sample by sample: Mask R-CNN, section 3."""
    height, width, channels = features.shape
    left, top, right, bottom = region.astype(float) * [width, height, width, height]
    steps = (np.arange(size * samples) + 0.5) / (size * samples)
    points = [
        [interpolated(features, top + (bottom - top) * v, left + (right - left) * u) for u in steps] for v in steps
    ]
    return np.array(points).reshape(size, samples, size, samples, channels).mean(axis=(1, 3))


@pytest.mark.parametrize(("height", "width", "size"), [(13, 9, 3), (20, 20, 7), (3, 4, 7), (1, 1, 2)])
def test_roi_pool_is_the_maximum_of_each_bin(height, width, size):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, height, width, 3)).astype("float32")
    regions = np.stack([random_regions(rng, 20) for _ in features])
    got = RoIPool(size)(features, regions)
    wanted = [[pooled(one, region, size) for region in own] for one, own in zip(features, regions, strict=True)]
    np.testing.assert_array_equal(got, wanted)


def test_roi_pool_of_four_places_by_hand():
    """A map of 4 × 4 that counts its places; the region covers rows 1 and 2, columns 1 to 3."""
    features = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    got = RoIPool(2)(features, np.array([[[0.25, 0.25, 1, 0.75]]], "float32"))
    np.testing.assert_array_equal(np.squeeze(got), [[6, 7], [10, 11]])


def test_roi_pool_sends_the_gradient_to_the_winner():
    features = tf.constant(np.arange(16, dtype="float32").reshape(1, 4, 4, 1))
    with tf.GradientTape() as tape:
        tape.watch(features)
        total = tf.reduce_sum(RoIPool(1)(features, tf.constant([[[0.0, 0.0, 0.5, 0.5]]])))
    np.testing.assert_array_equal(np.squeeze(tape.gradient(total, features)).nonzero(), [[1], [1]])


def test_roi_pool_needs_a_map_of_a_known_size():
    with pytest.raises(Fault, match="input_shape must give height and width for RoI pooling"):
        RoIPool(7)(keras.Input((None, None, 8)), keras.Input((None, 4)))


@pytest.mark.parametrize(("height", "width", "size", "samples"), [(13, 9, 3, 2), (20, 20, 7, 2), (1, 2, 2, 1)])
def test_roi_align_is_the_mean_of_interpolated_samples(height, width, size, samples):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, height, width, 3)).astype("float32")
    regions = np.stack([random_regions(rng, 10) for _ in features])
    got = RoIAlign(size, samples=samples)(features, regions)
    wanted = [
        [aligned(one, region, size, samples) for region in own] for one, own in zip(features, regions, strict=True)
    ]
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_roi_align_of_a_whole_map_with_one_sample_per_place_is_the_map():
    features = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype("float32")
    got = RoIAlign(6, samples=1)(features, np.array([[[0, 0, 1, 1]]], "float32"))
    np.testing.assert_allclose(got[0], features, atol=1e-5)


def test_context_lies_around_the_region():
    """Eight bins, of which two at each end are context: the four in the middle are the region's own."""
    features = np.random.default_rng(0).normal(size=(1, 32, 32, 1)).astype("float32")
    region = np.array([[[0.4, 0.3, 0.6, 0.55]]], "float32")
    whole = RoIAlign(8, samples=1, context=2)(features, region)
    np.testing.assert_allclose(whole[:, :, 2:6, 2:6], RoIAlign(4, samples=1)(features, region), atol=1e-4)


def test_context_outside_the_picture_is_black():
    crops = RoIAlign(8, samples=1, context=2)(np.ones((1, 8, 8, 1), "float32"), np.array([[[0, 0, 1, 1]]], "float32"))
    wanted = np.zeros((8, 8))
    wanted[2:6, 2:6] = 1
    np.testing.assert_allclose(np.squeeze(crops), wanted, atol=1e-5)


@given(
    st.tuples(*[st.floats(0, 0.5, width=32)] * 2, *[st.floats(0.0625, 0.5, width=32)] * 2),
    st.tuples(*[st.floats(-2, 2, width=32)] * 3),
)
@settings(max_examples=20, deadline=None)
def test_roi_align_of_a_slope_is_the_slope_at_the_middle_of_each_bin(corner, slope):
    """Interpolation and mean are exact where the map is linear, away from its border."""
    left, top, width, height = corner
    y, x = np.mgrid[0:40, 0:40] + 0.5
    features = (slope[0] + slope[1] * x / 40 + slope[2] * y / 40).astype("float32")[None, :, :, None]
    region = np.array([left, top, left + width, top + height]) * 0.9 + 0.05
    got = np.squeeze(RoIAlign(3)(features, region[None, None].astype("float32")))
    middles = (np.arange(3) + 0.5) / 3
    v, u = np.meshgrid(region[1] + (region[3] - region[1]) * middles, region[0] + (region[2] - region[0]) * middles)
    np.testing.assert_allclose(got, slope[0] + slope[1] * u.T + slope[2] * v.T, atol=1e-3)


def test_anchors_stand_around_the_middle_of_every_place():
    got = Anchors([(0.5, 0.5), (0.2, 0.4)])(np.zeros((2, 1, 2, 3), "float32"))
    wanted = [[0, 0.25, 0.5, 0.75], [0.15, 0.3, 0.35, 0.7], [0.5, 0.25, 1, 0.75], [0.65, 0.3, 0.85, 0.7]]
    np.testing.assert_allclose(got, [wanted, wanted], atol=1e-6)


@pytest.mark.parametrize("anchors", [[], [(0.1, 0)], [(0.1, 0.1, 0.1)], [(-0.1, 0.1)]])
def test_anchors_are_pairs_of_positive_numbers(anchors):
    with pytest.raises(Fault, match=r"anchors must be \(width, height\) pairs above 0"):
        Anchors(anchors)


def proposed(objectness, offsets, anchors, given=((0.0,) * 4,), **options):
    own = [np.array([values], "float32") for values in (objectness, offsets, anchors, given)]
    return Proposals(options.pop("limit", 4), **options)(*own)[0].numpy()


APART = [[0, 0, 0.2, 0.2], [0.5, 0.5, 0.7, 0.7], [0.8, 0, 1, 0.2]]
STILL = np.zeros((3, 4))


def test_proposals_are_the_likeliest_first_behind_the_given_ones():
    got = proposed([0.1, 2, -3], STILL, APART, given=[[0.1, 0.2, 0.3, 0.4]])
    wanted = [[0.1, 0.2, 0.3, 0.4], APART[1], APART[0], APART[2], [0] * 4]
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_proposals_are_moved_and_cut_at_the_border():
    """One anchor is moved left by half its width and made twice as high."""
    offsets = [[-0.5 / VARIANCES[0], 0, 0, np.log(2) / VARIANCES[3]]]
    got = proposed([0.0], offsets, [[0.0, 0.4, 0.2, 0.6]], limit=1)
    np.testing.assert_allclose(got[1], [0, 0.3, 0.1, 0.7], atol=1e-6)


def test_of_overlapping_proposals_the_likeliest_stays():
    got = proposed([1, 2, 0], STILL, [[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.55], [0.4, 0.4, 0.9, 0.9]])
    np.testing.assert_allclose(got[1:3], [[0, 0, 0.5, 0.55], [0.4, 0.4, 0.9, 0.9]], atol=1e-6)
    assert not got[3:].any()


def test_small_and_unlikely_proposals_are_left_out():
    got = proposed([5, 1, 2], STILL, [[0.5, 0.5, 0.505, 0.9], *APART[1:]], before=2)
    np.testing.assert_allclose(got[1:], [APART[2], *np.zeros((3, 4))], atol=1e-6)


def test_no_gradient_passes_the_proposals():
    offsets = tf.zeros([1, 3, 4])
    with tf.GradientTape() as tape:
        tape.watch(offsets)
        found = Proposals(3)(tf.zeros([1, 3]), offsets, tf.constant([APART]), tf.zeros([1, 1, 4]))
    assert tape.gradient(found, offsets) is None


def test_regions_go_apart_and_together_again():
    x = np.arange(24, dtype="float32").reshape(2, 3, 4)
    flat = Apart()(x)
    assert flat.shape == (6, 4)
    np.testing.assert_array_equal(Together()(flat, np.zeros((2, 3, 4), "float32")), x)


def test_saved_layers_load_and_answer_the_same(tmp_path):
    image, regions = keras.Input((8, 8, 2)), keras.Input((None, 4))
    outputs = [RoIPool(3)(image, regions), RoIAlign(3, samples=1, context=0.5)(image, regions)]
    outputs.append(Anchors([(0.1, 0.2)])(image))
    model = keras.Model([image, regions], outputs)
    model.save(tmp_path / "model.keras")
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(1, 8, 8, 2)).astype("float32"), random_regions(rng, 3)[None]]
    for got, wanted in zip(keras.saving.load_model(tmp_path / "model.keras")(given), model(given), strict=True):
        np.testing.assert_array_equal(got, wanted)
