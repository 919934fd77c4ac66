"""Many crops at test time: the probabilities of several views of an image, averaged.

Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012, section 4.1:
of an image whose shorter side is 256, the four corners and the centre of 224, and their mirrors. Szegedy et al., "Going
deeper with convolutions", 2015, section 7: the same at the scales 256, 288, 320 and 352.

Differs from the papers: a network of any size looks through a window of its own size at an image of 8/7 of it, which
is 256 to 224; `multiscale` adds 384 to GoogLeNet's four scales; the image has already got its aspect ratio by the
framing of the data, so that it is as wide as it is high where the network is; smaller scales are made from the largest.
A picture smaller than that – a digit of 28×28 – is enlarged first: a crop then shows it larger than training did.
"""

from collections.abc import Iterator

import keras
import tensorflow as tf

SCALES = {"ten": (8 / 7,), "multiscale": (8 / 7, 9 / 7, 10 / 7, 11 / 7, 12 / 7)}  # of the network's size


def frame_size(size: tuple[int, int], kind: str) -> tuple[int, ...]:
    """The (height, width) of the images that views of `size` are cut from."""
    return tuple(round(pixels * SCALES[kind][-1]) for pixels in size)


def count(kind: str, *, mirror: bool = True) -> int:
    """How many views there are of an image: 10 at each scale, or 5 without the mirrors."""
    return len(SCALES[kind]) * (10 if mirror else 5)


def views(frames: tf.Tensor, size: tuple[int, int], *, kind: str = "ten", mirror: bool = True) -> tf.Tensor:
    """Cut the views out of images: uint8 (batch, *frame_size(size, kind), channels), 0–255.

    Args:
        size: (height, width) of a view.
        kind: "ten" or "multiscale".
        mirror: whether each view is followed by its mirror image; false for what is not itself in a mirror.

    Returns:
        uint8 (batch · count, *size, channels), 0–255, the views of one image behind one another: at each scale left
        top, right top, left bottom, right bottom, centre.
    """
    found = [view for scale in SCALES[kind] for view in _five(_scaled(frames, size, scale), size)]
    if mirror:
        found = [side for view in found for side in (view, tf.reverse(view, [2]))]
    return tf.reshape(tf.stack(found, axis=1), (-1, *size, frames.shape[-1]))


def view_probabilities(
    model: keras.Model, frames: tf.Tensor, size: tuple[int, int], *, kind: str = "ten", mirror: bool = True
) -> tf.Tensor:
    """What `model`, which gives logits, makes of every view: probabilities, float32 (batch, count, classes).

    `frames`, `size`, `kind` and `mirror` are those of `views`.
    """
    logits = model(views(frames, size, kind=kind, mirror=mirror), training=False)
    found = tf.nn.softmax(tf.cast(logits, tf.float32))
    return tf.reshape(found, (-1, count(kind, mirror=mirror), found.shape[-1]))


def probabilities(
    model: keras.Model, frames: tf.Tensor, size: tuple[int, int], *, kind: str = "ten", mirror: bool = True
) -> tf.Tensor:
    """The mean of `view_probabilities` over the views of an image: float32 (batch, classes)."""
    return tf.reduce_mean(view_probabilities(model, frames, size, kind=kind, mirror=mirror), axis=1)


def center_view(*, mirror: bool = True) -> int:
    """Which of the views is the centre at the first scale, as it is."""
    return 8 if mirror else 4


def _scaled(frames: tf.Tensor, size: tuple[int, int], scale: float) -> tf.Tensor:
    wanted = [round(pixels * scale) for pixels in size]
    if wanted == list(frames.shape[1:3]):
        return frames
    return tf.saturate_cast(tf.round(tf.image.resize(frames, wanted, antialias=True)), tf.uint8)


def _five(frames: tf.Tensor, size: tuple[int, int]) -> Iterator[tf.Tensor]:
    (height, width), (down, right) = size, (frames.shape[1] - size[0], frames.shape[2] - size[1])
    corners = [(top, left) for top in (0, down) for left in (0, right)]
    for top, left in [*corners, (down // 2, right // 2)]:
        yield frames[:, top : top + height, left : left + width]
