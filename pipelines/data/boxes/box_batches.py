"""Prepared pictures with boxes, as batches and as pictures: what tasks read of what `box_dataset` has written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data import input_pipeline, records
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.transforms import augment
from pipelines.data import image_dataset
from pipelines.data.boxes import box_dataset, box_records
from pipelines.data.run_files import Run
from pipelines.plots import annotate, image_grid, overlays

DRAWN = 16  # augmented pictures on the sheet


def example(run: Run) -> Any:
    """What a record of the run holds: `cnn_keras.data.input_pipeline.box_example`."""
    return input_pipeline.box_example(*box_records.recorded_lengths(run.facts("prepare")))


def training(run: Run, epochs: range, augmented: Any) -> tf.data.Dataset:
    """The training batches of these epochs: {"image", "boxes", "classes"} and, where there are any, "landmarks"."""
    data = run.recipe.data
    memory = int(data.memory_gb * 2**30)
    return image_dataset.training_batches(
        run, epochs, augmented, box_dataset.shape_of(data), memory=memory, example=example(run)
    )


def ordered_batches(run: Run, split: str) -> tf.data.Dataset:
    """The batches of a split in their order and as they are."""
    return image_dataset.ordered_batches(run, split, box_dataset.shape_of(run.recipe.data), example=example(run))


def examples(run: Run, split: str, *, whole: bool = False) -> tf.data.Dataset:
    """The examples of a split in their order, each with its `id` and the `extent` of the picture before framing.

    With `whole`, `image` is the picture itself, uint8 (height, width, 3), and there is nothing else.
    """
    if not whole:
        return input_pipeline.decoded_examples(
            run.finished("prepare"), split, box_dataset.shape_of(run.recipe.data), example=example(run)
        )

    def read(row: dict[str, Any]) -> dict[str, Any]:
        image = decode(row["image"], channels=run.recipe.data.channels)
        return {"id": row["id"], "image": image, "extent": tf.shape(image)[:2]}

    return records.read(run.finished("prepare"), split, features=example(run).features).map(read)


def encoded_images(run: Run, split: str, count: int) -> list[bytes]:
    """The first pictures of a split as they were recorded."""
    return [row["image"] for row in _recorded(run, split, count)]


def requests(run: Run, split: str, count: int) -> list[dict[str, Any]]:
    """What an exported model would be asked about each of the first pictures of a split: batches of one."""
    more = [{"proposals": row["proposals"][None]} if "proposals" in row else {} for row in _recorded(run, split, count)]
    return [
        {"image_bytes": [data], **inputs} for data, inputs in zip(encoded_images(run, split, count), more, strict=True)
    ]


def _recorded(run: Run, split: str, count: int) -> list[dict[str, Any]]:
    rows = records.read(run.finished("prepare"), split, features=example(run).features)
    return list(rows.take(count).as_numpy_iterator())


def original_pictures(run: Run, split: str, rows: Sequence[int]) -> list[Any]:
    """The pictures with these numbers of a split, before they were framed: uint8 (height, width, 3)."""
    numbered = enumerate(encoded_images(run, split, max(rows, default=-1) + 1))
    pictures = {number: decode(tf.constant(data), channels=3).numpy() for number, data in numbered if number in rows}
    return [pictures[row] for row in rows]


def fitted_arguments(run: Run) -> dict[str, Any]:
    """The arguments of augmentations that are fitted on the training split."""
    return dict(
        augment.fit(run.recipe.augment, lambda: (batch["image"].numpy() for batch in ordered_batches(run, "train")))
    )


def draw_augmented(run: Run, augmented: Any, path: Path) -> None:
    """The first pictures of the training split as training may see them, with their boxes and landmarks."""
    kind, shape = example(run), box_dataset.shape_of(run.recipe.data)
    shape = shape._replace(size=augmented.source or shape.size)
    first = input_pipeline.decoded_examples(run.finished("prepare"), "train", shape, example=kind).take(DRAWN)
    samples = [
        augmented({key: example_[key] for key in kind.keys}, [run.recipe.seed, row])
        for row, example_ in enumerate(first)
    ]
    columns = augmented.mix(
        {key: tf.stack([sample[key] for sample in samples]) for key in kind.keys}, [run.recipe.seed, 0]
    )
    names, sheet = run.facts("prepare")["classes"], []
    for row in range(len(samples)):
        image, boxes, classes = (columns[key][row].numpy() for key in ("image", "boxes", "classes"))
        if "mask" in columns:
            image = overlays.paint_instances(image, columns["mask"][row, ..., 0].numpy())
        real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        numbers, pixels = classes[real].tolist(), boxes[real] * np.tile(image.shape[1::-1], 2)
        picture = annotate.draw_boxes(image, pixels, [names[number] for number in numbers], classes=numbers)
        for marks in columns["landmarks"][row].numpy()[real] if "landmarks" in columns else ():
            picture = annotate.draw_points(picture, marks[:, :2] * picture.shape[1::-1], visible=marks[:, 2] > 0)
        sheet.append(picture)
    image_grid.contact_sheet(sheet, [""] * len(sheet), path, columns=4, size=2.0)
