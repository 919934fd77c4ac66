"""The pixels of a picture optimised in rounds of steps, by Adam or by L-BFGS.

A round begins with what the state holds and leaves there what the next one needs: the picture, and what Adam remembers.
L-BFGS, which is SciPy's, begins its memory anew with each round, so that what is between two rounds is all there is.
What a picture is measured against is given to the graph with each call: the frames of a video share one.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import Bounds, minimize

from pipelines.tasks.stylize.config import Paint
from pipelines.tasks.stylize.optimization.optimizer_state import OptimizerState, Row

OnStep = Callable[[int, Row], None]
Terms = Callable[..., dict[str, Any]]  # of images and targets: the terms of J, (batch,) each

AT_ONCE = 5  # steps of Adam in one call of the graph
STRIDE = 2.0  # grey levels, on average, of the first step of L-BFGS
STEEP = 1e3  # J is multiplied by it for L-BFGS, whose first step is as long as the gradient where that is below 1
MEMORY = 10  # of L-BFGS: pairs of steps and gradients


class Adam:
    """Adam on the pixels of pictures of one size, some steps in each call of one graph."""

    def __init__(self, settings: Paint, terms: Terms, shape: tuple[int, ...]) -> None:
        self.image = tf.Variable(tf.zeros(shape))
        self.optimizer = keras.optimizers.Adam(settings.learning_rate)
        self.optimizer.build([self.image])
        self.fresh = [variable.numpy() for variable in self.optimizer.variables]

        def step(targets: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                losses = {name: tf.reduce_sum(term) for name, term in terms(self.image, *targets).items()}
                total = tf.add_n(list(losses.values()))
            self.optimizer.apply_gradients([(tape.gradient(total, self.image), self.image)])
            self.image.assign(tf.clip_by_value(self.image, 0.0, 255.0))
            return losses

        def steps(count: Any, targets: Any) -> dict[str, Any]:
            for _ in tf.range(count - 1):
                step(targets)
            return step(targets)

        self.steps = tf.function(steps, jit_compile=settings.xla)

    def round(self, state: OptimizerState, targets: Any, count: int, on_step: OnStep) -> Row:
        """So many steps; the terms before the last of them."""
        self.image.assign(state.image)
        for variable, value in zip(self.optimizer.variables, state.memory or self.fresh, strict=True):
            variable.assign(value)
        done, row = 0, {}
        while done < count:
            steps = min(AT_ONCE, count - done)
            row = {name: float(term) for name, term in self.steps(tf.constant(steps), targets).items()}
            done += steps
            on_step(done, row)
        state.image = self.image.numpy()
        state.memory = [variable.numpy() for variable in self.optimizer.variables]
        return row


class LBFGS:
    """SciPy's L-BFGS-B within the range of pixels, on values and gradients of one graph."""

    def __init__(self, settings: Paint, terms: Terms, shape: tuple[int, ...]) -> None:
        def slope(image: Any, targets: Any) -> tuple[Any, Any, dict[str, Any]]:
            with tf.GradientTape() as tape:
                tape.watch(image)
                losses = {name: tf.reduce_sum(term) for name, term in terms(image, *targets).items()}
                total = tf.add_n(list(losses.values()))
            return total, tape.gradient(total, image), losses

        self.slope = tf.function(slope, jit_compile=settings.xla, autograph=False)

    def round(self, state: OptimizerState, targets: Any, count: int, on_step: OnStep) -> Row:
        """So many steps; the terms after them."""
        shape = state.image.shape
        unit = STRIDE * math.sqrt(state.image.size)  # of the coordinates, so that a step of length 1 is one of STRIDE
        latest: dict[str, Any] = {}
        done = 0

        def value(x: Any) -> tuple[float, Any]:
            total, gradient, losses = self.slope(tf.constant((x * unit).reshape(shape), tf.float32), targets)
            latest.update({name: float(term) for name, term in losses.items()})
            return float(total) * STEEP, gradient.numpy().astype(np.float64).ravel() * (unit * STEEP)

        def stepped(x: Any) -> None:
            nonlocal done
            done += 1
            on_step(done, dict(latest))

        result = minimize(
            value,
            state.image.astype(np.float64).ravel() / unit,
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(0, 255 / unit),
            callback=stepped,
            options={"maxiter": count, "ftol": 0.0, "gtol": 0.0, "maxcor": MEMORY, "maxfun": 4 * count},
        )
        state.image = np.clip(result.x * unit, 0, 255).reshape(shape).astype(np.float32)
        return {name: float(term) for name, term in self.slope(tf.constant(state.image), targets)[2].items()}
