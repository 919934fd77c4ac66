"""One way to read a localizer's answers, for evaluate, predict and the exported graph alike.

A network's vector becomes where things are, in pixels of the picture as it was.
"""

from typing import Any

import keras
import tensorflow as tf

from cnn_keras.models import localize
from cnn_keras.models.localize import Localization
from cnn_keras.ops import boxes, landmarks
from pipelines.engine.stages import Run
from pipelines.export import savedmodel


class Locator:
    """Reads a localizer's answers: where the one thing of a picture is, in pixels of the picture as it was."""

    def __init__(self, model: keras.Model, data: dict[str, Any], *, fit: str) -> None:
        self.model = model
        self.names, self.landmarks = list(data["classes"]), list(data["landmarks"])
        self.fit = fit

    def __call__(self, images: tf.Tensor, sizes: tf.Tensor) -> Localization:
        """What is said of framed pictures, uint8 (batch, height, width, 3), of `sizes`, int32 (batch, 2), before."""
        return self.placed(self.framed(images), sizes, tf.shape(images)[1:3])

    def framed(self, images: tf.Tensor) -> Localization:
        """What is said of framed pictures, its coordinates in [0, 1] of the frame."""
        answer: Localization = localize.decode(self.model(images, training=False), classes=len(self.names))
        return answer

    def placed(self, answer: Localization, sizes: tf.Tensor, frame: Any) -> Localization:
        """The same in pixels of the pictures, of `sizes` before; boxes end with the picture."""
        answer = self.pixels(answer, sizes, frame)
        limits = self._scale(sizes)
        return answer._replace(boxes=boxes.clip(answer.boxes / limits) * limits)

    def truth(self, target: tf.Tensor, sizes: tf.Tensor, frame: Any) -> Localization:
        """The truth as a `Localization`, from targets (batch, numbers) of `localize.encode`."""
        return self.pixels(localize.decode_target(target, classes=len(self.names)), sizes, frame)

    def pixels(self, answer: Localization, sizes: tf.Tensor, frame: Any) -> Localization:
        """Coordinates in [0, 1] of the frame, in pixels of the pictures."""
        scale = self._scale(sizes)
        corners = boxes.unletterbox(answer.boxes[:, None], sizes, frame, fit=self.fit)[:, 0]
        marks = landmarks.unletterbox(answer.landmarks, sizes, frame, fit=self.fit)
        marks_placed = tf.concat([marks[..., :2] * scale[:, None, :2], marks[..., 2:]], axis=-1)
        return answer._replace(boxes=corners * scale, landmarks=marks_placed)

    @staticmethod
    def _scale(sizes: tf.Tensor) -> tf.Tensor:
        """Width, height, width, height of each picture: float32 (batch, 4)."""
        return tf.tile(tf.cast(sizes, tf.float32)[:, ::-1], [1, 2])


def load_trained(run: Run) -> Locator:
    """Load the model that the stage train wrote, with what decodes its answers."""
    model = savedmodel.load_keras(run.finished("train") / "model.keras")
    return Locator(model, run.facts("prepare"), fit=run.recipe.data.fit)
