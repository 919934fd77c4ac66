"""`cnn doctor --gpu`: does this machine train? A few steps in every precision, with XLA and without it."""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 0.03, "mixed_float16": 0.01}  # of the first loss, to that of float32
STEPS = 3
BATCH, SIDE, CLASSES = 32, 32, 10


def examine() -> tuple[dict[str, str], dict[str, str]]:
    """What the steps came to, and what failed, by precision and compiler: on the first GPU, or on the CPU."""
    device = (tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU"))[0].name
    results, failed, reference = {}, {}, None
    for precision in PRECISIONS:
        for xla in (False, True):
            name = f"{precision.removeprefix('mixed_')}{' with XLA' if xla else ''}"
            try:
                with tf.device(device):
                    losses, seconds = train(precision, xla=xla)
            except (tf.errors.OpError, RuntimeError, ValueError, NotImplementedError) as error:
                failed[name] = str(error).strip().splitlines()[0]
                continue
            reference = losses[0] if reference is None else reference
            if problem := _problem(losses, reference, TOLERANCE[precision]):
                failed[name] = problem
            results[name] = f"loss {losses[0]:.3f}, then {losses[-1]:.3f}; {1000 * seconds:.1f} ms for a step"
    return {"device": device.removeprefix("/device:"), **results}, failed


def train(precision: str, *, xla: bool) -> tuple[list[float], float]:
    """The losses of a few steps of a small network from the same weights, and the seconds of a later step."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(BATCH, SIDE, SIDE, 3)).astype("float32")
    labels = np.arange(BATCH) % CLASSES
    model = network(precision)
    arguments: dict[str, Any] = {"x": images, "y": labels, "batch_size": BATCH, "shuffle": False, "verbose": 0}
    optimizer: Any = keras.optimizers.SGD(0.05)
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=xla)
    losses = model.fit(**arguments, epochs=STEPS).history["loss"]
    started = time.perf_counter()
    model.fit(**arguments, epochs=STEPS)
    return losses, (time.perf_counter() - started) / STEPS


def network(precision: str) -> keras.Model:
    """Two convolutions, one by depth, with batch normalisation; its answers are float32."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3))
    maps = image
    for block in (
        layers.Conv2D(16, 3, padding="same", use_bias=False, dtype=precision),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False, dtype=precision),
    ):
        maps = layers.BatchNormalization(dtype=precision)(block(maps))
        maps = layers.ReLU(dtype=precision)(maps)
    vector = layers.GlobalAveragePooling2D(dtype=precision)(maps)
    return keras.Model(image, layers.Dense(CLASSES, dtype="float32")(vector))


def _problem(losses: list[float], reference: float, tolerance: float) -> str | None:
    if not np.isfinite(losses).all():
        return f"the losses must be finite, got {', '.join(f'{loss:g}' for loss in losses)}"
    if abs(losses[0] - reference) > tolerance * reference:
        return f"the first loss must be within {tolerance:g} of {reference:.4f}, that of float32, got {losses[0]:.4f}"
    if losses[-1] >= losses[0]:
        return f"the loss must fall in {len(losses)} steps on one batch, got {losses[0]:.4f} and then {losses[-1]:.4f}"
    return None
