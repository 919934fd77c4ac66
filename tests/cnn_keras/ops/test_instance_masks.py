"""Maps of instances: what of a region a thing covers, counted; small masks stretched over boxes, pixel by pixel."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.ops import instance_masks


def disc(height=40, width=60, middle=(18, 25), radius=12, number=2):
    y, x = np.mgrid[:height, :width]
    return np.where((y + 0.5 - middle[0]) ** 2 + (x + 0.5 - middle[1]) ** 2 < radius**2, number, 0).astype(np.uint8)


def test_a_region_is_covered_by_the_share_of_its_own_thing():
    """Four places of 2 × 2 pixels each, four samples to a place: the things 1 and 2 side by side."""
    maps = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0, 1, 0, 0], [0, 0, 2, 0]], np.uint8)[None]
    region = tf.constant([[[0.0, 0, 1, 1], [0.0, 0, 1, 1], [0, 0, 0, 0]]])
    found = instance_masks.targets(tf.constant(maps), region, tf.constant([[0, 1, 0]]), size=2)
    np.testing.assert_allclose(found[0, 0], [[1, 0], [0.25, 0]])
    np.testing.assert_allclose(found[0, 1], [[0, 1], [0, 0.25]])


def test_a_region_beside_its_thing_is_empty_and_one_within_is_full():
    maps = disc()[None]
    regions = np.array([[0.7, 0.0, 1.0, 0.3], [20 / 60, 13 / 40, 30 / 60, 23 / 40]], np.float32)[None]
    found = instance_masks.targets(tf.constant(maps), tf.constant(regions), tf.constant([[1, 1]]), size=14)
    assert not found[0, 0].numpy().any()
    assert (found[0, 1].numpy() == 1).all()


def slow(mask, box, size):
    """The mask at every pixel's middle, one by one."""
    left, top, right, bottom = box
    side, found = len(mask), np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = row + 0.5, column + 0.5
            if not (top < y < bottom and left < x < right):
                continue
            v = np.clip((y - top) / (bottom - top) * side - 0.5, 0, side - 1)
            u = np.clip((x - left) / (right - left) * side - 0.5, 0, side - 1)
            i, j = min(int(v), side - 2), min(int(u), side - 2)
            a, b = v - i, u - j
            part = mask[i : i + 2, j : j + 2]
            found[row, column] = np.array([1 - a, a]) @ part @ np.array([1 - b, b]) >= 0.5
    return found


@given(st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_a_small_mask_is_stretched_as_one_would_pixel_by_pixel(seed):
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=(5, 5)).astype(np.float32)
    corner, size = rng.uniform(-5, 15, 2), rng.uniform(1, 20, 2)
    box = np.concatenate([corner, corner + size]).astype(np.float32)
    found = instance_masks.paste_mask(tf.constant(mask), tf.constant(box), (17, 23)).numpy()
    expected = slow(mask.astype(float), box, (17, 23))
    assert (found != expected).sum() <= 1  # a value may be 0.5 but for rounding


def test_what_is_cut_out_and_stretched_again_is_almost_what_it_was():
    maps, box = disc(), np.array([11, 4, 40, 33], np.float32)
    share = box / (60, 40, 60, 40)
    small = instance_masks.targets(
        tf.constant(maps[None]), tf.constant([[share.astype(np.float32)]]), tf.constant([[1]]), size=28
    )
    found = instance_masks.paste_mask(small[0, 0], tf.constant(box), (40, 60)).numpy()
    truth = maps == 2
    assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_the_likelier_thing_is_in_front_and_padding_is_not_painted():
    masks = tf.ones([3, 4, 4])
    boxes = tf.constant([[0.0, 0, 3, 3], [1, 1, 5, 5], [0, 0, 6, 6]])
    found = instance_masks.paste_masks(masks, boxes, 2, (6, 6)).numpy()
    assert found.dtype == np.uint8
    assert (found[:3, :3] == 1).all()
    assert (found[3:5, 1:5] == 2).all()
    assert not found[5].any()
    assert not instance_masks.paste_masks(masks, boxes, 0, (6, 6)).numpy().any()


@pytest.mark.parametrize("count", [0, 2])
def test_a_map_can_be_painted_in_a_graph_whose_size_is_not_known(count):
    paint = tf.function(instance_masks.paste_masks, autograph=False)
    found = paint(
        tf.ones([2, 4, 4]), tf.constant([[0.0, 0, 3, 3], [1, 1, 5, 5]]), tf.constant(count), tf.constant([6, 7])
    )
    assert found.shape == (6, 7)
    assert found.numpy().max() == count


def test_masks_are_numbered_with_those_in_front_last_to_be_hidden():
    masks = [np.array(rows, bool) for rows in ([[1, 1, 0]], [[0, 1, 1]], [[0, 0, 1]])]
    np.testing.assert_array_equal(instance_masks.label_map(masks, (1, 3)), [[1, 1, 2]])
    np.testing.assert_array_equal(instance_masks.label_map(masks, (1, 3), order=[2, 1, 0]), [[1, 2, 3]])
    with pytest.raises(ValueError, match="at most 255"):
        instance_masks.label_map([masks[0]] * 256, (1, 3))
