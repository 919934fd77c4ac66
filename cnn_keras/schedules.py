"""Learning-rate schedules that Keras lacks: functions of the optimiser's step, so that resuming needs no state."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("cnn_keras")
class Delayed(keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule that begins `steps` steps later."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int) -> None:
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        return self.schedule(ops.maximum(step - self.steps, 0))

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Delayed":
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["steps"])


@keras.saving.register_keras_serializable("cnn_keras")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A linear climb over the first `steps` steps, multiplied into another schedule.

    Args:
        schedule: the schedule to warm up to.
        steps: how many steps the climb takes; step 0 has 1/steps of the rate (Goyal et al., 2017, section 2.2).
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int) -> None:
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        climbed = (ops.cast(step, "float32") + 1.0) / self.steps
        return self.schedule(step) * ops.minimum(climbed, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["steps"])
