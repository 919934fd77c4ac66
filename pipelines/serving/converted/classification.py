"""Classes: of images, of images with any number of labels, of signals and volumes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from cnn_keras.data.files.image_pixels import decode, resize_image, scale_and_translate
from pipelines.serving.converted.served import (
    FLOAT,
    INTEGER,
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
from pipelines.serving.example_message import Example
from pipelines.serving.http.errors import Refusal
from pipelines.serving.signature import DEFAULT_SIGNATURE


def images(description: dict[str, Any], ask: Ask) -> dict[str, Served]:
    """The signatures of a classifier of images."""
    channels, size, fit = (description["preprocessing"][key] for key in ("channels", "size", "fit"))
    names = encoded_names(description["classes"])
    thresholds, accepted_from = description.get("thresholds"), description.get("accepted_from")
    outputs = _chosen_slots(len(names)) if thresholds else _likeliest_slots(len(names), accepted_from)

    def probabilities(image: Array) -> Array:
        return ask(resize_image(image, tuple(size), fit=fit))["probabilities"]

    def answer(image: Array) -> Row:
        values = probabilities(image)
        return (
            _chosen(values, np.array(thresholds, np.float32), names)
            if thresholds
            else _likeliest(values, names, accepted_from)
        )

    def classify(inputs: bytes) -> Row:
        return _ranked(probabilities(decode(_image_of(inputs), channels=channels)), names)

    examples = served("serving_classify", [slot("inputs", STRING)], _ranked_slots(len(names)), classify)
    return {**of_images(channels, size, outputs, answer), "serving_classify": examples}


def arrays(description: dict[str, Any], ask: Ask) -> dict[str, Served]:
    """The signatures of a classifier of signals or volumes, which become the network's size."""
    names, framing = encoded_names(description["classes"]), description["preprocessing"]
    kind, size = framing["kind"], framing["size"]

    def probabilities(values: Row) -> Array:
        check_any(values[kind], kind)
        return ask(resized(values[kind], size, fit=framing["fit"]))["probabilities"]

    taken = [slot(kind, np.float32, *(None for _ in size), framing["channels"])]
    accepted_from = description.get("accepted_from")
    calls: dict[str, tuple[list[Any], Callable[[Array, Array], Row]]] = {
        DEFAULT_SIGNATURE: (
            _likeliest_slots(len(names), accepted_from),
            partial(_likeliest, accepted_from=accepted_from),
        ),
        "serving_ranked": (_ranked_slots(len(names)), _ranked),
    }
    return {
        name: served(name, taken, outputs, lambda order=order, **values: order(probabilities(values), names))
        for name, (outputs, order) in calls.items()
    }


def resized(values: Array, size: Sequence[int], *, fit: str) -> Array:
    """Give the axes of an array, (*any sizes, channels), their lengths, as `cnn_keras.data.array_dataset.resize`."""
    for axis, length in enumerate(size):
        before = values.shape[axis]
        if before == length:
            continue
        values = values.swapaxes(0, axis)
        if fit == "stretch":
            values = scale_and_translate(
                values, (length,), scale=[np.float32(length) / np.float32(before)], translation=[0]
            )
        else:
            missing, start = max(length - before, 0), max(before - length, 0) // 2
            paddings = [(missing // 2, missing - missing // 2), *[(0, 0)] * (values.ndim - 1)]
            values = np.pad(values, paddings)[start : start + length]
        values = values.swapaxes(0, axis)
    return np.ascontiguousarray(values)


def encoded_names(names: Sequence[str]) -> Array:
    """Names as a string tensor."""
    return np.array([name.encode() for name in names], object)


def _likeliest_slots(count: int, accepted_from: float | None) -> list[Any]:
    accepted = [] if accepted_from is None else [slot("accepted", np.bool_)]
    return [slot("class_id", INTEGER), slot("label", STRING), slot("probabilities", FLOAT, count), *accepted]


def _likeliest(probabilities: Array, names: Array, accepted_from: float | None) -> Row:
    best = probabilities.argmax()
    accepted = {} if accepted_from is None else {"accepted": probabilities[best] >= np.float32(accepted_from)}
    return {"class_id": best, "label": names[best], "probabilities": probabilities, **accepted}


def _chosen_slots(count: int) -> list[Any]:
    kinds = {"chosen": np.bool_, "classes": STRING, "label": STRING, "probabilities": FLOAT}
    return [slot(name, dtype, count) for name, dtype in kinds.items()]


def _chosen(probabilities: Array, thresholds: Array, names: Array) -> Row:
    """All labels that reach their thresholds, the likeliest first."""
    chosen = probabilities >= thresholds
    order = np.argsort(-np.where(chosen, probabilities, -1), kind="stable")
    label = np.where(chosen[order], names[order], b"")
    return {"chosen": chosen, "classes": names, "label": label, "probabilities": probabilities}


def _ranked_slots(count: int) -> list[Any]:
    return [slot("classes", STRING, count), slot("scores", FLOAT, count)]


def _ranked(probabilities: Array, names: Array) -> Row:
    order = np.argsort(-probabilities, kind="stable")
    return {"classes": names[order], "scores": probabilities[order]}


def _image_of(serialized: bytes) -> bytes:
    """The feature `image_bytes` of a serialized tf.Example."""
    try:
        values = Example.FromString(serialized).features.feature["image_bytes"].bytes_list.value
    except DecodeError:
        raise Refusal(400, "inputs must be serialized tf.Examples") from None
    if len(values) != 1:
        raise Refusal(400, f"each example must have one value of the feature image_bytes, got {len(values)}")
    return bytes(values[0])
