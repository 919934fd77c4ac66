"""Images made to excite a unit.

Yosinski, Clune, Nguyen, Fuchs and Lipson, "Understanding neural networks through deep visualization", 2015.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.learn import model_profile
from cnn_keras.learn.visualization.layer_selection import check_units, field_box, layer_row
from cnn_keras.learn.visualization.taps import batches, compile_for, tap

# Activation maximisation. In the first step the pixel that moves most moves by RATE of the span, and DECAY of what
# distinguishes the image from its start is forgotten; every BLUR_EVERY steps it is blurred. All shrink to LAST of that.
RATE, DECAY, LAST, NOISE, BLUR_EVERY = 0.1, 0.01, 0.1, 0.05, 4


class MaximizedImages(NamedTuple):
    """Images that were made to excite a unit each, and how much they do."""

    images: np.ndarray  # float32 (units, height, width, channels), in the span of the pixels
    activations: np.ndarray  # float32 (units,)
    boxes: np.ndarray  # int64 (units, 4): left, top, right, bottom of the unit's field, which may cross the border


def maximize_activation(
    model: keras.Model,
    layer: str,
    *,
    units: Sequence[int],
    start: float | Sequence[float] = 127.5,
    span: tuple[float, float] = (0, 255),
    steps: int = 160,
    seed: int = 0,
) -> MaximizedImages:
    """Images that excite units of a layer as much as they can be made to: gradient ascent on the pixels.

    Of a layer with positions it is the unit in the middle. In each step the image, shifted a little, follows the
    gradient, scaled so that the pixel that moves most moves by a fixed amount; then it forgets a little of what
    distinguishes it from `start`; every few steps it is blurred. The same seed gives the same images.

    The gradient is that before the unit's own non-linearity, else a ReLU that is silent at the start would stay so.

    Differs from the paper: the shift (of Mordvintsev, Olah and Tyka, 2015) and steps that grow smaller instead of the
    clipping of small norms and contributions; one set of constants instead of a search for them.

    Args:
        layer: name of any layer; of the last, the units are the classes.
        units: numbers of the units.
        start: what the images begin as, under some noise, and are pulled back to: a number, or one for each channel.
        span: least and largest value of a pixel.
    """
    row = layer_row(model, layer)
    units = check_units(units, row)
    shape = (len(units), *model.inputs[0].shape[1:])
    start = tf.broadcast_to(tf.constant(start, tf.float32), shape)
    width = float(span[1] - span[0])
    noise = NOISE * width * tf.random.stateless_normal(shape, (seed, 0))
    results = []
    for rows in batches(np.arange(len(units)), inference.batch_limit(model)):
        batch_units, batch_start = [units[number] for number in rows], tf.gather(start, rows)
        linear, activated = (_middle(tap(model, row.name, linear=linear), batch_units) for linear in (True, False))
        images = batch_start + tf.gather(noise, rows)
        climb = _climb(linear, batch_start, span, _jitter(row, shape))
        for step in range(steps):
            shrunk = 1 - (1 - LAST) * step / steps
            images = climb(images, tf.constant((seed, step + 1)), tf.constant(shrunk, tf.float32))
            if step % BLUR_EVERY == 0:
                images += shrunk * (_blurred(images) - images)
        results.append((images.numpy(), compile_for(activated, shape[1:])(images).numpy()))
    images, activations = (np.concatenate(column) for column in zip(*results, strict=True))
    place = [size // 2 for size in row.output_shape[:-1]]
    box = field_box(row, place) if row.jump else (0, 0, shape[2], shape[1])
    return MaximizedImages(images, activations, np.tile(np.array(box), (len(units), 1)))


def _middle(tapped: Callable[[tf.Tensor], Any], units: Sequence[int]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from images, one for each unit, to the activation of that unit, in the middle of its map."""

    def middle(images: tf.Tensor) -> tf.Tensor:
        maps = tapped(images)[0]
        for _ in maps.shape[1:-1]:
            maps = maps[:, tf.shape(maps)[1] // 2]
        return tf.gather(maps, tf.constant(units), axis=1, batch_dims=1)

    return middle


def _jitter(row: model_profile.Row, shape: Sequence[int]) -> int:
    """Pixels by which an image may be shifted: few in small images and fields, which a shift would smear."""
    return int(min(4, min(*row.receptive_field, *shape[1:3]) // 12))


def _climb(
    activation: Callable[[tf.Tensor], tf.Tensor], start: tf.Tensor, span: tuple[float, float], jitter: int
) -> Callable[..., tf.Tensor]:
    """A function that makes one step of gradient ascent, `shrunk` to a share of the first."""
    rate = RATE * (span[1] - span[0])

    def climb(images: tf.Tensor, key: tf.Tensor, shrunk: tf.Tensor) -> tf.Tensor:
        shift = tf.random.stateless_uniform((2,), key, -jitter, jitter + 1, tf.int32)
        with tf.GradientTape() as tape:
            tape.watch(images)
            excited = activation(tf.roll(images, shift, axis=(1, 2)))
        gradient = tape.gradient(excited, images)
        largest = tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
        stepped = images + shrunk * rate * gradient / tf.maximum(largest, 1e-12)
        return tf.clip_by_value(start + (1 - shrunk * DECAY) * (stepped - start), *span)

    key, share = tf.TensorSpec((2,), tf.int32), tf.TensorSpec((), tf.float32)
    return compile_for(climb, start.shape[1:], key, share)


def _blurred(images: tf.Tensor) -> tf.Tensor:
    """Each pixel mixed with its neighbours, 1-2-1 along both axes; beyond the border the image goes on."""
    for axis in (1, 2):
        before, after = (tf.gather(images, [at], axis=axis) for at in (0, images.shape[axis] - 1))
        padded = tf.concat([before, images, after], axis=axis)
        shifted = [tf.gather(padded, tf.range(k, k + images.shape[axis]), axis=axis) for k in range(3)]
        images = (shifted[0] + 2 * shifted[1] + shifted[2]) / 4
    return images
