"""Prepared pictures and volumes with masks: how they are written, and what the task reads of them.

Pictures are in TFRecord shards as they came, volumes in a file each, `<split>-<row>.npz`, with the mask of the scan's
own voxels where they are resampled; masks are numbered from 1, 0 is what nobody knows, and where the recipe has
`data.borders` a second channel is the weight of ground between things.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy.ndimage import label

from cnn_keras.data import input_pipeline, resampling
from cnn_keras.data import patches as patch_batches
from cnn_keras.data import records as tfrecords
from cnn_keras.data.files.image_file import encode_png, normalize
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.label_map import Mask, Scan
from cnn_keras.data.patches import Store
from cnn_keras.errors import Fault
from cnn_keras.losses import segmentation
from cnn_keras.ops.sliding_window import Patches
from pipelines.data import image_dataset, validation
from pipelines.engine.stages import Run
from pipelines.tasks.segment.config import Data
from pipelines.tasks.segment.label_mapping import Numbering, UsablePicture

Array = np.ndarray[Any, np.dtype[Any]]


class Example(NamedTuple):
    """A picture, uint8 (height, width, channels), or a volume, float32 (depth, height, width, channels), and its truth.

    truth: int16 (*sizes), the number of the class, or −1. mask: as it was recorded, with the weights if there are any.
    scan: of a resampled volume, the mask of its own voxels, uint8 (depth, height, width), and their spacing; None else.
    spacing: of the voxels that are measured, in millimetres: a scan's own, also where it was resampled; None of a
    picture.
    """

    id: str
    image: Array
    mask: Array
    scan: Scan | None = None
    spacing: tuple[float, ...] | None = None

    @property
    def truth(self) -> Array:
        return _numbers(self.mask[..., 0])

    def compared(self, labels: Array, spacing: Sequence[float] | None) -> tuple[Array, Array]:
        """Truth and labels, integers (*sizes), as they are measured: on a scan's own voxels where it was resampled.

        Args:
            labels: integers, of the sizes of the image.
            spacing: to which volumes were resampled.
        """
        if self.scan is None or spacing is None:
            return self.truth, labels
        own = self.scan.values.shape
        return _numbers(self.scan.values), resampling.resample_labels(labels, spacing, self.scan.spacing, own)


def write(run: Run, folder: Path, split: str, members: Sequence[UsablePicture], numbers: Numbering) -> None:
    """Write a split; what trains in an order that the seed draws."""
    data: Data = run.recipe.data
    if split == "train":
        order = np.random.default_rng(run.recipe.seed).permutation(len(members))
        members = [members[row] for row in order]
    with validation.progress(run.console) as bar:
        progress = partial(bar.advance, bar.add_task(f"writing {split}", total=len(members)))
        if data.axes == 2:
            tfrecords.write(
                folder,
                split,
                members,
                features=tfrecords.mask_features(data.borders is not None),
                values=partial(_values, numbers=numbers, data=data),
                resume=True,
                parallel_map=run.parallel_map,
                after_row=progress,
            )
            return
        for row, picture in enumerate(members):
            with (folder / f"{split}-{row:04d}.npz").open("wb") as file:
                mask = picture.item.mask(picture.size)
                arrays = {"image": picture.item.read()[0], "mask": _recorded(mask, numbers, data)}
                if mask.scan is not None:
                    arrays["scan"] = numbers.written(mask.scan.values)
                if spacing := mask.scan.spacing if mask.scan is not None else mask.spacing:
                    arrays["spacing"] = np.array(spacing)
                np.savez(file, id=picture.item.id, **arrays)
            progress()


def examples(recipe: Any, folder: Path, split: str) -> Iterator[Example]:
    """The pictures or volumes of a split, one by one, as they came."""
    if recipe.data.axes == 2:
        yield from _pictures(recipe.data, folder, split)
        return
    for path in sorted(folder.glob(f"{split}-*.npz")):
        with np.load(path) as file:
            spacing = tuple(file["spacing"].tolist()) if "spacing" in file else None
            scan = Scan(file["scan"], spacing) if spacing and "scan" in file else None
            yield Example(str(file["id"]), file["image"], file["mask"], scan, spacing)


def of_run(run: Run, split: str) -> Iterator[Example]:
    """The pictures or volumes of a split of a prepared run, one by one, as they came."""
    return examples(run.recipe, run.finished("prepare"), split)


def encoded_images(recipe: Any, folder: Path, split: str, count: int) -> list[bytes]:
    """The first pictures of a split as they were recorded."""
    read = tfrecords.read(folder, split, features=tfrecords.mask_features(recipe.data.borders is not None)).take(count)
    return [row["image"] for row in read.as_numpy_iterator()]


def training(
    run: Run, epochs: range, augmented: Any, *, patches: Patches, stored: Store | None, share: tuple[int, int] = (0, 1)
) -> tf.data.Dataset:
    """The training batches of these epochs: {"image", "mask"}, patches of what is `stored` or else whole pictures."""
    recipe = run.recipe
    data: Data = recipe.data
    if stored is not None:
        return patch_batches.training(
            stored,
            patches,
            count=per_epoch(recipe, stored),
            balance=data.balance,
            epochs=epochs,
            batch_size=recipe.train.batch_size,
            seed=recipe.seed,
            augment=augmented,
            share=share,
        )
    shape, memory = input_pipeline.Shape(data.size, data.channels, data.fit), int(data.memory_gb * 2**30)
    example = input_pipeline.mask_example(data.borders is not None)
    return image_dataset.training_batches(run, epochs, augmented, shape, memory=memory, example=example, share=share)


def ordered_batches(run: Run, split: str, *, patches: Patches) -> tf.data.Dataset:
    """The batches of a split in order and as they are: patches that cover it, or whole pictures, framed."""
    data: Data = run.recipe.data
    if data.fit == "patch":
        return patch_batches.grid_batches(store(run, split), patches, run.recipe.train.batch_size)
    shape = input_pipeline.Shape(data.size, data.channels, data.fit)
    example = input_pipeline.mask_example(data.borders is not None)
    return image_dataset.ordered_batches(run, split, shape, example=example)


def store(run: Run, split: str) -> Store:
    """All pictures or volumes of a split in memory, for patches to be drawn from.

    Raises:
        Fault: they take more than the recipe allows.
    """
    data: Data = run.recipe.data
    standardised = data.normalize == "each"

    def each() -> Iterator[tuple[Array, Array]]:
        memory = 0
        for example in examples(run.recipe, run.finished("prepare"), split):
            memory += example.image.nbytes + example.mask.nbytes
            if memory > data.memory_gb * 2**30:
                raise Fault(
                    f"data.memory_gb must be at least what the {split} split takes in memory, got {data.memory_gb}, "
                    f"which is less; raise it, or with pictures take fit: pad, which streams"
                )
            yield (standard(example.image) if standardised else example.image), example.mask

    return patch_batches.store(each(), seed=run.recipe.seed)


def per_epoch(recipe: Any, stored: Store) -> int:
    """How many patches an epoch draws: as the recipe says, or as many as would cover what is stored."""
    if recipe.data.patches:
        return int(recipe.data.patches)
    sizes = np.asarray(stored.sizes)
    return int(np.ceil(sizes / np.array(recipe.data.size)).prod(axis=1).sum())


def standard(volume: Array) -> Array:
    """A volume, float32 (*sizes, channels), with mean 0 and variance 1 in each channel."""
    axes = tuple(range(volume.ndim - 1))
    mean, deviation = volume.mean(axis=axes, dtype=np.float64), volume.std(axis=axes, dtype=np.float64)
    normalized: Array = ((volume - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32)
    return normalized


def fit_normalization(run: Run, folder: Path) -> dict[str, Any] | None:
    """The arguments of Keras's Normalization for the training split; None where volumes are standardised one by one."""
    data: Data = run.recipe.data
    if data.normalize == "each":
        return None
    if data.normalize == "rescale":
        return {"axis": None, "mean": 0.0, "variance": 255.0**2}
    count, total, squares = 0, np.zeros(data.channels), np.zeros(data.channels)
    for example in examples(run.recipe, folder, "train"):
        values = example.image.reshape(-1, data.channels).astype(np.float64)
        count += len(values)
        total += values.sum(axis=0)
        squares += (values**2).sum(axis=0)
    mean = total / count
    variance = squares / count - mean**2
    return {"axis": -1, "mean": mean.tolist(), "variance": np.where(variance > 0, variance, 1.0).tolist()}


def _pictures(data: Data, folder: Path, split: str) -> Iterator[Example]:
    for row in tfrecords.read(folder, split, features=tfrecords.mask_features(data.borders is not None)):
        image = decode(row["image"], channels=data.channels).numpy()
        yield Example(row["id"].numpy().decode(), image, input_pipeline.decode_mask(row).numpy())


def _values(picture: UsablePicture, numbers: Numbering, data: Data) -> tuple[Any, ...]:
    """What a record holds of a picture, in the order of `records.mask_features`."""
    mask = _recorded(picture.item.mask(picture.size), numbers, data)
    layers = (encode_png(mask[..., [layer]]) for layer in range(mask.shape[-1]))
    return picture.item.id, normalize(picture.item.read())[0], *layers


def _numbers(recorded: Array) -> Array:
    """The numbers of the classes, int16, or −1 where nobody knows."""
    numbers: Array = recorded.astype(np.int16) - 1
    return numbers


def _recorded(mask: Mask, numbers: Numbering, data: Data) -> Array:
    """The mask as it is recorded: uint8 (*sizes, 1), or 2 with the weights of borders."""
    recorded = numbers.written(mask.values)
    if data.borders is None:
        return recorded[..., None]
    instances = mask.instances if mask.instances is not None else _apart(recorded)
    weights = segmentation.border_weights(instances, sigma=data.borders)
    return np.stack([recorded, np.round(255 * weights).astype(np.uint8)], axis=-1)


def _apart(recorded: Array) -> Array:
    """Things that touch no other of their class, by a number each; the first class is the ground."""
    labels = np.zeros(recorded.shape, np.int32)
    for number in range(2, int(recorded.max(initial=0)) + 1):
        parts, _ = label(recorded == number)
        labels = np.where(parts > 0, parts + labels.max(), labels)
    return labels
