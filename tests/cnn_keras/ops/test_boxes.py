"""Boxes: hand-worked overlaps, laws, suppression against brute force, and letterboxing against what framing draws."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cnn_keras.errors import Fault
from cnn_keras.ops import boxes
from cnn_keras.ops.resize import FITS, resize_image

FIRST = tf.constant([0.0, 0.0, 2.0, 2.0])
SECOND = tf.constant([1.0, 1.0, 3.0, 3.0])  # 1 in common, 7 in all; the hull is 9, the centres √2 apart
PADDING = tf.zeros(4)


@st.composite
def some_boxes(draw, most=6):
    """Boxes float32 (N, 4) in [0, 1] whose sides are at least 1/64."""
    count = draw(st.integers(1, most))
    corners = draw(npst.arrays(np.int32, (count, 2), elements=st.integers(0, 48)))
    sides = draw(npst.arrays(np.int32, (count, 2), elements=st.integers(1, 16)))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32) / 64


def overlap(first, second):
    """IoU of two boxes, in Python."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    common = np.prod(np.maximum(high - low, 0))
    return common / (np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - common)


def test_overlaps_worked_by_hand():
    angle = math.atan(1) - math.atan(2)
    long = tf.constant([0.0, 0.0, 2.0, 1.0])  # half of FIRST; the centres 1/2 apart, the diagonal √8
    v = 4 / math.pi**2 * angle**2
    for measure, other, expected in (
        (boxes.iou, SECOND, 1 / 7),
        (boxes.giou, SECOND, 1 / 7 - 2 / 9),
        (boxes.diou, SECOND, 1 / 7 - 2 / 18),
        (boxes.ciou, SECOND, 1 / 7 - 2 / 18),
        (boxes.ciou, long, 0.5 - 0.25 / 8 - v * v / (1 - 0.5 + v)),
    ):
        assert float(measure(FIRST, other)) == pytest.approx(expected)


def test_padding_overlaps_nothing_and_has_no_area():
    for measure in (boxes.iou, boxes.giou, boxes.diou, boxes.ciou):
        assert np.isfinite(measure(FIRST, PADDING))
        assert np.isfinite(measure(PADDING, PADDING))
    assert boxes.iou(FIRST, PADDING) == boxes.iou(PADDING, PADDING) == 0
    assert boxes.valid([FIRST, PADDING, [1, 0, 1, 2]]).numpy().tolist() == [True, False, False]
    assert boxes.area(tf.stack([FIRST, PADDING, [3.0, 3.0, 1.0, 1.0]])).numpy().tolist() == [4, 0, 0]


@settings(max_examples=30, deadline=None)
@given(some_boxes(), some_boxes())
def test_overlap_is_symmetric_bounded_and_greatest_with_itself(first, second):
    table = boxes.pairwise_iou(first, second).numpy()
    assert table.shape == (len(first), len(second))
    np.testing.assert_allclose(table, boxes.pairwise_iou(second, first).numpy().T, atol=1e-6)
    np.testing.assert_allclose(table, [[overlap(a, b) for b in second] for a in first], atol=1e-6)
    for measure in (boxes.giou, boxes.diou, boxes.ciou):
        np.testing.assert_allclose(measure(tf.constant(first), tf.constant(first)), 1, atol=1e-5)
    pairs = (tf.constant(first)[:, None], tf.constant(second)[None])
    for measure in (boxes.giou, boxes.diou):
        found = measure(*pairs).numpy()
        assert (found <= table + 1e-6).all()
        assert (found >= -1 - 1e-6).all()
        np.testing.assert_allclose(found, measure(*pairs[::-1]).numpy(), atol=1e-6)
    assert (boxes.ciou(*pairs).numpy() <= boxes.diou(*pairs).numpy() + 1e-6).all()


def test_the_gradient_of_overlap_is_finite_everywhere_and_draws_boxes_together():
    given = tf.stack([FIRST, PADDING, SECOND, SECOND])
    aims = tf.stack([SECOND, SECOND, PADDING, SECOND])
    for measure in (boxes.iou, boxes.giou, boxes.diou, boxes.ciou):
        with tf.GradientTape() as tape:
            tape.watch(given)
            total = tf.reduce_sum(measure(given, aims))
        assert np.isfinite(tape.gradient(total, given)).all()
    apart = tf.constant([[10.0, 10.0, 12.0, 12.0]])  # no overlap, yet a way to go
    for measure in (boxes.giou, boxes.diou, boxes.ciou):
        with tf.GradientTape() as tape:
            tape.watch(apart)
            total = tf.reduce_sum(measure(apart, FIRST[None]))
        assert tape.gradient(total, apart)[0, :2].numpy().sum() < 0


@settings(max_examples=30, deadline=None)
@given(some_boxes(), some_boxes())
def test_centres_and_offsets_are_undone(first, second):
    np.testing.assert_allclose(boxes.cxcywh_to_xyxy(boxes.xyxy_to_cxcywh(tf.constant(first))), first, atol=1e-6)
    anchors = tf.constant(np.resize(second, first.shape))
    for variances in ((1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)):
        targets = boxes.encode(tf.constant(first), anchors, variances=variances)
        np.testing.assert_allclose(boxes.decode(targets, anchors, variances=variances), first, atol=1e-5)


def test_offsets_are_those_of_the_paper():
    found = boxes.encode(tf.constant([[2.0, 2.0, 6.0, 4.0]]), tf.constant([[0.0, 0.0, 2.0, 2.0]]))
    np.testing.assert_allclose(found, [[1.5, 1.0, math.log(2), 0.0]], rtol=1e-6)
    halved = boxes.encode(
        tf.constant([[2.0, 2.0, 6.0, 4.0]]), tf.constant([[0.0, 0.0, 2.0, 2.0]]), variances=(0.5, 0.5, 0.5, 0.5)
    )
    np.testing.assert_allclose(halved, 2 * found, rtol=1e-6)
    assert not boxes.encode(PADDING[None], FIRST[None]).numpy().any()
    assert np.isfinite(boxes.decode(tf.constant([[0.0, 0.0, 1e6, 1e6]]), FIRST[None])).all()


def brute_force(box, score, *, threshold, overlap_most, limit):
    """(class, score, row) of what class-wise suppression keeps, best first."""
    kept = []
    for number in range(score.shape[1]):
        order = [row for row in np.argsort(-score[:, number]) if score[row, number] > threshold]
        chosen = []
        for row in order:
            if all(overlap(box[row], box[other]) <= overlap_most for other in chosen):
                chosen.append(row)
        kept += [(number, score[row, number], row) for row in chosen[:limit]]
    return sorted(kept, key=lambda one: -one[1])[:limit]


def soft_force(box, score, *, threshold, overlap_most, limit, sigma):
    """The same of soft suppression: the paper's figure 2, which drops what overlaps by more than `overlap_most`."""
    kept = []
    for number in range(score.shape[1]):
        left = {row: float(value) for row, value in enumerate(score[:, number]) if value > threshold}
        while left:
            best = max(left, key=left.__getitem__)
            value = left.pop(best)
            kept.append((number, value, best))
            common = {row: overlap(box[row], box[best]) for row in left}
            left = {row: left[row] * math.exp(-(share**2) / sigma) for row, share in common.items()}
            left = {row: one for row, one in left.items() if one > threshold and common[row] <= overlap_most}
    return sorted(kept, key=lambda one: -one[1])[:limit]


@pytest.fixture(scope="module")
def candidates():
    generator = np.random.default_rng(3)
    low = generator.uniform(0, 0.7, (2, 40, 2))
    box = np.concatenate([low, low + generator.uniform(0.1, 0.3, (2, 40, 2))], axis=-1).astype(np.float32)
    return box, generator.random((2, 40, 3)).astype(np.float32)


@pytest.mark.parametrize("limit", [5, 60])
@pytest.mark.parametrize(("most", "sigma"), [(0.3, None), (1.0, 0.5), (0.5, 0.5), (0.1, 0.5), (0.3, 0.05)])
def test_suppression_keeps_what_brute_force_keeps(candidates, limit, most, sigma):
    box, score = candidates
    settings = {"threshold": 0.2, "overlap": most, "limit": limit, **({"sigma": sigma} if sigma else {})}
    found = (boxes.soft_non_max_suppression if sigma else boxes.non_max_suppression)(box, score, **settings)
    settings["overlap_most"] = settings.pop("overlap")
    for picture in range(2):
        wanted = (soft_force if sigma else brute_force)(box[picture], score[picture], **settings)
        count = int(found.count[picture])
        assert count == len(wanted)
        assert limit > 10 or count == limit
        assert found.classes[picture, :count].numpy().tolist() == [number for number, _, _ in wanted]
        np.testing.assert_allclose(found.scores[picture, :count], [value for _, value, _ in wanted], rtol=1e-5)
        np.testing.assert_allclose(found.boxes[picture, :count], [box[picture, row] for _, _, row in wanted], atol=1e-6)
        assert not any(values[picture, count:].numpy().any() for values in found[:3])


def test_suppression_pads_and_has_the_promised_types(candidates):
    for keep in (boxes.non_max_suppression, boxes.soft_non_max_suppression):
        found = tf.function(keep)(*candidates, threshold=2.0, limit=7)
        assert [(values.dtype.name, tuple(values.shape)) for values in found] == [
            ("float32", (2, 7, 4)),
            ("float32", (2, 7)),
            ("int64", (2, 7)),
            ("int32", (2,)),
        ]
        assert not any(values.numpy().any() for values in found)


@settings(max_examples=30, deadline=None)
@given(some_boxes(), st.tuples(*[st.integers(8, 500)] * 4), st.sampled_from(FITS))
def test_letterboxing_is_undone(found, sides, fit):
    given, wanted = sides[:2], sides[2:]
    back = boxes.unletterbox(boxes.letterbox(found, given, wanted, fit=fit), given, wanted, fit=fit)
    np.testing.assert_allclose(back, found, atol=2e-5)


def test_each_picture_is_letterboxed_by_its_own_size_and_padding_stays():
    found = tf.stack([[[0.0, 0.0, 1.0, 1.0], PADDING]] * 2)
    framed = boxes.letterbox(found, [[10, 20], [40, 20]], (20, 20)).numpy()
    np.testing.assert_allclose(framed[:, 0], [[0, 0.25, 1, 0.75], [0.25, 0, 0.75, 1]])
    assert not framed[:, 1].any()
    with pytest.raises(Fault, match="fit must be one of stretch, crop, pad"):
        boxes.letterbox(found, (1, 1), (1, 1), fit="squeeze")


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("given", [(60, 100), (101, 53), (64, 64)])
def test_a_letterboxed_box_is_where_framing_draws_it(given, fit):
    box = np.array([[0.30, 0.40, 0.62, 0.70]], np.float32)
    left, top, right, bottom = np.round(box[0] * (*given[::-1], *given[::-1])).astype(int)
    exact = np.array([[left / given[1], top / given[0], right / given[1], bottom / given[0]]], np.float32)
    image = np.zeros((*given, 3), np.uint8)
    image[top:bottom, left:right] = 255
    framed = resize_image(tf.constant(image), (256, 192), fit=fit).numpy()[..., 0] > 127
    rows, columns = np.flatnonzero(framed.any(axis=1)), np.flatnonzero(framed.any(axis=0))
    drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    expected = boxes.letterbox(exact, given, (256, 192), fit=fit).numpy()[0] * (192, 256, 192, 256)
    np.testing.assert_allclose(drawn, expected, atol=0.51)


def test_a_frame_of_the_same_size_leaves_boxes_alone():
    box = tf.constant([[0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_array_equal(boxes.letterbox(box, (33, 47), (33, 47)), box)
    np.testing.assert_array_equal(boxes.letterbox(box, (33, 47), (90, 10), fit="stretch"), box)
