"""What a training would take – size, memory, speed, time – found out from a few steps that are forgotten."""

import math
import time
from typing import Any

import keras
import numpy as np
import psutil
import tensorflow as tf
from rich.console import Console

from cnn_keras.learn import model_profile
from pipelines.data import image_dataset
from pipelines.engine import precision, stages
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice, step_timing, task_training, trainer, transfer
from pipelines.engine.training.input_profile import speed
from pipelines.engine.training.task_training import Training

SECONDS = 3.0  # for which features are computed
STEPS = step_timing.WARM_UP + step_timing.LEAST  # that are trained at least


def measure(run: Run) -> dict[str, Any]:
    """Prepare the data if need be, then measure a fresh model of the run. The folder `train` is left alone.

    Returns:
        parameters, trained, multiply_adds of one example; bytes of weights, gradients, optimizer and activations of
        one batch, and their sum as memory; images_per_second, input_per_second, input_share; seconds of one epoch,
        its validation included, of the features that are cached before the first, and of all; advice on precision,
        where the CPU has units for bfloat16.

    Raises:
        Fault: a task that does not train like this.
    """
    task_training.check(run)
    with stages.prepared(run):
        run = precision_choice.settled(run)
        training, settings = task_training.inputs(run), run.recipe.train.model_copy(update={"steps_per_execution": 1})
        plan, ensemble = getattr(settings, "transfer", None), getattr(settings, "ensemble", None)
        reference = task_training.initial_model(run, training)
        model, first = training.compiled(reference, settings), 0.0
        steps = math.ceil(training.examples / settings.batch_size)
        few_epochs = range(1 + len(step_timing.epochs_for(training.examples, settings.batch_size, count=STEPS)))
        figures = _size(reference, model, settings.batch_size, shape=_seen(training.batches(model, few_epochs)))
        show_size(figures, training.noun, run.console)  # before a step that may be too much for the machine
        if plan and plan.mode == "cached":
            reference, training, first = _on_features(run, reference, training)
            model = training.compiled(reference, settings)
        stream = training.batches(model, few_epochs)
        figures["input_per_second"] = round(speed(stream, steps), 1)
        speed_of_steps = step_timing.speed(step_timing.steps(model, stream, most=steps))
        figures["images_per_second"] = round(speed_of_steps.images_per_second, 1)
        figures["input_share"] = round(speed_of_steps.waiting, 4)
        seconds = training.examples / figures["images_per_second"] + _validated(model, training.validation(model))
        if settings.precision == "float32" and precision.bfloat16_units() and not precision.is_depthwise(model):
            figures["advice"] = precision.ADVICE
    epochs = training.before + settings.epochs
    trainings = ensemble.members if ensemble and ensemble.kind == "seeds" else 1
    return figures | {
        "transfer": plan and plan.mode,
        "noun": training.noun,
        "images": training.examples,
        "epochs": epochs,
        "trainings": trainings,
        "seconds_of_features": round(first, 3),
        "seconds_per_epoch": round(seconds, 3),
        "seconds": round(first + seconds * epochs * trainings, 1),
    }


def _seen(batches: tf.data.Dataset) -> tuple[int, ...]:
    """The shape of the first input of an example, the image's or the volume's, as the first batch has it."""
    images = max(tf.nest.flatten(next(iter(batches))[0]), key=lambda tensor: tensor.shape.rank)
    return tuple(images.shape[1:])


def _on_features(run: Run, model: keras.Model, training: Training) -> tuple[keras.Model, Training, float]:
    """What a training on cached features trains, on what – some features again and again –, and their seconds, once."""
    assert training.ordered  # the recipe has been checked
    settings, data = run.recipe.train, run.facts("prepare")
    trunk, head = transfer.split_model(model)
    examples = training.ordered("train").rebatch(transfer.BATCH)
    trunk.predict_on_batch(next(iter(examples))[0])  # compiles
    features, labels, started = [], [], time.perf_counter()
    for batch, numbers in examples:
        features.append(trunk.predict_on_batch(batch))
        labels.append(numbers)
        if time.perf_counter() - started > SECONDS:
            break
    each = (time.perf_counter() - started) / sum(map(len, labels))
    sample = tf.data.Dataset.from_tensor_slices((np.concatenate(features), np.concatenate(labels))).repeat()

    def batches(count: int) -> tf.data.Dataset:
        return sample.take(count).batch(settings.batch_size)

    sizes = {split: data["splits"][split] for split in ("train", image_dataset.validation_split(data))}
    *_, validating = sizes.values()
    endless = transfer.on_features(
        training, lambda epochs: batches(len(epochs) * sizes["train"]), lambda: batches(validating)
    )
    return head, endless, each * sum(sizes.values())


def _size(reference: keras.Model, model: keras.Model, batch: int, *, shape: tuple[int, ...]) -> dict[str, Any]:
    """Parameters, multiply-adds and bytes. Gradients are as large as what is trained, for as long as a step takes.

    Args:
        reference: the model of the recipe.
        model: what is fit of it, compiled.
        batch: how many examples are in a step.
        shape: of an image or a volume.
    """
    model.optimizer.build(model.trainable_variables)
    total = model_profile.totals(model_profile.rows(reference, batch=batch, input_shape=shape))
    memory = {
        "weights": trainer.size_in_bytes(model.weights),
        "gradients": trainer.size_in_bytes(model.trainable_variables),
        "optimizer": trainer.size_in_bytes(model.optimizer.variables),
        "activations": total.activation_bytes,
    }
    return {
        "parameters": reference.count_params(),
        "trained": task_training.trained_parameters(reference),
        "multiply_adds": total.multiply_adds,
        "batch_size": batch,
        "bytes": memory,
        "memory": sum(memory.values()),
    }


def _validated(model: keras.Model, validation: Any) -> float:
    """Seconds that the validation split takes, from some of its batches."""
    model.evaluate(validation.take(1), verbose=0)  # compiles
    size = int(validation.cardinality())
    steps = min(size, 8) if size > 0 else 8
    started = time.perf_counter()
    model.evaluate(validation.take(steps), verbose=0)
    seconds = time.perf_counter() - started
    return seconds * (size / steps if size > 0 else 1)


def show_size(figures: dict[str, Any], noun: str, console: Console) -> None:
    """A line for each size that a network has, and a warning where it is more than the machine has free."""
    parts = ", ".join(f"{name} {_megabytes(size)}" for name, size in figures["bytes"].items())
    trained = "" if figures["trained"] == figures["parameters"] else f", {figures['trained']:,} of them trained"
    lines = {
        "parameters": f"{figures['parameters']:,}{trained}",
        "multiply-adds": f"{figures['multiply_adds']:,} for one {noun}",
        "memory": f"about {_megabytes(figures['memory'])} at batch {figures['batch_size']}: {parts}",
    }
    _say(lines, console)
    free = psutil.virtual_memory().available
    if figures["memory"] > free and not tf.config.list_physical_devices("GPU"):
        console.print(
            f"  [yellow]{_megabytes(free)} are free: the process may be killed; lower train.batch_size, or "
            "take a smaller data.size and train.accumulate[/]"
        )


def show(figures: dict[str, Any], console: Console) -> None:
    """A line for each thing that somebody about to train wants to know besides."""
    each = f" × {figures['trainings']} trainings" if figures["trainings"] > 1 else ""
    noun = figures["noun"]
    first = figures["seconds_of_features"]
    once = f"{_duration(first)} for the features (once) and " if first else ""
    lines = {
        "speed": f"{figures['images_per_second']:,.0f} {noun}s/s; the input alone gives "
        f"{figures['input_per_second']:,.0f}, waiting for it takes {figures['input_share']:.0%} of the time",
        "time": f"{_duration(figures['seconds'])}: {once}{figures['epochs']} epochs{each} of "
        f"{_duration(figures['seconds_per_epoch'])} for {figures['images']:,} {noun}s and validation",
    }
    if "advice" in figures:
        lines["precision"] = figures["advice"]
    _say(lines, console)
    if figures["transfer"] == "staged":
        console.print(
            "  [dim]measured with the classifier alone in training: the epochs after train.transfer.head_epochs are "
            "slower[/]"
        )
    console.print(
        "  [dim]nothing was kept; the memory of TensorFlow itself, the examples and the loss is not included[/]"
    )


def _say(lines: dict[str, str], console: Console) -> None:
    for name, line in lines.items():
        console.print(f"  [bold]{name:>13}[/]  {line}")


def _megabytes(size: float) -> str:
    return f"{size / 2**20:,.1f} MB" if size < 2**30 else f"{size / 2**30:,.1f} GB"


def _duration(seconds: float) -> str:
    """3.2 s, 4 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
