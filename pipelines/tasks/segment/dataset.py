"""Pictures and volumes with a class at each pixel: the data section of a recipe, and the splits it becomes on disk.

`prepare` leaves the pictures of each split as TFRecord shards with their masks, or volumes as `<split>-<row>.npz`,
`split.csv` (what went where), `problems.csv` (what was odd), `data.json` and drawings; `facts` of the stage repeat
`data.json`: classes, counts of pictures and of the pixels of each class, normalisation. Pixels are numbered by the
classes from 1 on in all that is written, and 0 is what nobody knows.
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.markup import escape

from cnn_keras.data import split as splitting
from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.label_map import Item, LabelMaps
from cnn_keras.data.sources import segmentation
from cnn_keras.errors import Fault, Unreadable
from cnn_keras.ops.resize import resize_image, resize_labels
from pipelines.data import (
    additional_data,
    array_dataset,
    image_dataset,
    lineage,
    run_files,
    similar_images,
    source_files,
    split_manifest,
)
from pipelines.data import validation as data_validation
from pipelines.data.boxes.box_config import Composites
from pipelines.data.schema import Fold
from pipelines.data.validation import Examined
from pipelines.engine.stages import Run
from pipelines.plots import charts, overlays
from pipelines.tasks.segment import label_mapping, records
from pipelines.tasks.segment.config import Data
from pipelines.tasks.segment.label_mapping import Numbering, UsablePicture

SAMPLES = 12  # pictures on the contact sheet
ORDER = ("train", "validation", "test")


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split and write the pictures or volumes of `run.recipe.data` and their masks; fit the normalisation."""
    data: Data = run.recipe.data
    maps = load_source(data, run.recipe.seed)
    parts = [load_source(section, run.recipe.seed) for section in source_files.sections_of_further_data(data)]
    items = maps.items + [
        item for number, part in enumerate(parts, 1) for item in additional_data.marked(part.items, number)
    ]
    examined = _examined(run, items, folder)
    usable, problems = label_mapping.count_labels(items, examined, run)
    problems += data_validation.duplicates(items, examined)
    tell = partial(
        data_validation.report,
        total=len(items),
        path=folder / "problems.csv",
        max_bad=data.max_bad,
        console=run.console,
    )
    if not usable:
        tell(problems)  # refuses
    known = run.training_facts["classes"] if run.training_facts else None
    own = [each for each in usable if each.item.split != additional_data.ALSO]
    numbers, strange = label_mapping.map_labels(maps, own, data, known)
    for number, (part, section) in enumerate(zip(parts, source_files.sections_of_further_data(data), strict=True), 1):
        members = [each for each in usable if each.item.id.startswith(f"also-{number}/")]
        numbers, renumbered, odd = label_mapping.join(numbers, part, members, section)
        own, strange = own + renumbered, strange + odd
    usable = own
    problems += [*strange, *(data_validation.Problem(*note) for each in (maps, *parts) for note in each.notes)]
    tell(problems)
    label_mapping.refuse_unknown(usable, numbers, data)
    if run.training_facts:
        splits, further = {"test": usable}, dict[str, Any]()
    else:
        splits, further = _divided(run, usable, numbers)
        label_mapping.refuse_a_single_class(splits["train"], numbers)
    listed = _write_split(folder, splits)
    for split, members in splits.items():
        records.write(run, folder, split, members, numbers)
    facts: dict[str, Any] = {
        "source": data.source,
        "location": str(data.path or data.source),
        "classes": numbers.classes,
        "splits": {split: len(members) for split, members in splits.items()},
        "pixels": {split: label_mapping.pixels(members, numbers) for split, members in splits.items()},
        "normalization": run.training_facts["normalization"]
        if run.training_facts
        else records.fit_normalization(run, folder),
        "problems": {kind: len(group) for kind, group in data_validation.group_by_kind(problems).items()},
        **lineage.facts(run, folder, further),
    }
    content = [
        numbers,
        facts["pixels"],
        facts["normalization"],
        listed,
        data.borders,
        *([data.spacing] if data.spacing else []),
    ]
    facts["digest"] = run_files.digest(content)  # not of the location: data that moved is the same data
    run_files.write_json(folder / "data.json", facts)
    _draw(run, folder, facts)
    _say(run, facts, splits, numbers)
    return facts


def load_source(data: Data, seed: int) -> LabelMaps:
    """The items of the recipe's source; nothing is decoded yet."""
    arguments: dict[str, Any] = {
        "path": data.path,
        "images": data.images,
        "headers": data.headers,
        "spacing": data.spacing,
    }
    if data.source == "composites":
        arguments |= {**(data.composites or Composites()).model_dump(), "seed": seed}
    elif data.composites is not None:
        raise Fault(f"data.composites requires source: composites, got source: {data.source}")
    is_painted = data.source in segmentation.PAINTED
    if isinstance(data.classes, dict) and data.source != "folder":
        raise Fault(f"data.classes by number requires source: folder, got source: {data.source}")
    if data.classes and not is_painted and data.source != "folder":
        raise Fault(f"data.classes goes with masks in a folder or painted things, got source: {data.source}")
    if is_painted:
        arguments |= {"classes": tuple(data.classes or ()), "crowd": data.crowd}
    return segmentation.load(data.source, axes=data.axes, group=data.group, **arguments)


def samples(data: Data, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The first readable pictures, framed, for `cnn augment`: dicts of image and mask, 1 where a thing is.

    With `fit: patch` it is the upper left patch of each.
    """
    if data.axes == 3:
        raise Fault("RECIPE must be of a task with images, got one with volumes")
    samples_: list[dict[str, Any]] = []
    for item in load_source(data, seed).items:
        try:
            image = decode(tf.constant(normalize(item.read())[0]), channels=data.channels)
            mask = item.mask(tuple(image.shape[:2])).values
        except (OSError, Unreadable, tf.errors.InvalidArgumentError, UnicodeDecodeError):
            continue  # `cnn prepare` reports what cannot be read
        things = (mask > 0).astype(np.uint8)[..., None]
        fit = data.fit
        if fit == "patch":
            image, things, fit = image[: data.size[0], : data.size[1]], things[: data.size[0], : data.size[1]], "pad"
        pair = (resize_image(image, data.size, fit=fit), resize_labels(tf.constant(things), data.size, fit=fit))
        samples_.append(dict(zip(("image", "mask"), (part.numpy() for part in pair), strict=True)))
        if len(samples_) == count:
            return samples_
    if not samples_:
        raise Fault(f"{data.source} must contain at least one readable image with a mask, got none", code=Fault.DATA)
    return samples_


def _examined(run: Run, items: Sequence[Item], folder: Path) -> list[Examined]:
    """What reading every picture or volume shows; of those of the wrong number of channels that they are of no use."""
    data: Data = run.recipe.data
    if data.axes == 2:
        return data_validation.examine(
            items, console=run.console, journal=folder / run_files.JOURNAL, parallel_map=run.parallel_map
        )
    results, shapes = array_dataset.examine(items, "volume", data.channels, run)
    sized = zip(results, shapes, strict=True)
    return [result._replace(size=tuple(shape[:-1])) for result, shape in sized]  # type: ignore[arg-type]  # three sizes


def _divided(
    run: Run, usable: Sequence[UsablePicture], numbers: Numbering
) -> tuple[dict[str, list[UsablePicture]], dict[str, Any]]:
    """The pictures of each split, and the facts of further data."""
    data, items = run.recipe.data, [each.item for each in usable]
    own = [each for each in usable if each.item.split != additional_data.ALSO]

    def divide(rows: additional_data.Rows) -> list[str]:
        return _splits(own, [key for _, key in rows], numbers, data, run.recipe.seed, run.recipe.fold)

    digests, keys = [each.digest for each in usable], partial(similar_images.split_keys, run)
    named = additional_data.splits(items, digests, divide, keys=keys)
    splits = {name: [picture for picture, of in zip(usable, named, strict=True) if of == name] for name in ORDER}
    members = {name: members for name, members in splits.items() if members}
    return members, additional_data.facts(run, items, named, noun(data))


def _splits(
    usable: Sequence[UsablePicture],
    keys: Sequence[str],
    numbers: Numbering,
    data: Data,
    seed: int,
    fold: Fold | None = None,
) -> list[str]:
    """The split of each picture: the source's own where it has one, else drawn; groups and copies stay whole.

    A class's pictures are spread over the splits as far as it is in enough of them.
    """
    there = [{numbers.numbers[value] for value in picture.counts if value in numbers.numbers} for picture in usable]
    groups = splitting.connected_groups([picture.item.group for picture in usable], keys)
    least = max(2 * (1 + (data.validation > 0) + (data.test > 0)), fold.of + 1 if fold else 0)
    labels = splitting.rarest_class(there, groups, least=least)
    marked = [
        (picture.item._replace(label=label), key) for picture, label, key in zip(usable, labels, keys, strict=True)
    ]
    return image_dataset.splits_of(marked, data, seed, fold)


def _write_split(folder: Path, splits: dict[str, list[UsablePicture]]) -> str:
    """Write what went where; see `split_manifest.write`."""
    rows = (
        (picture.item.id, split, picture.item.group or "", "x".join(map(str, picture.size)), picture.digest)
        for split, members in splits.items()
        for picture in members
    )
    count = sum(map(len, splits.values()))
    return split_manifest.write(folder, ("id", "split", "group", "size", "sha256"), rows, count=count)


def _draw(run: Run, folder: Path, facts: dict[str, Any]) -> None:
    counts = {split: {name: counts[name] for name in facts["classes"]} for split, counts in facts["pixels"].items()}
    charts.class_balance(counts, folder / "class_balance.png", unit="pixels" if run.recipe.data.axes == 2 else "voxels")
    split, count = next(iter(facts["splits"].items()))
    examples = list(islice(records.examples(run.recipe, folder, split), SAMPLES))
    nouns = noun(run.recipe.data, 2)
    heading = (
        f"{len(examples)} of {count:,} {'training' if split == 'train' else split} {nouns}, masks as they are recorded"
    )
    rows = [(example.image, example.truth) for example in examples]
    titles = [Path(example.id).name for example in examples]
    overlays.sheet(rows, titles, folder / "contact_sheet.png", names=facts["classes"], heading=heading)


def _say(run: Run, facts: dict[str, Any], splits: dict[str, list[UsablePicture]], numbers: Numbering) -> None:
    data: Data = run.recipe.data
    split, counts = next(iter(facts["pixels"].items()))
    total, kind = sum(counts.values()), "training" if split == "train" else split
    members = [picture for split_members in splits.values() for picture in split_members]
    shares = ", ".join(f"{count:,} {split}" for split, count in facts["splits"].items())
    run.console.print(f"          {len(facts['classes'])} classes: {shares}")
    sizes = data_validation.sizes_told([picture.size for picture in members], data.size, data.fit, noun(data))
    run.console.print(f"          {sizes}")
    if data.spacing:
        run.console.print(f"          resampled to voxels of {'×'.join(f'{side:g}' for side in data.spacing)} mm")
    if numbers.remark:
        run.console.print(f"          {escape(numbers.remark)}")
    if ignored := label_mapping.ignored_told(members, numbers):
        run.console.print(f"          of no class, and not evaluated: {ignored}")
    pixels = ", ".join(f"{name} {count / max(total, 1):.1%}" for name, count in counts.items() if count)
    run.console.print(f"          of the {kind} split: {pixels}")
    if absent := [name for name in facts["classes"] if not counts[name]]:
        run.console.print(f"          [yellow]no {kind} pixels of {', '.join(absent)}: not in the {kind} split[/]")


def noun(data: Data, count: int = 1) -> str:
    """What an example is called: a picture or a volume."""
    return ("picture" if data.axes == 2 else "volume") + "s" * (count != 1)
