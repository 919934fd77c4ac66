"""What the answer of a network rests on: Grad-CAM of how far its numbers are from the training mean."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cnn_keras.learn import visualization
from cnn_keras.ops.resize import resize_image
from pipelines.data import image_dataset
from pipelines.engine import heat_maps
from pipelines.engine.stages import Run
from pipelines.plots.image_grid import Array, Strip
from pipelines.tasks.regress import dataset, model


def explainer(run: Run) -> heat_maps.Explainer:
    """What explains the numbers of pictures, uint8 (height, width, channels), of any size."""
    reader, data, shape = model.regressor(run), run.facts("prepare"), image_dataset.shape_of(run.recipe.data)

    def distance(y: tf.Tensor) -> tf.Tensor:
        """The sum of the standardised numbers' distances from the training mean, (batch,)."""
        return tf.reduce_sum(tf.abs(model.decode(y, reader.head, len(reader.names))[0]), axis=-1)

    def explain(examples: Sequence[Array]) -> list[list[Strip]]:
        images = np.stack([resize_image(example, shape.size, fit=shape.fit).numpy() for example in examples])
        values = reader.answer(images)["values"].numpy()
        heat = visualization.grad_cam(reader.model, images, distance)
        rows = zip(values, images, heat, strict=True)
        return [[Strip(dataset.described(own, data), "", heat_maps.draw_heat_map(*pair))] for own, *pair in rows]

    return explain
