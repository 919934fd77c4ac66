"""The R-CNN line: targets and losses by hand, decoding as the inverse, and one batch learnt by heart by every form."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.metrics import average_precision as precision
from cnn_keras.models import rcnn
from cnn_keras.ops import boxes as box
from cnn_keras.ops.roi import VARIANCES
from tests.one_batch import learn_by_heart

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = {"filters": 4, "depths": (1, 1, 1, 1), "hidden": 64, "proposals": 16}
ON_RESNET = {"backbone": "resnet.resnet20", "stride": 4, "hidden": 32}
FORMS = [
    pytest.param("rcnn.faster_rcnn_small", TINY, id="tiny"),
    pytest.param("rcnn.faster_rcnn_small", {}, id="faster_rcnn_small"),
    pytest.param("rcnn.faster_rcnn", {**ON_RESNET, "proposals": 16}, id="faster_rcnn"),
    pytest.param("rcnn.fast_rcnn", ON_RESNET, id="fast_rcnn"),
    pytest.param("rcnn.rcnn", ON_RESNET, id="rcnn"),
]
PADDING = [0, 0, 0, 0]


def tensor(values, dtype="float32"):
    """A batch of one picture."""
    return tf.constant([values], dtype)


def scenes(side=64, count=4):
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


def searched(boxes):
    """Proposals for `scenes` as a search might give them: near every object, and all over the picture."""
    rng = np.random.default_rng(0)
    near = np.repeat(boxes[:, :2], 4, axis=1) + rng.uniform(-0.05, 0.05, (len(boxes), 8, 4))
    places = np.stack([np.tile([x, y, x + 0.35, y + 0.35], 1) for x in (0, 0.3, 0.6) for y in (0, 0.3, 0.6)])
    others = np.broadcast_to(places, (len(boxes), *places.shape))
    padding = np.zeros((len(boxes), 2, 4))
    return np.concatenate([near, others, padding], axis=1).clip(0, 1).astype("float32")


def taken(network, images, boxes, *, training):
    """What a network takes, with the truth where it is trained."""
    if network.input.keys() == {"image", "boxes"}:
        return {"image": images, "boxes": boxes if training else np.zeros_like(boxes[:, :1])}
    found = searched(boxes)
    given = np.concatenate([boxes, found], axis=1) if training else found
    return {"image": tf.convert_to_tensor(images), "proposals": tf.convert_to_tensor(given)}


def built(builder, arguments):
    keras.utils.set_random_seed(0)
    return models.build(builder, input_shape=(64, 64, 3), classes=2, **arguments)


def test_regions_are_of_the_object_they_overlap_most_and_background_where_that_is_little():
    """IoU with the first object: 1, 0.6, 0.5 and 1/3; the fifth is of the second object, the last is padding."""
    boxes = tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], PADDING])
    regions = [[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.3], [0, 0, 0.25, 0.5], [0.25, 0, 0.75, 0.5], [0.5, 0.5, 1, 1], PADDING]
    targets = rcnn.encode(tensor(regions), boxes, tensor([3, 7, 0], "int64"))
    np.testing.assert_array_equal(targets.object[0], [True, True, True, False, True, False])
    np.testing.assert_array_equal(targets.background[0], [False, False, False, True, False, False])
    np.testing.assert_array_equal(targets.classes[0], [3, 3, 3, 0, 7, 0])


def test_offsets_lead_from_the_region_to_the_object():
    """The object's centre is a quarter of the region's width to the right, and it is twice as high."""
    targets = rcnn.encode(
        tensor([[0.2, 0.4, 0.6, 0.6]]), tensor([[0.3, 0.3, 0.7, 0.7]]), tensor([0], "int64"), above=0.3
    )
    wanted = np.array([0.25, 0, 0, np.log(2)]) / VARIANCES
    np.testing.assert_allclose(targets.offsets[0, 0], [*wanted[:3], wanted[3]], atol=1e-5)


def test_between_the_thresholds_an_anchor_counts_for_nothing():
    """IoU 0.8, 0.5 and 0.2 with the only object."""
    anchors = tensor([[0, 0, 1, 0.8], [0, 0, 1, 0.5], [0, 0, 1, 0.2]])
    targets = rcnn.encode(anchors, tensor([[0.0, 0, 1, 1]]), tensor([0], "int64"), above=0.7, below=0.3, each=True)
    np.testing.assert_array_equal(targets.object[0], [True, False, False])
    np.testing.assert_array_equal(targets.background[0], [False, False, True])


def test_each_object_gets_the_anchor_that_overlaps_it_most_even_if_another_overlaps_that_more():
    """The second anchor has an IoU of 0.68 with the first object, which has a better one, and 0.08 with the second."""
    boxes, labels = tensor([[0, 0, 0.5, 0.5], [0.4, 0.4, 0.6, 0.6]]), tensor([1, 2], "int64")
    anchors = tensor([[0, 0, 0.5, 0.5], [0.05, 0.05, 0.55, 0.55], [0.8, 0.8, 1, 1]])
    targets = rcnn.encode(anchors, boxes, labels, above=0.7, below=0.3, each=True)
    np.testing.assert_array_equal(targets.object[0], [True, True, False])
    np.testing.assert_array_equal(targets.classes[0], [1, 2, 0])
    alone = rcnn.encode(anchors[:, 1:], boxes, labels, above=0.7, below=0.3, each=True)
    np.testing.assert_array_equal(alone.classes[0], [1, 0])  # both want it: the larger IoU has it


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_picture_without_objects_is_all_background(rows):
    regions = tensor([[0, 0, 0.5, 0.5], PADDING])
    targets = rcnn.encode(regions, tf.zeros([1, rows, 4]), tf.zeros([1, rows], tf.int64), each=True)
    assert not np.any(targets.object)
    np.testing.assert_array_equal(targets.background[0], [True, False])
    assert not np.any(targets.offsets)


CORNERS = st.tuples(*[st.floats(0, 0.5, width=32)] * 2, *[st.floats(0.125, 0.5, width=32)] * 2)


@given(st.lists(CORNERS, min_size=1, max_size=4), st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_decoding_undoes_encoding(corners, seed):
    """Of regions around each object, whatever they are, come the objects again."""
    rng = np.random.default_rng(seed)
    boxes = np.array([[x, y, x + width, y + height] for x, y, width, height in corners], "float32")
    regions = np.concatenate([boxes + rng.uniform(-0.02, 0.02, boxes.shape), [PADDING]]).astype("float32")
    labels = rng.integers(0, 3, len(boxes))
    targets = rcnn.encode(tensor(regions), tensor(boxes), tensor(labels, "int64"))
    logits = 50 * tf.one_hot(tf.where(targets.object, targets.classes, 3), 4)
    found, scores = rcnn.decode(None, {"regions": tensor(regions), "logits": logits, "offsets": targets.offsets})
    overlap = box.pairwise_iou(regions, boxes).numpy()[:-1]
    which = overlap.argmax(axis=1)
    there = overlap.max(axis=1) >= 0.5
    np.testing.assert_allclose(found[0, :-1].numpy()[there], boxes[which][there], atol=1e-5)
    np.testing.assert_allclose(scores[0, :-1].numpy()[there], np.eye(3)[labels[which][there]], atol=1e-5)
    assert not np.any(scores[0, -1])


def test_the_losses_of_four_regions_by_hand():
    """One object, three of background, so that a sample holds all: each counts a quarter."""
    regions = tensor([[0, 0, 0.4, 0.4], [0.6, 0, 1, 0.4], [0, 0.6, 0.4, 1], [0.6, 0.6, 1, 1], PADDING])
    boxes, labels = tensor([[0.0, 0, 0.4, 0.4]]), tensor([1], "int64")
    logits = np.zeros((1, 5, 3), "float32")
    logits[0, 0, 1] = np.log(2)  # 1/4, 1/2, 1/4; elsewhere 1/3 each
    offsets = np.zeros((1, 5, 4), "float32")
    offsets[0, 0] = [0.5, -3, 0, 0]  # wanted are zeros: 0.5² / 2 and 3 − 0.5
    offsets[0, 1] = 100  # of the background no box is wanted
    terms = rcnn.loss(None, {"regions": regions, "logits": logits, "offsets": offsets}, boxes, labels)
    assert terms.keys() == {"class", "box"}
    np.testing.assert_allclose(terms["class"], (np.log(2) + 3 * np.log(3)) / 4, rtol=1e-6)
    np.testing.assert_allclose(terms["box"], (0.125 + 2.5) / 4, rtol=1e-6)


def test_the_losses_of_proposing_by_hand():
    """One anchor on the object, two beside it: each counts a third; one between the thresholds counts for nothing."""
    anchors = tensor([[0, 0, 0.4, 0.4], [0, 0, 0.4, 0.2], [0.6, 0, 1, 0.4], [0, 0.6, 0.4, 1]])
    nothing = {"regions": tf.zeros([1, 2, 4]), "logits": tf.zeros([1, 2, 3]), "offsets": tf.zeros([1, 2, 4])}
    objectness = tensor([np.log(3.0), 5.0, 0.0, -np.log(3.0)])
    outputs = {**nothing, "anchors": anchors, "objectness": objectness, "anchor_offsets": tf.ones([1, 4, 4])}
    terms = rcnn.loss(None, outputs, tensor([[0.0, 0, 0.4, 0.4]]), tensor([1], "int64"))
    wanted = (np.log(4 / 3) + np.log(2) + np.log(4 / 3)) / 3
    np.testing.assert_allclose(terms["rpn_objectness"], wanted, rtol=1e-6)
    np.testing.assert_allclose(terms["rpn_box"], 4 * 0.5 / 3, rtol=1e-6)
    assert terms["class"] == terms["box"] == 0


def test_the_loss_is_the_mean_of_random_samples():
    """Fifty regions on objects and 400 of background against samples of 128 with a quarter of objects, drawn often."""
    rng = np.random.default_rng(0)
    there = np.arange(450) < 50
    regions = np.where(there[:, None], [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]).astype("float32")
    logits = rng.normal(size=(1, 450, 2)).astype("float32")
    outputs = {"regions": tensor(regions), "logits": logits, "offsets": tf.zeros([1, 450, 4])}
    terms = rcnn.loss(None, outputs, tensor([[0.0, 0, 0.5, 0.5]]), tensor([0], "int64"))
    entropy = np.logaddexp(*logits[0].T) - np.where(there, *logits[0].T)
    samples = [
        entropy[np.concatenate([rng.permutation(50)[:32], 50 + rng.permutation(400)[:96]])].mean() for _ in range(4000)
    ]
    np.testing.assert_allclose(terms["class"], np.mean(samples), atol=5 * np.std(samples) / 4000**0.5)


@pytest.mark.parametrize("rows", [0, 2])
def test_pictures_without_objects_have_a_loss_and_gradients(rows):
    network = built("rcnn.faster_rcnn_small", TINY)
    with tf.GradientTape() as tape:
        outputs = network({"image": tf.zeros([2, 64, 64, 3]), "boxes": tf.zeros([2, rows, 4])}, training=True)
        terms = rcnn.loss(network, outputs, tf.zeros([2, rows, 4]), tf.zeros([2, rows], tf.int64))
        total = tf.add_n(list(terms.values()))
    assert list(terms) == ["rpn_objectness", "rpn_box", "class", "box"]
    assert terms["rpn_box"] == terms["box"] == 0
    assert total > 0
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(total, network.trainable_variables))


def test_true_boxes_are_looked_at_before_the_proposals():
    network = built("rcnn.faster_rcnn_small", TINY)
    images, boxes, _ = scenes()
    outputs = network(taken(network, images, boxes, training=True), training=True)
    assert outputs["regions"].shape == (4, 3 + 16, 4)
    np.testing.assert_array_equal(outputs["regions"][:, :3], boxes)


def test_a_network_for_pictures_of_any_size_answers_as_one_for_this_size():
    network = built("rcnn.faster_rcnn_small", TINY)
    anywhere = models.build("rcnn.faster_rcnn_small", input_shape=(None, None, 3), classes=2, **TINY)
    anywhere.set_weights(network.get_weights())
    given = taken(network, *scenes()[:2], training=False)
    for got, wanted in zip(rcnn.decode(None, anywhere(given)), rcnn.decode(None, network(given)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert anywhere({**given, "image": np.zeros((4, 96, 32, 3), "float32")})["anchors"].shape == (4, 12 * 4 * 9, 4)


def test_fast_rcnn_and_rcnn_have_the_same_weights():
    """So that what one has learnt the other can use, and what is measured of both is the way, not the network."""
    fast, slow = (built(name, ON_RESNET) for name in ("rcnn.fast_rcnn", "rcnn.rcnn"))
    assert [weight.shape for weight in fast.weights] == [weight.shape for weight in slow.weights]


@pytest.mark.parametrize(
    ("builder", "arguments", "message"),
    [
        ("rcnn.faster_rcnn_small", {"input_shape": (100, 96, 3)}, "multiples of 16, got 100×96"),
        ("rcnn.fast_rcnn", {"input_shape": (90, 96, 3)}, "multiples of 16, got 90×96"),
        ("rcnn.fast_rcnn", {"input_shape": (96, 96, 3), "backbone": "lenet.lenet5"}, "backbone must have a map"),
        ("rcnn.faster_rcnn_small", {"anchors": [(0.1, -1)]}, "anchors must be"),
    ],
)
def test_what_cannot_be_built_is_refused(builder, arguments, message):
    with pytest.raises(Fault, match=message):
        models.build(builder, classes=2, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("builder", "arguments"), FORMS)
def test_every_form_learns_a_batch_by_heart(builder, arguments, tmp_path):
    """Gradients reach every weight; AP50 becomes 0.99 or more; saved and loaded, it says the same."""
    network = built(builder, arguments)
    images, boxes, labels = scenes()
    training = taken(network, *map(tf.constant, (images, boxes)), training=True)
    asked = taken(network, images, boxes, training=False)

    def terms(outputs):
        return rcnn.loss(network, outputs, boxes, labels)

    def shortcoming(outputs):
        found = box.non_max_suppression(*rcnn.decode(network, outputs))
        return None if min(ap50(found, boxes, labels, kind) for kind in range(2)) >= 0.99 else found

    learn_by_heart(network, training, asked, terms, shortcoming, tmp_path)


def ap50(found, boxes, labels, kind):
    """The average precision of one class at an IoU of 0.5."""
    scores, outcomes, positives = [], [], 0
    for number, count in enumerate(found.count.numpy()):
        own = found.classes[number, :count].numpy() == kind
        truth = boxes[number][box.valid(boxes[number]).numpy() & (labels[number] == kind)]
        matches = precision.match(
            found.boxes[number, :count].numpy()[own], found.scores[number, :count].numpy()[own], truth
        )
        scores.extend(found.scores[number, :count].numpy()[own])
        outcomes.extend(matches.outcomes)
        positives += len(truth)
    curve = precision.precision_recall(scores, outcomes, positives)
    return precision.average_precision(curve.recall, curve.precision)
