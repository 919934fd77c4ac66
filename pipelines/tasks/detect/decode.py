"""One way to read a detector's answers, for evaluate, predict and the exported graph alike.

Of the candidates that a network gives, a threshold and non-maximum suppression leave some; their boxes are told in
pixels of the picture as it was. A network that was trained on tiles reads a photograph in tiles too.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.data.sources import tiles
from cnn_keras.data.sources.tiles import Windows
from cnn_keras.ops import boxes, test_time_augmentation
from cnn_keras.ops.boxes import Detections
from cnn_keras.ops.resize import resize_image
from cnn_keras.ops.test_time_augmentation import WHOLE, View
from pipelines.tasks.detect.config import Suppress
from pipelines.tasks.detect.error_types import Detected

Candidates = Callable[[Any, Any], tuple[Any, Any]]  # framed images and proposals, to what a family's `decode` gives
AT_ONCE = 8  # tiles that the network takes at a time


def suppress(candidates: tf.Tensor, scores: tf.Tensor, settings: Suppress) -> Detections:
    """What stays of candidates, as of `cnn_keras.ops.boxes.non_max_suppression`."""
    limits: dict[str, Any] = {
        "threshold": settings.threshold,
        "limit": settings.limit,
        "overlap": settings.iou_threshold,
    }
    if settings.soft:
        return boxes.soft_non_max_suppression(candidates, scores, sigma=settings.soft, **limits)
    return boxes.non_max_suppression(candidates, scores, **limits)


class Reader:
    """Tells what a detector found in pictures, in pixels of the pictures as they were.

    `whole` tells whether it is given pictures as they are, rather than framed ones. Of several `views` the candidates
    are suppressed together.
    """

    whole = False

    def __init__(
        self, candidates: Candidates, settings: Suppress, *, shape: Shape, views: Sequence[View] = (WHOLE,)
    ) -> None:
        self.candidates, self.settings, self.shape, self.views = candidates, settings, shape, views

    def __call__(self, images: tf.Tensor, sizes: tf.Tensor, proposals: tf.Tensor | None = None) -> Detections:
        """Detections in pictures.

        Args:
            images: uint8 (batch, height, width, 3), 0–255.
            sizes: int32 (batch, 2), (height, width) of each picture before it was framed.
            proposals: float32 (batch, P, 4), in [0, 1] of the framed pictures, for a network that is given regions.

        Returns:
            The best first, padded with zeros; boxes float32 (batch, limit, 4) in pixels of the picture before.
        """
        detections: Detections = self.told(*self.all_candidates(images, proposals), images, sizes)
        return detections

    def all_candidates(self, images: tf.Tensor, proposals: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """The candidates of all views, float32 (batch, N, 4) in [0, 1] of the frame, and their scores."""
        frame = images.shape[1:3]
        regions = [None if proposals is None else view.boxes(proposals, frame) for view in self.views]
        answers = [self.candidates(view.picture(images), own) for view, own in zip(self.views, regions, strict=True)]
        return test_time_augmentation.candidates_back(answers, self.views, frame)

    def answer(
        self, images: tf.Tensor, sizes: tf.Tensor, proposals: tf.Tensor | None = None
    ) -> tuple[Detections, dict[str, tf.Tensor]]:
        """Detections, and what the exported model says besides: nothing."""
        return self(images, sizes, proposals), {}

    def told(self, candidates: tf.Tensor, scores: tf.Tensor, images: tf.Tensor, sizes: tf.Tensor) -> Any:
        """What is left of candidates (batch, N, 4) in [0, 1] of the frame and their scores (batch, N, classes)."""
        detections = suppress(candidates, scores, self.settings)
        sizes = tf.cast(sizes, tf.float32)
        corners = boxes.clip(boxes.unletterbox(detections.boxes, sizes, tf.shape(images)[1:3], fit=self.shape.fit))
        return detections._replace(boxes=corners * tf.tile(sizes[:, ::-1], [1, 2])[:, None])


class TiledReader(Reader):
    """Reads a photograph tile by tile, each as a picture of its own, as large as the network knows things from tiles.

    What is found counts where its midpoint is nearer to the middle of its tile than to that of any other, so that
    nothing is found twice, nor cut by the border of a tile, unless it is larger than the tiles' overlap.
    """

    whole = True

    def __init__(
        self,
        candidates: Candidates,
        settings: Suppress,
        *,
        shape: Shape,
        classes: int,
        size: int,
        overlap: float,
        views: Sequence[View] = (WHOLE,),
    ) -> None:
        super().__init__(candidates, settings, shape=shape, views=views)
        self.classes, self.size, self.overlap = classes, size, overlap

    def __call__(self, images: tf.Tensor, sizes: tf.Tensor, proposals: tf.Tensor | None = None) -> Detections:
        """As of Reader, for a batch of one: a photograph that has not been framed; there are no proposals."""
        place = tiles.windows(sizes[0], size=self.size, overlap=self.overlap)
        detections = self._found(images[0], place)
        corners = detections.boxes + tf.cast(tf.tile(place.corners[:, ::-1], [1, 2]), tf.float32)[:, None]
        middle, own = boxes.xyxy_to_cxcywh(corners)[..., :2], place.own[:, None]
        mine = tf.reduce_all((middle >= own[..., :2]) & (middle < own[..., 2:]), axis=-1)
        scores = tf.one_hot(detections.classes, self.classes) * tf.where(mine, detections.scores, 0)[..., None]
        together = tf.reshape(corners, [1, -1, 4]), tf.reshape(scores, [1, -1, self.classes])
        return suppress(*together, self.settings)

    def _found(self, photograph: tf.Tensor, place: Windows) -> Detections:
        """What is found in each tile, in pixels of the tile: of T pictures."""
        count, limit = tf.shape(place.corners)[0], self.settings.limit
        at_once = tf.minimum(count, AT_ONCE)
        tile = tf.TensorSpec((*self.shape.size, self.shape.channels), tf.uint8)
        kinds = Detections(
            tf.TensorSpec((None, limit, 4), tf.float32),
            tf.TensorSpec((None, limit), tf.float32),
            tf.TensorSpec((None, limit), tf.int64),
            tf.TensorSpec((None,), tf.int32),
        )

        def crop(corner: Any) -> Any:
            part = tf.slice(photograph, tf.pad(corner, [[0, 1]]), tf.concat([place.size, [tile.shape[-1]]], axis=0))
            return resize_image(
                tf.ensure_shape(part, (None, None, tile.shape[-1])), self.shape.size, fit=self.shape.fit
            )

        def read_group(corners: Any) -> Any:
            images = tf.map_fn(crop, corners, fn_output_signature=tile)
            return Reader.__call__(self, images, tf.tile(place.size[None], [at_once, 1]))

        groups = tf.reshape(tf.pad(place.corners, [[0, -count % at_once], [0, 0]]), [-1, at_once, 2])
        groups_read = tf.map_fn(read_group, groups, fn_output_signature=kinds)
        return Detections(*(tf.reshape(part, tf.concat([[-1], tf.shape(part)[2:]], 0))[:count] for part in groups_read))


def detect(reader: Reader, batches: Iterable[dict[str, Any]], advance: Callable[[int], Any]) -> list[Detected]:
    """One pass over a split: what was found in each picture, in pixels of it as it was.

    Args:
        batches: examples with `image`, framed, and `extent`, the height and width before.
        advance: told how many more pictures are done.
    """
    answers = []
    ask = tf.function(reader, autograph=False, reduce_retracing=True)
    for batch in batches:
        detections = ask(batch["image"], batch["extent"], batch.get("proposals"))
        counts = detections.count.numpy()
        columns = [column.numpy() for column in detections[:3]]
        answers += [Detected(*(column[row, :count] for column in columns)) for row, count in enumerate(counts)]
        advance(len(counts))
    return answers
