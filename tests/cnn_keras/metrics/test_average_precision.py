"""Average precision: cases worked by hand, VOC's devkit line by line, and pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.metrics.average_precision import (
    Curve,
    OperatingPoint,
    average_precision,
    best_point,
    match,
    operating_point,
    pairwise_iou,
    precision_recall,
)

LEFT, RIGHT = (0, 0, 10, 10), (20, 0, 30, 10)


def random_boxes(random, count):
    """Boxes in 40 by 40 pixels whose corners are whole, so that overlaps of exactly 0.5 and equal ones turn up."""
    corners = random.integers(0, 30, (count, 2))
    return np.concatenate([corners, corners + random.integers(1, 16, (count, 2))], axis=1).astype(float)


def random_case(seed):
    """Images of (true boxes, difficult, boxes, scores): detections near the truth, elsewhere, and twice."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(random.integers(1, 6)):
        truth = random_boxes(random, random.integers(0, 5))
        near = np.repeat(truth, random.integers(0, 3, len(truth)), axis=0) + random.integers(-2, 3, 4)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        boxes = np.concatenate([near, random_boxes(random, random.integers(0, 4))])
        images.append((truth, random.random(len(truth)) < 0.2, boxes, random.permutation(100)[: len(boxes)] / 100))
    return images


def measured(images, *, points=None, coco=False):
    """Return the curve and the average precision of a case."""
    matches = [match(boxes, s, truth, difficult=hard, coco=coco).outcomes for truth, hard, boxes, s in images]
    scores = np.concatenate([scores for *_, scores in images])
    curve = precision_recall(scores, np.concatenate(matches), sum(int((~hard).sum()) for _, hard, _, _ in images))
    return curve, average_precision(curve.recall, curve.precision, points=points)


def devkit(images):
    """VOCevaldet.m of VOC 2012, loops and all, but for its boxes with inclusive corners; returns recall, precision."""
    rows = sorted(
        (
            (score, image, box)
            for image, (*_, boxes, s) in enumerate(images)
            for score, box in zip(s, boxes, strict=True)
        ),
        key=lambda row: -row[0],
    )
    found = [[False] * len(truth) for truth, *_ in images]
    tp, fp, curve = 0, 0, []
    positives = sum((~hard).sum() for _, hard, _, _ in images)
    for _, image, bb in rows:
        most, at = -np.inf, None
        for j, gt in enumerate(images[image][0]):
            wide = min(bb[2], gt[2]) - max(bb[0], gt[0])
            high = min(bb[3], gt[3]) - max(bb[1], gt[1])
            if wide > 0 and high > 0:
                union = (bb[2] - bb[0]) * (bb[3] - bb[1]) + (gt[2] - gt[0]) * (gt[3] - gt[1]) - wide * high
                if wide * high / union > most:
                    most, at = wide * high / union, j
        if most >= 0.5:
            if images[image][1][at]:
                continue
            if found[image][at]:
                fp += 1
            else:
                tp, found[image][at] = tp + 1, True
        else:
            fp += 1
        curve.append((tp / max(positives, 1), tp / (tp + fp)))
    return np.array(curve).reshape(-1, 2).T


def devkit_area(recall, precision):
    """VOCap.m of VOC 2012."""
    recall, precision = [0, *recall, 1], [0, *precision, 0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def coco_ap50(images):
    """The AP50 of pycocotools; difficult objects are crowds."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def dataset(column):
        rows = [(number, row) for number, image in enumerate(images) for row in zip(*image[column], strict=True)]
        notes = [
            {
                "id": identity,
                "image_id": number,
                "category_id": 1,
                "bbox": [*box[:2], *(box[2:] - box[:2])],
                "area": np.prod(box[2:] - box[:2]),
                "iscrowd": int(extra) if column == slice(0, 2) else 0,
                "score": extra,
            }
            for identity, (number, (box, extra)) in enumerate(rows, 1)
        ]
        coco = COCO()
        coco.dataset = {"images": [{"id": n} for n in range(len(images))], "annotations": notes}
        coco.dataset["categories"] = [{"id": 1}]
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(dataset(slice(0, 2)), dataset(slice(2, 4)), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][0, :, 0, 0, -1].mean()


def test_overlaps_are_worked_by_hand():
    other = [(0, 0, 10, 5), (5, 5, 15, 15), (10, 0, 20, 10), (3, 3, 3, 8)]
    np.testing.assert_allclose(pairwise_iou([LEFT, (3, 3, 3, 8)], other), [[1 / 2, 25 / 175, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(pairwise_iou([(5, 5, 15, 15)], [LEFT, LEFT], crowd=[True, False]), [[1 / 4, 25 / 175]])
    assert pairwise_iou(np.zeros((0, 4)), [LEFT]).shape == (0, 1)
    assert pairwise_iou([LEFT], []).shape == (1, 0)


def test_a_second_detection_of_an_object_is_wrong_and_of_a_difficult_one_nothing():
    boxes, scores = [LEFT, LEFT, RIGHT, RIGHT, (50, 50, 60, 60)], [0.6, 0.9, 0.8, 0.7, 0.5]
    found = match(boxes, scores, [LEFT, RIGHT], difficult=[False, True])
    assert found.outcomes.tolist() == [0, 1, -1, -1, 0]
    assert found.found.tolist() == [-1, 0, 1, 1, -1]
    assert match(boxes, scores, np.zeros((0, 4))).outcomes.tolist() == [0] * 5
    assert match(np.zeros((0, 4)), [], [LEFT]).outcomes.tolist() == []


def test_only_coco_lets_a_detection_take_its_second_best_object():
    truth = [(0, 0, 10, 10), (0, 2, 10, 12)]
    boxes, scores = [(0, 0, 10, 10), (0, 0.9, 10, 10.9)], [0.9, 0.8]  # both overlap the first more
    assert match(boxes, scores, truth).outcomes.tolist() == [1, 0]
    assert match(boxes, scores, truth, coco=True).found.tolist() == [0, 1]


def test_an_overlap_of_exactly_the_threshold_is_enough():
    half = [(0, 0, 10, 5)]
    assert match(half, [1], [LEFT]).outcomes.tolist() == [1]
    assert match(half, [1], [LEFT], overlap=0.51).outcomes.tolist() == [0]


def test_average_precision_is_worked_by_hand():
    curve = precision_recall([0.7, 0.9, 0.3, 0.8], [1, 1, -1, 0], 3)
    np.testing.assert_allclose(curve.recall, [1 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    assert curve.scores.tolist() == [0.9, 0.8, 0.7]
    assert average_precision(curve.recall, curve.precision) == pytest.approx(1 / 3 + 2 / 9)
    # Recalls of 0 to 0.3 reach a precision of 1, of 0.4 to 0.6 one of 2/3.
    assert average_precision(curve.recall, curve.precision, points=11) == pytest.approx((4 + 3 * 2 / 3) / 11)
    assert average_precision([], []) == average_precision([], [], points=101) == 0
    assert average_precision([1], [1]) == average_precision([1], [1], points=11) == 1


def test_the_devkit_s_own_loops_agree():
    differ = 0
    for seed in range(100):
        images = random_case(seed)
        curve, area = measured(images)
        recall, precision = devkit(images)
        np.testing.assert_allclose([curve.recall, curve.precision], [recall, precision])
        assert area == pytest.approx(devkit_area(recall, precision))
        differ += area != measured(images, coco=True)[1]
    assert differ > 10  # so the cases tell the two ways of matching apart


def test_pycocotools_agrees_on_200_random_cases():
    """Read at COCO's 101 recalls it is the same number; the exact area can lie up to a hundredth beside it.

    The precision only falls with the recall, so each hundredth of the area lies between its values at the two ends.
    """
    apart = 0
    for seed in range(200):
        images = [(t, h, b, s) for t, h, b, s in random_case(seed)]
        images[0][1][:1] = False  # without any object COCO has no figure
        if not any((~hard).any() for _, hard, _, _ in images):
            images[0] = (np.array([LEFT], float), np.array([False]), *images[0][2:])
        wanted = coco_ap50(images)
        curve, area = measured(images, coco=True)
        assert average_precision(curve.recall, curve.precision, points=101) == pytest.approx(wanted, abs=1e-9)
        first = max(curve.precision, default=0)
        last = max(curve.precision[curve.recall >= 1], default=0)
        assert (101 * wanted - first) / 100 - 1e-9 <= area <= (101 * wanted - last) / 100 + 1e-9
        apart += abs(area - wanted) > 1e-3
    assert apart > 10


def test_the_best_point_keeps_equal_scores_together():
    curve = precision_recall([0.9, 0.5, 0.5, 0.2], [1, 1, 0, 0], 2)
    assert best_point(curve) == OperatingPoint(0.5, pytest.approx(2 / 3), 1.0, pytest.approx(0.8))
    assert operating_point(curve, 0.5) == best_point(curve)
    assert operating_point(curve, 0.6) == OperatingPoint(0.6, 1.0, 0.5, pytest.approx(2 / 3))
    assert operating_point(curve, 0.95) == OperatingPoint(0.95, 0.0, 0.0, 0.0)
    assert best_point(Curve(*np.zeros((3, 0)))) is None


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_an_added_mistake_never_raises_and_a_found_object_never_lowers_it(seed):
    random = np.random.default_rng(seed)
    scores, outcomes = random.random(12), random.integers(0, 2, 12)
    areas = [
        average_precision(*precision_recall([*scores, random.random()], [*outcomes, extra], 20)[:2])
        for extra in (0, -1, 1)
    ]
    assert 0 <= areas[0] <= areas[1] <= areas[2] <= 1
