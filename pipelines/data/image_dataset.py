"""Labelled images: the prepared splits that the data section of a recipe becomes on disk, and batches of them.

`prepare` leaves TFRecord shards of each split, `split.csv` (what went where), `problems.csv` (what was odd),
`data.json` (classes, counts, normalisation) and pictures; `facts` of the stage repeat `data.json`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from cnn_keras.data import input_pipeline, records
from cnn_keras.data.files import file_tree
from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.data.split import connected_groups
from cnn_keras.errors import Fault
from pipelines.data import (
    additional_data,
    image_normalization,
    label_kind,
    lineage,
    run_files,
    similar_images,
    split_manifest,
)
from pipelines.data import validation as data_validation
from pipelines.data.image_config import Data
from pipelines.data.run_files import Run
from pipelines.data.schema import Fold
from pipelines.plots import charts, image_grid

# Of (item, digest), the data section, a seed and a fold of a cross-validation.
Divided = Callable[[list[tuple[Any, str]], Any, int, Fold | None], list[str]]

SAMPLES = 60  # pictures on the contact sheet


def prepare(
    run: Run, folder: Path, *, divided: Divided | None = None, changed: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """Validate, split and record the images of `run.recipe.data`; fit the normalisation on the training split.

    `divided` says which split every image goes into; `splits_of` does unless given. `changed` makes other items of
    those that the source has.
    """
    data: Data = run.recipe.data
    kind = label_kind.of(data)
    if run.training_facts and kind is label_kind.MULTI:
        data = data.model_copy(update={"classes": tuple(run.training_facts["classes"])})
    items = additional_data.joined(data, partial(kind.items, seed=run.recipe.seed))
    unknown: list[data_validation.Problem] = []
    if run.training_facts and kind is label_kind.SINGLE and divided is None:
        items, unknown = of_known_classes(items, run.training_facts["classes"])
    items = changed(items) if changed else items
    resume = changed is None  # what makes other items may depend on having read them all
    examined = data_validation.examine(
        items,
        console=run.console,
        journal=folder / run_files.JOURNAL if resume else None,
        parallel_map=run.parallel_map,
    )
    problems = [problem for result in examined for problem in result.problems] + data_validation.duplicates(
        items, examined
    )
    problems += [*kind.problems(items), *unknown]
    data_validation.report(
        problems, len(items), path=folder / "problems.csv", max_bad=data.max_bad, console=run.console
    )
    usable = [(item, result.digest) for item, result in zip(items, examined, strict=True) if result.digest]
    if run.training_facts and divided is None:
        classes = run.training_facts["classes"]
    else:
        classes = class_names([name for item, _ in usable for name in kind.names(item)], data)
    further: dict[str, Any] = {}
    if run.training_facts:
        splits = ["test"] * len(usable)
    else:
        usable, splits, further = divide(run, usable, data, divided)
        if divided is None:
            check_classes(usable, splits, console=run.console, kind=kind)
    listed = write_split(folder, usable, splits)
    counts = _write_records(run, folder, usable, splits, classes, resume=resume)
    shape = shape_of(data)
    sizes = {split: splits.count(split) for split in counts}
    facts: dict[str, Any] = {
        "source": data.source,
        "location": str(data.path or data.source),
        "classes": classes,
        "splits": sizes,
        "normalization": run.training_facts["normalization"]
        if run.training_facts
        else image_normalization.fit(folder, shape, data.normalize, sizes["train"]),
        "problems": {name: len(group) for name, group in data_validation.group_by_kind(problems).items()},
        **kind.facts(counts),
        **lineage.facts(run, folder, further),
    }
    content = [classes, facts["normalization"], listed, *shape]
    facts["digest"] = run_files.digest(content)  # not of the location: data that moved is the same data
    run_files.write_json(folder / "data.json", facts)
    _draw_data(folder, shape, classes, counts, kind)
    shares = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    run.console.print(f"          {len(usable):,} images of {len(classes)} classes: {shares}")
    usable_sizes = [result.size for result in examined if result.digest]
    run.console.print(f"          {data_validation.sizes_told(usable_sizes, data.size, data.fit, 'image')}")
    return facts


def divide(
    run: Run, usable: list[tuple[Any, str]], data: Any, divided: Divided | None = None, *, noun: str = "image"
) -> tuple[list[tuple[Any, str]], list[str], dict[str, Any]]:
    """What is used of items and digests, the split of each, and the facts of further data; `divided` is of people."""
    items, digests = [item for item, _ in usable], [digest for _, digest in usable]

    def own(rows: additional_data.Rows) -> list[str]:
        return (divided or splits_of)(rows, data, run.recipe.seed, run.recipe.fold)

    keys = partial(similar_images.split_keys, run)
    named = additional_data.splits(items, digests, own, keys=keys, by_label=divided is not None)
    kept = [(row, split) for row, split in zip(usable, named, strict=True) if split is not None]
    return [row for row, _ in kept], [split for _, split in kept], additional_data.facts(run, items, named, noun)


def shape_of(data: Any) -> Shape:
    """The height and width of the network's images, their channels, and how images are fitted into them."""
    return Shape(data.size, data.channels, data.fit)


def training_batches(run: Run, epochs: range, augmented: Any, shape: Shape, **options: Any) -> tf.data.Dataset:
    """The training batches of these epochs; see `input_pipeline.training`, which takes the options."""
    recipe = run.recipe
    return input_pipeline.training(
        run.finished("prepare"),
        "train",
        shape,
        count=run.facts("prepare")["splits"]["train"],
        epochs=epochs,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        augment=augmented,
        **{"share": run.share, **options},
    )


def ordered_batches(run: Run, split: str, shape: Shape, **options: Any) -> tf.data.Dataset:
    """The batches of a split in their order and without augmentation; see `input_pipeline.batches`."""
    count, size = run.facts("prepare")["splits"][split], run.recipe.train.batch_size
    return input_pipeline.batches(run.finished("prepare"), split, shape, count=count, batch_size=size, **options)


def validation_split(data: dict[str, Any]) -> str:
    """The split that chooses the best epoch."""
    return "validation" if "validation" in data["splits"] else "train"


def test_split(data: dict[str, Any]) -> str:
    """The split that measures."""
    return "test" if "test" in data["splits"] else validation_split(data)


def of_known_classes(items: Sequence[Any], classes: Sequence[str]) -> tuple[list[Any], list[data_validation.Problem]]:
    """Those items that are of these classes, or of none, which validation reports; and a problem for each other one.

    Raises:
        Fault: none is of these classes.
    """
    known = [item for item in items if not item.label or item.label in classes]
    others = [item for item in items if item.label and item.label not in classes]
    if others and not any(item.label for item in known):
        names = sorted({item.label for item in others}, key=file_tree.natural)
        raise Fault(
            f"the data must have classes that the network knows: {', '.join(classes[:8])}; got only "
            f"{', '.join(names[:8])}",
            code=Fault.DATA,
        )
    return known, [data_validation.Problem("unknown class", item.id, item.label, "left out") for item in others]


def class_names(labels: list[str], data: Data) -> list[str]:
    """The classes in natural order, or in the order in which the recipe names them."""
    used_names = set(labels)
    names = (
        [name for name in data.classes if name in used_names]
        if data.classes
        else sorted(used_names, key=file_tree.natural)
    )
    if len(names) < 2:
        raise Fault(
            f"{data.source} must contain at least two classes, got {', '.join(names) or 'none'}", code=Fault.DATA
        )
    return names


def check_classes(
    usable: list[tuple[Any, str]],
    splits: list[str],
    *,
    console: Console,
    kind: label_kind.SingleLabel = label_kind.SINGLE,
) -> None:
    """Tell which classes are not tested.

    Raises:
        Fault: a class is validated or tested, as the source prescribes, and nothing of it can be learnt.
    """
    splits_of_class: dict[str, set[str]] = {}
    for (item, _), split in zip(usable, splits, strict=True):
        splits_of_class.setdefault(split, set()).update(kind.names(item))
    learnt = splits_of_class.get("train", set())
    for split in ("validation", "test"):
        prescribed = {name for item, _ in usable if item.split == split for name in kind.names(item)}
        if strange := sorted(prescribed - learnt):
            raise Fault(
                f"the given splits must contain the same classes, got {', '.join(strange[:8])} in {split} alone; the "
                f"training split holds {', '.join(sorted(learnt)[:8]) or 'none'}",
                code=Fault.DATA,
            )
    if (tested := splits_of_class.get("test")) and (missing := sorted(learnt - tested)):
        console.print(f"          [yellow]no test images of {escape(', '.join(missing[:8]))}: not in the test split[/]")


def splits_of(usable: list[tuple[Any, str]], data: Any, seed: int, fold: Fold | None = None) -> list[str]:
    """The split of each kept item: the source's own where it has one, else stratified; groups and copies stay whole.

    A fold is of all items, whatever the source prescribes.
    """
    prescribed = [item.split if fold is None else None for item, _ in usable]
    fractions = {"validation": data.validation, "test": data.test}
    fractions = {name: share for name, share in fractions.items() if name not in prescribed}
    free = [row for row, name in enumerate(prescribed) if name in (None, "train")]
    if "train" in prescribed or "test" in prescribed:
        fractions.pop("test", None)  # a source that prescribes a split decides what is tested
    items = [usable[row][0] for row in free]
    groups = connected_groups([item.group for item in items], [usable[row][1] for row in free])
    place = fold.place if fold else None
    split_of_free = label_kind.of(data).stratified(items, groups, fractions=fractions, seed=seed, fold=place)
    splits = [name or "train" for name in prescribed]
    for row, name in zip(free, split_of_free, strict=True):
        splits[row] = str(name)
    if "train" not in splits:
        raise Fault(
            f"{data.source} must contain a training split, got only {', '.join(sorted(set(splits)))}",
            code=Fault.DATA,
        )
    return splits


def write_split(folder: Path, usable: Sequence[tuple[Any, str]], splits: Sequence[str]) -> str:
    """Write what went where; see `split_manifest.write`."""
    rows = ((item.id, item.label, name, digest) for (item, digest), name in zip(usable, splits, strict=True))
    return split_manifest.write(folder, ("id", "label", "split", "sha256"), rows, count=len(usable))


def _write_records(
    run: Run, folder: Path, usable: list[tuple[Any, str]], splits: list[str], classes: list[str], *, resume: bool
) -> dict[str, Counter[str]]:
    """Write the shards of each split, the training examples shuffled; return how many of each class went where."""
    numbers, in_place = {name: number for number, name in enumerate(classes)}, run.recipe.data.in_place
    kind = label_kind.of(run.recipe.data)
    features = {**kind.features(len(classes)), **(records.PLACE if in_place else {})}
    counts: dict[str, Counter[str]] = {}

    def values(item: Any) -> tuple[Any, ...]:
        data = item.read()
        plain = normalize(data)[0]
        if not in_place:
            return item.id, plain, kind.target(item, numbers)
        if plain == data:
            return item.id, b"", kind.target(item, numbers), *records.place(item.read.path, item.read.start, data)
        return item.id, plain, kind.target(item, numbers), "", 0, 0, 0

    with data_validation.progress(run.console) as bar:
        task = bar.add_task("writing records", total=len(usable))
        for split in ("train", "validation", "calibration", "test"):  # of people some calibrate
            items = [item for (item, _), name in zip(usable, splits, strict=True) if name == split]
            if split == "train":
                items = [items[row] for row in np.random.default_rng(run.recipe.seed).permutation(len(items))]
            if items:
                records.write(
                    folder,
                    split,
                    items,
                    features=features,
                    values=values,
                    resume=resume,
                    parallel_map=run.parallel_map,
                    after_row=partial(bar.advance, task),
                )
                counts[split] = Counter(name for item in items for name in kind.names(item))
    return counts


def _draw_data(
    folder: Path, shape: Shape, classes: list[str], counts: dict[str, Counter[str]], kind: label_kind.SingleLabel
) -> None:
    sample = input_pipeline.arrays(folder, next(iter(counts)), shape, limit=SAMPLES)
    titles = [kind.title(label, classes) for label in sample.labels]
    image_grid.contact_sheet(list(sample.images), titles, folder / "contact_sheet.png")
    ordered = {split: {name: inner[name] for name in classes} for split, inner in counts.items()}
    charts.class_balance(ordered, folder / "class_balance.png")
