"""What the answer of a localizer rests on: Grad-CAM of its saying that something is there, and what."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.learn import visualization
from cnn_keras.ops.resize import resize_image
from pipelines.engine import heat_maps
from pipelines.engine.stages import Run
from pipelines.plots import annotate
from pipelines.plots.image_grid import Array, Strip
from pipelines.tasks.localize.decode import load_trained


def presence_and_class(y: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """The score that is explained: the logit of p_c plus that of the class, (batch,)."""
    return y[:, 0] + tf.gather(y, 5 + tf.cast(classes, tf.int32), axis=1, batch_dims=1)


def explainer(run: Run) -> heat_maps.Explainer:
    """What explains where and what the one thing of pictures, uint8 (height, width, 3), of any size is."""
    locator, data = load_trained(run), run.recipe.data
    ask = inference.predictor(locator.model, locator)

    def explain(examples: Sequence[Array]) -> list[list[Strip]]:
        images = np.stack([resize_image(example, data.size, fit=data.fit).numpy() for example in examples])
        answers = ask(images, np.tile(np.array([data.size], np.int32), (len(images), 1)))
        numbers = answers.classes.argmax(axis=-1)
        heat = visualization.grad_cam(locator.model, images, presence_and_class, numbers)
        strips = []
        for image, own, box, number, presence in zip(
            images, heat, answers.boxes, numbers, answers.presence, strict=True
        ):
            name, score = locator.names[number], float(presence)
            plain, heat_picture = heat_maps.draw_heat_map(image, own)
            answer = annotate.draw_boxes(plain, box[None], [name], [score])
            strips.append(
                [
                    Strip(
                        f"{name} ({score:.2f})", "", [plain, answer, annotate.draw_boxes(heat_picture, box[None], [""])]
                    )
                ]
            )
        return strips

    return explain
