"""Labelled measurements – signals and volumes: the prepared splits that the data section of a recipe becomes on disk.

`prepare` leaves `<split>.npz` with floats of the network's size, `split.csv` (what went where), `problems.csv` (what
was odd), `data.json` (classes, counts, shape, normalisation) and pictures. `noun` is "signal" or "volume": the file
`cnn_keras/data/<noun>s.py` knows the sources, and the model's input is called so.
"""

import hashlib
import importlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cnn_keras.data import array_dataset
from cnn_keras.errors import Fault, Unreadable
from pipelines.data import additional_data, image_dataset, lineage, run_files
from pipelines.data import validation as data_validation
from pipelines.data.run_files import Run
from pipelines.plots import charts, image_grid

Array = np.ndarray[Any, np.dtype[Any]]

SHOWN = 8  # examples of each class on the sheet
ROWS = 20  # classes on the sheet
MEASURED = ("voxel size", "sample rate")  # kinds of notes that are told where they differ
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (34, 34, 34))


LIBRARIES = {"signal": "cnn_keras.data.sources.signals", "volume": "cnn_keras.data.sources.volumes"}


def library(noun: str) -> Any:
    """The file of the library that knows this kind of measurement."""
    return importlib.import_module(LIBRARIES[noun])


def prepare(run: Run, folder: Path, *, noun: str, size: tuple[int, ...] | None, channels: int | None) -> dict[str, Any]:
    """Validate, split, frame and write the measurements; fit the normalisation on the training split.

    Args:
        size: what every example becomes; None takes the length of the longest.
        channels: how many each must have; None takes the commonest number.
    """
    data, console = run.recipe.data, run.console

    def load(section: Any) -> Any:
        settings = {"path": section.path, "group": section.group, "size": size}
        return library(noun).items(section.source, **settings, window=getattr(section, "window", None))

    items = additional_data.joined(data, load)
    problems: list[data_validation.Problem] = []
    further: dict[str, Any] = {}
    if run.training_facts:
        items, problems = image_dataset.of_known_classes(items, run.training_facts["classes"])
        *sides, channels = run.training_facts["shape"]
        size = tuple(sides)
    elif data.classes:
        items = [item for item in items if not item.label or item.label in data.classes]
    examined, shapes = examine(items, noun, channels, run)
    problems += [problem for result in examined for problem in result.problems] + data_validation.duplicates(
        items, examined
    )
    data_validation.report(problems, len(items), path=folder / "problems.csv", max_bad=data.max_bad, console=console)
    usable = [(item, result.digest) for item, result in zip(items, examined, strict=True) if result.digest]
    if run.training_facts:
        classes, splits = run.training_facts["classes"], ["test"] * len(usable)
    else:
        classes = image_dataset.class_names([item.label for item, _ in usable], data)
        usable, splits, further = image_dataset.divide(run, usable, data, noun=noun)
        image_dataset.check_classes(usable, splits, console=console)
    listed = image_dataset.write_split(folder, usable, splits)
    used_shapes = [shape for shape, result in zip(shapes, examined, strict=True) if result.digest]
    shape = (*(size or (max(length for length, _ in used_shapes),)), used_shapes[0][-1])
    counts = _write_splits(run, folder, usable, splits, classes=classes, shape=shape)
    facts: dict[str, Any] = {
        "source": data.source,
        "location": str(data.path or data.source),
        "classes": classes,
        "splits": {split: sum(inner.values()) for split, inner in counts.items()},
        "shape": list(shape),
        "normalization": run.training_facts["normalization"] if run.training_facts else _normalization(folder, data),
        "problems": {kind: len(group) for kind, group in data_validation.group_by_kind(problems).items()},
        **lineage.facts(run, folder, further),
    }
    content = [classes, facts["normalization"], listed, shape, data.fit]
    facts["digest"] = run_files.digest(content)  # not of the location: data that moved is the same data
    run_files.write_json(folder / "data.json", facts)
    _draw_data(folder, noun, classes, counts)
    shares = ", ".join(f"{count:,} {split}" for split, count in facts["splits"].items())
    size_text = "×".join(map(str, shape))
    console.print(f"          {len(usable):,} {noun}s, {size_text}, of {len(classes)} classes: {shares}")
    console.print(
        f"          {data_validation.sizes_told([used[:-1] for used in used_shapes], shape[:-1], data.fit, noun)}"
    )
    return facts


def draw_array(values: Array) -> Array:
    """A picture, uint8 (height, width, 3) or (height, width), of a signal (length, channels) or a volume's middle."""
    return _traces(values) if values.ndim == 2 else _slices(values)


def examine(
    items: Sequence[Any], noun: str, channels: int | None, run: Run
) -> tuple[list[data_validation.Examined], list[tuple[int, ...]]]:
    """Read every item once; those whose number of channels is not the wanted one are of no use."""
    examined, shapes = [], []
    with data_validation.progress(run.console) as bar:
        task = bar.add_task(f"validating {noun}s", total=len(items))
        for result, shape in (run.parallel_map or data_validation.map_in_threads)(_examined, items):
            examined.append(result)
            shapes.append(shape)
            bar.advance(task)
    counted = Counter(shape[-1] for shape in shapes if shape)
    channel_count = channels or (max(counted, key=lambda number: (counted[number], number)) if counted else 0)
    for row, (item, shape) in enumerate(zip(items, shapes, strict=True)):
        if shape and shape[-1] != channel_count:
            wanted = (
                f"{channel_count} channels, the number of data.channels"
                if channels
                else f"{channel_count} channels like most"
            )
            reason = f"it must have {wanted}, got {shape[-1]}"
            examined[row] = data_validation.Examined(None, [data_validation.Problem("unsupported", item.id, reason)])
    return _without_what_all_have(examined), shapes


def _without_what_all_have(examined: list[data_validation.Examined]) -> list[data_validation.Examined]:
    """Without the notes that say what something is, such as a spacing, where it is the same everywhere."""
    details: dict[str, set[str]] = {}
    for problem in (problem for result in examined for problem in result.problems if problem.detail):
        details.setdefault(problem.kind, set()).add(problem.detail)
    alike = {kind for kind in MEASURED if len(details.get(kind, ())) < 2}
    return [
        result._replace(problems=[each for each in result.problems if each.kind not in alike]) for result in examined
    ]


def _examined(item: Any) -> tuple[data_validation.Examined, tuple[int, ...]]:
    try:
        values, notes = item.read()
    except OSError as error:
        problem = data_validation.Problem("unreadable", item.id, data_validation.os_error_text(error))
        return data_validation.Examined(None, [problem]), ()
    except Unreadable as error:
        return data_validation.Examined(None, [data_validation.Problem(error.kind, item.id, str(error))]), ()
    digest = hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
    problems = [
        data_validation.Problem(note, item.id)
        if isinstance(note, str)
        else data_validation.Problem(note[0], item.id, note[1])
        for note in notes
    ]
    return data_validation.Examined(digest, problems), values.shape


def _write_splits(
    run: Run,
    folder: Path,
    usable: Sequence[tuple[Any, str]],
    splits: Sequence[str],
    *,
    classes: list[str],
    shape: tuple[int, ...],
) -> dict[str, Counter[str]]:
    """Read the items again, give them the size, write each split; return how many of each class went where."""
    data = run.recipe.data
    gigabytes = len(usable) * float(np.prod(shape)) * 4 / 2**30
    if gigabytes > data.memory_gb:
        raise Fault(
            f"data.memory_gb must be at least what the examples take, got {data.memory_gb} and {gigabytes:.1f} GB; "
            "raise it or choose a smaller size"
        )
    counts: dict[str, Counter[str]] = {}
    with data_validation.progress(run.console) as bar:
        task = bar.add_task("framing", total=len(usable))
        for split in ("train", "validation", "test"):
            items = [item for (item, _), name in zip(usable, splits, strict=True) if name == split]
            values = np.empty((len(items), *shape), np.float32)
            for row, item in enumerate(items):
                values[row] = array_dataset.resize(item.read()[0][None], shape[:-1], fit=data.fit)[0]
                bar.advance(task)
            if items:
                labels = np.array([classes.index(item.label) for item in items], np.int64)
                array_dataset.write(
                    folder, split, array_dataset.Split(values, labels, np.array([item.id for item in items]))
                )
                counts[split] = Counter(item.label for item in items)
    return counts


def _normalization(folder: Path, data: Any) -> dict[str, Any] | None:
    """The arguments of Keras's Normalization layer: mean and variance of each channel over the training split."""
    if data.normalize != "standardise":
        return None
    values = array_dataset.read(folder, "train").values
    flat = values.reshape(-1, values.shape[-1])
    mean = flat.mean(axis=0, dtype=np.float64)
    variance = np.array([np.mean((flat[:, place] - mean[place]) ** 2) for place in range(len(mean))])
    return {"axis": -1, "mean": mean.tolist(), "variance": np.where(variance > 0, variance, 1.0).tolist()}


def _draw_data(folder: Path, noun: str, classes: list[str], counts: dict[str, Counter[str]]) -> None:
    training = array_dataset.read(folder, next(iter(counts)))
    rows = []
    for number, name in enumerate(classes[:ROWS]):
        of_class = np.flatnonzero(training.labels == number)
        sample = of_class[np.linspace(0, len(of_class) - 1, min(SHOWN, len(of_class))).astype(int)]
        rows.append((name, [draw_array(training.values[row]) for row in sample]))
    image_grid.augmentation_sheet(rows, folder / f"{noun}s.png")
    ordered = {split: {name: inner[name] for name in classes} for split, inner in counts.items()}
    charts.class_balance(ordered, folder / "class_balance.png")


def _traces(signal: Array) -> Array:
    """Each channel as a line in a colour of its own, on the scale that the largest and the smallest value span."""
    width, height, edge, finer = 320, 200, 8, 2
    page = Image.new("RGB", (finer * width, finer * height), "white")
    pen = ImageDraw.Draw(page)
    low, high = float(signal.min()), float(signal.max())
    across = np.linspace(edge, width - edge, len(signal))
    for channel in reversed(range(signal.shape[1])):
        up = height - edge - (signal[:, channel] - low) / max(high - low, 1e-30) * (height - 2 * edge)
        points = [(finer * x, finer * y) for x, y in zip(across.tolist(), up.tolist(), strict=True)]
        pen.line(
            points * (2 if len(points) == 1 else 1), COLOURS[channel % len(COLOURS)], width=3 * finer, joint="curve"
        )
    return np.asarray(page.resize((width, height), Image.Resampling.LANCZOS))


def _slices(volume: Array) -> Array:
    """The three planes through the middle of the first channel – from the side, from behind, from above – in grey."""
    grey = volume[..., 0]
    low, high = float(grey.min()), float(grey.max())
    shade = np.round((grey - low) / max(high - low, 1e-30) * 255).astype(np.uint8)
    planes = [np.rot90(shade.take(length // 2, axis=axis)) for axis, length in enumerate(shade.shape)]
    tallest = max(len(plane) for plane in planes)
    gap = np.full((tallest, 1), 255, np.uint8)
    padded = []
    for plane in planes:
        above = (tallest - len(plane)) // 2
        padded += [np.pad(plane, ((above, tallest - len(plane) - above), (0, 0))), gap]
    return np.concatenate(padded[:-1], axis=1)
