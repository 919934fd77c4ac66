"""A painting: one picture whose pixels are optimised until it has the content of one and the style of another.

Gatys, Ecker and Bethge, "Image style transfer using convolutional neural networks", 2016; coarse to fine as in Gatys et
al., 2017, section 6. The work is done in rounds of `preview` steps, and between two rounds everything is in one file: a
painting that was killed goes on from its last round and ends as if nothing had been.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cnn_keras.data import durable
from cnn_keras.errors import Fault
from pipelines.engine.recipe import Positive, Section
from pipelines.engine.stages import STATE, is_whole
from pipelines.tasks.stylize import dataset
from pipelines.tasks.stylize.feature_extractor import Loss
from pipelines.tasks.stylize.pixel_optimizer import LBFGS, Adam, Row, Said

if TYPE_CHECKING:
    from cnn_keras.losses.style import Objective, Style
    from pipelines.plots.image_grid import Array

Told = Callable[["Easel"], None]


class Paint(Section):
    """How a picture is optimised."""

    method: Literal["picture"] = "picture"  # picture: one is optimised
    loss: Loss = Loss()
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"  # L-BFGS or Adam
    learning_rate: Annotated[float, Field(gt=0)] = 5.0  # of adam, in grey levels
    steps: Positive = 100  # at each scale
    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.5, 1.0)  # of size
    init: Literal["content", "noise", "blend"] = "content"  # what painting begins with
    colour: Literal["style", "keep", "match"] = "style"  # keep: the content's own; match: styles recoloured like it
    preview: Positive = 50  # steps between two previews, at which the state is saved
    mixed_precision: bool = False  # bfloat16
    xla: bool = False  # compile the graph; pays on a GPU
    deterministic: bool = True  # the same picture twice; costs some speed on a GPU

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if sorted(self.scales) != list(self.scales) or self.scales[-1] != 1:
            raise ValueError(f"scales must grow and end with 1.0, got {list(self.scales)}")
        return self


@dataclass
class Easel:
    """A painting in work: which picture, at which scale, after how many steps, and what the optimiser remembers."""

    picture: int = 0
    scale: int = 0
    step: int = 0
    image: Any = None  # float32 (1, height, width, 3), 0–255; None before the work has begun
    memory: "list[Array]" = field(default_factory=list)  # of Adam
    rows: list[Row] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write all of it into one file, the whole of it or none."""
        import numpy as np

        places = {"picture": self.picture, "scale": self.scale, "step": self.step, "rows": self.rows}
        values: dict[str, Any] = {f"memory{number}": value for number, value in enumerate(self.memory)}
        values |= {} if self.image is None else {"image": self.image}
        with durable.written(folder / STATE) as temporary, temporary.open("wb") as file:
            np.savez(file, places=json.dumps(places), **values)

    @classmethod
    def restored(cls, folder: Path) -> Self:
        """What was saved, or an empty one."""
        import numpy as np

        if not is_whole(folder / STATE):
            return cls()
        with np.load(folder / STATE) as state:
            memory = [state[f"memory{number}"] for number in range(len(state.files)) if f"memory{number}" in state]
            return cls(**json.loads(str(state["places"])), image=state.get("image"), memory=memory)


class Painter:
    """Paints pictures in given styles.

    Args:
        objective: J, whose tower is the extractor's.
        styles: uint8 (height, width, 3) each, with their weights or their masks, uint8 (height, width, 3).
        seed: of noise.
    """

    def __init__(
        self,
        objective: "Objective",
        settings: Paint,
        *,
        styles: "Sequence[Array]",
        weights: Sequence[float],
        masks: "Sequence[Array]" = (),
        seed: int = 0,
    ) -> None:
        self.objective, self.settings = objective, settings
        self.styles, self.weights, self.masks, self.seed = styles, weights, masks, seed
        self._wanted: dict[float, Style] = {}
        self._works: dict[tuple[int, ...], Adam | LBFGS] = {}

    def paint(self, content: "Array", easel: Easel, *, told: Told, said: Said, start: "Array | None" = None) -> "Array":
        """Paint one picture, going on from what is on the easel.

        Args:
            content: uint8 (height, width, 3).
            told: hears of the easel after every round.
            said: hears of every step, its number among all and its terms.
            start: what to begin from instead of `init`, float32 of the content's shape; at the last scale alone.

        Returns:
            uint8, of the content's shape.
        """
        import numpy as np

        settings = self.settings
        if start is not None and easel.image is None:
            easel.image, easel.scale = start[None].astype(np.float32), len(settings.scales) - 1
        while easel.scale < len(settings.scales):
            factor = settings.scales[easel.scale]
            canvas = dataset.scaled(content, factor * max(content.shape[:2]))
            if easel.image is None:
                easel.image = self._begun(canvas, easel.picture)[None]
            if easel.image.shape[1:3] != canvas.shape[:2]:
                easel.image = _enlarged(easel.image, canvas.shape[:2])
            self._optimise(canvas, factor, easel, told, said)
            easel.scale, easel.step, easel.memory = easel.scale + 1, 0, []
        found: Array = np.clip(np.round(easel.image[0]), 0, 255).astype(np.uint8)
        return self._in_colour(found, content)

    def _begun(self, content: "Array", picture: int) -> "Array":
        """What the work begins with: the content, noise, or half of each."""
        import numpy as np

        init = self.settings.init
        noise = np.random.default_rng([self.seed, picture]).uniform(0, 255, content.shape)
        share = {"content": 0.0, "noise": 1.0, "blend": 0.5}[init]
        return (share * noise + (1 - share) * content).astype(np.float32)

    def _optimise(self, canvas: "Array", factor: float, easel: Easel, told: Told, said: Said) -> None:
        """Rounds of `preview` steps at one scale."""
        settings = self.settings
        if easel.step >= settings.steps:
            return
        targets = (self.objective.content_of(_batch(canvas)), self.wanted(canvas, factor))
        work = self._work(easel.image.shape)
        while easel.step < settings.steps:
            before = easel.scale * settings.steps + easel.step
            count = min(settings.preview, settings.steps - easel.step)
            started = time.perf_counter()
            row = work.round(easel, targets, count, partial(_from, before, said))
            if not all(math.isfinite(value) for value in row.values()):
                raise Fault("painting diverged: J is not a number; lower train.learning_rate", code=Fault.DIVERGED)
            easel.step += count
            seconds = round((time.perf_counter() - started) / count, 4)
            place = {"picture": easel.picture, "scale": factor, "step": before + count}
            easel.rows.append({**place, **row, "seconds_per_step": seconds})
            told(easel)

    def _work(self, shape: tuple[int, ...]) -> Adam | LBFGS:
        """What takes the steps, the same for all pictures of this shape."""
        if shape not in self._works:
            method = Adam if self.settings.optimizer == "adam" else LBFGS
            self._works[shape] = method(self.settings, self.objective.terms, shape)
        return self._works[shape]

    def wanted(self, canvas: "Array", factor: float = 1.0) -> "Style":
        """What is wanted at this scale; computed once unless it depends on the picture."""
        from cnn_keras.losses import style

        depends = self.masks or self.settings.colour == "match"
        if not depends and factor in self._wanted:
            return self._wanted[factor]
        images = [dataset.scaled(one, factor * max(one.shape[:2])) for one in self.styles]
        if self.settings.colour == "match":
            images = [style.recoloured(one, canvas) for one in images]
        found = [self.objective.style_of(_batch(one)) for one in images]
        self._wanted[factor] = self._placed(found, canvas) if self.masks else style.blended(found, self.weights)
        return self._wanted[factor]

    def _placed(self, found: "list[Style]", canvas: "Array") -> "Style":
        import numpy as np

        from cnn_keras.losses import style

        fitted = [dataset.resized(mask, canvas.shape[:2])[..., 0] / 255.0 for mask in self.masks]
        answers = self.objective.features(_batch(canvas))
        sizes = {layer: answers[layer].shape[1:3] for layer in self.objective.style}
        return style.by_region(found, np.stack(fitted).astype(np.float32), sizes)

    def _in_colour(self, painted: "Array", content: "Array") -> "Array":
        from cnn_keras.losses import style

        return style.coloured_as(painted, content) if self.settings.colour == "keep" else painted


def _from(before: int, said: Said, done: int, row: Row) -> None:
    """Tell of a step of a round with its number among all."""
    said(before + done, row)


def _batch(image: "Array") -> Any:
    import tensorflow as tf

    return tf.constant(image[None], tf.float32)


def _enlarged(image: "Array", size: tuple[int, int]) -> "Array":
    import tensorflow as tf

    found: Array = tf.clip_by_value(tf.image.resize(image, size, method="bicubic"), 0.0, 255.0).numpy()
    return found
