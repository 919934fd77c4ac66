"""What a detector's objects rest on: LayerCAM of the score of each."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.learn import visualization
from cnn_keras.ops import boxes
from cnn_keras.ops.resize import resize_image
from pipelines.data.boxes import box_dataset, proposals
from pipelines.engine import heat_maps
from pipelines.engine.stages import Run
from pipelines.plots import annotate
from pipelines.plots.image_grid import Array, Strip
from pipelines.tasks.detect.config import Suppress
from pipelines.tasks.detect.decode import Reader
from pipelines.tasks.detect.model import family, inputs_for, load_trained, make_reader, network_of

OBJECTS = 2  # of one picture, the likeliest
POSITIONS = 8  # along the longer side of the map that is looked at: a coarser one shows no object
NEARLY = 1e-6  # of certainty, where the odds are cut off


def score_of_object(decode: Callable[[Any], tuple[Any, Any]]) -> Callable[[Any, Any, Any], Any]:
    """The score that is explained: a function of the outputs, boxes (batch, 4) in [0, 1] of the frame and classes
    (batch,) to the logarithm of the odds of the candidate that the box was read from, (batch,).

    The score itself has hardly a gradient where it is nearly 1.

    Args:
        decode: the network's outputs to candidates, (batch, N, 4), and their scores, (batch, N, classes).
    """

    def target(outputs: Any, target_boxes: Any, classes: Any) -> Any:
        candidates, scores = decode(outputs)
        own = tf.gather(scores, tf.cast(classes, tf.int32), axis=-1, batch_dims=1)
        near = boxes.iou(candidates, target_boxes[:, None]) + 1e-3 * own  # of candidates in one place, the likeliest
        score = tf.gather(own, tf.argmax(near, axis=-1), axis=1, batch_dims=1)
        return tf.math.log(score + NEARLY) - tf.math.log(1 - score + NEARLY)

    return target


class Evidence(NamedTuple):
    """What the N likeliest objects of some framed pictures rest on.

    Attributes:
        rows: the number of each object's picture, (N,).
        boxes: in pixels of the framed picture, float32 (N, 4), left, top, right, bottom.
        classes: (N,).
        scores: (N,).
        heat: LayerCAM of each, float32 (N, height, width).
    """

    rows: Array
    boxes: Array
    classes: Array
    scores: Array
    heat: Array


def evidence(run: Run, model: keras.Model) -> Callable[[Array], Evidence | None]:
    """What finds and explains the likeliest objects of framed pictures, uint8 (batch, *data.size, 3); None of none."""
    recipe, data = run.recipe, run.recipe.data
    kind, network = family(recipe.model.builder), network_of(model)
    settings = Suppress(threshold=recipe.evaluate.shown, limit=OBJECTS, overlap=recipe.evaluate.suppress.iou_threshold)
    layer = visualization.bottleneck_layer(model, input_shape=(*data.size, 3), positions=POSITIONS)

    def candidates(images: Any, regions: Any = None) -> Any:
        return kind.decode(network, model(inputs_for(model, images, proposals=regions), training=False))

    reader = Reader(candidates, settings, shape=box_dataset.shape_of(data))
    target = score_of_object(lambda outputs: kind.decode(network, outputs))

    def found(images: Array) -> Evidence | None:
        regions = proposals.of_images(list(images), **data.proposals.model_dump()) if data.proposals else None
        detections = reader(tf.constant(images), tf.tile([data.size], [len(images), 1]), regions)
        rows, places = np.nonzero(np.arange(OBJECTS) < detections.count.numpy()[:, None])
        if not len(rows):
            return None
        corners, scores, numbers = (part.numpy()[rows, places] for part in detections[:3])
        inputs = inputs_for(model, images[rows], proposals=None if regions is None else regions[rows])
        shares = (corners / np.tile(data.size[::-1], 2)).astype(np.float32)
        heat = visualization.grad_cam(model, inputs, target, shares, numbers, layer=layer, pooled=False)
        return Evidence(rows, corners, numbers, scores, heat)

    return found


def explainer(run: Run) -> heat_maps.Explainer:
    """What explains the likeliest objects in pictures, uint8 (height, width, 3), of any size.

    Of a photograph that is read in tiles, it looks at a tile around the likeliest object.
    """
    recipe, model = run.recipe, load_trained(run)
    data, names = recipe.data, run.facts("prepare")["classes"]
    settings = Suppress(threshold=recipe.evaluate.shown, limit=OBJECTS, overlap=recipe.evaluate.suppress.iou_threshold)
    photographs, find = make_reader(run, model, settings) if data.tile else None, evidence(run, model)

    def explain(examples: Sequence[Array]) -> list[list[Strip]]:
        pictures = [_tile(example, photographs, data.tile.size) for example in examples] if photographs else examples
        images = np.stack([resize_image(picture, data.size, fit=data.fit).numpy() for picture in pictures])
        strips: list[list[Strip]] = [[] for _ in examples]
        for row, box, number, score, own in zip(*(find(images) or [[]] * 5), strict=True):
            plain, heat_picture = heat_maps.draw_heat_map(images[row], own)
            answer = annotate.draw_boxes(plain, box[None], [names[number]], [float(score)], classes=[int(number)])
            strip = [plain, answer, annotate.draw_boxes(heat_picture, box[None], [""], classes=[int(number)])]
            strips[row].append(Strip(f"{names[number]} ({score:.2f})", "", strip))
        return strips

    return explain


def _tile(photograph: Array, reader: Reader, size: int) -> Array:
    """The part of a photograph, at most `size` pixels a side, around the likeliest object, or its middle."""
    extent = np.array(photograph.shape[:2])
    detections = reader(tf.constant(photograph[None]), tf.constant(extent[None], tf.int32))
    left, top, right, bottom = detections.boxes[0, 0].numpy() if detections.count[0] else [0, 0, *extent[::-1]]
    middle = np.array([top + bottom, left + right]) / 2
    start = np.clip(np.round(middle - size / 2), 0, np.maximum(extent - size, 0)).astype(int)
    return photograph[start[0] : start[0] + size, start[1] : start[1] + size]
