"""Regions that may hold something, for R-CNN and Fast R-CNN: selective search, and what it found kept on disk.

Uijlings et al., *Selective Search for Object Recognition* (IJCV 2013), as OpenCV's contributed modules have it: regions
of similar colour and texture are merged until one is left, and the box of each is a proposal.

Differs from the paper: the order. There a region's place in the hierarchy times a random number decides; here its place
by size, because OpenCV draws from a generator that nobody can seed. The same picture always gets the same proposals.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.metrics.average_precision import pairwise_iou
from pipelines.data import run_files, validation

Array = np.ndarray[Any, np.dtype[Any]]
Mode = Literal["single", "fast", "quality"]

SIDE = 400  # pixels of the longer side at which a picture is searched: finding nothing smaller saves most of the time
LEAST = 0.02  # of that: boxes with a shorter side are left out
SETTINGS = "proposals.json"  # beside an exported model that is given regions: arguments of `proposals`
PART = 32  # pictures whose proposals are written at a time
COUNTS = (100, 300, 1000, 2000)


def proposals(image: Array, *, most: int = 2000, mode: Mode = "fast", side: int = SIDE) -> Array:
    """Return boxes that may hold something, float32 [P, 4], left, top, right, bottom in [0, 1]; P is at most `most`.

    Args:
        image: uint8 [H, W, 3], RGB.
        mode: from how many colour spaces and scales regions are merged; "quality" finds four times as many as "fast"
            in as many times the time, "single" an eighth.
        side: to how many pixels the longer side is brought before, up or down.

    Raises:
        Fault: OpenCV is missing, or lacks the contributed modules.
    """
    cv2 = _opencv()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    scale = side / max(image.shape)
    width, height = (max(2, round(length * scale)) for length in image.shape[1::-1])
    area = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(cv2.cvtColor(cv2.resize(image, (width, height), interpolation=area), cv2.COLOR_RGB2BGR))
    {
        "single": search.switchToSingleStrategy,
        "fast": search.switchToSelectiveSearchFast,
        "quality": search.switchToSelectiveSearchQuality,
    }[mode]()
    boxes = np.unique(np.asarray(search.process(), np.int64).reshape(-1, 4), axis=0)
    boxes = boxes[boxes[:, 2:].min(axis=1) >= LEAST * side]
    boxes = boxes[np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")]
    ranks = np.arange(1, len(boxes) + 1) * np.random.default_rng(0).random(len(boxes))
    boxes = boxes[np.argsort(ranks)][:most]
    corners: Array = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]) / [width, height, width, height]
    return corners.astype(np.float32)


def model_inputs(folder: Path, images: Sequence[Array]) -> dict[str, Array]:
    """Return what an exported model in `folder` must be given besides these images, [H, W, 3]: its `proposals`."""
    return {"proposals": of_images(images, **run_files.read_json(folder / "assets.extra" / SETTINGS))}


def of_images(images: Sequence[Array], **settings: Any) -> Array:
    """Return the proposals of images, float32 [N, P, 4], padded with zeros, P at least 1; `settings` of `proposals`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        boxes = _padded(list(pool.map(partial(proposals, **settings), images)))
    return boxes if boxes.shape[1] else np.zeros((len(images), 1, 4), np.float32)


def proposals_of_split(
    images: Callable[[int], Iterable[Array]],
    path: Path,
    *,
    count: int,
    digest: str,
    console: Console,
    most: int = 2000,
    mode: Mode = "fast",
    side: int = SIDE,
) -> Array:
    """Return the proposals of all images of a split, float32 [count, P, 4], read from disk, padded with zeros.

    What is missing there is searched for in as many threads as there are processors; a search that was interrupted
    goes on where it ended.

    Args:
        images: the images from a number on, in the order of the split.
        path: what the file is called, without its ending; a key that changes with data and settings is added.
        digest: of the data.

    Raises:
        Fault: OpenCV is missing, or lacks the contributed modules.
    """
    key = run_files.digest([digest, count, most, mode, side, LEAST, _opencv().__version__])[:12]
    final = path.with_name(f"{path.name}-{key}.npy")
    if not final.is_file():
        parts = final.with_suffix(".parts")
        durable.mkdir(parts)
        _search(images, parts, count=count, console=console, find=partial(proposals, most=most, mode=mode, side=side))
        _save(final, _padded([row for part in sorted(parts.glob("*.npy")) for row in np.load(part)]))
        shutil.rmtree(parts)
    stored: Array = np.load(final, mmap_mode="r")
    return stored


def recall(proposed: Sequence[Array], truth: Sequence[Array], *, overlap: float = 0.5) -> dict[int, float]:
    """Return which share of the true boxes one of the first 100, 300, 1000 and 2000 proposals of its image overlaps.

    Args:
        found: for each image float [P, 4], padded with zeros or not; `truth` likewise, in the same unit.
        overlap: the least intersection over union.
    """
    firsts: list[float] = []
    for boxes, true_boxes in zip(proposed, truth, strict=True):
        there = np.asarray(true_boxes)[np.all(np.asarray(true_boxes)[:, 2:] > np.asarray(true_boxes)[:, :2], axis=1)]
        good = pairwise_iou(boxes, there) >= overlap
        firsts += (
            np.where(good.any(axis=0), good.argmax(axis=0), np.inf).tolist() if len(boxes) else [np.inf] * len(there)
        )
    return {count: float(np.mean(np.array(firsts) < count)) if firsts else 0.0 for count in COUNTS}


def _search(
    images: Callable[[int], Iterable[Array]],
    parts: Path,
    *,
    count: int,
    console: Console,
    find: Callable[[Array], Array],
) -> None:
    """Write the proposals of the images of each part under the number of its first."""
    start = 0
    while (parts / f"{start:08d}.npy").is_file():
        start += PART
    left = iter(images(start)) if start < count else iter(())
    with validation.progress(console) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task("searching for regions", total=count, completed=min(start, count))
        while start < count:
            boxes = list(pool.map(find, islice(left, min(PART, count - start))))
            if len(boxes) != min(PART, count - start):
                raise ValueError(f"images must be {count}, got {start + len(boxes)}")
            _save(parts / f"{start:08d}.npy", _padded(boxes))
            start += len(boxes)
            bar.update(task, completed=start)


def _padded(proposed: Sequence[Array]) -> Array:
    """Return them as one array, float32 [N, P, 4], the shorter ones ending in zeros."""
    ends = [int(np.flatnonzero(boxes.any(axis=1)).max(initial=-1)) + 1 for boxes in proposed]
    padded = np.zeros((len(proposed), max(ends, default=0), 4), np.float32)
    for row, boxes, end in zip(padded, proposed, ends, strict=True):
        row[:end] = boxes[:end]
    return padded


def _save(path: Path, values: Array) -> None:
    with durable.atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def _opencv() -> Any:
    try:
        import cv2  # a native library, for selective search alone

        cv2.ximgproc.segmentation  # noqa: B018 - only the contributed modules have it
    except (ImportError, AttributeError) as error:
        raise Fault(
            "selective search requires OpenCV with its contributed modules, which are missing; "
            "pip install opencv-contrib-python-headless, and uninstall any other opencv-python"
        ) from error
    return cv2
