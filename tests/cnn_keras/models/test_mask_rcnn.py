"""Mask R-CNN: what a mask costs by hand, the head on boxes that were found, a batch learnt by heart.

The networks here are "mask_rcnn.mask_rcnn" and "mask_rcnn.mask_rcnn_small".
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras import models
from cnn_keras.models import mask_rcnn, rcnn
from cnn_keras.ops import boxes as box
from cnn_keras.ops import instance_masks
from tests.cnn_keras.models.test_rcnn import scenes
from tests.one_batch import learn_by_heart

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = {"filters": 4, "depths": (1, 1, 1, 1), "hidden": 64, "proposals": 16, "mask_filters": 8}


def discs(side=64, count=4):
    """The scenes of Faster R-CNN with discs for squares, and the map of their instances."""
    _, boxes, labels = scenes(side, count)
    images, maps = np.full((count, side, side, 3), 0.5, np.float32), np.zeros((count, side, side, 1), np.uint8)
    y, x = (axis + 0.5 for axis in np.mgrid[:side, :side])
    for number in range(count):
        for row, (left, top, right, bottom) in enumerate(boxes[number, :2] * side):
            middle = (left + right) / 2, (top + bottom) / 2
            inside = np.hypot(x - middle[0], y - middle[1]) < (right - left) / 2
            images[number][inside] = labels[number, row]
            maps[number][inside] = row + 1
    return images, boxes, labels, maps


def built(arguments=TINY):
    keras.utils.set_random_seed(0)
    return models.build("mask_rcnn.mask_rcnn_small", input_shape=(64, 64, 3), classes=2, **arguments)


def test_a_mask_costs_its_cross_entropy_on_objects_alone():
    """Of two objects the first region is right but for its lower half; the third region is background."""
    regions = tf.constant([[[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0.5, 0, 1, 0.4], [0, 0, 0, 0]]])
    boxes, labels = regions[:, :2], tf.constant([[1, 0]], tf.int64)
    maps = np.zeros((1, 56, 56, 1), np.uint8)
    maps[0, :28, :28] = 1
    maps[0, 28:, 28:] = 2
    logits = np.zeros((1, 4, 28, 28, 2), np.float32)
    logits[0, 0, :14, :, 1] = np.log(3)  # three quarters for what is there
    logits[0, 0, 14:, :, 1] = -np.log(3)  # a quarter
    logits[0, 0, ..., 0] = 50  # another class's mask counts for nothing
    logits[0, 2] = 50  # nor does that of the background
    given = {"regions": regions, "logits": tf.zeros([1, 4, 3]), "offsets": tf.zeros([1, 4, 4]), "masks": logits}
    terms = mask_rcnn.loss(None, given, boxes, labels, tf.constant(maps))
    first, second = (np.log(4 / 3) + np.log(4)) / 2, np.log(2)
    np.testing.assert_allclose(terms.pop("mask"), (first + second) / 2, rtol=1e-5)
    same = rcnn.loss(None, given, boxes, labels)
    assert terms.keys() == same.keys()
    for name, value in same.items():
        np.testing.assert_array_equal(terms[name], value)


@pytest.mark.parametrize("rows", [0, 2])
def test_pictures_of_nothing_have_a_loss_and_gradients(rows):
    network = built()
    with tf.GradientTape() as tape:
        outputs = network({"image": tf.zeros([2, 64, 64, 3]), "boxes": tf.zeros([2, rows, 4])}, training=True)
        truth = (tf.zeros([2, rows, 4]), tf.zeros([2, rows], tf.int64), tf.zeros([2, 64, 64, 1], tf.uint8))
        terms = mask_rcnn.loss(network, outputs, *truth)
        total = tf.add_n(list(terms.values()))
    assert list(terms) == ["rpn_objectness", "rpn_box", "class", "box", "mask"]
    assert terms["mask"] == 0
    gradients = tape.gradient(total, network.trainable_variables)
    assert all(np.isfinite(gradient).all() for gradient in gradients if gradient is not None)


def test_masks_are_learnt_of_the_given_boxes_and_the_likeliest_regions():
    network = built()
    images, boxes, _, _ = discs()
    outputs = network({"image": images, "boxes": boxes}, training=True)
    assert outputs["masks"].shape == (4, 3 + 16, 28, 28, 2)
    fewer = built({**TINY, "proposals": 5})({"image": images, "boxes": boxes})
    assert fewer["masks"].shape == (4, 3 + 5, 28, 28, 2)


def test_the_head_asked_about_regions_says_what_the_network_says_of_them():
    network = built()
    images, boxes, labels, _ = discs()
    outputs = network({"image": images, "boxes": boxes})
    said = mask_rcnn.masks(network, outputs, tf.constant(boxes), tf.constant(labels))
    own = np.take_along_axis(outputs["masks"][:, :3].numpy(), labels[:, :, None, None, None], axis=-1)[..., 0]
    np.testing.assert_allclose(said, 1 / (1 + np.exp(-own)), atol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(("mask_rcnn.mask_rcnn_small", TINY), id="tiny", marks=pytest.mark.slow),
        pytest.param(
            ("mask_rcnn.mask_rcnn", {"backbone": "resnet.resnet20", "stride": 4, "hidden": 32, "filters": 16}),
            id="mask_rcnn",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_form_learns_the_masks_of_a_batch_by_heart(form, tmp_path):
    """Gradients reach every weight; every mask overlaps its disc by 0.85 or more; saved and loaded it says the same."""
    builder, arguments = form
    keras.utils.set_random_seed(0)
    network = models.build(builder, input_shape=(64, 64, 3), classes=2, **arguments)
    images, boxes, labels, maps = (tf.constant(values) for values in discs())

    def terms(outputs):
        return mask_rcnn.loss(network, outputs, boxes, labels, maps)

    def shortcoming(outputs):
        found = box.non_max_suppression(*mask_rcnn.decode(network, outputs), threshold=0.5)
        worst = min(overlaps(network, outputs, found, maps.numpy()))
        return f"the worst mask has an IoU of {worst:.2f}" if worst < 0.85 else ""

    asked = {"image": images, "boxes": tf.zeros([4, 1, 4])}
    training = {"image": images, "boxes": boxes}
    learn_by_heart(network, training, asked, terms, shortcoming, tmp_path, rate=2e-3, rounds=15)


def overlaps(network, outputs, found, maps):
    """The best IoU that any found mask has with each disc."""
    masks = mask_rcnn.masks(network, outputs, found.boxes, found.classes)
    best = []
    for number, count in enumerate(found.count.numpy()):
        pixels = found.boxes[number] * 64
        drawn = [instance_masks.paste_mask(masks[number, row], pixels[row], (64, 64)).numpy() for row in range(count)]
        for thing in (1, 2):
            truth = maps[number, ..., 0] == thing
            best.append(max(((one & truth).sum() / (one | truth).sum() for one in drawn), default=0.0))
    return best
