"""Many views at test time: the probabilities of several crops of an image, averaged; the candidates of several views.

Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012, section 4.1:
of an image whose shorter side is 256, the four corners and the centre of 224, and their mirrors. Szegedy et al., "Going
deeper with convolutions", 2015, section 7: the same at the scales 256, 288, 320 and 352.

Differs from the papers: a network of any size looks through a window of its own size at an image of 8/7 of it, which
is 256 to 224; `multiscale` adds 384 to GoogLeNet's four scales; the image has already got its aspect ratio by the
framing of the data, so that it is as wide as it is high where the network is; smaller scales are made from the largest.
A picture smaller than that – a digit of 28×28 – is enlarged first: a crop then shows it larger than training did.

Detectors and segmenters are shown a `View` of the whole picture each time, mirrored, or smaller within the same frame,
and what they say of it is carried back.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cnn_keras.ops import boxes

SHARES = {"flip": (1.0,), "multiscale": (1.0, 5 / 6, 2 / 3)}  # of the frame, that the picture is shown at
SCALES = {"ten": (8 / 7,), "multiscale": (8 / 7, 9 / 7, 10 / 7, 11 / 7, 12 / 7)}  # of the network's size


class View(NamedTuple):
    """A way to look at a framed picture: at a share of its size, in the middle of the frame, and in a mirror or not."""

    share: float = 1.0
    mirrored: bool = False

    def picture(self, images: tf.Tensor) -> tf.Tensor:
        """What is seen, uint8 (batch, height, width, channels), 0–255, of images of that shape; the rest is black.

        Volumes (batch, depth, height, width, channels) can be mirrored, too.
        """
        pixels = images
        if self.share != 1:
            frame = images.shape[1:3]
            inner, (top, left) = self._inside(frame)
            small = tf.saturate_cast(tf.round(tf.image.resize(images, inner, antialias=True)), tf.uint8)
            pixels = tf.image.pad_to_bounding_box(small, top, left, *frame)
        return tf.reverse(pixels, [-2]) if self.mirrored else pixels

    def maps_back(self, maps: tf.Tensor) -> tf.Tensor:
        """What is said of each pixel that is seen, float32 (batch, *sizes, channels), as said of the picture."""
        maps = tf.reverse(maps, [-2]) if self.mirrored else maps
        if self.share == 1:
            return maps
        inner, (top, left) = self._inside(maps.shape[1:3])
        return tf.image.resize(tf.image.crop_to_bounding_box(maps, top, left, *inner), maps.shape[1:3])

    def boxes(self, extent: tf.Tensor, frame: Sequence[int]) -> tf.Tensor:
        """Boxes of the picture, float32 (…, 4) in [0, 1], as boxes of what is seen; rows without area stay zeros.

        Args:
            frame: (height, width) of the images.
        """
        scale, move = self._placement(frame)
        return self._mirrored(tf.where(boxes.valid(extent)[..., None], extent * scale + move, 0))

    def back(self, view_boxes: tf.Tensor, frame: Sequence[int]) -> tf.Tensor:
        """Boxes (batch, n, 4) of the view as boxes of the picture: undoes `boxes`, and clips nothing."""
        scale, move = self._placement(frame)
        view_boxes = self._mirrored(view_boxes)
        return tf.where(boxes.valid(view_boxes)[..., None], (view_boxes - move) / scale, 0)

    def masks_back(self, masks: tf.Tensor) -> tf.Tensor:
        """Masks within boxes of what is seen, (…, height, width), as masks within boxes of the picture."""
        return tf.reverse(masks, [-1]) if self.mirrored else masks

    def _inside(self, frame: Sequence[int]) -> tuple[list[int], list[int]]:
        """(height, width) of the picture in the frame, and where its top left corner is."""
        inner = [max(1, round(self.share * side)) for side in frame]
        return inner, [(side - own) // 2 for side, own in zip(frame, inner, strict=True)]

    def _placement(self, frame: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
        """Factor and summand, float32 (4,), from [0, 1] of the picture to [0, 1] of the frame."""
        inner, start = self._inside(frame)
        scale, move = (
            tf.constant([own / side for own, side in zip(part, frame, strict=True)][::-1] * 2, tf.float32)
            for part in (inner, start)
        )
        return scale, move

    def _mirrored(self, corners: tf.Tensor) -> tf.Tensor:
        if not self.mirrored:
            return corners
        left, top, right, bottom = tf.unstack(corners, axis=-1)
        mirrored = tf.stack([1 - right, top, 1 - left, bottom], axis=-1)
        return tf.where(boxes.valid(corners)[..., None], mirrored, 0)


WHOLE = View()  # the picture as it is


def whole_views(kind: str, *, mirror: bool = True) -> list[View]:
    """Views of the whole, the picture as it is first: "flip", or "multiscale" with the smaller `SHARES`.

    Args:
        mirror: whether each is followed by its mirror image; false for what is not itself in a mirror.
    """
    return [View(share, side) for share in SHARES[kind] for side in ((False, True) if mirror else (False,))]


def candidates_back(
    answers: Sequence[tuple[tf.Tensor, tf.Tensor]], views: Sequence[View], frame: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """The candidates of all views together, boxes float32 (batch, N, 4) in [0, 1] of the picture and scores.

    Args:
        answers: boxes (batch, n, 4) and scores (batch, n, classes) of each view.
        frame: (height, width) of the images.
    """
    places = [view.back(candidates, frame) for view, (candidates, _) in zip(views, answers, strict=True)]
    return tf.concat(places, axis=1), tf.concat([scores for _, scores in answers], axis=1)


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
    views_ = [view for scale in SCALES[kind] for view in _five(_scaled(frames, size, scale), size)]
    if mirror:
        views_ = [side for view in views_ for side in (view, tf.reverse(view, [2]))]
    return tf.reshape(tf.stack(views_, axis=1), (-1, *size, frames.shape[-1]))


def view_probabilities(
    model: keras.Model,
    frames: tf.Tensor,
    size: tuple[int, int],
    *,
    kind: str = "ten",
    mirror: bool = True,
    activation: Callable[[tf.Tensor], tf.Tensor] = tf.nn.softmax,
) -> tf.Tensor:
    """What `model`, which gives logits, makes of every view: probabilities, float32 (batch, count, classes).

    `frames`, `size`, `kind` and `mirror` are those of `views`; `activation` makes probabilities of logits, float32.
    """
    logits = model(views(frames, size, kind=kind, mirror=mirror), training=False)
    probabilities = activation(tf.cast(logits, tf.float32))
    return tf.reshape(probabilities, (-1, count(kind, mirror=mirror), probabilities.shape[-1]))


def probabilities(model: keras.Model, frames: tf.Tensor, size: tuple[int, int], **options: Any) -> tf.Tensor:
    """The mean of `view_probabilities`, whose options it takes, over the views: float32 (batch, classes)."""
    return tf.reduce_mean(view_probabilities(model, frames, size, **options), axis=1)


def center_view(*, mirror: bool = True) -> int:
    """Which of the views is the centre at the first scale, as it is."""
    return 8 if mirror else 4


def _scaled(frames: tf.Tensor, size: tuple[int, int], scale: float) -> tf.Tensor:
    scaled_size = [round(pixels * scale) for pixels in size]
    if scaled_size == list(frames.shape[1:3]):
        return frames
    return tf.saturate_cast(tf.round(tf.image.resize(frames, scaled_size, antialias=True)), tf.uint8)


def _five(frames: tf.Tensor, size: tuple[int, int]) -> Iterator[tf.Tensor]:
    (height, width), (down, right) = size, (frames.shape[1] - size[0], frames.shape[2] - size[1])
    corners = [(top, left) for top in (0, down) for left in (0, right)]
    for top, left in [*corners, (down // 2, right // 2)]:
        yield frames[:, top : top + height, left : left + width]
