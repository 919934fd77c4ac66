"""A photograph is read in tiles as if it were read at once: each thing is found once, whole, where it is."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.data.sources import tiles
from cnn_keras.ops import test_time_augmentation
from cnn_keras.ops.resize import resize_image
from pipelines.engine.recipe import Views
from pipelines.tasks.detect.config import Suppress
from pipelines.tasks.detect.decode import Reader, TiledReader, suppress

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]], np.uint8)
THINGS = ((3, 2, 23, 20), (40, 30, 62, 55), (88, 40, 100, 64), (70, 90, 94, 112), (120, 96, 130, 120))
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
HEIGHT, WIDTH = 120, 130


def photograph():
    """Things of five colours; all are smaller than the overlap of the tiles."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for colour, (left, top, right, bottom) in zip(COLOURS, THINGS, strict=True):
        pixels[top:bottom, left:right] = colour
    return pixels


def see(images, proposals=None):
    """A perfect detector of five classes: what shows a colour, from its first to its last row and column."""
    shown = tf.reduce_all(images[:, None] == COLOURS[:, None, None], axis=-1)  # (batch, 5, height, width)
    edges = []
    for axis, length in ((-2, images.shape[2]), (-1, images.shape[1])):
        along = tf.cast(tf.reduce_any(shown, axis=axis), tf.float32)  # (batch, 5, length)
        places = tf.range(length, dtype=tf.float32)
        first = tf.reduce_min(tf.where(along > 0, places, 1e9), axis=-1)
        edges.append((first / length, (tf.reduce_max(along * (places + 1), axis=-1)) / length))
    (left, right), (top, bottom) = edges
    there = tf.reduce_any(shown, axis=(-2, -1))
    boxes = tf.where(there[..., None], tf.stack([left, top, right, bottom], axis=-1), 0.0)
    return boxes, tf.cast(there, tf.float32)[..., None] * tf.linalg.diag(SCORES)


def reader(size=60, overlap=0.5):
    shape = Shape((size, size), 3, "pad")
    return TiledReader(see, Suppress(limit=9), shape=shape, classes=5, size=size, overlap=overlap)


@pytest.mark.parametrize("traced", [False, True])
def test_each_thing_of_a_photograph_is_found_once_and_whole(traced):
    ask = tf.function(reader(), autograph=False) if traced else reader()
    found = ask(tf.constant(photograph()[None]), tf.constant([[HEIGHT, WIDTH]]))
    assert found.count.numpy().tolist() == [5]
    np.testing.assert_array_equal(found.classes[0, :5], range(5))
    np.testing.assert_allclose(found.boxes[0, :5], THINGS, atol=1e-4)
    np.testing.assert_allclose(found.scores[0, :5], SCORES)
    assert not np.any(found.boxes[0, 5:])


@pytest.mark.parametrize("size", [(64, 64), (48, 56), (64, 20)])
def test_a_photograph_no_larger_than_a_tile_is_read_as_any_picture(size):
    shape, settings = Shape((64, 64), 3, "pad"), Suppress(limit=9)
    picture, sizes = photograph()[20 : 20 + size[0], 30 : 30 + size[1]], tf.constant([size])
    framed = resize_image(tf.constant(picture), shape.size, fit=shape.fit)
    wanted = Reader(see, settings, shape=shape)(framed[None], sizes)
    found = TiledReader(see, settings, shape=shape, classes=5, size=64, overlap=0.5)(picture[None], sizes)
    assert found.count >= 1
    for got, value in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, value, atol=1e-4)


def test_soft_suppression_keeps_what_overlaps_at_a_lower_score():
    candidates = tf.constant([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.8]]])
    scores = tf.constant([[[0.9], [0.8]]])
    hard, soft = (suppress(candidates, scores, Suppress(threshold=0.1, limit=5, soft=sigma)) for sigma in (None, 0.5))
    assert (hard.count.numpy().tolist(), soft.count.numpy().tolist()) == ([1], [2])
    np.testing.assert_allclose(soft.scores[0, :2], [0.9, 0.8 * np.exp(-(0.8**2) / 0.5)], rtol=1e-5)
    both = Suppress(threshold=0.1, limit=5, soft=0.5, overlap=0.7)
    assert suppress(candidates, scores, both).count.numpy().tolist() == [1]
    assert both.description == "scores from 0.1, soft NMS of σ 0.5 and at IoU 0.7, 5 boxes at most"


@pytest.mark.parametrize(("size", "overlap"), [(50, 0.0), (50, 0.5), (100, 0.2), (200, 0.25)])
def test_tiles_of_a_graph_are_those_that_are_cut_for_training(size, overlap):
    found = tf.function(lambda extent: tiles.windows(extent, size=size, overlap=overlap))(tf.constant([90, 130]))
    wanted = [(top, left) for top in tiles._starts(90, size, overlap) for left in tiles._starts(130, size, overlap)]
    np.testing.assert_array_equal(found.corners, wanted)
    np.testing.assert_array_equal(found.size, [min(90, size), min(130, size)])


@pytest.mark.parametrize(("size", "overlap"), [(50, 0.5), (40, 0.3)])
def test_every_place_belongs_to_the_tile_whose_middle_is_nearest(size, overlap):
    found = tiles.windows(tf.constant([90, 130]), size=size, overlap=overlap)
    places = np.stack(np.meshgrid(np.arange(130) + 0.3, np.arange(90) + 0.3), axis=-1).reshape(-1, 1, 2)
    own = found.own.numpy()
    mine = ((places >= own[:, :2]) & (places < own[:, 2:])).all(axis=-1)
    np.testing.assert_array_equal(mine.sum(axis=1), 1)
    middles = found.corners.numpy()[:, ::-1] + found.size.numpy()[::-1] / 2
    apart = np.abs(places - middles)
    np.testing.assert_allclose(apart[mine], apart.min(axis=1), atol=1e-3)


# Several views of a picture


def kept(found):
    """What is found in the first picture: boxes, scores and classes."""
    count = int(found.count[0])
    return [np.asarray(column[0, :count]) for column in found[:3]]


@pytest.mark.parametrize("whole", [False, True])
def test_a_detector_that_sees_the_same_in_a_mirror_finds_the_same_in_two_views(whole):
    views = test_time_augmentation.whole_views("flip")
    settings, sizes = Suppress(limit=9), tf.constant([[HEIGHT, WIDTH]])
    if whole:
        picture = tf.constant(photograph()[None])
        shape, plan = Shape((60, 60), 3, "pad"), {"classes": 5, "size": 60, "overlap": 0.5}
        one, two = (TiledReader(see, settings, shape=shape, **plan, **more) for more in ({}, {"views": views}))
    else:
        picture = resize_image(tf.constant(photograph()), (HEIGHT, 140), fit="pad")[None]
        shape = Shape((HEIGHT, 140), 3, "pad")
        one, two = (Reader(see, settings, shape=shape, **more) for more in ({}, {"views": views}))
    for wanted, got in zip(kept(one(picture, sizes)), kept(two(picture, sizes)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_what_only_one_view_finds_is_told_where_it_is():
    """A detector that is blind on the right half: the mirror image shows it the things there."""

    def half(images, proposals=None):
        boxes, scores = see(images)
        return boxes, tf.where(boxes[..., :1] < 0.5, scores, 0)

    picture = resize_image(tf.constant(photograph()), (HEIGHT, WIDTH), fit="pad")[None]
    reader = partial(Reader, half, Suppress(limit=9), shape=Shape((HEIGHT, WIDTH), 3, "pad"))
    sizes = tf.constant([[HEIGHT, WIDTH]])
    assert kept(reader()(picture, sizes))[2].tolist() == [0, 1]
    boxes, _, classes = kept(reader(views=test_time_augmentation.whole_views("flip"))(picture, sizes))
    assert classes.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(boxes, THINGS, atol=1e-4)


def test_proposals_are_seen_in_the_mirror_too():
    given = tf.constant([[[0.1, 0.2, 0.3, 0.6], [0.0, 0.0, 0.0, 0.0]]])
    asked = []

    def echo(images, proposals):
        asked.append(proposals.numpy())
        return proposals, tf.cast(proposals[..., 2:3] > proposals[..., :1], tf.float32)

    views = test_time_augmentation.whole_views("flip")
    reader = Reader(echo, Suppress(limit=9), shape=Shape((10, 10), 3, "pad"), views=views)
    found = kept(reader(tf.zeros([1, 10, 10, 3], tf.uint8), tf.constant([[10, 10]]), given))
    np.testing.assert_allclose(asked[1][0], [[0.7, 0.2, 0.9, 0.6], [0, 0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(found[0], [[1, 2, 3, 6]], atol=1e-5)


def test_a_flip_without_a_mirror_is_no_second_view():
    with pytest.raises(ValueError, match="mirror"):
        Views(kind="flip", mirror=False)
