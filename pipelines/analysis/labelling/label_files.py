"""The labels that a model proposes, written as a data set that `cnn run` reads."""

import csv
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data import annotation, run_length
from cnn_keras.data.files import durable, file_tree
from cnn_keras.data.label_map import BACKGROUND
from cnn_keras.data.sources import detection
from cnn_keras.errors import Fault
from pipelines.analysis.labelling.predicted_labels import Labelled
from pipelines.data.boxes.conversion import LOST
from pipelines.inference import mask_files

LABELS = "labels.csv"  # of classes
SOURCES = {  # what to set in a recipe to train on what is written: data.source, and data.path below the folder
    "folders": ("folder", ""),
    "masks": ("folder", ""),
    "coco": ("coco", ""),
    "voc": ("voc", ""),
    "labelme": ("labelme", ""),
    "yolo": ("yolo", "data.yaml"),
    "csv": ("csv", "boxes.csv"),
}


def write(to: str, rows: Sequence[Labelled], folder: Path, *, classes: Sequence[str], scores: bool) -> str:
    """Write files and what a model says of them into a new folder; return the settings that a recipe reads it with.

    There is the whole folder or none.

    Args:
        to: folders, csv, masks, or one of `detection.FORMATS`.
        classes: all that the model has, in its order.
        scores: whether YOLO's lines have a sixth column.

    Raises:
        Fault: a folder that holds something, or a class that no folder can be named after.
    """
    source, inside = SOURCES[to]
    if to == "folders":
        _check_folder_names([row.labels[0][0] for row in rows])
    if to == "csv" and any(row.labels for row in rows):
        inside = LABELS
    if to in ("folders", "masks") or inside == LABELS:
        writer = {"folders": _write_class_folders, "masks": _write_masks}.get(to, _write_table)
        file_tree.check_new_folder(folder)
        with durable.atomic_folder(folder) as temporary:
            writer(rows, temporary, classes)
    else:
        items = [row.item._replace(objects=_things(row)) for row in rows]
        options: dict[str, Any] = {"scores": True} if to == "yolo" and scores else {}
        detection.write(to, items, folder, classes=classes, **options)
    return f"--set data.source={source} --set {shlex.quote(f'data.path={folder / inside}')}"


def lost(to: str, rows: Sequence[Labelled], *, scores: bool) -> Iterator[str]:
    """What of the answers the format cannot express: a line for each kind."""
    objects = [object_ for row in rows for object_ in row.item.objects]
    for key in LOST.get(to, ()):
        count = sum(bool(getattr(object_, key)) for object_ in objects)
        if count and not (key == "score" and scores):
            remedy = "; --scores adds it" if (to, key) == ("yolo", "score") else ""
            yield f"{to} cannot express {key}: lost for {count:,} objects{remedy}"


def _things(row: Labelled) -> tuple[annotation.Object, ...]:
    """The objects without the background, which is what they leave."""
    return tuple(object_ for object_ in row.item.objects if object_.name != BACKGROUND)


def _write_class_folders(rows: Sequence[Labelled], folder: Path, classes: Sequence[str]) -> None:
    for row in rows:
        _copy(row, folder / row.labels[0][0] / row.item.id)


def _write_table(rows: Sequence[Labelled], folder: Path, classes: Sequence[str]) -> None:
    """`images/` and a table of path, label and score; with any number of labels these are parted by |."""
    single = all(len(row.labels) == 1 for row in rows)
    for row in rows:
        _copy(row, folder / "images" / row.item.id)
    with (folder / LABELS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "score"] if single else ["path", "labels", "scores"])
        for row in rows:
            names, scores = (
                "|".join(name for name, _ in row.labels),
                "|".join(f"{score:.6f}" for _, score in row.labels),
            )
            writer.writerow([f"images/{row.item.id}", names, scores])


def _write_masks(rows: Sequence[Labelled], folder: Path, classes: Sequence[str]) -> None:
    """`images/`, `masks/` of indexed PNG files, and `classes.txt`: `source: folder` of the task segment."""
    numbers = {name: number for number, name in enumerate(classes)}
    for row in rows:
        height, width = annotation.save(row.item, folder / "images" / row.item.id)
        mask = np.zeros((height, width), np.uint8)
        for object_ in row.item.objects:
            mask[run_length.decode(object_.mask)] = numbers[object_.name]
        path = (folder / "masks" / row.item.id).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        mask_files.write_png(mask, len(classes), path)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _copy(row: Labelled, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(row.item.read())


def _check_folder_names(labels: Sequence[str]) -> None:
    for name in dict.fromkeys(labels):
        if "/" in name or "\0" in name or name.startswith(file_tree.HIDDEN) or name.lower() in file_tree.SPLITS:
            raise Fault(f"classes must have names that a folder of a class can have, got {name!r}; use --to csv")
