"""YOLOv1: its sum of squares against loops, decoding as the inverse, and one batch learnt by heart."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import yolov1
from cnn_keras.ops import boxes as box
from tests.cnn_keras.models.test_yolo import learnt, scenes
from tests.one_batch import learn_by_heart

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FORMS = ["yolov1.yolov1_small", "yolov1.fast_yolo", "yolov1.yolov1"]
NONE = keras.Sequential()  # the outputs say everything


def iou(first, second):
    """Of two boxes x, y of the midpoint, width, height."""
    sides = [
        min(first[axis] + first[axis + 2] / 2, second[axis] + second[axis + 2] / 2)
        - max(first[axis] - first[axis + 2] / 2, second[axis] - second[axis + 2] / 2)
        for axis in range(2)
    ]
    common = max(sides[0], 0) * max(sides[1], 0)
    return common / (first[2] * first[3] + second[2] * second[3] - common)


def sum_of_squares(raw, kinds, boxes, labels):
    """Equation 3 of the paper, for one picture, cell by cell and box by box."""
    cells, _, count, _ = raw.shape
    objects = {}
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        x, y = (left + right) / 2, (top + bottom) / 2
        objects.setdefault((int(y * cells), int(x * cells)), ((x, y, right - left, bottom - top), label))
    terms = dict.fromkeys(("box", "object", "class"), 0.0)
    for row in range(cells):
        for column in range(cells):
            said = [((column + tx) / cells, (row + ty) / cells, tw**2, th**2) for tx, ty, tw, th, _ in raw[row, column]]
            responsible = None
            if (row, column) in objects:
                true, label = objects[row, column]
                overlaps = [iou(one, true) for one in said]
                misses = [-np.linalg.norm(np.subtract(one, true)) for one in said]
                responsible = int(np.argmax(overlaps if max(overlaps) > 0 else misses))
                one, (tx, ty, tw, th, confidence) = said[responsible], raw[row, column, responsible]
                offsets = (tx - (true[0] * cells - column)) ** 2 + (ty - (true[1] * cells - row)) ** 2
                roots = (abs(tw) - true[2] ** 0.5) ** 2 + (abs(th) - true[3] ** 0.5) ** 2
                terms["box"] += 5 * (offsets + roots)
                terms["object"] += (iou(one, true) - confidence) ** 2
                terms["class"] += sum((kinds[row, column, k] - (k == label)) ** 2 for k in range(kinds.shape[-1]))
            for number in range(count):
                if number != responsible:
                    terms["object"] += 0.5 * raw[row, column, number, 4] ** 2
    return terms


def test_the_loss_is_the_sum_of_squares_of_the_paper():
    drawn = np.random.default_rng(0)
    raw = drawn.uniform(0.05, 0.9, (3, 4, 4, 2, 5)).astype("float32")
    raw[..., 2:4] *= 0.6  # so that in some cells no box touches the object
    kinds = drawn.normal(size=(3, 4, 4, 3)).astype("float32")
    corners = drawn.uniform(0, 0.7, (3, 5, 2))
    boxes = np.concatenate([corners, corners + drawn.uniform(0.05, 0.3, (3, 5, 2))], axis=-1).astype("float32")
    labels = drawn.integers(0, 3, (3, 5))
    terms = yolov1.loss(NONE, {"boxes": tf.constant(raw), "classes": tf.constant(kinds)}, boxes, labels)
    each = [sum_of_squares(*of) for of in zip(raw, kinds, boxes, labels, strict=True)]
    for name, term in terms.items():
        assert float(term) == pytest.approx(np.mean([own[name] for own in each]), rel=1e-5)


def test_the_terms_of_one_cell_by_hand():
    """One cell, two boxes that say a quarter of the picture and all of it, of an object of the left half.

    Overlaps 1/4 of 1/2 – the middle quarter has half of it in – so 0.125 / 0.625 = 0.2, and 0.5: the second answers.
    5 · (0.25² + (1 − √0.5)²) = 0.741432; 0.5² for a confidence of 0, and 0.5 · 0.4² of the other; (1 − 0.6)² + 0.2².
    """
    raw = tf.constant([0.5, 0.5, 0.5, 0.5, 0.4, 0.5, 0.5, 1.0, 1.0, 0.0], tf.float32, (1, 1, 1, 2, 5))
    outputs = {"boxes": raw, "classes": tf.constant([0.6, 0.2], tf.float32, (1, 1, 1, 2))}
    terms = yolov1.loss(NONE, outputs, tf.constant([[[0.0, 0.0, 0.5, 1.0]]]), tf.constant([[0]], tf.int64))
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(
        {"box": 0.741432, "object": 0.25 + 0.08, "class": 0.2}, rel=1e-5
    )


def test_of_boxes_that_all_miss_the_object_the_nearest_answers():
    raw = tf.constant([0.0, 0.0, 0.1, 0.1, 0.0, 1.0, 1.0, 0.1, 0.1, 0.0], tf.float32, (1, 1, 1, 2, 5))
    with tf.GradientTape() as tape:
        tape.watch(raw)
        outputs = {"boxes": raw, "classes": tf.zeros((1, 1, 1, 1))}
        terms = yolov1.loss(NONE, outputs, tf.constant([[[0.7, 0.7, 0.9, 0.9]]]), tf.constant([[0]], tf.int64))
    moved = np.any(tape.gradient(terms["box"], raw), axis=-1).ravel()
    assert moved.tolist() == [False, True]


def test_pictures_without_objects_are_told_that_they_are_empty_and_nothing_else():
    raw = tf.Variable(tf.random.stateless_normal((2, 3, 3, 2, 5), seed=(1, 2)))
    with tf.GradientTape() as tape:
        outputs = {"boxes": raw, "classes": tf.ones((2, 3, 3, 4))}
        terms = yolov1.loss(NONE, outputs, tf.zeros((2, 3, 4)), tf.zeros((2, 3), tf.int64))
        total = tf.add_n(list(terms.values()))
    gradient = tape.gradient(total, raw)
    np.testing.assert_allclose(gradient[..., 4], raw[..., 4] / 2, rtol=1e-6)  # 0.5 · c², the mean of two pictures
    assert not np.any(gradient[..., :4])


def test_decoding_gives_the_boxes_and_the_products_of_confidence_and_class():
    """Midpoint (0.3, 0.75) of the picture is (0.6, 0.5) in cell (0, 1) of four; 0.4 wide and 0.3 high."""
    raw, kinds = np.zeros((1, 2, 2, 1, 5), "float32"), np.zeros((1, 2, 2, 3), "float32")
    raw[0, 1, 0, 0] = [0.6, 0.5, 0.4**0.5, 0.3**0.5, 0.8]
    kinds[0, 1, 0] = [0.5, 1.5, -0.5]
    found, scores = yolov1.decode(NONE, {"boxes": tf.constant(raw), "classes": tf.constant(kinds)})
    assert (found.shape, scores.shape) == ((1, 4, 4), (1, 4, 3))
    np.testing.assert_allclose(found[0, 2], [0.1, 0.6, 0.5, 0.9], atol=1e-6)
    np.testing.assert_allclose(scores[0, 2], [0.4, 1.0, 0.0], atol=1e-6)  # 1.2 and −0.4 are cut
    assert not np.any(np.delete(scores[0], 2, axis=0))


def test_the_grid_has_what_the_arguments_say_and_begins_in_the_middle_of_its_cells():
    network = models.build("yolov1.fast_yolo", input_shape=(64, 80, 3), classes=4, cells=5, boxes=3, hidden=8)
    outputs = network(np.zeros((2, 64, 80, 3), "float32"))
    assert {name: output.shape for name, output in outputs.items()} == {
        "boxes": (2, 5, 5, 3, 5), "classes": (2, 5, 5, 4),
    }  # fmt: skip
    found, _ = yolov1.decode(network, outputs)  # of black nothing comes in, so that biases alone answer
    found = np.reshape(found, (2, 5, 5, 3, 4))
    np.testing.assert_allclose(found[0, 2, 1, 0], [0.3 - 0.125, 0.5 - 0.125, 0.3 + 0.125, 0.5 + 0.125], atol=1e-6)


def test_the_first_loss_is_little_more_than_that_of_constant_answers():
    """Squares of all cells are summed: with Keras's default for the last layer, the first loss is 20 times as large."""
    keras.utils.set_random_seed(0)
    network = models.build("yolov1.yolov1_small", input_shape=(160, 160, 3), classes=10)
    outputs = network(keras.random.uniform((4, 160, 160, 3)), training=True)
    constant = {"boxes": tf.zeros((4, 10, 10, 2, 5)) + yolov1.START, "classes": tf.zeros((4, 10, 10, 10))}
    boxes, labels = tf.constant([[[0.1, 0.2, 0.3, 0.5], [0.5, 0.6, 0.9, 0.9]]] * 4), tf.constant([[3, 7]] * 4, tf.int64)
    first, least = (
        float(tf.add_n(list(yolov1.loss(network, given, boxes, labels).values()))) for given in (outputs, constant)
    )
    assert first < 2 * least


def test_a_grid_of_a_map_has_its_rows_and_columns():
    network = models.build("yolov1.yolov1_small", input_shape=(48, 64, 3), classes=4)
    outputs = network(np.zeros((1, 48, 64, 3), "float32"))
    assert {name: output.shape[1:] for name, output in outputs.items()} == {"boxes": (3, 4, 2, 5), "classes": (3, 4, 4)}
    found, _ = yolov1.decode(network, {**outputs, "boxes": tf.ones((1, 3, 4, 2, 5)) / 2})
    np.testing.assert_allclose(found[0, 2 * 9], [0.375 - 0.125, 5 / 6 - 0.125, 0.375 + 0.125, 5 / 6 + 0.125], atol=1e-6)
    terms = yolov1.loss(network, outputs, tf.constant([[[0.3, 0.7, 0.4, 0.9]]]), tf.constant([[1]], tf.int64))
    # Of the cell (2, 1): t_x is 0.4, t_y 0.4; what it says at the start are four halves.
    assert float(terms["box"]) == pytest.approx(5 * (0.02 + (0.1**0.5 - 0.5) ** 2 + (0.2**0.5 - 0.5) ** 2), rel=1e-5)


def test_maps_shrink_to_the_grid_of_the_paper():
    with keras.StatelessScope():  # without the values of its gigabyte of weights
        convolutions = keras.Model(image := keras.Input((448, 448, 3)), yolov1._convolutions(image, yolov1.STAGES))
    kinds = [type(layer).__name__ for layer in convolutions.layers]
    assert kinds.count("Conv2D") == 24
    assert convolutions.output.shape[1:] == (7, 7, 1024)


@pytest.mark.parametrize(
    ("builder", "shape", "message"),
    [
        ("fast_yolo", (63, 64, 3), "must be at least 64 on each side, got 63×64"),
        ("yolov1_small", (None, 64, 3), "input_shape must have sides of one size"),
    ],
)
def test_what_no_dense_layer_can_read_is_refused(builder, shape, message):
    with pytest.raises(Fault, match=message):
        models.build(f"yolov1.{builder}", input_shape=shape)


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["yolov1.fast_yolo", "yolov1.yolov1_small"])
def test_a_form_learns_a_batch_by_heart(builder, tmp_path):
    keras.utils.set_random_seed(0)
    images, boxes, labels = scenes(64)
    dense = {} if builder == "yolov1.yolov1_small" else {"hidden": 64, "dropout": 0.0}
    network = models.build(builder, input_shape=(64, 64, 3), classes=2, **dense)

    def terms(outputs):
        return yolov1.loss(network, outputs, boxes, labels)

    def shortcoming(outputs):
        found = box.non_max_suppression(*yolov1.decode(network, outputs), threshold=0.3)
        return None if learnt(found, boxes, labels) else found

    learn_by_heart(network, images, images, terms, shortcoming, tmp_path, rounds=20)
