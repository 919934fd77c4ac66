"""Masks: a class for each pixel of images and volumes of any size, from a network of one size.

As `cnn_keras.ops.sliding_window` does it inside a graph: the whole image framed, or patches whose answers fade into
each other; band by band, so that the probabilities of all of it are never in memory at once.
"""

import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from cnn_keras.data.files.image_pixels import placement, resize_image, scale_and_translate
from pipelines.serving.converted.classification import encoded_names
from pipelines.serving.converted.served import (
    FLOAT,
    STRING,
    Array,
    Ask,
    Row,
    Served,
    check_any,
    of_images,
    served,
    slot,
)
from pipelines.serving.signature import DEFAULT_SIGNATURE

ROWS = 256  # of an image whose answers are enlarged at once

Probabilities = Callable[[Array], Array]  # of a patch or a framed image: (*answered, classes)
Bands = Iterator[Array]  # probabilities of an image, some rows of it at a time


def signatures(description: dict[str, Any], ask: Ask) -> dict[str, Served]:
    """The signatures of a segmenter of images or of volumes."""
    framing, names = description["preprocessing"], encoded_names(description["classes"])
    in_space = framing["kind"] == "volume"
    outputs = [slot(name, FLOAT, len(names)) for name in ("shares", "confidence")]
    outputs += [slot("classes", STRING, len(names))]

    def probabilities(patch: Array) -> Array:
        return ask(patch)["probabilities"]

    def answer(image: Array) -> tuple[Array, Row]:
        if framing["fit"] != "patch":
            bands = whole(probabilities, image, framing["size"], fit=framing["fit"])
        else:
            image = standardized(image) if framing["normalize"] == "each" else image
            bands = patches(probabilities, image, framing)
        labels, confidence = likeliest(bands, image.shape[:-1])
        return labels, {**_summed(labels, confidence, len(names)), "classes": names}

    def of_image(image: Array) -> Row:
        labels, row = answer(image)
        file = io.BytesIO()
        Image.fromarray(labels).save(file, "PNG")
        return {**row, "mask_bytes": file.getvalue()}

    def of_volume(volume: Array) -> Row:
        check_any(volume, "volume")
        labels, row = answer(volume)
        return {**row, "mask": labels}

    if in_space:
        taken = [slot("volume", FLOAT, None, None, None, framing["channels"])]
        given = [*outputs, slot("mask", np.uint8, None, None, None)]
        return {DEFAULT_SIGNATURE: served(DEFAULT_SIGNATURE, taken, given, of_volume)}
    return of_images(framing["channels"], (None, None), [*outputs, slot("mask_bytes", STRING)], of_image)


def standardized(image: Array) -> Array:
    """An image whose values have the mean 0 and the standard deviation 1."""
    deviation = image.std()
    return np.asarray((image - image.mean()) / (deviation if deviation > 0 else 1), np.float32)


def whole(ask: Probabilities, image: Array, size: list[int], *, fit: str) -> Bands:
    """Ask about the whole image, framed, and enlarge the answer back."""
    extent = image.shape[:2]
    scaled, start = placement(extent, size, fit=fit)
    (top, left), (height, width) = start.astype(int), scaled.astype(int)
    answer = ask(resize_image(image, (size[0], size[1]), fit=fit))[top : top + height, left : left + width]
    scale = np.array(extent, np.float32) / scaled
    for row in range(0, extent[0], ROWS):
        rows = min(ROWS, extent[0] - row)
        yield scale_and_translate(answer, (rows, extent[1]), scale=scale, translation=(-row, 0))


def patches(ask: Probabilities, image: Array, framing: dict[str, Any]) -> Bands:
    """Ask about patches of an image, which overlap; beyond it is its mirror image."""
    size, answered, extent = framing["size"], framing["answered"], image.shape[:-1]
    shared = [int(framing["overlap"] * length) for length in answered]
    steps = [length - both for length, both in zip(answered, shared, strict=True)]
    counts = [
        1 + max(-(-(length - reach) // step), 0) for length, reach, step in zip(extent, answered, steps, strict=True)
    ]
    for axis, count in enumerate(counts):
        margin = (size[axis] - answered[axis]) // 2
        places = np.arange((count - 1) * steps[axis] + size[axis]) - margin
        image = np.take(image, _reflected(places, extent[axis]), axis=axis)
    ramps = [_ramps(*parts) for parts in zip(counts, answered, steps, strict=True)]
    lengths = [(count - 1) * step + length for count, step, length in zip(counts, steps, answered, strict=True)]
    carried: Array | None = None
    for row in range(counts[0]):
        band: Array | None = None
        for places in itertools.product((row,), *(range(count) for count in counts[1:])):
            starts = [place * step for place, step in zip(places, steps, strict=True)]
            window = tuple(slice(first, first + length) for first, length in zip(starts, size, strict=True))
            probabilities = ask(np.ascontiguousarray(image[window]))
            for axis, (ramp, place) in enumerate(zip(ramps, places, strict=True)):
                probabilities = probabilities * ramp[place].reshape(-1, *[1] * (len(size) - axis))
            if band is None:
                band = np.zeros((answered[0], *lengths[1:], probabilities.shape[-1]), np.float32)
            covered = (slice(first, first + length) for first, length in zip(starts[1:], answered[1:], strict=True))
            band[(slice(None), *covered)] += probabilities
        assert band is not None  # there is a patch at least
        if carried is not None:
            band[: shared[0]] += carried
        carried = band[steps[0] :]
        yield band[: steps[0]]
    if carried is not None and len(carried):
        yield carried


def _reflected(places: Array, length: int) -> Array:
    """Positions along an axis, reflected at its ends: … c b a | a b c | c b a …"""
    places = places % (2 * length)
    return np.asarray(np.minimum(places, 2 * length - 1 - places))


def _ramps(count: int, length: int, step: int) -> Array:
    """What each pixel of the answers of `count` patches counts along an axis, (count, length); they sum to 1."""
    rise = (np.arange(length, dtype=np.float32) + 1) / (length - step + 1)
    ramp = np.minimum(np.minimum(rise, rise[::-1]), 1)
    places = np.arange(count)[:, None] * step + np.arange(length)
    total = np.zeros((count - 1) * step + length, np.float32)
    np.add.at(total, places, np.broadcast_to(ramp, places.shape))
    return np.asarray(ramp / total[places], np.float32)


def likeliest(bands: Bands, extent: tuple[int, ...]) -> tuple[Array, Array]:
    """The number of the likeliest class of each pixel, uint8, and its probability."""
    labels, confidence, inside = [], [], tuple(slice(length) for length in extent)
    for band in bands:
        labels.append(band.argmax(axis=-1).astype(np.uint8))
        confidence.append(band.max(axis=-1))
    return np.concatenate(labels)[inside], np.concatenate(confidence)[inside]


def _summed(labels: Array, confidence: Array, count: int) -> dict[str, Array]:
    """The share of the pixels of each class, and the mean confidence where it was said, 0 where it was not."""
    flat = labels.ravel()
    pixels = np.bincount(flat, minlength=count)
    sure = np.bincount(flat, confidence.ravel(), minlength=count)
    return {"shares": pixels / flat.size, "confidence": sure / np.maximum(pixels, 1)}
