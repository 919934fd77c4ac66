"""How fast pictures reach the network, step by step, so that it is known which one training waits for.

Each step is measured in the threads of tf.data, on pictures of the recipe: reading records, decoding, framing, every
augmentation of the recipe alone, all of them together, and the whole pipeline from shards to batches. Images per
second include what a step stands on; CPU time is a step's own.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from cnn_keras.data import input_pipeline, records
from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault, Unreadable
from cnn_keras.ops.numpy_function import numpy_function
from pipelines.data import label_kind

SAMPLE = 256  # pictures that are measured with, again and again
BATCH = 32
MEMORY = "memory"  # what it takes to hand out pictures that are already there


class Speed(NamedTuple):
    """What a step takes: `images_per_second` of wall time; `milliseconds` of CPU time per image, all threads together.

    CPU time hardly depends on what else the machine does.
    """

    step: str
    images_per_second: float
    milliseconds: float


def measure(recipe: Any, *, seconds: float = 2.0) -> list[Speed]:
    """Measure the input pipeline of `recipe`, each step for `seconds`; the last two are all augmentations and all.

    Raises:
        Fault: no task with pictures, or no picture that can be read.
    """
    if not has_pictures(recipe) or not hasattr(recipe.data, "classes"):
        raise Fault(f"RECIPE must be of an image classification task, got one of {recipe.task}")
    fitted = augment.fit(recipe.augment, lambda: [_noise(recipe)])
    steps = augment.compose(recipe.augment, size=recipe.data.size, fitted=fitted)
    shape = input_pipeline.Shape(
        (steps.source if steps else None) or recipe.data.size, recipe.data.channels, recipe.data.fit
    )
    with tempfile.TemporaryDirectory() as place:
        records.write(Path(place), "train", _rows(recipe))
        speeds = []
        for name, batches in _pipelines(Path(place), recipe, shape, steps, fitted):
            speeds.append(_timed(name, batches, seconds))
    return _apart(speeds)


def has_pictures(recipe: Any) -> bool:
    """Whether the recipe's task reads pictures and augments them."""
    size = getattr(recipe.data, "size", None)
    return hasattr(recipe, "augment") and isinstance(size, tuple) and len(size) == 2


def augmentations(recipe: Any, images: Any, *, seconds: float, fitted: dict[str, Any] | None = None) -> list[Speed]:
    """The speed of each of the recipe's augmentations alone, on pictures in memory: uint8 (N, height, width, channels).

    CPU time includes what it takes to hand out such pictures.
    """
    return [_timed(name, batches, seconds) for name, batches in _alone(recipe, images, fitted)]


def slowest(speeds: list[Speed]) -> Speed:
    """The single step that takes most of the processor's time."""
    return max(speeds[:-2], key=lambda speed: speed.milliseconds)


def show(speeds: list[Speed], console: Console) -> None:
    """A table, and the name of the slowest step."""
    table = Table("step", "images/s", "CPU ms/image", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for speed in speeds:
        table.add_row(speed.step, f"{speed.images_per_second:,.0f}", f"{speed.milliseconds:.3f}")
    console.print(table)
    slowest_speed = slowest(speeds)
    console.print(
        f"the slowest step is [bold]{slowest_speed.step}[/], {slowest_speed.milliseconds:.3f} ms of CPU time per image"
    )


def _rows(recipe: Any) -> list[tuple[str, bytes, int]]:
    """Pictures of the recipe's data as records hold them."""
    data = recipe.data
    rows: list[tuple[str, bytes, int]] = []
    for item in label_kind.of(data).items(data):
        try:
            rows.append((item.id, normalize(item.read())[0], 0))
        except (OSError, Unreadable):
            continue  # `cnn prepare` reports what cannot be read
        if len(rows) == SAMPLE:
            break
    if not rows:
        raise Fault(f"data.path must hold at least one readable image, got none in {data.path or data.source}")
    return rows


def _noise(recipe: Any) -> Any:
    """Pictures to fit on; what is found does not change the speed."""
    return np.random.default_rng(0).integers(0, 256, (4, *recipe.data.size, recipe.data.channels), np.uint8)


def _pipelines(place: Path, recipe: Any, shape: Any, steps: Any, fitted: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, endless data set of batches); each of the first three includes those before it."""
    encoded = tf.data.Dataset.zip(records.read(place, "train").repeat(), tf.data.Dataset.random(seed=1))

    decoder = input_pipeline.ImageDecoder(shape, reduced=True)

    def decode(row: Any, seed: Any) -> Any:
        return numpy_function(lambda data: decoder.pixels(data)[0].shape[0], [row["image"]], tf.int64)

    def read(row: Any, seed: Any) -> Any:
        return {"image": row["image"]}, _seed(seed)

    yield "read", encoded.batch(BATCH)
    yield "decode", _mapped(encoded, decode)
    yield "frame", _augmented(None, encoded, read, decoder)
    images = tf.constant(input_pipeline.arrays(place, "train", shape).images)
    rows = tf.data.Dataset.range(len(images)).repeat()
    yield MEMORY, _mapped(rows, lambda row: images[row])
    yield from _alone(recipe, images, fitted)
    yield "all augmentations", _from_memory(steps, images)
    yield "whole pipeline", _augmented(steps, encoded, read, decoder)


def _alone(recipe: Any, images: Any, fitted: dict[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """(name, endless data set of batches) of each augmentation of the recipe."""
    fitted = augment.fit(recipe.augment, lambda: [_noise(recipe)]) if fitted is None else fitted
    images = tf.convert_to_tensor(images)
    for entry in recipe.augment:
        yield _name(entry), _from_memory(augment.compose([entry], size=recipe.data.size, fitted=fitted), images)


def _from_memory(steps: Any, images: Any) -> Any:
    """Pictures from memory, augmented, in batches."""
    rows = tf.data.Dataset.zip(tf.data.Dataset.range(len(images)).repeat(), tf.data.Dataset.random(seed=1))
    return _augmented(steps, rows, lambda row, seed: ({"image": tf.gather(images, row)}, _seed(seed)))


def _augmented(steps: Any, rows: Any, read: Callable[..., Any], decoder: Any = None) -> Any:
    """What `read` makes of the rows, decoded and augmented as in training, in batches."""
    batches = augment.augmented_batches(rows, read, steps, BATCH, decoder)
    return _mixed(steps, batches.map(lambda batch: batch["image"]))


def _mixed(steps: Any, batches: Any) -> Any:
    """Batches, mixed where the recipe mixes."""
    if steps is None or not steps.mixes:
        return batches
    known = frozenset.intersection(*(step.moves for _, step in steps.mixings))
    label = {"label": tf.eye(BATCH)} if "label" in known else {}

    def mix(images: Any, seed: Any) -> Any:
        return steps.mix({"image": images, **label}, _seed(seed))["image"]

    whole = batches.filter(lambda images: tf.shape(images)[0] == BATCH)
    return tf.data.Dataset.zip(whole, tf.data.Dataset.random(seed=2)).map(mix, num_parallel_calls=tf.data.AUTOTUNE)


def _mapped(source: Any, function: Callable[..., Any]) -> Any:
    return source.map(function, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)


def _seed(number: Any) -> Any:
    return tf.cast(tf.stack([number // 2**16, number % 2**16], axis=-1), tf.int32)


def _name(entry: str | dict[str, Any]) -> str:
    return entry if isinstance(entry, str) else next(iter(entry))


def _timed(name: str, batches: Any, seconds: float) -> Speed:
    iterator = iter(batches.prefetch(tf.data.AUTOTUNE))
    for _ in range(3):  # compiled, and the number of threads is being found
        next(iterator)
    images, wall, cpu = 0, time.perf_counter(), time.process_time()
    while not images or time.perf_counter() - wall < seconds:
        next(iterator)
        images += BATCH
    return Speed(name, images / (time.perf_counter() - wall), 1000 * (time.process_time() - cpu) / images)


def _apart(speeds: list[Speed]) -> list[Speed]:
    """CPU time of each step alone: what it was measured together with is taken off."""
    before = {"read": 0.0, **{after.step: speed.milliseconds for speed, after in itertools.pairwise(speeds[:3])}}
    memory = next(speed.milliseconds for speed in speeds if speed.step == MEMORY)
    last = speeds[-1].step
    return [
        speed._replace(
            milliseconds=max(speed.milliseconds - before.get(speed.step, 0.0 if speed.step == last else memory), 0.0)
        )
        for speed in speeds
        if speed.step != MEMORY
    ]
