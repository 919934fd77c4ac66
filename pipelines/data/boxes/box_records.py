"""What `box_dataset.prepare` leaves of images with boxes: their records, figures about them, and pictures."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras.data import image_decoding, records, run_length
from cnn_keras.data.annotation import Object
from cnn_keras.data.files.image_file import encode_png, normalize
from cnn_keras.data.image_decoding import decode
from cnn_keras.ops import anchors as anchor_boxes
from cnn_keras.ops import boxes, instance_masks
from pipelines.data import run_files, validation
from pipelines.data.boxes import box_sizes, proposals
from pipelines.data.boxes.box_config import Data, Proposals
from pipelines.data.boxes.box_validation import UsablePicture
from pipelines.data.run_files import Run
from pipelines.plots import annotate, charts, image_grid, overlays

SAMPLES = 30  # pictures on the contact sheet
COUNTS = (1, 2, 3, 5, 6, 9, 12)  # of anchors, to compare the chosen count with


class Columns(NamedTuple):
    """What a record of boxes is made of."""

    classes: Sequence[str]
    most: int  # rows of boxes
    landmarks: Sequence[str] = ()
    proposals: Mapping[str, np.ndarray[Any, Any]] = {}  # of each split, float32 (images, P, 4), P the same in all
    masks: bool = False


def trainable_objects(objects: Sequence[Object]) -> list[Object]:
    """The objects that go into the records: crowds are known to the evaluation only."""
    return [object_ for object_ in objects if not object_.crowd]


def fractions(objects: Sequence[Object], size: tuple[int, int]) -> Any:
    """Boxes in [0, 1] of an image of (height, width): float32 (M, 4)."""
    height, width = size
    pixels = np.array([object_.box for object_ in objects], np.float64).reshape(-1, 4)
    return np.clip(pixels / (width, height, width, height), 0, 1).astype(np.float32)


def write(run: Run, folder: Path, splits: dict[str, list[UsablePicture]], columns: Columns) -> None:
    """Write the shards of each split, in the order of its images."""
    with validation.progress(run.console) as bar:
        task = bar.add_task("writing records", total=sum(len(members) for members in splits.values()))
        for split, members in splits.items():
            records.write(
                folder,
                split,
                list(zip(members, columns.proposals.get(split, [None] * len(members)), strict=True)),
                features=records.box_features(*lengths(columns)),
                values=partial(_values, columns=columns._replace(proposals={})),
                resume=True,
                parallel_map=run.parallel_map,
                after_row=partial(bar.advance, task),
            )


def lengths(columns: Columns) -> tuple[int, int, int, bool]:
    """How many rows of boxes a record has, landmarks a box, and proposals a record; whether there is a map of masks."""
    proposals = next((column.shape[1] for column in columns.proposals.values()), 0)
    return columns.most, len(columns.landmarks), proposals, columns.masks


def recorded_lengths(facts: Mapping[str, Any]) -> tuple[int, int, int, bool]:
    """The same of what has been prepared."""
    return facts["most_boxes"], len(facts["landmarks"]), facts.get("proposals", 0), facts.get("masks", False)


def _values(row: tuple[UsablePicture, np.ndarray[Any, Any] | None], columns: Columns) -> tuple[Any, ...]:
    """What a record holds of an image and its proposals, in the order of `records.box_features`."""
    picture, proposed = row
    most, numbers = columns.most, {name: number for number, name in enumerate(columns.classes)}
    objects = trainable_objects(picture.item.objects)[:most]
    boxes, named, difficult = np.zeros((most, 4), np.float32), np.zeros(most, np.int64), np.zeros(most, np.int64)
    boxes[: len(objects)] = fractions(objects, picture.size)
    named[: len(objects)] = [numbers[object_.name] for object_ in objects]
    difficult[: len(objects)] = [object_.difficult for object_ in objects]
    more = [_landmarks(objects, picture.size, columns)] if columns.landmarks else []
    more += [proposed] if proposed is not None else []
    more += [_instances(objects, picture.size)] if columns.masks else []
    return picture.item.id, normalize(picture.item.read())[0], boxes, named, difficult, *more


def _landmarks(objects: Sequence[Object], size: tuple[int, int], columns: Columns) -> Any:
    """x, y in [0, 1] of an image of (height, width), and 1 for what is visible in it: float32 (most, landmarks, 3)."""
    height, width = size
    landmarks = np.zeros((columns.most, len(columns.landmarks), 3), np.float32)
    for row, object_ in enumerate(objects):
        for mark in object_.landmarks:
            is_visible = mark.visible and 0 <= mark.x <= width and 0 <= mark.y <= height
            landmarks[row, columns.landmarks.index(mark.name)] = mark.x / width, mark.y / height, is_visible
    return landmarks


def _instances(objects: Sequence[Object], size: tuple[int, int]) -> bytes:
    """The map of the objects' masks as a PNG; where two overlap, the smaller is in front."""
    covered = [run_length.rasterize(object_.mask, size) for object_ in objects[: instance_masks.MOST]]
    order = sorted(range(len(covered)), key=lambda row: int(np.count_nonzero(covered[row])))
    return bytes(encode_png(instance_masks.label_map(covered, size, order=order)[..., None]))


def search_proposals(run: Run, splits: dict[str, list[UsablePicture]]) -> dict[str, np.ndarray[Any, Any]]:
    """The proposals of selective search, float [N, P, 4], for each split.

    They are kept beside the stages until the recipe asks for others; the share of the objects that they cover is shown.
    """
    plan: Proposals = run.recipe.data.proposals
    proposals_of: dict[str, np.ndarray[Any, Any]] = {}
    for split, members in splits.items():

        def images(first: int, members: Sequence[UsablePicture] = members) -> Iterator[Any]:
            for picture in members[first:]:
                yield decode(tf.constant(normalize(picture.item.read())[0]), channels=3).numpy()

        digest = run_files.digest([(picture.item.id, picture.digest) for picture in members])
        place = run.folder / "proposals" / split
        place.parent.mkdir(exist_ok=True)
        boxes_ = proposals.proposals_of_split(
            images, place, count=len(members), digest=digest, console=run.console, **plan.model_dump()
        )
        truth = [fractions(trainable_objects(picture.item.objects), picture.size) for picture in members]
        shares = proposals.recall(list(boxes_), truth)
        proposals_of[split] = boxes_
        shares_asked = {min(count, boxes_.shape[1]): share for count, share in shares.items()}
        recalls = ", ".join(f"{share:.1%} by {count:,}" for count, share in shares_asked.items())
        run.console.print(f"          {split}: selective search covers, of the objects, {recalls} regions a picture")
    most = max(boxes.shape[1] for boxes in proposals_of.values())
    return {split: np.pad(boxes, ((0, 0), (0, most - boxes.shape[1]), (0, 0))) for split, boxes in proposals_of.items()}


def count_boxes(splits: dict[str, list[UsablePicture]], classes: Sequence[str]) -> dict[str, Any]:
    """How many images, boxes – also of each class – and images of nothing each split has."""
    counts: dict[str, Any] = {"splits": {}, "boxes": {}, "class_boxes": {}, "background": {}}
    for split, members in splits.items():
        named = Counter(object_.name for image in members for object_ in trainable_objects(image.item.objects))
        counts["splits"][split] = len(members)
        counts["boxes"][split] = named.total()
        counts["class_boxes"][split] = {name: named[name] for name in classes}
        counts["background"][split] = sum(not image.item.objects for image in members)
    return counts


def _sizes(members: Sequence[UsablePicture], data: Data) -> Any:
    """Widths and heights of the boxes as the network sees them: float64 (N, 2), in [0, 1] of the frame."""
    sizes = [np.zeros((0, 2))]
    by_extent: dict[tuple[int, int], list[Any]] = {}
    for picture in members:
        by_extent.setdefault(picture.size, []).append(fractions(trainable_objects(picture.item.objects), picture.size))
    for extent, boxes_ in by_extent.items():
        placed = boxes.letterbox(np.concatenate(boxes_), extent, data.size, fit=data.fit).numpy()
        sizes.append(np.float64(placed[:, 2:]) - placed[:, :2])
    return np.concatenate(sizes)


def anchors(run: Run, members: Sequence[UsablePicture], count: int) -> dict[str, Any]:
    """The anchors of the chosen count, and how well they and other counts fit: shown, and returned as facts."""
    sizes = _sizes(members, run.recipe.data)
    apart = len(np.unique(sizes, axis=0))
    if apart < count:
        run.console.print(
            f"          [yellow]{apart} anchors instead of {count} (data.anchors): the boxes that train are of no more "
            "sizes in the frame[/]"
        )
        count = apart
    table: dict[str, Any] = {}
    for number in sorted({*(number for number in COUNTS if number <= apart), count}):
        clusters = anchor_boxes.kmeans(sizes, number, seed=run.recipe.seed)
        best = anchor_boxes.best_iou(sizes, clusters)
        fit = {"mean_iou": round(float(best.mean()), 4), "recall": round(float((best >= 0.5).mean()), 4)}
        table[str(number)] = {"anchors": [[round(float(side), 5) for side in size] for size in clusters], **fit}
        mark = "  ← data.anchors" if number == count else ""
        line = f"mean IoU {fit['mean_iou']:.3f}, recall at 0.5 {fit['recall']:.3f}"
        run.console.print(f"          {number:>2} anchors: {line}{mark}")
    table_row = table[str(count)]
    fit = {key: table_row[key] for key in ("mean_iou", "recall")}
    return {"anchors": table_row["anchors"], "anchor_fit": fit, "anchor_table": table}


def draw(folder: Path, splits: dict[str, list[UsablePicture]], facts: dict[str, Any], data: Data) -> None:
    """Draw pictures of the first split with their boxes and landmarks, and how often each class occurs."""
    split = next(iter(splits))
    charts.class_balance(facts["class_boxes"], folder / "class_balance.png")
    box_sizes.draw(_sizes(splits[split], data), facts["anchors"], data.size, folder / "box_sizes.png")
    images, titles = [], []
    read = records.read(folder, split, features=records.box_features(*recorded_lengths(facts)))
    step = max(1, facts["splits"][split] // SAMPLES) if data.tile else 1  # tiles of one photograph are alike
    for example in read.shard(step, 0).take(SAMPLES):
        image = image_decoding.pixels(example["image"].numpy())
        if data.masks:
            image = overlays.paint_instances(image, tf.io.decode_png(example["mask"], channels=1)[..., 0].numpy())
        height, width = image.shape[:2]
        rows = np.flatnonzero((example["boxes"][:, 2] > example["boxes"][:, 0]).numpy())
        boxes = example["boxes"].numpy()[rows] * (width, height, width, height)
        numbers = example["classes"].numpy()[rows]
        names = [facts["classes"][number] if len(facts["classes"]) > 1 else "" for number in numbers]
        picture = annotate.draw_boxes(image, boxes, names, classes=numbers.tolist(), side=320)
        for marks in example["landmarks"].numpy()[rows] if facts["landmarks"] else ():
            picture = annotate.draw_points(picture, marks[:, :2] * picture.shape[1::-1], visible=marks[:, 2] > 0)
        images.append(picture)
        titles.append(Path(example["id"].numpy().decode()).name)
    only = f", all of the class {facts['classes'][0]}" if len(facts["classes"]) == 1 else ""
    noun = "training" if split == "train" else split
    heading = f"{len(images)} of {facts['splits'][split]:,} {noun} images, boxes as they are recorded{only}"
    image_grid.contact_sheet(images, titles, folder / "contact_sheet.png", columns=5, size=2.6, heading=heading)
