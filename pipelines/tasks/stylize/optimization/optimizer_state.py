"""The state of a painting in work: between two rounds of steps all of it is in one file."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from cnn_keras.data.files import durable
from pipelines.data.run_files import STATE, is_whole
from pipelines.plots.image_grid import Array

Row = dict[str, float]


@dataclass
class OptimizerState:
    """A painting in work: which picture, at which scale, after how many steps, and what the optimiser remembers."""

    picture: int = 0
    scale: int = 0
    step: int = 0
    image: Any = None  # float32 (1, height, width, 3), 0–255; None before the work has begun
    memory: list[Array] = field(default_factory=list)  # of Adam
    rows: list[Row] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write all of it into one file, the whole of it or none."""
        places = {"picture": self.picture, "scale": self.scale, "step": self.step, "rows": self.rows}
        values: dict[str, Any] = {f"memory{number}": value for number, value in enumerate(self.memory)}
        values |= {} if self.image is None else {"image": self.image}
        with durable.atomic_write(folder / STATE) as temporary, temporary.open("wb") as file:
            np.savez(file, places=json.dumps(places), **values)

    @classmethod
    def restored(cls, folder: Path) -> Self:
        """What was saved, or an empty one."""
        if not is_whole(folder / STATE):
            return cls()
        with np.load(folder / STATE) as state:
            memory = [state[f"memory{number}"] for number in range(len(state.files)) if f"memory{number}" in state]
            return cls(**json.loads(str(state["places"])), image=state.get("image"), memory=memory)
