"""Mask R-CNN: He, Gkioxari, Dollár and Girshick, "Mask R-CNN", 2017. Faster R-CNN that also says which pixels are its.

A family of detectors: builders, and `loss`, `decode` and `masks`; `encode` is that of `rcnn`.

Differs from the paper: one map of the backbone is read and no feature pyramid, but by the mask head that the paper has
on its pyramid (figure 4, right); what a mask learns are shares of its places, not rounded; the true boxes are among the
regions that it learns of. For the rest see `rcnn`.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from cnn_keras.layers import register
from cnn_keras.models import rcnn
from cnn_keras.models.rcnn import decode as decode
from cnn_keras.models.rcnn import encode as encode
from cnn_keras.ops import boxes as box
from cnn_keras.ops import instance_masks
from cnn_keras.ops.roi import Apart, RoIAlign, Together

ALIGNED = 14  # places, of the side of the map that the head reads of a region; it answers with twice as many
SIDE = 2 * ALIGNED
LEARNT = 16  # regions that a mask is learnt of, besides the true boxes: the likeliest

# Networks have the outputs of Faster R-CNN, and
#     masks (batch, R', SIDE, SIDE, classes), logits, of the first R' regions: those given and the LEARNT likeliest;
#     features (batch, height, width, channels), the map that was read.


def mask_rcnn(
    *,
    input_shape: tuple[int | None, ...] = (608, 800, 3),
    classes: int = 20,
    anchors: Sequence[Sequence[float]] | None = None,
    backbone: str = "resnet.resnet18",
    stride: int = 16,
    proposals: int = 300,
    hidden: int = 1024,
    filters: int = 256,
) -> keras.Model:
    """Mask R-CNN on a backbone of the catalogue: `rcnn.faster_rcnn` with a mask head.

    Args:
        filters: of the five convolutions of the mask head.

    The others are those of `rcnn.faster_rcnn`.
    """
    arguments: dict[str, Any] = {
        "input_shape": input_shape,
        "classes": classes,
        "anchors": anchors,
        "backbone": backbone,
    }
    detector = rcnn.faster_rcnn(**arguments, stride=stride, proposals=proposals, hidden=hidden)
    return _with_masks(detector, classes, filters, name="mask_rcnn")


def mask_rcnn_small(
    *,
    input_shape: tuple[int | None, ...] = (160, 160, 3),
    classes: int = 20,
    anchors: Sequence[Sequence[float]] | None = None,
    proposals: int = 64,
    hidden: int = 256,
    filters: int = 16,
    depths: Sequence[int] = (1, 1, 2, 2),
    mask_filters: int = 32,
) -> keras.Model:
    """Ours, for two cores of a CPU: `rcnn.faster_rcnn_small` with a thin mask head.

    Args:
        mask_filters: of the five convolutions of the mask head.

    The others are those of `rcnn.faster_rcnn_small`.
    """
    arguments: dict[str, Any] = {
        "input_shape": input_shape,
        "classes": classes,
        "anchors": anchors,
        "proposals": proposals,
    }
    detector = rcnn.faster_rcnn_small(**arguments, hidden=hidden, filters=filters, depths=depths)
    return _with_masks(detector, classes, mask_filters, name="mask_rcnn_small")


def _with_masks(detector: keras.Model, classes: int, filters: int, *, name: str) -> keras.Model:
    """A Faster R-CNN with a mask head on the map that it reads its regions from."""
    features, regions = detector.get_layer("align").input
    boxes = detector.input["boxes"]
    likely = First(LEARNT, name="likely")(regions, boxes)
    head = _mask_head(features.shape[-1], classes, filters)
    maps = RoIAlign(ALIGNED, name="mask_align")(features, likely)
    logits = Together(name="mask_together", dtype="float32")(head(Apart(name="mask_apart")(maps)), likely)
    return keras.Model(detector.input, {**detector.output, "masks": logits, "features": features}, name=name)


def _mask_head(channels: int, classes: int, filters: int) -> keras.Model:
    """From (batch, ALIGNED, ALIGNED, channels) to logits (batch, SIDE, SIDE, classes): one mask for each class."""
    x = maps = keras.Input((ALIGNED, ALIGNED, channels), name="aligned")
    for number in range(1, 5):
        x = layers.Conv2D(filters, 3, padding="same", name=f"mask_conv{number}", **_rectified())(x)
    x = layers.Conv2DTranspose(filters, 2, 2, name="mask_up", **_rectified())(x)
    x = layers.Conv2D(classes, 1, dtype="float32", name="mask_logits")(x)
    return keras.Model(maps, x, name="mask_head")


def _rectified() -> dict[str, str]:
    return {"activation": "relu", "kernel_initializer": "he_normal"}


@register
class First(layers.Layer):
    """The regions that were given and the next `count`: (batch, R, 4) and (batch, M, 4) to (batch, M + count, 4)."""

    def __init__(self, count: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.count = count

    def call(self, regions: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
        return regions[:, : tf.shape(boxes)[1] + self.count]

    def compute_output_shape(self, regions_shape: tuple[Any, ...], boxes_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        (batch, count, _), box_count = regions_shape, boxes_shape[1]
        return batch, None if None in (count, box_count) else min(count, box_count + self.count), 4

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"count": self.count}


def loss(
    network: keras.Model, outputs: dict[str, tf.Tensor], boxes: tf.Tensor, classes: tf.Tensor, mask: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The losses of `rcnn.loss`, and of each region of an object the mean binary cross-entropy of its class's mask.

    Args:
        network, outputs, boxes, classes: of `rcnn.loss`.
        mask: uint8 (batch, height, width, 1) or (batch, height, width), the map of `instances` that numbers the rows of
            boxes.

    Returns:
        Scalars, float32: those of `rcnn.loss`, and mask.
    """
    count = tf.shape(outputs["masks"])[1]
    regions = tf.stop_gradient(outputs["regions"][:, :count])
    encoded = encode(regions, boxes, classes)
    whose = tf.argmax(tf.pad(box.pairwise_iou(regions, boxes), [[0, 0], [0, 0], [0, 1]]), axis=-1)
    maps = mask[..., 0] if mask.shape.rank == 4 else mask
    targets = instance_masks.targets(maps, regions, whose, size=SIDE)
    predicted = _of_class(outputs["masks"], encoded.classes)
    entropy = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, predicted), axis=(2, 3))
    there = tf.cast(encoded.object, tf.float32)
    share = tf.math.divide_no_nan(tf.reduce_sum(there * entropy, axis=1), tf.reduce_sum(there, axis=1))
    return rcnn.loss(network, outputs, boxes, classes) | {"mask": tf.reduce_mean(share)}


def masks(network: keras.Model, outputs: dict[str, tf.Tensor], boxes: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """What of each box its thing covers, by the mask of its class: float32 (batch, N, SIDE, SIDE), in [0, 1].

    As in the paper the head is asked about the boxes that were found, rather than the regions they were found from.

    Args:
        network: one of these.
        outputs: of the network.
        boxes: float32 (batch, N, 4), in [0, 1]; rows without area are padding.
        classes: integers (batch, N).
    """
    maps = RoIAlign(ALIGNED)(outputs["features"], boxes)
    logits = Together(dtype="float32")(network.get_layer("mask_head")(Apart()(maps)), boxes)
    return tf.sigmoid(_of_class(logits, classes))


def _of_class(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Of masks for every class, (batch, R, SIDE, SIDE, classes), that of each region's own."""
    return tf.gather(tf.transpose(logits, [0, 1, 4, 2, 3]), tf.cast(classes, tf.int32), batch_dims=2)
