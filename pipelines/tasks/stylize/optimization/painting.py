"""A painting: one picture whose pixels are optimised until it has the content of one and the style of another.

Gatys, Ecker and Bethge, "Image style transfer using convolutional neural networks", 2016; coarse to fine as in Gatys et
al., 2017, section 6. The work is done in rounds of `preview` steps, and between two rounds everything is in one file: a
painting that was killed goes on from its last round and ends as if nothing had been.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.errors import Fault
from cnn_keras.losses import style
from cnn_keras.losses.style import Objective, Style
from pipelines.plots.image_grid import Array
from pipelines.tasks.stylize import dataset
from pipelines.tasks.stylize.config import Paint
from pipelines.tasks.stylize.optimization.optimizer_state import OptimizerState, Row
from pipelines.tasks.stylize.optimization.pixel_optimizer import LBFGS, Adam, OnStep

OnRound = Callable[["OptimizerState"], None]


class Painter:
    """Paints pictures in given styles.

    Args:
        objective: J, whose tower is the extractor's.
        styles: uint8 (height, width, 3) each, with their weights or their masks, uint8 (height, width, 3).
        seed: of noise.
    """

    def __init__(
        self,
        objective: Objective,
        settings: Paint,
        *,
        styles: Sequence[Array],
        weights: Sequence[float],
        masks: Sequence[Array] = (),
        seed: int = 0,
    ) -> None:
        self.objective, self.settings = objective, settings
        self.styles, self.weights, self.masks, self.seed = styles, weights, masks, seed
        self._wanted: dict[float, Style] = {}
        self._works: dict[tuple[int, ...], Adam | LBFGS] = {}

    def paint(
        self, content: Array, state: OptimizerState, *, on_round: OnRound, on_step: OnStep, start: Array | None = None
    ) -> Array:
        """Paint one picture, going on from what is in the state.

        Args:
            content: uint8 (height, width, 3).
            on_round: hears of the state after every round.
            on_step: hears of every step, its number among all and its terms.
            start: what to begin from instead of `init`, float32 of the content's shape; at the last scale alone.

        Returns:
            uint8, of the content's shape.
        """
        settings = self.settings
        if start is not None and state.image is None:
            state.image, state.scale = start[None].astype(np.float32), len(settings.scales) - 1
        while state.scale < len(settings.scales):
            factor = settings.scales[state.scale]
            canvas = dataset.scale_to(content, factor * max(content.shape[:2]))
            if state.image is None:
                state.image = self._begun(canvas, state.picture)[None]
            if state.image.shape[1:3] != canvas.shape[:2]:
                state.image = _enlarged(state.image, canvas.shape[:2])
            self._optimise(canvas, factor, state, on_round, on_step)
            state.scale, state.step, state.memory = state.scale + 1, 0, []
        painting: Array = np.clip(np.round(state.image[0]), 0, 255).astype(np.uint8)
        return self._in_colour(painting, content)

    def _begun(self, content: Array, picture: int) -> Array:
        """What the work begins with: the content, noise, or half of each."""
        init = self.settings.init
        noise = np.random.default_rng([self.seed, picture]).uniform(0, 255, content.shape)
        share = {"content": 0.0, "noise": 1.0, "blend": 0.5}[init]
        return (share * noise + (1 - share) * content).astype(np.float32)

    def _optimise(
        self, canvas: Array, factor: float, state: OptimizerState, on_round: OnRound, on_step: OnStep
    ) -> None:
        """Rounds of `preview` steps at one scale."""
        settings = self.settings
        if state.step >= settings.steps:
            return
        targets = (self.objective.content_of(_batch(canvas)), self.wanted(canvas, factor))
        work = self._work(state.image.shape)
        while state.step < settings.steps:
            before = state.scale * settings.steps + state.step
            count = min(settings.preview, settings.steps - state.step)
            started = time.perf_counter()
            row = work.round(state, targets, count, partial(_from, before, on_step))
            if not all(math.isfinite(value) for value in row.values()):
                raise Fault("painting diverged: J is not a number; lower train.learning_rate", code=Fault.DIVERGED)
            state.step += count
            seconds = round((time.perf_counter() - started) / count, 4)
            place = {"picture": state.picture, "scale": factor, "step": before + count}
            state.rows.append({**place, **row, "seconds_per_step": seconds})
            on_round(state)

    def _work(self, shape: tuple[int, ...]) -> Adam | LBFGS:
        """What takes the steps, the same for all pictures of this shape."""
        if shape not in self._works:
            method = Adam if self.settings.optimizer == "adam" else LBFGS
            self._works[shape] = method(self.settings, self.objective.terms, shape)
        return self._works[shape]

    def wanted(self, canvas: Array, factor: float = 1.0) -> Style:
        """What is wanted at this scale; computed once unless it depends on the picture."""
        depends = self.masks or self.settings.colour == "match"
        if not depends and factor in self._wanted:
            return self._wanted[factor]
        images = [dataset.scale_to(image, factor * max(image.shape[:2])) for image in self.styles]
        if self.settings.colour == "match":
            images = [style.match_colors(image, canvas) for image in images]
        targets = [self.objective.style_of(_batch(image)) for image in images]
        self._wanted[factor] = self._placed(targets, canvas) if self.masks else style.blend(targets, self.weights)
        return self._wanted[factor]

    def _placed(self, targets: list[Style], canvas: Array) -> Style:
        fitted = [dataset.resize(mask, canvas.shape[:2])[..., 0] / 255.0 for mask in self.masks]
        answers = self.objective.features(_batch(canvas))
        sizes = {layer: answers[layer].shape[1:3] for layer in self.objective.style}
        return style.combine_regions(targets, np.stack(fitted).astype(np.float32), sizes)

    def _in_colour(self, painting: Array, content: Array) -> Array:
        return style.with_colors_of(painting, content) if self.settings.colour == "keep" else painting


def _from(before: int, on_step: OnStep, done: int, row: Row) -> None:
    """Tell of a step of a round with its number among all."""
    on_step(before + done, row)


def _batch(image: Array) -> Any:
    return tf.constant(image[None], tf.float32)


def _enlarged(image: Array, size: tuple[int, int]) -> Array:
    enlarged: Array = tf.clip_by_value(tf.image.resize(image, size, method="bicubic"), 0.0, 255.0).numpy()
    return enlarged
