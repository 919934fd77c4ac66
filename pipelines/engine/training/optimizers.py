"""Optimizers of Keras, changed: rates of their own for variables, a moving average over steps, gradients of devices."""

from collections.abc import Sequence
from typing import Any

import keras


def layerwise(optimizer: Any, multiples: Sequence[float]) -> Any:
    """The class `optimizer` of Keras with a learning rate for each variable: `multiples` of the common one.

    They are those of the variables that it is built for, in order. Weight decay, which takes its measure from the
    learning rate, shrinks with it.
    """

    class Layerwise(optimizer):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * multiples[self._get_variable_index(variable)])

        def _apply_weight_decay(self, variables: Any) -> None:
            for variable in variables if self.weight_decay else ():
                if self._use_weight_decay(variable):
                    rate = self.learning_rate * multiples[self._get_variable_index(variable)]
                    self.assign_sub(variable, variable * self.weight_decay * rate)

    # In the file of a model its optimiser goes by the class that everybody has.
    Layerwise.__name__, Layerwise.__module__ = optimizer.__name__, optimizer.__module__
    return Layerwise


def averaging(optimizer: Any) -> Any:
    """The class `optimizer` of Keras with a moving average of the weights over steps: Keras's is over batches."""

    class Averaging(optimizer):
        def _update_model_variables_moving_average(self, variables: Any) -> None:
            update = super()._update_model_variables_moving_average
            is_step = keras.ops.equal((self._iterations + 1) % self.gradient_accumulation_steps, 0)
            keras.ops.cond(is_step, lambda: update(variables), lambda: None)

    # In the file of a model its optimiser goes by the class that everybody has.
    Averaging.__name__, Averaging.__module__ = optimizer.__name__, optimizer.__module__
    return Averaging


def of_all_devices(optimizer: Any) -> Any:
    """The class `optimizer` of Keras for several devices, which are given the sum of all gradients.

    Each device then updates its own copy of the variables. Keras's clips before it sums, and cannot accumulate.
    """

    class OfAllDevices(optimizer):
        def _backend_update_step(self, gradients: Any, variables: Any, learning_rate: Any) -> None:
            for gradient, variable in zip(gradients, variables, strict=True):
                self.update_step(gradient, variable, learning_rate)

        def _backend_increment_gradient_accumulators(self, gradients: Any, accumulators: Any) -> None:
            for gradient, accumulator in zip(gradients, accumulators, strict=True):
                accumulator.assign(accumulator + gradient)

        def _apply_weight_decay(self, variables: Any) -> None:
            for variable in variables if self.weight_decay else ():
                if self._use_weight_decay(variable):
                    self.assign_sub(variable, variable * self.weight_decay * self.learning_rate)

    # In the file of a model its optimiser goes by the class that everybody has.
    OfAllDevices.__name__, OfAllDevices.__module__ = optimizer.__name__, optimizer.__module__
    return OfAllDevices
