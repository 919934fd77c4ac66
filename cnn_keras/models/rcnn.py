"""Detectors that look at regions: R-CNN, Fast R-CNN and Faster R-CNN.

Girshick, Donahue, Darrell and Malik, "Rich feature hierarchies", 2014 (R-CNN); Girshick, "Fast R-CNN", 2015; Ren, He,
Girshick and Sun, "Faster R-CNN", 2015. The first runs its backbone over every region, the second once over the picture,
the third finds its regions itself. Backbone and head are the same in all three, so that their speeds can be compared.

A family of detectors: builders, and `encode`, `loss` and `decode`.

Differ from the papers: trained in one stage, end to end; where the papers draw a sample of anchors or regions, all of
them count, each by its chance of being drawn; the box regression is one for all classes; regions of Faster R-CNN are
read by RoIAlign; R-CNN's classes are a softmax rather than support vector machines, and all of its backbone learns;
anchors that cross the border take part; of VGG, where it is the backbone, `stage4` is read, behind its pooling.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.models.backbone import feature_extractor
from cnn_keras.models.darknet import trunk53, unit
from cnn_keras.ops import boxes as box
from cnn_keras.ops.roi import VARIANCES, Anchors, Apart, Proposals, RoIAlign, RoIPool, Together

POOL = 7  # places, of the side of the map that is read of a region
CONTEXT = 16 / 227  # R-CNN's: pixels around a region, of the side of its crop


def _anchors(*scales: float) -> tuple[tuple[float, float], ...]:
    """Each scale – the root of an area, as a fraction of the picture's side – at the aspects 1:2, 1:1 and 2:1."""
    return tuple((scale * aspect**0.5, scale / aspect**0.5) for scale in scales for aspect in (0.5, 1, 2))


PUBLISHED = _anchors(0.18, 0.37, 0.74)  # 128, 256 and 512 pixels, of pictures whose shorter side was made 600
SMALL = _anchors(0.12, 0.25, 0.5)

# Networks: models from `image` (batch, height, width, channels), floats, and boxes (batch, R, 4), float32, left, top,
# right, bottom in [0, 1], rows of zeros being padding, to a dict of raw outputs:
#     regions (batch, R, 4), what was looked at;     logits (batch, R, classes + 1), the last of them background;
#     offsets (batch, R, 4), from the region to the object, of `boxes.encode` with VARIANCES;
# and in Faster R-CNN anchors (batch, A, 4), objectness (batch, A), logits, and anchor_offsets (batch, A, 4).


def rcnn(
    *,
    input_shape: tuple[int | None, ...] = (608, 800, 3),
    classes: int = 20,
    backbone: str = "resnet.resnet18",
    stride: int = 16,
    hidden: int = 1024,
) -> keras.Model:
    """R-CNN: warps every region to a picture of its own, which goes through the whole backbone.

    Crops have 7 · stride pixels a side, so that as much is read of each as by the faster two, with 16 / 227 of
    context, as published; where that lies outside the picture they are black.

    Arguments are those of `fast_rcnn`.
    """
    image, regions, read = _begun(input_shape, backbone, stride, side=POOL * stride)
    crops = RoIAlign(POOL * stride, samples=1, context=round(CONTEXT * POOL * stride), name="crops")(image, regions)
    maps = Together(name="together")(read(Apart(name="apart")(crops)), regions)
    outputs = {"regions": regions, **_head(maps, classes, hidden)}
    return keras.Model({"image": image, "proposals": regions}, outputs, name="rcnn")


def fast_rcnn(
    *,
    input_shape: tuple[int | None, ...] = (608, 800, 3),
    classes: int = 20,
    backbone: str = "resnet.resnet18",
    stride: int = 16,
    hidden: int = 1024,
) -> keras.Model:
    """Fast R-CNN: the backbone runs once; of every region given as `proposals` its part of the map is pooled.

    In training the true boxes belong among the proposals.

    Args:
        input_shape: (height, width, channels), height and width multiples of the stride.
        classes: number of classes, without the background.
        backbone: name of a builder of the catalogue.
        stride: of the map of the backbone that is read.
        hidden: units of each of the two dense layers of the head.

    Raises:
        Fault: for other sides, and when the backbone has no map of this stride.
    """
    image, regions, read = _begun(input_shape, backbone, stride)
    maps = RoIPool(POOL, name="pool")(read(image), regions)
    outputs = {"regions": regions, **_head(maps, classes, hidden)}
    return keras.Model({"image": image, "proposals": regions}, outputs, name="fast_rcnn")


def faster_rcnn(
    *,
    input_shape: tuple[int | None, ...] = (608, 800, 3),
    classes: int = 20,
    anchors: Sequence[Sequence[float]] | None = None,
    backbone: str = "resnet.resnet18",
    stride: int = 16,
    proposals: int = 300,
    hidden: int = 1024,
) -> keras.Model:
    """Faster R-CNN: a small network over the map of the backbone proposes the regions.

    Takes `boxes` (batch, M, 4) beside the image: the true ones in training, which are looked at besides the proposals,
    and rows of zeros at other times.

    Args:
        input_shape: (height, width, channels); height and width are multiples of the stride, or None.
        anchors: (width, height) of each, fractions of the picture; the paper's nine unless given.
        proposals: how many regions are looked at.

    The others are those of `fast_rcnn`.
    """
    image, boxes, read = _begun(input_shape, backbone, stride, name="boxes")
    outputs = _two_stages(
        read(image), boxes, PUBLISHED if anchors is None else anchors, classes, proposals=proposals, hidden=hidden
    )
    return keras.Model({"image": image, "boxes": boxes}, outputs, name="faster_rcnn")


def faster_rcnn_small(
    *,
    input_shape: tuple[int | None, ...] = (160, 160, 3),
    classes: int = 20,
    anchors: Sequence[Sequence[float]] | None = None,
    proposals: int = 64,
    hidden: int = 256,
    filters: int = 16,
    depths: Sequence[int] = (1, 1, 2, 2),
) -> keras.Model:
    """Ours, for two cores of a CPU: Faster R-CNN on half as wide a Darknet-53 with few blocks, at stride 8.

    The map of stride 16 is joined to that of stride 8, as in YOLOv3.

    Args:
        input_shape: (height, width, channels); height and width are multiples of 16, or None.
        filters: of the first convolution; the stages have 2, 4, 8 and 16 times as many.
        depths: residual blocks of the four stages.

    The others are those of `faster_rcnn`.
    """
    _require_multiples(input_shape, 16)
    image, boxes = keras.Input(input_shape, name="image"), keras.Input((None, 4), name="boxes")
    numbers = count(1)
    *_, fine, coarse = trunk53(image, numbers, filters=filters, depths=depths)
    coarse = layers.UpSampling2D(2, name="up")(unit(coarse, numbers, 4 * filters, 1))
    x = unit(layers.Concatenate(name="merged")([coarse, fine]), numbers, 8 * filters, 1)
    outputs = _two_stages(x, boxes, SMALL if anchors is None else anchors, classes, proposals=proposals, hidden=hidden)
    return keras.Model({"image": image, "boxes": boxes}, outputs, name="faster_rcnn_small")


def _begun(
    input_shape: tuple[int | None, ...], backbone: str, stride: int, *, side: int | None = None, name: str = "proposals"
) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.Model]:
    """The two inputs, and the backbone up to its last map of the stride."""
    _require_multiples(input_shape, stride)
    shape = input_shape if side is None else (side, side, input_shape[2])
    read = feature_extractor(backbone, shape, (stride,))
    trunk = keras.Model(read.input, read.outputs[0], name="backbone")
    return keras.Input(input_shape, name="image"), keras.Input((None, 4), name=name), trunk


def _require_multiples(input_shape: tuple[int | None, ...], stride: int) -> None:
    height, width, _ = input_shape
    if any(side is not None and (side % stride or not side) for side in (height, width)):
        raise Fault(
            f"input_shape must have sides that are multiples of {stride}, got {height}×{width}; resize the images"
        )


def _two_stages(
    features: keras.KerasTensor,
    boxes: keras.KerasTensor,
    anchors: Sequence[Sequence[float]],
    classes: int,
    *,
    proposals: int,
    hidden: int,
) -> dict[str, keras.KerasTensor]:
    """The outputs of Faster R-CNN on a map."""
    x = _conv(features, features.shape[-1], 3, stddev=0.01, activation="relu", name="rpn")
    objectness = layers.Reshape((-1,), name="objectness", dtype="float32")(
        _conv(x, len(anchors), 1, stddev=0.01, dtype="float32", name="rpn_objectness")
    )
    offsets = layers.Reshape((-1, 4), name="anchor_offsets", dtype="float32")(
        _conv(x, 4 * len(anchors), 1, stddev=0.01, dtype="float32", name="rpn_offsets")
    )
    places = Anchors(anchors, name="anchors")(features)
    regions = Proposals(proposals, name="regions")(objectness, offsets, places, boxes)
    maps = RoIAlign(POOL, name="align")(features, regions)
    first = {"anchors": places, "objectness": objectness, "anchor_offsets": offsets, "regions": regions}
    return first | _head(maps, classes, hidden)


def _head(maps: keras.KerasTensor, classes: int, hidden: int) -> dict[str, keras.KerasTensor]:
    """Logits and offsets of each region, from (batch, R, 7, 7, channels)."""
    x = layers.Reshape((-1, POOL * POOL * maps.shape[-1]), name="flatten")(maps)
    for name in ("fc6", "fc7"):
        x = layers.Dense(hidden, activation="relu", kernel_initializer="he_normal", name=name)(x)
    logits = layers.Dense(classes + 1, kernel_initializer=_normal(0.01), dtype="float32", name="logits")(x)
    offsets = layers.Dense(4, kernel_initializer=_normal(0.001), dtype="float32", name="offsets")(x)
    return {"logits": logits, "offsets": offsets}


def _conv(
    x: keras.KerasTensor, filters: int, size: int, *, stddev: float, name: str, **kwargs: Any
) -> keras.KerasTensor:
    return layers.Conv2D(filters, size, padding="same", kernel_initializer=_normal(stddev), name=name, **kwargs)(x)


def _normal(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)


class Targets(NamedTuple):
    """What is wanted of each region; one that is neither object nor background counts for nothing."""

    object: tf.Tensor  # bool (batch, R)
    background: tf.Tensor  # bool (batch, R)
    classes: tf.Tensor  # int64 (batch, R), of the object; 0 where there is none
    offsets: tf.Tensor  # float32 (batch, R, 4), from the region to the object's box; zeros where there is none


def encode(
    regions: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    *,
    above: float = 0.5,
    below: float = 0.5,
    each: bool = False,
) -> Targets:
    """Targets of regions – or anchors – by their overlap with the true boxes.

    Args:
        regions: float32 (batch, R, 4), in [0, 1]; rows without area are padding.
        boxes: float32 (batch, M, 4), in [0, 1]; rows without area are padding.
        classes: int64 (batch, M).
        above: a region is of the object that it overlaps most, if their IoU is at least this.
        below: a region is background if its IoU with every object is below this.
        each: whether every object also gets the regions that overlap it most, however little that is. Of two objects
            that want one region, that with the larger IoU has it.

    Returns:
        Targets.
    """
    overlap = box.pairwise_iou(regions, boxes)
    claim = overlap
    if each:
        best = tf.reduce_max(overlap, axis=1, keepdims=True)
        claim += 2 * tf.cast((overlap == best) & (best > 0), tf.float32)
    # A row of padding stands for the objects of a picture that has none, in batches with no rows at all.
    claim = tf.pad(claim, [[0, 0], [0, 0], [0, 1]])
    boxes, classes = tf.pad(boxes, [[0, 0], [0, 1], [0, 0]]), tf.pad(classes, [[0, 0], [0, 1]])
    most, whose = tf.reduce_max(claim, axis=-1), tf.argmax(claim, axis=-1)
    real = box.valid(regions)
    is_positive = real & (most >= above)
    offsets = box.encode(tf.gather(boxes, whose, batch_dims=1), regions, variances=VARIANCES)
    return Targets(
        is_positive,
        real & (most < below),
        tf.where(is_positive, tf.gather(classes, whose, batch_dims=1), 0),
        tf.where(is_positive[..., None], offsets, 0),
    )


def loss(
    network: keras.Model, outputs: dict[str, tf.Tensor], boxes: tf.Tensor, classes: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Cross-entropies and smooth L1 distances of both stages; means over the batch.

    Args:
        network: not looked at.
        outputs: of the network, which was given the true boxes too.
        boxes: float32 (batch, M, 4), in [0, 1]; rows without area are padding.
        classes: int64 (batch, M).

    Returns:
        Scalars, float32: class and box; for Faster R-CNN before them rpn_objectness and rpn_box.
    """
    boxes = tf.stop_gradient(boxes)
    terms = {}
    if "objectness" in outputs:
        targets = encode(outputs["anchors"], boxes, classes, above=0.7, below=0.3, each=True)
        chance = _chances(targets, sample=256, objects=0.5)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(targets.object, tf.float32), outputs["objectness"])
        terms["rpn_objectness"] = _weighted(chance, entropy)
        terms["rpn_box"] = _weighted(chance, _distance(targets, outputs["anchor_offsets"]))
    targets = encode(outputs["regions"], boxes, classes)
    chance = _chances(targets, sample=128, objects=0.25)
    label = tf.where(targets.object, targets.classes, outputs["logits"].shape[-1] - 1)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(label, outputs["logits"])
    return terms | {
        "class": _weighted(chance, entropy),
        "box": _weighted(chance, _distance(targets, outputs["offsets"])),
    }


def decode(network: keras.Model, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Every region as a candidate: its box, moved, and its probability of each class.

    Args:
        network: not looked at.
        outputs: of the network.

    Returns:
        float32 (batch, R, 4), in [0, 1], and float32 (batch, R, classes), in [0, 1], zeros for padding.
    """
    regions = outputs["regions"]
    boxes = box.clip(box.decode(outputs["offsets"], regions, variances=VARIANCES))
    return boxes, tf.where(box.valid(regions)[..., None], tf.nn.softmax(outputs["logits"])[..., :-1], 0)


def _chances(targets: Targets, *, sample: int, objects: float) -> tf.Tensor:
    """The share that each region would have, on average, in the loss of a random sample of them: float32 (batch, R).

    A sample has as many objects as there are, up to the share `objects` of it, and for the rest background.
    """
    kinds = [tf.cast(kind, tf.float32) for kind in (targets.object, targets.background)]
    objects_there, others_there = (tf.reduce_sum(kind, axis=1, keepdims=True) for kind in kinds)
    positives = tf.minimum(objects_there, objects * sample)
    others = tf.minimum(others_there, sample - positives)
    chances = [tf.math.divide_no_nan(positives, objects_there), tf.math.divide_no_nan(others, others_there)]
    return tf.math.divide_no_nan(kinds[0] * chances[0] + kinds[1] * chances[1], positives + others)


def _distance(targets: Targets, offsets: tf.Tensor) -> tf.Tensor:
    """Smooth L1, summed over the four offsets: float32 (batch, R), 0 for what is no object (Fast R-CNN, equation 3)."""
    apart = tf.abs(offsets - targets.offsets)
    smooth = tf.where(apart < 1, apart**2 / 2, apart - 0.5)
    return tf.where(targets.object, tf.reduce_sum(smooth, axis=-1), 0)


def _weighted(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.reduce_sum(weights * values, axis=1))
