"""Augmentation as pictures: a row for each augmentation of a recipe, so that nobody trains on what they have not seen.

Boxes, landmarks and masks are drawn where an example has them, or, with marks, made up, to be seen moving.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault, Unreadable
from cnn_keras.ops.resize import resize_image
from pipelines.data import label_kind
from pipelines.engine import recipe as recipes
from pipelines.engine.training import input_benchmark
from pipelines.plots import annotate, image_grid

DRAWN = 8  # pictures of each augmentation, beside the one they are drawn from
KEPT = {"image", "label"}  # of an example whose picture alone is moved
LEAST = 160  # pixels of the longer side, so that a line on a small picture is thin
BOX, LANDMARK, MASK = (255, 90, 0), (0, 230, 255), (0, 158, 115)
# Augmentations that do nothing unless told to, as they are shown with --all.
SHOWN: dict[str, dict[str, Any]] = {
    "affine": {"rotate": 15, "shift": 0.1, "zoom": 0.2, "shear": 10},
    "brighten": {"brightness": 0.3, "contrast": 0.4},
    "saturate": {"saturation": 0.8, "hue": 30},
}


def sheet(recipe: Any, path: Path, *, every: bool = False, marks: bool = False) -> Path:
    """Write a contact sheet of `recipe`'s augmentations, or of `every` one there is, on pictures of its data.

    Args:
        recipe: one whose task augments pictures: it has `data.size`, `data.channels`, `data.fit` and `augment`.
        path: the PNG file to write.
        every: all augmentations, with settings that show, whatever the recipe lists.
        marks: a box, landmarks and a mask are added to every picture.

    Raises:
        Fault: nothing to draw, or pictures that cannot be read.
    """
    if not input_benchmark.has_pictures(recipe):
        raise Fault(f"RECIPE must be of a task with images, got one of {recipe.task}")
    entries = _every(recipe.data.channels) if every else list(recipe.augment)
    if not entries:
        raise Fault("augment must list at least one augmentation, got none; --all draws every available one")
    steps = augment.compose(entries)
    examples = _examples(recipe, (steps.source if steps else None) or recipe.data.size)
    examples = [{**example, **(_marks(example["image"]) if marks else {})} for example in examples]
    fitted = augment.fit(entries, lambda: [example["image"][None] for example in examples])
    rows = [(_title(entry), _row([entry], fitted, examples, number)) for number, entry in enumerate(entries)]
    if len(entries) > 1 and not every:
        rows.append(("all of them, as in training", _row(entries, fitted, examples, len(rows))))
    return image_grid.augmentation_sheet(rows, path)


def _every(channels: int) -> list[Any]:
    """One entry for each augmentation, those left out that need colours where there are none."""
    rows = []
    for name, factory in augment.catalogue().items():
        step = factory(**SHOWN.get(name, {}))
        needed = getattr(getattr(step, "colour", step), "channels", None)
        if needed in (None, channels):
            rows.append({name: SHOWN[name]} if name in SHOWN else name)
    return rows


def _title(entry: str | dict[str, dict[str, Any]]) -> str:
    if isinstance(entry, str):
        return entry
    return "   ".join(
        f"{name}   {', '.join(f'{key}: {value}' for key, value in (arguments or {}).items())}"
        for name, arguments in entry.items()
    )


def _row(entries: Sequence[Any], fitted: dict[str, Any], examples: list[dict[str, Any]], number: int) -> list[Any]:
    """One picture as it is, then as training may see it; of an augmentation of batches, a batch."""
    steps = augment.compose(_without_landmark_pairs(entries, examples), fitted=fitted)
    assert steps is not None  # entries are not empty
    if steps.moves_pixels:
        examples = [{key: values for key, values in example.items() if key in KEPT} for example in examples]
    first = examples[number % len(examples)]
    count = DRAWN if not steps.mixes else len(examples)
    sources = [first] * count if not steps.mixes else examples
    samples = [steps(source, np.array([number, n], np.int32)) for n, source in enumerate(sources)]
    if steps.mixes:
        samples = _mixed(steps, samples, number)
    return [_marked(first), *(_marked(example) for example in samples[:DRAWN])]


def _without_landmark_pairs(entries: Sequence[Any], examples: list[dict[str, Any]]) -> list[Any]:
    """Mirrors are told that the landmarks made up here have no left and right, unless the recipe says more."""
    if "landmarks" not in examples[0]:
        return list(entries)
    mirrors = {"mirror": {"pairs": [[0, 1], [3, 4]]}, "flip": {"pairs": [[0, 1], [3, 4]]}}
    return [{entry: mirrors[entry]} if isinstance(entry, str) and entry in mirrors else entry for entry in entries]


def _mixed(steps: Any, samples: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """The examples as a batch, mixed, and apart again. Mixed pictures have no one box or mask: these are left out."""
    batch = {"image": np.stack([example["image"] for example in samples])}
    knows = frozenset.intersection(*(step.moves for _, step in steps.mixings))
    if "label" in knows:
        batch["label"] = np.eye(len(samples), dtype=np.float32)
    if "boxes" in knows and all("boxes" in example for example in samples):
        batch["boxes"] = np.stack([example["boxes"] for example in samples])
        batch["classes"] = np.zeros(batch["boxes"].shape[:2], np.int64)
    mixed = {key: values.numpy() for key, values in steps.mix(batch, np.array([number, 0], np.int32)).items()}
    return [
        {key: values[row] for key, values in mixed.items() if key in ("image", "boxes")} for row in range(len(samples))
    ]


def _examples(recipe: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The first readable pictures of different classes, framed: dicts with `image`, uint8 (*size, channels).

    A task whose examples carry boxes, landmarks or masks says so with a function `samples(recipe, count)`.
    """
    task = recipes.module_of(recipe.task)
    if hasattr(task, "samples"):
        return list(task.samples(recipe, DRAWN))
    data = recipe.data
    examples: list[dict[str, Any]] = []
    for item in _spread(label_kind.of(data).items(data)):
        try:
            image = decode(tf.constant(normalize(item.read())[0]), channels=data.channels)
        except (OSError, Unreadable, tf.errors.InvalidArgumentError, UnicodeDecodeError):
            continue  # `cnn prepare` reports what cannot be read
        examples.append({"image": resize_image(image, size, fit=data.fit).numpy()})
        if len(examples) == DRAWN:
            break
    if not examples:
        raise Fault(f"data.path must hold at least one readable image, got none in {data.path or data.source}")
    return examples


def _spread(items: Sequence[Any]) -> list[Any]:
    """One item of each class in turn, so that a sheet does not show the first class only."""
    rounds: dict[str, int] = {}
    turns = []
    for item in items:
        rounds[item.label] = rounds.get(item.label, 0) + 1
        turns.append(rounds[item.label])
    return [items[row] for row in sorted(range(len(items)), key=lambda row: turns[row])]


def _marks(image: Any) -> dict[str, Any]:
    """A box, five landmarks in the places of a face's, and a round mask in it."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    inside = ((y + 0.5) / height - 0.5) ** 2 + ((x + 0.5) / width - 0.5) ** 2 < 0.2**2
    points = [[0.38, 0.4, 1], [0.62, 0.4, 1], [0.5, 0.5, 1], [0.4, 0.62, 1], [0.6, 0.62, 1]]
    return {
        "boxes": np.array([[0.25, 0.2, 0.75, 0.8]], np.float32),
        "landmarks": np.array(points, np.float32),
        "mask": inside.astype(np.uint8),
    }


def _marked(example: dict[str, Any]) -> Any:
    """The picture with what it carries drawn on it, enlarged if it is small: uint8 (height, width, 3)."""
    image = np.asarray(example["image"])
    if "angle" in example:
        return annotate.draw_steering(image, truth=float(example["angle"]))
    if not {"boxes", "landmarks", "mask"} & example.keys():
        return image
    factor = -(-LEAST // max(image.shape[:2]))
    pixels = np.repeat(image, 3 // image.shape[-1], axis=-1)
    if "mask" in example:
        mask = np.asarray(example["mask"]).reshape(image.shape[:2])
        pixels = np.where((mask > 0)[..., None], (pixels * 0.5 + np.array(MASK) * 0.5).astype(np.uint8), pixels)
    canvas = Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    pen, (width, height) = ImageDraw.Draw(canvas), canvas.size
    for left, top, right, bottom in np.asarray(example.get("boxes", np.zeros((0, 4)))).reshape(-1, 4):
        if right > left and bottom > top:
            pen.rectangle([left * width, top * height, right * width - 1, bottom * height - 1], outline=BOX, width=2)
    for number, (x, y, visible) in enumerate(np.asarray(example.get("landmarks", np.zeros((0, 3)))).reshape(-1, 3)):
        if visible:
            pen.text((x * width, y * height), str(number), fill=LANDMARK, anchor="mm", font_size=max(height / 11, 9))
    return np.asarray(canvas)
