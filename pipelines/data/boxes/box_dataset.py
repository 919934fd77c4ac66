"""Images with boxes: from what a recipe's data section names to prepared splits on disk.

`prepare` leaves TFRecord shards of each split, `split.csv` (what went where), `problems.csv` (what was odd),
`truth-SPLIT.json` (COCO's format, in pixels of the images), `data.json` and pictures; `facts` of the stage repeat
`data.json`: classes, counts, `most_boxes` (the padded length) and anchors.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data import annotation
from cnn_keras.data import split as splitting
from cnn_keras.data.annotation import Item
from cnn_keras.data.files import file_tree
from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.formats import coco
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.data.sources import detection, tiles
from cnn_keras.errors import Fault, Unreadable
from cnn_keras.ops import boxes
from cnn_keras.ops.resize import resize_image
from pipelines.data import additional_data, lineage, run_files, similar_images, source_files, split_manifest
from pipelines.data import validation as data_validation
from pipelines.data.boxes import box_files, box_records, box_validation
from pipelines.data.boxes.box_config import Cards, Composites, Data
from pipelines.data.boxes.box_records import Columns
from pipelines.data.boxes.box_validation import UsablePicture
from pipelines.data.run_files import Run
from pipelines.data.schema import Fold


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split, cut into tiles and record the images and boxes of `run.recipe.data`; find anchors."""
    data: Data = run.recipe.data
    known = run.training_facts
    if known:
        data = data.model_copy(update={"classes": tuple(known["classes"])})
    items, declared, notes = _load_all(data, run.recipe.seed)
    examined = data_validation.examine(
        items, console=run.console, journal=folder / run_files.JOURNAL, parallel_map=run.parallel_map
    )
    usable, boxes = box_validation.check_boxes(items, examined, data)
    boxes += [data_validation.Problem(*note) for note in notes]
    problems = [problem for result in examined for problem in result.problems] + data_validation.duplicates(
        items, examined
    )
    data_validation.report(
        [*problems, *boxes], len(items), path=folder / "problems.csv", max_bad=data.max_bad, console=run.console
    )
    box_validation.refuse_dropped(items, boxes, data)
    classes = class_names(usable, declared, data)
    named = ["test"] * len(usable) if known else _divided(run, usable, data)
    splits, first = _tiled(usable, named, data), "test" if known else "train"
    crowds = box_validation.crowds(usable)
    if not any(box_records.trainable_objects(picture.item.objects) for picture in splits.get(first, ())):
        crowd_note = f"; {crowds}" if crowds else ""
        noun = "test" if known else "training"
        raise Fault(f"the {noun} split must contain at least one box, got none{crowd_note}", code=Fault.DATA)
    if crowds:
        run.console.print(f"          [yellow]{crowds}[/]")
    if len(splits.get("train", ())) > 1:
        splits["train"] = _shuffled(splits["train"], run.recipe.seed)
    listed = _write_split(folder, splits)
    learnt_from = [
        picture for split, members in splits.items() if split != "test" or not data.tile for picture in members
    ]
    counts = (len(box_records.trainable_objects(picture.item.objects)) for picture in learnt_from)
    most = known["most_boxes"] if known else max(1, *counts)  # photographs have more, but those are in `truth`
    landmarks = known["landmarks"] if known else landmark_names(usable)
    columns = Columns(
        classes, most, landmarks, box_records.search_proposals(run, splits) if data.proposals else {}, data.masks
    )
    box_records.write(run, folder, splits, columns)
    truths = {split: coco_truth(members, classes) for split, members in splits.items()}
    for split in truths.keys() - {"train"}:
        run_files.write_json(folder / f"truth-{split}.json", truths[split])
    facts = {
        **box_records.count_boxes(splits, classes),
        "source": data.source,
        "location": str(data.path or data.source),
        "classes": classes,
        "most_boxes": most,
        "landmarks": landmarks,
        "proposals": box_records.lengths(columns)[2],
        "masks": data.masks,
        **_anchors(run, splits),
        "problems": {kind: len(group) for kind, group in data_validation.group_by_kind([*problems, *boxes]).items()},
        **lineage.facts(run, folder, additional_data.facts(run, [each.item for each in usable], named)),
    }
    content = [most, facts["anchors"], listed, *shape_of(data)]
    facts["digest"] = run_files.digest([*content, truths])  # not of the location: data that moved is the same data
    run_files.write_json(folder / "data.json", facts)
    box_records.draw(folder, splits, facts, data)
    shares = ", ".join(f"{len(splits[split]):,} {split} with {facts['boxes'][split]:,} boxes" for split in splits)
    noun = "1 class" if len(classes) == 1 else f"{len(classes)} classes"
    run.console.print(f"          {noun}; images: {shares}; at most {most} boxes in one")
    return facts


def _anchors(run: Run, splits: dict[str, list[UsablePicture]]) -> dict[str, Any]:
    """The anchors, of the training split or of the network that is tested, as facts."""
    if run.training_facts:
        return {"anchors": run.training_facts["anchors"]}
    count = run.recipe.data.anchors
    return box_records.anchors(run, splits["train"], count) if count else {"anchors": []}


def shape_of(data: Data) -> Shape:
    """The height and width of the network's pictures, their channels, and how pictures are fitted into them."""
    return Shape(data.size, data.channels, data.fit)


def load_source(data: Data, seed: int) -> annotation.Annotations:
    """The annotations of the recipe's source, no picture decoded yet; crowds are objects where the recipe says so."""
    arguments: dict[str, Any] = {"path": data.path, "images": data.images}
    if data.source == "yolo" and data.path is not None:
        path = box_files.describing(data.path)
        arguments |= {"path": path, "described": box_files.read_description(path)}
    for source, settings, defaults in (
        ("composites", data.composites, Composites),
        ("cards", data.cards, Cards),
    ):
        if data.source == source:
            arguments |= {**(settings or defaults()).model_dump(), "seed": seed}
        elif settings is not None:
            raise Fault(f"data.{source} requires source: {source}, got source: {data.source}")
    annotations = detection.load(data.source, group=data.group, crowd=data.crowd, **arguments)
    detection.check_annotated(annotations.items, arguments["path"] or data.source)
    return annotations


def _load_all(data: Data, seed: int) -> tuple[list[Item], tuple[str, ...], list[annotation.Note]]:
    """The items, declared classes and notes of the source and of what is further trained on."""
    parts = [load_source(section, seed) for section in (data, *source_files.sections_of_further_data(data))]
    items = parts[0].items + [
        item for number, part in enumerate(parts[1:], 1) for item in additional_data.marked(part.items, number)
    ]
    declared = tuple(dict.fromkeys(name for part in parts for name in part.classes))
    return items, declared, [note for part in parts for note in part.notes]


def _divided(run: Run, usable: Sequence[UsablePicture], data: Data) -> list[str | None]:
    """The split of each image; None for what is left out of further data."""
    own = [each for each in usable if each.item.split != additional_data.ALSO]

    def divide(rows: additional_data.Rows) -> list[str]:
        keyed = [each._replace(digest=key) for each, (_, key) in zip(own, rows, strict=True)]
        return splits_of(keyed, data, run.recipe.seed, run.recipe.fold)

    items, digests = [each.item for each in usable], [each.digest for each in usable]
    return additional_data.splits(items, digests, divide, keys=partial(similar_images.split_keys, run))


def class_names(pictures: Sequence[UsablePicture], declared: Sequence[str], data: Data) -> list[str]:
    """The classes: those of the recipe; else those found, in the order in which the source declares them."""
    if data.classes:
        return list(data.classes)
    used_names = {object_.name for image in pictures for object_ in image.item.objects}
    order = {name: place for place, name in enumerate(declared)}
    names = sorted(used_names, key=lambda name: (order.get(name, len(order)), file_tree.natural(name)))
    if not names:
        raise Fault(f"{data.source} must contain at least one usable box, got none", code=Fault.DATA)
    return names


def landmark_names(pictures: Sequence[UsablePicture]) -> list[str]:
    """What landmarks things have, in the order of the first that has them."""
    return list(
        dict.fromkeys(
            mark.name for picture in pictures for object_ in picture.item.objects for mark in object_.landmarks
        )
    )


def splits_of(pictures: Sequence[UsablePicture], data: Data, seed: int, fold: Fold | None = None) -> list[str]:
    """The split of each image: the source's own where it has one, else drawn; groups and copies stay whole.

    A class's images are spread over the splits as far as it has enough of them; an image counts for its rarest class.
    A fold is of all images, whatever the source prescribes.
    """
    prescribed = [picture.item.split if fold is None else None for picture in pictures]
    fractions = {"validation": data.validation, "test": data.test}
    fractions = {name: share for name, share in fractions.items() if name not in prescribed and share > 0}
    free = [row for row, name in enumerate(prescribed) if name in (None, "train")]
    if "train" in prescribed or "test" in prescribed:
        fractions.pop("test", None)  # a source that prescribes a split decides what is tested
    if None not in prescribed and "validation" in prescribed:
        fractions = {}
    groups = splitting.connected_groups(
        [pictures[row].item.group for row in free], [pictures[row].digest for row in free]
    )
    if len(set(groups)) <= len(fractions):
        raise Fault(
            f"data.path must hold at least {len(fractions) + 1} images or groups that differ, one for each split, got "
            f"{len(set(groups))}; add images, or set data.validation or data.test to 0",
            code=Fault.DATA,
        )
    present = [{object_.name for object_ in pictures[row].item.objects} for row in free]
    least = max(2 * (len(fractions) + 1), fold.of + 1 if fold else 0)
    labels = splitting.rarest_class(present, groups, least=least)
    split_of_free = splitting.stratified(
        labels, groups, fractions=fractions, seed=seed, fold=fold.place if fold else None
    )
    splits = [name or "train" for name in prescribed]
    for row, name in zip(free, split_of_free, strict=True):
        splits[row] = str(name)
    return splits


def coco_truth(members: Sequence[UsablePicture], classes: Sequence[str]) -> dict[str, Any]:
    """The images and boxes of a split as COCO's JSON: image ids are rows of the split, category ids class numbers."""
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for row, picture in enumerate(members):
        images.append({"id": row, "file_name": picture.item.id, "height": picture.size[0], "width": picture.size[1]})
        for object_ in picture.item.objects:
            number = {"id": len(rows) + 1, "image_id": row, "category_id": classes.index(object_.name)}
            rows.append({**number, **coco.to_json(object_)})
    categories = [{"id": number, "name": name} for number, name in enumerate(classes)]
    return {"info": {}, "images": images, "annotations": rows, "categories": categories}


def samples(data: Data, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The first readable images with boxes, framed, for `cnn augment`: dicts of image and padded boxes (M, 4)."""
    samples_: list[dict[str, Any]] = []
    for item in _unread_tiles(load_source(data, seed).items, data):
        try:
            image = decode(tf.constant(normalize(item.read())[0]), channels=data.channels)
        except (OSError, Unreadable, tf.errors.InvalidArgumentError, UnicodeDecodeError):
            continue  # `cnn prepare` reports what cannot be read
        if not item.objects:
            continue
        extent = tuple(image.shape[:2])
        placed = boxes.letterbox(box_records.fractions(item.objects, extent), extent, data.size, fit=data.fit)
        samples_.append({"image": resize_image(image, data.size, fit=data.fit).numpy(), "boxes": placed.numpy()})
        if len(samples_) == count:
            break
    if not samples_:
        raise Fault(f"{data.source} must contain at least one readable image with a box, got none", code=Fault.DATA)
    most = max(len(sample["boxes"]) for sample in samples_)
    return [
        {**sample, "boxes": np.pad(sample["boxes"], ((0, most - len(sample["boxes"])), (0, 0)))} for sample in samples_
    ]


def _tiled(
    pictures: Sequence[UsablePicture], splits: Sequence[str | None], data: Data
) -> dict[str, list[UsablePicture]]:
    """The images of each split, or the tiles they are cut into."""
    members: dict[str, list[UsablePicture]] = {}
    for split in ("train", "validation", "test"):
        for picture in (picture for picture, name in zip(pictures, splits, strict=True) if name == split):
            parts = [picture]
            if data.tile and split != "test":
                overlap = data.tile.overlap if split == "train" else 0.0
                tiles_ = tiles.tile(
                    picture.item, picture.size, size=data.tile.size, overlap=overlap, keep=data.tile.keep
                )
                parts = (
                    [picture]
                    if tiles_ == [picture.item]
                    else [UsablePicture(tile, picture.digest, tile.size or picture.size) for tile in tiles_]
                )
            members.setdefault(split, []).extend(parts)
    return members


def _unread_tiles(items: Sequence[Item], data: Data) -> Iterator[Item]:
    """Items, or tiles of those whose size is stated, without anything being read."""
    for item in items:
        if data.tile and item.size:
            yield from tiles.tile(item, item.size, **data.tile.model_dump())
        else:
            yield item


def _write_split(folder: Path, splits: dict[str, list[UsablePicture]]) -> str:
    """Write what went where; see `split_manifest.write`."""
    columns = ("id", "split", "group", "boxes", "height", "width", "sha256")
    rows = (
        (picture.item.id, split, picture.item.group or "", len(picture.item.objects), *picture.size, picture.digest)
        for split, members in splits.items()
        for picture in members
    )
    return split_manifest.write(folder, columns, rows, count=sum(map(len, splits.values())))


def _shuffled(members: Sequence[UsablePicture], seed: int) -> list[UsablePicture]:
    """The images in an order that the seed draws; the tiles of one stay together, because decoding it takes long."""
    generator = np.random.default_rng(seed)
    shuffled = [members[row] for row in generator.permutation(len(members))]
    first: dict[str, int] = {}
    for place, picture in enumerate(shuffled):
        first.setdefault(picture.item.id.partition("@")[0], place)
    return sorted(shuffled, key=lambda picture: first[picture.item.id.partition("@")[0]])
