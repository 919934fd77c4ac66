"""Regions of interest: anchors all over a map, the boxes a network proposes, and what its map holds of a box.

Girshick, "Fast R-CNN", 2015 (RoIPool); Ren, He, Girshick and Sun, "Faster R-CNN", 2015 (anchors, proposals); He,
Gkioxari, Dollár and Girshick, "Mask R-CNN", 2017 (RoIAlign). Regions are boxes as in `cnn_keras.ops.boxes`: left, top,
right, bottom in [0, 1] of the picture, and so of the map; rows of zeros are padding and are kept.

All layers compute in float32 whatever the policy, because half precision cannot say where a box is.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.errors import Fault
from cnn_keras.layers import register
from cnn_keras.ops import boxes

VARIANCES = (0.1, 0.1, 0.2, 0.2)  # of every offset here: what networks learn is then of about size 1


@register
class Anchors(keras.layers.Layer):
    """Boxes of fixed shapes around the centre of every place of a map.

    (batch, height, width, channels), floats, to (batch, height · width · k, 4), float32: row by row, place by place,
    anchor by anchor; those at the border reach beyond [0, 1].

    Args:
        anchors: k pairs (width, height), as fractions of the picture.

    Raises:
        Fault: when they are not pairs of positive numbers.
    """

    def __init__(self, anchors: Sequence[Sequence[float]], **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.anchors = [[float(side) for side in pair] for pair in anchors]
        if not self.anchors or any(len(pair) != 2 or min(pair) <= 0 for pair in self.anchors):
            raise Fault(f"anchors must be (width, height) pairs above 0, fractions of the picture, got {self.anchors}")

    def call(self, features: tf.Tensor) -> tf.Tensor:
        batch, *sides = tf.unstack(tf.shape(features)[:3])
        y, x = ((tf.range(side, dtype=tf.float32) + 0.5) / tf.cast(side, tf.float32) for side in sides)
        centres = tf.stack(tf.meshgrid(x, y), axis=-1)[:, :, None, :]
        shapes = tf.constant(self.anchors)
        anchors = tf.reshape(tf.concat([centres - shapes / 2, centres + shapes / 2], axis=-1), [1, -1, 4])
        return tf.tile(anchors, [batch, 1, 1])

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return shape[0], None if None in shape[1:3] else math.prod(shape[1:3]) * len(self.anchors), 4

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"anchors": self.anchors}


@register
class Proposals(keras.layers.Layer):
    """The likeliest boxes of a region-proposal network, and before them boxes that are given. No gradient passes.

    Anchors are moved by their offsets and cut at the border; the small ones go; of those that overlap only the
    likeliest stays.

    Call arguments:
        objectness: float (batch, A), logits.
        offsets: float (batch, A, 4), as of `boxes.encode` with VARIANCES.
        anchors: float (batch, A, 4).
        true_boxes: float (batch, M, 4), boxes in [0, 1]: in training the true ones, at other times padding.

    Returns:
        float32 (batch, M + limit, 4), in [0, 1]: the given ones, then the others, the likeliest first, then zeros.

    Args:
        limit: how many are proposed at most.
        before: how many are looked at, the likeliest.
        overlap: of two boxes with an IoU above this the less likely is left out.
        least: of width and height, as fractions of the picture.
    """

    def __init__(
        self, limit: int, *, before: int = 1000, overlap: float = 0.7, least: float = 0.01, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.limit, self.before, self.overlap, self.least = limit, before, overlap, least

    def call(self, objectness: tf.Tensor, offsets: tf.Tensor, anchors: tf.Tensor, true_boxes: tf.Tensor) -> tf.Tensor:
        objectness, offsets = tf.stop_gradient(objectness), tf.stop_gradient(offsets)
        best, place = tf.math.top_k(objectness, tf.minimum(self.before, tf.shape(objectness)[1]))
        offsets, anchors = (tf.gather(values, place, batch_dims=1) for values in (offsets, anchors))
        candidates = boxes.clip(boxes.decode(offsets, anchors, variances=VARIANCES))
        large = tf.reduce_min(candidates[..., 2:] - candidates[..., :2], axis=-1) >= self.least
        scores = tf.where(large, tf.sigmoid(best), 0)[..., None]
        detections = boxes.non_max_suppression(
            candidates, scores, threshold=0.0, overlap=self.overlap, limit=self.limit
        )
        return tf.concat([true_boxes, detections.boxes], axis=1)

    def compute_output_shape(
        self,
        objectness_shape: tuple[Any, ...],
        offsets_shape: tuple[Any, ...],
        anchors_shape: tuple[Any, ...],
        true_boxes_shape: tuple[Any, ...],
    ) -> tuple[Any, ...]:
        batch, count, _ = true_boxes_shape
        return batch, None if count is None else count + self.limit, 4

    def get_config(self) -> dict[str, Any]:
        own = ("limit", "before", "overlap", "least")
        return super().get_config() | {name: getattr(self, name) for name in own}


class _Pooling(keras.layers.Layer):
    """What is under each region, as a small map of one size."""

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = size

    def compute_output_shape(self, features_shape: tuple[Any, ...], regions_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return *regions_shape[:2], self.size, self.size, features_shape[-1]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"size": self.size}


@register
class RoIPool(_Pooling):
    """The maximum of each bin of a region, whose borders are rounded to places of the map (Fast R-CNN).

    `features`, floats (batch, height, width, channels), and `regions`, (batch, R, 4), to float32 (batch, R, size, size,
    channels). A region covers the places from round(left · width) up to, but without, round(right · width), at least
    one; bin i of n places those from ⌊i n / size⌋ up to ⌈(i + 1) n / size⌉, so that bins of small regions overlap.
    Every bin is the maximum of four windows whose sides are powers of two, of which there is a table.

    Differs from the paper: its right and bottom borders are of the last pixel, here of the first one outside.

    Raises:
        Fault: when the map's height or width is not known.
    """

    def build(self, features_shape: tuple[Any, ...], regions_shape: tuple[Any, ...]) -> None:
        if None in features_shape[1:3]:
            raise Fault(f"input_shape must give height and width for RoI pooling, got a map of {features_shape[1:3]}")

    def call(self, features: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        _, height, width, _ = features.shape
        # Of the bins of a region, the largest has ⌈n / size⌉ + 1 places or fewer.
        tall, wide = (min(side, -(-side // self.size) + 1).bit_length() for side in (height, width))
        table = tf.stack(
            [
                tf.stack([_windows(features, 2**row, 2**column) for column in range(wide)], axis=1)
                for row in range(tall)
            ],
            axis=1,
        )
        left, top, right, bottom = tf.unstack(regions, axis=-1)
        row_level, *rows = self._bins(top, bottom, height, tall)
        column_level, *columns = self._bins(left, right, width, wide)
        grid = tf.zeros([1, 1, self.size, self.size], tf.int32)
        corners = [
            [place[..., None] + grid for place in (row_level, row)]
            + [place[:, :, None] + grid for place in (column_level, column)]
            for row in rows
            for column in columns
        ]
        values = [tf.gather_nd(table, tf.stack([a, b, i, j], axis=-1), batch_dims=1) for a, i, b, j in corners]
        return tf.reduce_max(tf.stack(values), axis=0)

    def _bins(self, low: tf.Tensor, high: tf.Tensor, side: int, levels: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Level of the windows of each bin, and where the first and the last of them starts: int32 (batch, R, size)."""
        low, high = (tf.cast(tf.floor(edge * side + 0.5), tf.int32) for edge in (low, high))
        low = tf.clip_by_value(low, 0, side - 1)[..., None]
        places = tf.clip_by_value(high[..., None], low + 1, side) - low
        number = tf.range(self.size)
        start, end = low + number * places // self.size, low - (-(number + 1) * places // self.size)
        level = tf.add_n([tf.cast(end - start >= 2**power, tf.int32) for power in range(1, levels)] + [0 * start])
        return level, start, end - tf.bitwise.left_shift(tf.ones_like(level), level)


@register
class RoIAlign(_Pooling):
    """The mean of samples in each bin of a region, each interpolated between four places of the map (Mask R-CNN).

    `features`, floats (batch, height, width, channels), and `regions`, (batch, R, 4), to float32 (batch, R, size, size,
    channels). The value of a place stands at its middle, half a place from its border; nothing is rounded. Beyond the
    middle of the outermost place its value goes on, as far as half a place outside the map, then there are zeros.

    Args:
        size: bins along each side.
        samples: along each side of a bin.
        context: bins of the size that lie around the region itself, at each end (R-CNN's padding of warped crops).
    """

    def __init__(self, size: int, *, samples: int = 2, context: int = 0, **kwargs: Any) -> None:
        super().__init__(size, **kwargs)
        self.samples, self.context = samples, context

    def call(self, features: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        batch, count = tf.unstack(tf.shape(regions)[:2])
        padded = tf.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        height, width = (tf.cast(side, tf.float32) for side in tf.unstack(tf.shape(features)[1:3]))
        bins = boxes.xyxy_to_cxcywh(tf.reshape(regions, [-1, 4]))
        grown = bins[:, 2:] * self.size / (self.size - 2 * self.context)
        # From the middle of the first sample to that of the last, in places of the framed map.
        between = grown * (1 - 1 / (self.size * self.samples))
        corners = boxes.cxcywh_to_xyxy(tf.concat([bins[:, :2], between], axis=1)) * tf.stack(
            [width, height, width, height]
        )
        share = (corners + 0.5) / (tf.stack([width, height, width, height]) + 1)
        points = tf.image.crop_and_resize(
            padded,
            tf.gather(share, [1, 0, 3, 2], axis=1),
            tf.repeat(tf.range(batch), count),
            [self.size * self.samples] * 2,
        )
        if self.samples > 1:
            points = tf.nn.avg_pool2d(points, self.samples, self.samples, "VALID")
        return tf.reshape(points, [batch, count, self.size, self.size, features.shape[-1]])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"samples": self.samples, "context": self.context}


@register
class Apart(keras.layers.Layer):
    """Regions as pictures of their own: (batch, R, …), floats, to (batch · R, …)."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return None, *shape[2:]


@register
class Together(keras.layers.Layer):
    """Undoes `Apart`: `x`, (batch · R, …), and `regions`, (batch, R, 4), to (batch, R, …), floats."""

    def call(self, x: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, tf.concat([tf.shape(regions)[:2], tf.shape(x)[1:]], axis=0))

    def compute_output_shape(self, x_shape: tuple[Any, ...], regions_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return *regions_shape[:2], *x_shape[1:]


def _windows(features: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The maximum of the window of this size that starts at each place; as large as the map, which it ends in."""
    maxima = tf.nn.max_pool2d(features, [height, width], 1, "VALID")
    return tf.pad(maxima, [[0, 0], [0, height - 1], [0, width - 1], [0, 0]])
