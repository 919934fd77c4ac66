"""A class for each pixel of pictures and volumes of any size, from a network of one size; all of it inside a graph.

`predict_whole` shows the network the whole picture, framed, and enlarges its probabilities back. `predict_patches`
shows it patches at the picture's own scale. Where their answers overlap they are averaged, each patch counting the less
the nearer the edge of its answer is, so that no seam is seen; what lies beyond the picture is its mirror image. For a
network without padding, whose answers are smaller than what it sees, that is the overlap-tile strategy of U-Net
(Ronneberger, Fischer and Brox, 2015, figure 2), and exact without any overlap of the answers.

Both work through an image band by band, so that the probabilities of all of it are never in memory at once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from cnn_keras.ops.resize import placement, resize_image

ROWS = 256  # of a picture whose answers are enlarged at once
BATCH = 4  # patches that the network sees at once


class Prediction(NamedTuple):
    """What is said of an image of (height, width) or (depth, height, width).

    labels: uint8, the number of the likeliest class; confidence: float32, its probability in [0, 1].
    """

    labels: tf.Tensor
    confidence: tf.Tensor


class Patches(NamedTuple):
    """What a network sees at once and what it answers for, along each spatial axis, in pixels."""

    size: tuple[int, ...]
    answered: tuple[int, ...]  # of the middle of `size`; all of it for a network with padding
    overlap: float = 0.5  # the share of the answers that neighbours both have, from 0 to 0.5

    @property
    def shared(self) -> tuple[int, ...]:
        """How many pixels of their answers two neighbours both have."""
        return tuple(int(self.overlap * length) for length in self.answered)

    @property
    def steps(self) -> tuple[int, ...]:
        """From one patch to the next."""
        return tuple(length - both for length, both in zip(self.answered, self.shared, strict=True))


def predict_whole(
    answer: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor, size: tuple[int, ...], *, fit: str
) -> Prediction:
    """Ask about the whole picture.

    Args:
        answer: framed pictures (1, *size, channels) to probabilities, float32 (1, *size, classes).
        image: uint8 (height, width, channels), of any height and width.
        size: (height, width) of what the network sees.
        fit: "stretch" or "pad", see `cnn_keras.ops.resize.resize_image`.

    Returns:
        `Prediction` of (height, width).
    """
    extent = tf.shape(image)[:2]
    extent_ = tf.cast(extent, tf.float32)
    scaled, start = placement(extent_, tf.constant(size, tf.float32), fit)
    top, left, height, width = tf.unstack(tf.cast(tf.concat([start, scaled], axis=0), tf.int32))
    logits = answer(resize_image(image, size, fit=fit)[None])[:, top : top + height, left : left + width]

    def band(number: tf.Tensor) -> Prediction:
        enlarged = tf.raw_ops.ScaleAndTranslate(
            images=logits,
            size=tf.stack([ROWS, extent[1]]),
            scale=extent_ / scaled,
            translation=tf.stack([-ROWS * tf.cast(number, tf.float32), 0.0]),
            kernel_type="triangle",
            antialias=True,
        )
        return _likeliest(enlarged[0])

    kinds = Prediction(tf.TensorSpec((ROWS, None), tf.uint8), tf.TensorSpec((ROWS, None), tf.float32))
    bands = tf.map_fn(band, tf.range(-(-extent[0] // ROWS)), fn_output_signature=kinds)
    return Prediction(*(tf.reshape(part, [-1, extent[1]])[: extent[0]] for part in bands))


def predict_patches(answer: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor, patches: Patches) -> Prediction:
    """Ask about every patch of a picture or volume.

    Args:
        answer: patches (N, *patches.size, channels) to probabilities, float32 (N, *patches.answered, classes).
        image: (*sizes, channels), of any sizes and of the dtype that the network takes.
        patches: `Patches`.

    Returns:
        `Prediction` of (*sizes).
    """
    axes = len(patches.size)
    extent = tf.shape(image)[:axes]
    counts = tf.unstack(1 + tf.maximum(-(-(extent - patches.answered) // patches.steps), 0))
    padded, weights = _surrounded(image, patches, counts), _weights(patches, counts)
    step, both = patches.steps[0], patches.shared[0]

    def band(
        number: tf.Tensor, above: tf.Tensor, labels: tf.TensorArray, confidence: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
        """One row of patches: of its answers the last, that the next row has too, are carried over to it."""
        logits = _arranged(_asked(answer, _cut(padded, number, patches, counts), patches), counts[1:])
        logits = _overlap_add(logits * weights(number), patches.steps[1:])
        logits = tf.concat([logits[:both] + above, logits[both:]], axis=0)
        classes_ = _likeliest(logits[:step])
        return (
            *(number + 1, tf.ensure_shape(logits[step:], above.shape)),
            *(labels.write(number, classes_.labels), confidence.write(number, classes_.confidence)),
        )

    lengths = [
        count * step_size + two for count, step_size, two in zip(counts, patches.steps, patches.shared, strict=True)
    ]
    classes = answer(tf.zeros((1, *patches.size, image.shape[-1]), image.dtype)).shape[-1]
    zeros = tf.ensure_shape(tf.zeros([both, *lengths[1:], classes]), [both, *[None] * (axes - 1), classes])
    kinds = (tf.uint8, tf.float32)
    arrays = [tf.TensorArray(kind, counts[0], element_shape=[step, *[None] * (axes - 1)]) for kind in kinds]
    _, last, *arrays = tf.while_loop(
        lambda number, *_: number < counts[0],
        band,
        (0, zeros, *arrays),
        parallel_iterations=1,
        maximum_iterations=counts[0],
    )
    bands = [tf.concat([array.concat(), rest], axis=0) for array, rest in zip(arrays, _likeliest(last), strict=True)]
    return Prediction(*(tf.slice(part, [0] * axes, extent) for part in bands))


def _likeliest(probabilities: tf.Tensor) -> Prediction:
    labels = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
    return Prediction(tf.cast(labels, tf.uint8), tf.reduce_max(probabilities, axis=-1))


def _surrounded(image: tf.Tensor, patches: Patches, counts: Sequence[tf.Tensor]) -> tf.Tensor:
    """The image in the middle of its mirror images, as far as the patches reach."""
    for axis, count in enumerate(counts):
        size, margin = patches.size[axis], (patches.size[axis] - patches.answered[axis]) // 2
        places = tf.range((count - 1) * patches.steps[axis] + size) - margin
        image = tf.gather(image, reflect(places, tf.shape(image)[axis]), axis=axis)
    return image


def reflect(places: tf.Tensor, length: int | tf.Tensor) -> tf.Tensor:
    """Positions along an axis, integers of any shape, reflected at its ends: … c b a | a b c | c b a …"""
    places = tf.math.floormod(places, 2 * length)
    return tf.minimum(places, 2 * length - 1 - places)


def _cut(padded: tf.Tensor, number: tf.Tensor, patches: Patches, counts: Sequence[tf.Tensor]) -> tf.Tensor:
    """The patches of one row: (their number, *patches.size, channels)."""
    axes = len(patches.size)
    part = padded[number * patches.steps[0] :][: patches.size[0]]
    for axis in range(1, axes):
        starts = tf.range(counts[axis])[:, None] * patches.steps[axis]
        part = tf.gather(part, starts + tf.range(patches.size[axis]), axis=2 * axis - 1)
    order = [*range(1, 2 * axes - 1, 2), *range(0, 2 * axes, 2), 2 * axes - 1]
    return tf.reshape(tf.transpose(part, order), [-1, *patches.size, padded.shape[-1]])


def _asked(answer: Callable[[tf.Tensor], tf.Tensor], windows: tf.Tensor, patches: Patches) -> tf.Tensor:
    """The answers to patches, some at once."""
    count = tf.shape(windows)[0]
    rounds = -(-count // BATCH)
    each = -(-count // rounds)
    padded = tf.concat([windows, tf.zeros_like(windows[: rounds * each - count])], axis=0)
    logits = tf.map_fn(
        answer,
        tf.reshape(padded, [rounds, each, *windows.shape[1:]]),
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )
    return tf.reshape(logits, [-1, *patches.answered, logits.shape[-1]])[:count]


def _arranged(logits: tf.Tensor, counts: Sequence[tf.Tensor]) -> tf.Tensor:
    """The answers of a row, (patches, *answered, classes), with the numbers of the patches before their lengths:
    (first length, number along the second axis, second length, …, classes).
    """
    axes = len(counts) + 1
    apart = tf.reshape(logits, tf.concat([tf.stack(counts), tf.shape(logits)[1:]], axis=0)) if counts else logits[0]
    order = [axes - 1]
    for axis in range(1, axes):
        order += [axis - 1, axes - 1 + axis]
    return tf.transpose(apart, [*order, 2 * axes - 1])


def _overlap_add(logits: tf.Tensor, steps: Sequence[int]) -> tf.Tensor:
    """Arranged answers as one: neighbours are added where both reach, (first length, number, length, …, classes) to
    (first length, second length, …, classes).
    """
    for place, step in reversed(list(enumerate(steps))):
        axis = 2 * place + 1
        own, beyond = tf.split(logits, [step, logits.shape[axis + 1] - step], axis=axis + 1)
        pads = [[0, 0] for _ in logits.shape]
        pads[axis] = [0, 1]
        last = list(pads)
        last[axis], last[axis + 1] = [1, 0], [0, step - beyond.shape[axis + 1]]
        both = tf.pad(own, pads) + tf.pad(beyond, last)
        shape = tf.shape(both)
        merged = tf.concat([shape[:axis], [shape[axis] * step], shape[axis + 2 :]], axis=0)
        length = (shape[axis] - 1) * step + beyond.shape[axis + 1]
        logits = tf.gather(tf.reshape(both, merged), tf.range(length), axis=axis)
    return logits


def _weights(patches: Patches, counts: Sequence[tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """What each pixel of a row's answers counts, arranged like them, as a function of the number of the row.

    Towards a neighbour a patch fades out as far as both reach; at the edge of the picture it does not.
    """
    ramps = []
    for count, length, both, step in zip(counts, patches.answered, patches.shared, patches.steps, strict=True):
        rise = (tf.range(float(length)) + 1) / (both + 1)
        ramp = tf.tile(tf.minimum(tf.minimum(rise, rise[::-1]), 1.0)[None], [count, 1])
        sums = tf.reshape(_overlap_add(ramp[None, ..., None], [step]), [-1])
        ramps.append(ramp / tf.gather(sums, tf.range(count)[:, None] * step + tf.range(length)))

    def weights(number: tf.Tensor) -> tf.Tensor:
        weights = ramps[0][number][:, None]
        for ramp in ramps[1:]:
            weights = weights[..., None, None, :] * ramp[..., None]
        return weights

    return weights
