"""What metrics, losses and indexes do against expectation; docs/explanation/surprises.md has the table."""

import contextlib
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from usearch.index import Index

from cnn_keras import addons, models
from cnn_keras.learn import model_profile
from cnn_keras.losses import embedding
from cnn_keras.ops.nearest_neighbors import Neighbours
from pipelines.tasks.detect import box_report

PLACES = [(10 + 20 * number, 10, 15, 15) for number in range(4)]


def test_soft_suppression_ignores_the_threshold_of_overlap():
    boxes = tf.constant([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 1, 0.5]])
    kept = [
        tf.image.non_max_suppression_with_scores(boxes, [0.9, 0.8, 0.7], 3, iou_threshold=threshold, soft_nms_sigma=0.5)
        for threshold in (0.1, 0.5, 0.99)
    ]
    for picked, scores in kept:
        assert len(picked) == 3
        np.testing.assert_array_equal(scores, kept[0][1])
    hard, _ = tf.image.non_max_suppression_with_scores(boxes, [0.9, 0.8, 0.7], 3, iou_threshold=0.1)
    np.testing.assert_array_equal(hard, [0])


def notes(ids, **more):
    return [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": list(box), "area": 225, "iscrowd": 0, **more}
        for number, box in zip(ids, PLACES, strict=True)
    ]


def truth(annotations, images=(1,)):
    return {
        "images": [{"id": number, "width": 100, "height": 100} for number in images],
        "categories": [{"id": 1, "name": "digit"}],
        "annotations": annotations,
    }


def results():
    scores = (0.9, 0.8, 0.7, 0.6)
    return [
        {"image_id": 1, "category_id": 1, "bbox": list(box), "score": score}
        for box, score in zip(PLACES, scores, strict=True)
    ]


def average_precision(annotations, found):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth(annotations)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0]


def ours(annotations, found):
    return box_report.mean(box_report.coco_evaluation(truth(annotations), found, 100).eval["precision"][..., 0, -1])


def test_an_annotation_of_id_0_counts_as_not_found():
    assert average_precision(notes([1, 2, 3, 4]), results()) == pytest.approx(1)
    assert average_precision(notes([0, 1, 2, 3]), results()) < 0.6  # all four were found
    assert ours(notes([0, 1, 2, 3]), results()) == pytest.approx(1)


def test_an_empty_list_of_results_raises_index_error():
    with pytest.raises(IndexError):
        average_precision(notes([1, 2, 3, 4]), [])
    assert ours(notes([1, 2, 3, 4]), []) == 0


def test_ignore_in_an_annotation_has_no_effect():
    found = results()[:2]
    ignored = [note | {"ignore": int(number > 1)} for number, note in enumerate(notes([1, 2, 3, 4]))]
    assert average_precision(ignored, found) == average_precision(notes([1, 2, 3, 4]), found) < 0.6


@pytest.fixture
def one_person():
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    return tf.Variable(rows / np.linalg.norm(rows, axis=1, keepdims=True)), tf.zeros(4, tf.int32)


def test_semi_hard_triplets_of_one_class_cost_one_and_the_mean_distance(one_person):
    rows, labels = one_person
    distances = np.linalg.norm(rows.numpy()[:, None] - rows.numpy(), axis=-1)[~np.eye(4, dtype=bool)]
    loss = float(addons.losses.TripletSemiHardLoss()(labels, rows))
    assert loss == pytest.approx(1 + distances.mean(), abs=1e-5)  # not of the squares, and there is no triplet
    assert float(embedding.triplet_loss(labels, rows, mining="semi-hard")) == 0


def test_hard_triplets_of_one_class_have_a_gradient_of_zero(one_person):
    rows, labels = one_person
    with tf.GradientTape() as tape:
        loss = addons.losses.TripletHardLoss()(labels, rows)
    assert float(loss) == 1
    np.testing.assert_array_equal(tape.gradient(loss, rows), np.zeros((4, 3)))


def test_focal_losses_of_addons_and_keras_differ_at_probability_zero():
    right, said = tf.constant([[1.0]]), tf.constant([[0.0]])
    theirs = float(addons.losses.SigmoidFocalCrossEntropy()(right, said)[0])
    assert theirs == pytest.approx(3.856, abs=1e-3)
    assert float(keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True)(right, said)) == pytest.approx(
        4.030, abs=1e-3
    )


def test_a_loss_without_reduction_trains_by_the_sum():
    def trained(reduction):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(1.0), keras.losses.MeanSquaredError(reduction=reduction))
        model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=4, verbose=0)
        return model.get_weights()[0].item()

    assert trained("none") == trained("sum") == 4 * trained("sum_over_batch_size")


def test_the_order_of_results_of_one_score_moves_the_average_precision():
    found = [result | {"score": 0.5} for result in results()[:2]]
    wrong = [{"image_id": 1, "category_id": 1, "bbox": [60, 60, 9, 9], "score": 0.5}]
    assert average_precision(notes([1, 2, 3, 4]), found + wrong) > average_precision(notes([1, 2, 3, 4]), wrong + found)


def test_all_points_lead_at_high_precision_and_eleven_at_low():
    def points(recall, precision, count):
        best = [max([p for r, p in zip(recall, precision, strict=True) if r >= at], default=0) for at in count]
        return np.mean(best)

    every, hundred, eleven = np.linspace(1e-6, 1, 100_000), np.linspace(0, 1, 101), np.linspace(0, 1, 11)
    high = [points((0.98,), (1.0,), grid) for grid in (every, hundred, eleven)]
    assert high[0] == pytest.approx(0.98, abs=1e-4)
    assert high[2] < high[0]
    low = [points((0.04,), (1.0,), grid) for grid in (every, hundred, eleven)]
    assert low[2] > low[1] > low[0]


@pytest.fixture(scope="module")
def directions():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(10_100, 128)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[:10_000], rows[10_000:]


@pytest.mark.slow
def test_usearch_at_its_defaults_misses_many_of_the_nearest_gaussian_vectors(directions):
    rows, queries = directions
    nearest = np.argsort(-queries @ rows.T, axis=1)[:, :10]
    recall = {}
    for width in (0, 192):
        index = Index(ndim=128, metric="cos", expansion_search=width)
        index.add(np.arange(len(rows)), rows)
        found = index.search(queries, 10).keys
        recall[width] = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, nearest, strict=True)])
    assert recall[0] < recall[192] - 0.2 < 0.8


def test_usearch_in_eight_bits_throws_lengths_away():
    index = Index(ndim=2, metric="l2sq", dtype="i8")
    index.add(np.array([1, 2]), np.array([[1, 0], [100, 0]], np.float32))
    np.testing.assert_array_equal(index.search(np.array([1, 0], np.float32), 2).distances, [0, 0])


def test_usearch_pads_a_search_of_several_queries_with_key_0():
    index = Index(ndim=2, metric="cos")
    index.add(np.array([5]), np.array([[1, 0]], np.float32))
    np.testing.assert_array_equal(index.search(np.eye(2, dtype=np.float32), 3).keys, [[5, 0, 0], [5, 0, 0]])
    near = Neighbours(2)
    near.add(np.array([5]), np.array([[1, 0]], np.float32))
    np.testing.assert_array_equal(near.nearest(np.eye(2, dtype=np.float32), 3)[0], [[5], [5]])


def test_usearch_loads_an_index_of_one_metric_into_another_without_a_word(tmp_path):
    kept = Index(ndim=2, metric="cos")
    kept.add(np.array([5, 6]), np.array([[1, 0], [10, 1]], np.float32))
    kept.save(str(tmp_path / "index"))
    other = Index(ndim=2, metric="l2sq")
    other.load(str(tmp_path / "index"))
    assert other.metric.name == "L2sq"
    assert other.search(np.array([9, 0], np.float32), 2).distances[0] == 0  # (9, 0) and (1, 0) are 64 apart


def test_715_is_the_receptive_field_of_the_second_module_of_inceptions_last_stage():
    rows = model_profile.rows(models.build("googlenet.googlenet"))
    modules = [
        max(row.receptive_field for row in rows if row.name.startswith(f"inception5{letter}")) for letter in "ab"
    ]
    assert modules == [(587, 587), (715, 715)]


@pytest.mark.parametrize(("window", "at_224"), [(1, 3), (3, 31)])
def test_same_padding_moves_the_centre_at_224_and_not_at_225(window, at_224):
    def first_centre(size):  # of the last map of ResNet-50, whose other layers move nothing
        windows = (7, 3, window, window, window)
        layers = [keras.layers.Conv2D(1, taps, strides=2, padding="same") for taps in windows]
        last = model_profile.rows(keras.Sequential([keras.Input((size, size, 1)), *layers]))[-1]
        return last.middle[0]

    assert (first_centre(224), first_centre(225)) == (at_224, 0)


def test_here_the_centre_is_the_same_at_both_sizes():
    for size in (224, 225):
        rows = model_profile.rows(models.build("resnet.resnet18", input_shape=(size, size, 3)))
        stage = next(row for row in rows if row.name == "stage4")
        assert stage.middle[0] == 0
