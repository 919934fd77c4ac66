"""A detector's answers with masks: which pixels of the picture, as it was, each thing covers.

The network's mask head is asked about the boxes that are told, so that a mask lies in its box to the pixel.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from cnn_keras.data import run_length
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.ops import boxes, instance_masks, test_time_augmentation
from cnn_keras.ops.boxes import Detections
from cnn_keras.ops.test_time_augmentation import WHOLE, View
from pipelines.tasks.detect.config import Suppress
from pipelines.tasks.detect.decode import Reader
from pipelines.tasks.detect.error_types import Detected

Masks = Callable[[Any, Any, Any], Any]  # a network's outputs, boxes and classes to what a family's `masks` gives
Runs = dict[str, Any]  # COCO's run lengths of one mask


class MaskReader(Reader):
    """Tells what a detector found in pictures, and the mask of each.

    Args:
        outputs: of framed images, what the network answers.
        candidates: of those, what its family's `decode` gives.
        masks: of those, boxes (batch, N, 4) in [0, 1] of the frame and classes (batch, N), small masks (batch, N, side,
            side) in [0, 1].
    """

    def __init__(
        self,
        outputs: Callable[[Any], Any],
        *,
        candidates: Callable[[Any], tuple[Any, Any]],
        masks: Masks,
        settings: Suppress,
        shape: Shape,
        views: Sequence[View] = (WHOLE,),
    ) -> None:
        super().__init__(lambda images, proposals: candidates(outputs(images)), settings, shape=shape, views=views)
        self.outputs, self.read, self.masks = outputs, candidates, masks

    def masked(self, images: tf.Tensor, sizes: tf.Tensor) -> tuple[Detections, tf.Tensor]:
        """Detections, as those of Reader, and the small mask of each: float32 (batch, limit, side, side), in [0, 1].

        Of several views it is the mean of what each says of the box.
        """
        frame = images.shape[1:3]
        outputs = [self.outputs(view.picture(images)) for view in self.views]
        each = [self.read(output) for output in outputs]
        candidates, scores = test_time_augmentation.candidates_back(each, self.views, frame)
        detections = self.told(candidates, scores, images, sizes)
        scale = tf.tile(tf.cast(sizes, tf.float32)[:, ::-1], [1, 2])[:, None]
        framed_boxes = boxes.letterbox(detections.boxes / scale, sizes, tf.shape(images)[1:3], fit=self.shape.fit)
        masks = [
            view.masks_back(self.masks(output, view.boxes(framed_boxes, frame), detections.classes))
            for view, output in zip(self.views, outputs, strict=True)
        ]
        return detections, tf.add_n(masks) / len(masks)

    def answer(
        self, images: tf.Tensor, sizes: tf.Tensor, proposals: tf.Tensor | None = None
    ) -> tuple[Detections, dict[str, tf.Tensor]]:
        """Detections, and `instances_bytes`, string (batch,): a grey PNG of the size the picture had.

        Its pixels are 0 where nothing is, else the number of a detection, from 1; where things overlap, the likelier
        is in front.
        """
        detections, masks = self.masked(images, sizes)

        def png(example: Any) -> Any:
            small, box_masks, count, size = example
            return tf.io.encode_png(instance_masks.paste_masks(small, box_masks, count, size)[..., None])

        parts = (masks, detections.boxes, tf.minimum(detections.count, instance_masks.MOST), sizes)
        return detections, {"instances_bytes": tf.map_fn(png, parts, fn_output_signature=tf.string)}


def differing(ours: bytes, other: bytes) -> float:
    """The share of pixels in which two maps of instances, PNGs, differ."""
    first, second = (tf.io.decode_png(data, channels=1) for data in (ours, other))
    return float(tf.reduce_mean(tf.cast(first != second, tf.float32)))


def detect(
    reader: MaskReader, batches: Iterable[dict[str, Any]], advance: Callable[[int], Any]
) -> tuple[list[Detected], list[list[Runs]]]:
    """One pass over a split: what was found in each picture, and the whole mask of each, whatever is in front of it."""
    ask = tf.function(reader.masked, autograph=False, reduce_retracing=True)
    spread = tf.function(
        lambda small, box, size: tf.map_fn(
            lambda mask_and_box: instance_masks.paste_mask(mask_and_box[0], mask_and_box[1], size),
            (small, box),
            fn_output_signature=tf.bool,
        ),
        autograph=False,
        reduce_retracing=True,
    )
    answers, covered = [], []
    for batch in batches:
        detections, small = ask(batch["image"], batch["extent"])
        for row, count in enumerate(detections.count.numpy()):
            answers.append(Detected(*(column[row, :count].numpy() for column in detections[:3])))
            whole = spread(small[row, :count], detections.boxes[row, :count], batch["extent"][row])
            covered.append([run_length.encode(mask) for mask in whole.numpy()])
        advance(len(detections.count))
    return answers, covered
