"""YOLO: targets and losses by hand, decoding as the inverse, and one batch learnt by heart by every form."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import yolo
from cnn_keras.ops import boxes as box
from cnn_keras.ops import yolo_head
from tests.one_batch import learn_by_heart

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SLOW = pytest.mark.slow
FORMS = [
    pytest.param("yolo.yolo_small", {}, id="small"),
    pytest.param("yolo.yolo_small", {"objective": "squared"}, id="small-squared"),
    pytest.param("yolo.yolo_small", {"objective": "focal"}, id="small-focal"),
    pytest.param("yolo.yolov3_tiny", {}, id="yolov3_tiny"),
    pytest.param("yolo.yolov2_tiny", {}, id="yolov2_tiny"),
    pytest.param("yolo.yolov2", {}, id="yolov2"),
    pytest.param("yolo.yolov3", {}, id="yolov3"),
    pytest.param("yolo.yolo", {"backbone": "resnet.resnet18"}, id="resnet18"),
]
# Two scales of a square picture: 2×2 cells, and 4×4; anchors in cells.
SIZES = [(2, 2), (4, 4)]
SIDES = [np.array([[1.0, 1.0], [2.0, 0.5]], "float32"), np.array([[0.8, 0.8], [1.0, 0.5]], "float32")]


def grid_alone(objective, *, anchors=((1.0, 1.0),), classes=2, softmax=False):
    """A network of nothing but the end of a scale, for pictures of 32×32: one cell."""
    raw = keras.Input((1, 1, len(anchors) * (5 + classes)))
    settings = {"stride": 32, "anchors_of": (32, 32), "objective": objective, "softmax": softmax}
    return keras.Model(raw, {"stride32": yolo_head.Grid(anchors, name="stride32", **settings)(raw)})


def scenes(side, count=4):
    """Pictures of squares, bright and dark, whose brightness is their class: images, boxes, labels."""
    images = np.full((count, side, side, 3), 0.5, "float32")
    found = np.zeros((count, 3, 4), "float32")
    labels = np.zeros((count, 3), "int64")
    for number in range(count):
        for place, (left, top, size) in enumerate([(4 + 3 * number, 6, 18), (36, 34 - 2 * number, 22)]):
            images[number, top : top + size, left : left + size] = place
            found[number, place] = np.array([left, top, left + size, top + size]) / side
            labels[number, place] = place
    return images, found, labels


def test_an_object_belongs_to_the_cell_of_its_midpoint_and_the_anchor_of_its_shape():
    """Midpoint (0.3, 0.75) of the picture: in cells (0.6, 1.5); the IoU in shape is 0.48 with the first anchor."""
    boxes = np.array([[[0.1, 0.6, 0.5, 0.9], [0, 0, 0, 0]]], "float32")
    (target,) = yolo.encode(boxes, np.array([[1, 0]]), sizes=SIZES[:1], sides=SIDES[:1], classes=3)
    expected = np.zeros((1, 2, 2, 2, 8), "float32")
    expected[0, 1, 0, 0] = [1, 0.6, 0.5, 0.6, 0.8, 0, 1, 0]  # p_c, b_x, b_y, b_h, b_w, classes
    np.testing.assert_allclose(target, expected, atol=1e-6)


def test_the_anchor_is_the_best_of_all_scales():
    """A square of 0.2 of the side: 0.16 and 0.04 / 0.25 of the coarse ones, all of the fine 0.8 cells."""
    boxes = np.array([[[0.15, 0.15, 0.35, 0.35]]], "float32")
    coarse, fine = yolo.encode(boxes, np.array([[0]]), sizes=SIZES, sides=SIDES, classes=1)
    assert not np.any(coarse)
    np.testing.assert_allclose(fine[0, 1, 1, 0], [1, 0, 0, 0.8, 0.8, 1], atol=1e-5)
    assert np.sum(fine[..., 0]) == 1


def test_of_two_objects_that_want_one_slot_the_first_has_it():
    boxes = np.array([[[0.1, 0.1, 0.4, 0.4], [0.12, 0.1, 0.42, 0.4]]], "float32")
    (target,) = yolo.encode(boxes, np.array([[0, 1]]), sizes=SIZES[:1], sides=SIDES[:1], classes=2)
    assert np.sum(target[..., 0]) == 1
    np.testing.assert_allclose(target[0, 0, 0, 0], [1, 0.5, 0.5, 0.6, 0.6, 1, 0], atol=1e-6)


def test_cells_beside_take_an_object_too_unless_it_is_not_alike_or_they_have_a_better_one():
    """As above, midpoint (0.6, 1.5) in cells: the cell to the right is nearer; below there is none."""
    boxes = np.array([[[0.1, 0.6, 0.5, 0.9]]], "float32")
    (target,) = yolo.encode(boxes, np.array([[0]]), sizes=SIZES[:1], sides=SIDES[:1], classes=1, alike=0.4)
    assert np.argwhere(target[0, ..., 0]).tolist() == [[1, 0, 0], [1, 1, 0]]
    np.testing.assert_allclose(target[0, 1, 1, 0], [1, -0.4, 0.5, 0.6, 0.8, 1], atol=1e-6)
    (target,) = yolo.encode(boxes, np.array([[0]]), sizes=SIZES[:1], sides=SIDES[:1], classes=1, alike=0.3)
    assert np.sum(target[..., 0]) == 4  # both anchors: the IoU with the second is 0.37
    two = np.array([[[0.1, 0.6, 0.5, 0.9], [0.55, 0.55, 0.95, 0.95]]], "float32")
    (target,) = yolo.encode(two, np.array([[0, 1]]), sizes=SIZES[:1], sides=SIDES[:1], classes=2, alike=0.4)
    assert target[0, 1, 1, 0, 5:].numpy().tolist() == [0, 1]  # whose midpoint is there


@pytest.fixture(scope="module", params=["squared", "ciou"])
def small(request):
    keras.utils.set_random_seed(0)
    return models.build("yolo.yolo_small", input_shape=(64, 64, 3), classes=3, objective=request.param)


def perfect(network, boxes, labels, *, alike):
    """Raw outputs that say what the targets say, as sure as can be."""
    grids = [layer for layer in network.layers if isinstance(layer, yolo_head.Grid)]
    sizes = [(64 // grid.stride, 64 // grid.stride) for grid in grids]
    targets = yolo.encode(boxes, labels, sizes=sizes, sides=[grid.sides for grid in grids], classes=3, alike=alike)
    outputs = {}
    for grid, target in zip(grids, targets, strict=True):
        held = np.array(target[..., :1])
        share = np.clip((target[..., 1:3] + (grid.reach - 1) / 2) / grid.reach, 1e-7, 1 - 1e-7)
        sizes = np.log(np.where(held, target[..., 3:5] / grid.sides[:, ::-1], 1))
        sure = 40 * np.concatenate([target[..., :1], target[..., 5:]], axis=-1) - 20
        raw = np.concatenate([sure[..., :1], np.log(share / (1 - share)) * held, sizes, sure[..., 1:]], axis=-1)
        outputs[grid.name] = tf.constant(raw, tf.float32)
    return outputs


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0.02, 0.98)] * 2, *[st.floats(0.05, 0.5)] * 2, st.integers(0, 2)), max_size=4))
def test_decoding_targets_gives_the_boxes_back(small, objects):
    boxes, labels = np.zeros((1, 4, 4), "float32"), np.zeros((1, 4), "int64")
    for place, (x, y, width, height, label) in enumerate(objects):
        boxes[0, place] = np.clip([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 0, 1)
        labels[0, place] = label
    outputs = perfect(small, boxes, labels, alike=None)
    found, scores = yolo.decode(small, outputs)
    sure = [(*given, int(label)) for given, label in zip(found[0].numpy(), np.argmax(scores[0], -1), strict=True)]
    sure = [row for row, score in zip(sure, np.max(scores[0], -1), strict=True) if score > 0.9]
    truth = [(*row, label) for row, label in zip(boxes[0], labels[0], strict=True) if box.valid(row)]
    for row in sure:
        assert min(np.abs(np.subtract(row, other)).max() for other in truth) < 1e-4
    if len(truth) == 1:
        assert len(sure) == 1
    loss = yolo.loss(small, perfect(small, boxes, labels, alike=yolo_head.ALIKE), boxes, labels)
    if small.get_layer("stride16").objective == "ciou":
        assert all(0 <= value < 1e-3 for value in loss.values())


def test_squares_and_cross_entropies_by_hand():
    """One cell that says "midpoint 0.5, 0.5, the anchor, half" of a box at 0.6, 0.5 of 0.5 by 0.25.

    0.1² + ln² 0.5 + ln² 0.25 = 2.41226, times 2 − 0.125; ln 2 for p_c and for each class.
    """
    raw, boxes = {"stride32": tf.zeros((1, 1, 1, 1, 7))}, np.array([[[0.35, 0.375, 0.85, 0.625]]], "float32")
    terms = yolo.loss(grid_alone("squared"), raw, boxes, np.array([[1]]))
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(
        {"box": 4.52299, "object": 0.693147, "class": 1.386294}, rel=1e-5
    )
    terms = yolo.loss(grid_alone("squared", softmax=True), raw, boxes, np.array([[1]]))
    assert float(terms["class"]) == pytest.approx(0.693147)


def test_complete_iou_by_hand():
    """The same: IoU 0.125; less 0.1² / 2; less α · v, v = 4 / π² · (atan 1 − atan 2)² = 0.041957, α = 0.045757."""
    raw, boxes = {"stride32": tf.zeros((1, 1, 1, 1, 7))}, np.array([[[0.35, 0.375, 0.85, 0.625]]], "float32")
    terms = yolo.loss(grid_alone("ciou"), raw, boxes, np.array([[1]]))
    assert float(terms["box"]) == pytest.approx(yolo_head.BOX * (1 - 0.118080), rel=1e-5)
    assert float(terms["object"]) == pytest.approx(0.693147)  # σ is a half, whatever the IoU
    terms = yolo.loss(grid_alone("focal"), raw, boxes, np.array([[1]]))
    assert float(terms["object"]) == pytest.approx(0.693147 * (0.5 - 0.125) ** 2)


def test_an_empty_slot_is_told_so_unless_its_box_overlaps_an_object():
    """Two anchors, of which the second is the object's shape; the first covers it to a quarter, or to 0.64."""
    for side, told in ((0.5, 2), (0.8, 1)):
        network = grid_alone("squared", anchors=((side, side), (1.0, 1.0)), classes=1)
        boxes = np.array([[[0.0, 0.0, 1.0, 1.0]]], "float32")
        terms = yolo.loss(network, {"stride32": tf.zeros((1, 1, 1, 2, 6))}, boxes, np.array([[0]]))
        assert float(terms["object"]) == pytest.approx(told * 0.693147, rel=1e-5)


@pytest.mark.parametrize("objective", list(yolo_head.OBJECTIVES))
def test_pictures_without_objects_have_a_loss_and_a_gradient(objective):
    network = grid_alone(objective)
    raw = tf.Variable(tf.random.stateless_normal((2, 1, 1, 1, 7), seed=(1, 2)) * 50)
    with tf.GradientTape() as tape:
        terms = yolo.loss(network, {"stride32": raw}, tf.zeros((2, 3, 4)), tf.zeros((2, 3), tf.int64))
        total = tf.add_n(list(terms.values()))
    gradient = tape.gradient(total, raw)
    assert np.isfinite(total)
    assert np.isfinite(gradient).all()
    assert np.any(gradient[..., 0])
    assert not np.any(gradient[..., 1:])


def test_anchors_keep_their_pixels_in_pictures_of_another_size():
    network = models.build("yolo.yolo_small", input_shape=(None, None, 3), anchors_of=(64, 64), classes=1)
    for side in (64, 128):
        outputs = {f"stride{stride}": tf.zeros((1, side // stride, side // stride, 3, 6)) for stride in (16, 8)}
        found, scores = yolo.decode(network, outputs)
        widths = (found[..., 2] - found[..., 0])[0].numpy()
        middle = found[0, 3 * (side // 16) * (side // 32) + 3 * (side // 32)]  # one whose box is not cut
        assert len(widths) == 3 * (side // 16) ** 2 + 3 * (side // 8) ** 2
        assert float(middle[2] - middle[0]) * side == pytest.approx(81 / 416 * 64, rel=1e-5)
        assert scores.shape == (1, len(widths), 1)


@pytest.mark.slow
@pytest.mark.parametrize(("builder", "arguments"), FORMS)
def test_every_form_learns_a_batch_by_heart(builder, arguments, tmp_path):
    """All boxes found at an IoU of 0.5, with their class, and none else; saved and loaded, it says the same."""
    keras.utils.set_random_seed(0)
    images, boxes, labels = scenes(64)
    network = models.build(builder, input_shape=(64, 64, 3), classes=2, **arguments)

    def terms(outputs):
        return yolo.loss(network, outputs, boxes, labels)

    def shortcoming(outputs):
        found = box.non_max_suppression(*yolo.decode(network, outputs), threshold=0.3)
        return None if learnt(found, boxes, labels) else found

    learn_by_heart(network, images, images, terms, shortcoming, tmp_path, rate=2e-3)
    outputs, loaded = network(images, training=False), keras.saving.load_model(tmp_path / "model.keras")
    for before, after in zip(yolo.decode(network, outputs), yolo.decode(loaded, outputs), strict=True):
        np.testing.assert_array_equal(before, after)


def learnt(found, boxes, labels):
    """Whether each picture's two boxes are found with their classes, and nothing else."""
    if found.count.numpy().tolist() != [2] * len(boxes):
        return False
    for ours, kinds, truth, classes in zip(found.boxes, found.classes, boxes, labels, strict=True):
        order = np.argsort(kinds[:2])
        if kinds.numpy()[order].tolist() != classes[:2].tolist():
            return False
        if np.min(box.iou(ours.numpy()[order], truth[:2])) < 0.5:
            return False
    return True


@pytest.mark.parametrize(
    ("count", "shares"),
    [
        (1, [[0], [0], [0]]), (2, [[0], [0], [1]]), (3, [[0], [1], [2]]), (4, [[0, 1], [1, 2], [2, 3]]),
        (6, [[0, 1], [2, 3], [4, 5]]),
    ],
)  # fmt: skip
def test_every_scale_has_as_many_anchors_and_neighbours_share_what_is_too_few(count, shares):
    given = [(0.1 * (number + 1), 0.05) for number in range(count)]
    model = models.build("yolo.yolov3", input_shape=(64, 64, 3), classes=2, anchors=given)
    found = {layer.stride: layer.anchors for layer in model.layers if hasattr(layer, "anchors")}
    expected = {8 * 2**scale: [given[place] for place in places] for scale, places in enumerate(shares)}
    for stride, anchors in expected.items():
        np.testing.assert_allclose(np.array(found[stride]), anchors, rtol=1e-6)


@pytest.mark.parametrize(
    ("builder", "arguments", "message"),
    [
        ("yolo_small", {"input_shape": (100, 64, 3)}, "multiples of 32, got 100×64"),
        ("yolo_small", {"objective": "huber"}, "objective must be one of squared, ciou, focal, got 'huber'"),
        ("yolo_small", {"anchors": []}, "one or more"),
        ("yolo_small", {"anchors": [(0.1, 0.0)] * 2}, "above 0"),
        ("yolo", {"backbone": "lenet.lenet5_modern", "input_shape": (64, 64, 3)}, "must have a map of stride"),
    ],
)
def test_what_no_network_can_be_made_of_is_refused(builder, arguments, message):
    with pytest.raises(Fault, match=message):
        models.build(f"yolo.{builder}", **arguments)


@pytest.mark.parametrize("backbone", ["mobilenet.mobilenet_v2", pytest.param("vgg.vgg11", marks=SLOW)])
def test_the_last_map_of_each_stride_is_tapped(backbone):
    network = yolo.feature_extractor(backbone, (64, 64, 3), (8, 16, 32))
    assert [tensor.shape[1:3] for tensor in network.outputs] == [(8, 8), (4, 4), (2, 2)]


def test_darknets_space_to_depth_is_its_loop():
    """reorg_cpu: the output at (channel, row, column) is the input, read as c / 4 maps of twice the sides, there."""
    x = np.arange(4 * 6 * 8, dtype="float32").reshape(1, 4, 6, 8)  # height, width, channels
    height, width, channels = x.shape[1:]
    flat = x[0].transpose(2, 0, 1).ravel()
    out = np.zeros_like(flat)
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                offset, c2 = divmod(k, channels // 4)
                place = 2 * i + offset % 2 + 2 * width * (2 * j + offset // 2 + 2 * height * c2)
                out[i + width * (j + height * k)] = flat[place]
    expected = out.reshape(4 * channels, height // 2, width // 2).transpose(1, 2, 0)
    np.testing.assert_array_equal(yolo.Reorg()(x)[0], expected)
