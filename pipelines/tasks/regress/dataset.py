"""Images with numbers: the data section of a recipe, and the splits that it becomes on disk.

`prepare` leaves TFRecord shards of each split; `split.csv` (what went where), `problems.csv` (what was odd),
`data.json` (names, units, mean and deviation of the numbers) and pictures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.input_pipeline import Example
from cnn_keras.data.sources import regression
from cnn_keras.data.sources.regression import ValueImages, ValueItem
from cnn_keras.errors import Fault, Unreadable
from cnn_keras.ops import resize
from pipelines.data import (
    additional_data,
    image_dataset,
    lineage,
    run_files,
    source_files,
    split_manifest,
    value_records,
)
from pipelines.data import validation as data_validation
from pipelines.data.value_records import SPLITS
from pipelines.engine.stages import Run
from pipelines.plots import image_grid
from pipelines.tasks.regress import plots
from pipelines.tasks.regress.config import Data

SAMPLES = 40  # pictures on the contact sheet
KEY = "label"  # of the numbers in records: what augmentation leaves alone
UNITS = {"turned_digits": {"angle": "°"}}  # of the sources that come along


def images(data: Data, seed: int) -> ValueImages:
    """The images of the recipe's source, unread."""
    arguments: dict[str, Any] = {"path": data.path, "images": data.images, "group": data.group}
    if data.values is not None:
        arguments["names"] = tuple(data.values)
    return regression.images(data.source, seed=seed, **arguments)


def _all_images(data: Data, seed: int) -> ValueImages:
    """Those of further data, too, which must have the same numbers."""
    names, items = images(data, seed)
    for number, section in enumerate(source_files.sections_of_further_data(data), 1):
        further = images(section.model_copy(update={"values": dict.fromkeys(names, "")}), seed)
        items = [*items, *additional_data.marked(further.items, number)]
    return ValueImages(names, items)


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split and record the images of `run.recipe.data`."""
    data: Data = run.recipe.data
    names, items = _all_images(data, run.recipe.seed)
    examined = data_validation.examine(
        items, console=run.console, journal=folder / run_files.JOURNAL, parallel_map=run.parallel_map
    )
    problems = [problem for result in examined for problem in result.problems]
    problems += data_validation.duplicates(items, examined)
    data_validation.report(
        problems, len(items), path=folder / "problems.csv", max_bad=data.max_bad, console=run.console
    )
    usable = [(item, result.digest) for item, result in zip(items, examined, strict=True) if result.digest]
    alike = [(item._replace(label="images"), digest) for item, digest in usable]  # of no class
    splits, further = ["test"] * len(usable), dict[str, Any]()
    if not run.training_facts:
        usable, splits, further = image_dataset.divide(run, alike, data)
    rows = ((item.id, name, *item.values, digest) for (item, digest), name in zip(usable, splits, strict=True))
    listed = split_manifest.write(folder, ("id", "split", *names, "sha256"), rows, count=len(usable))
    members = {
        split: [item for (item, _), name in zip(usable, splits, strict=True) if name == split] for split in SPLITS
    }
    units = data.values or UNITS.get(data.source, {})
    facts: dict[str, Any] = {
        "source": data.source,
        "location": str(data.path or data.source),
        "names": list(names),
        "units": [units.get(name, "") for name in names],
        "splits": {split: len(inner) for split, inner in members.items() if inner},
        "values": {split: _measured(inner, names) for split, inner in members.items() if inner},
        "problems": {kind: len(group) for kind, group in data_validation.group_by_kind(problems).items()},
        **lineage.facts(run, folder, further),
    }
    if not run.training_facts:
        _check_values(facts)
    value_records.write(run, folder, members, example=example(facts), values=_values)
    facts["digest"] = run_files.digest([listed, *image_dataset.shape_of(data)])
    run_files.write_json(folder / "data.json", facts)
    _draw(folder, members, facts, data)
    shares = ", ".join(f"{count:,} {split}" for split, count in facts["splits"].items())
    run.console.print(f"          {len(usable):,} images with {', '.join(names)}: {shares}")
    sizes = [result.size for result in examined if result.digest]
    run.console.print(f"          {data_validation.sizes_told(sizes, data.size, data.fit, 'image')}")
    return facts


def example(data: dict[str, Any]) -> Example:
    """What a record holds, of the facts of prepare: batches are (images, numbers float32 (batch, values))."""
    return value_records.example(KEY, (len(data["names"]),))


def examples(run: Run, split: str) -> tf.data.Dataset:
    """The examples of a split in their order: dicts of id, image of `data.size` and KEY."""
    return value_records.examples(run, split, example(run.facts("prepare")))


def samples(data: Data, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The first readable images, framed, for `cnn augment`: dicts of image."""
    found: list[dict[str, Any]] = []
    for item in images(data, seed).items:
        try:
            image = decode(tf.constant(normalize(item.read())[0]), channels=data.channels)
        except (OSError, Unreadable, tf.errors.InvalidArgumentError, UnicodeDecodeError):
            continue  # `cnn prepare` reports what cannot be read
        found.append({"image": resize.resize_image(image, data.size, fit=data.fit).numpy()})
        if len(found) == count:
            break
    if not found:
        raise Fault(f"{data.source} must hold at least one readable image, got none", code=Fault.DATA)
    return found


def described(values: Sequence[float], data: dict[str, Any]) -> str:
    """Numbers with their names, where there are several, and units."""
    one = len(data["names"]) == 1
    parts = zip(data["names"], values, data["units"], strict=True)
    return ", ".join(f"{'' if one else name + ' '}{value:.4g} {unit}".strip() for name, value, unit in parts)


def _check_values(data: dict[str, Any]) -> None:
    """Raise a Fault where a number is the same in all training images."""
    if "validation" not in data["splits"]:
        raise Fault("data must have a validation split, which calibrates the intervals, got none", code=Fault.DATA)
    for name, row in data["values"]["train"].items():
        if not row["deviation"] > 0:
            raise Fault(
                f"{name} must differ among the training images, got {row['mean']:g} in all of them", code=Fault.DATA
            )


def _values(item: ValueItem) -> tuple[Any, ...]:
    """What a record holds of an item, in the order of the features."""
    return item.id, normalize(item.read())[0], np.array(item.values, np.float32)


def _measured(items: Sequence[ValueItem], names: Sequence[str]) -> dict[str, dict[str, float]]:
    columns = np.array([item.values for item in items]).T
    return {
        name: {
            "mean": float(column.mean()),
            "deviation": float(column.std()),
            "median": float(np.median(column)),
            "least": float(column.min()),
            "most": float(column.max()),
        }
        for name, column in zip(names, columns, strict=True)
    }


def _draw(folder: Path, members: dict[str, list[ValueItem]], facts: dict[str, Any], data: Data) -> None:
    """A sheet of training images with their numbers, and how the numbers of each split are spread."""
    pictures, titles = [], []
    for item in next(iter(filter(None, members.values())))[:SAMPLES]:
        image = decode(tf.constant(normalize(item.read())[0]), channels=data.channels)
        pictures.append(resize.resize_image(image, data.size, fit=data.fit).numpy())
        titles.append(described(item.values, facts))
    image_grid.contact_sheet(pictures, titles, folder / "contact_sheet.png")
    columns = {split: np.array([item.values for item in inner]) for split, inner in members.items() if inner}
    plots.histograms(columns, facts, folder / "values.png")
