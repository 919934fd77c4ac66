"""Boxes: of a detector, whose candidates are suppressed here, and of the one thing that a localizer looks for."""

from typing import Any

import numpy as np

from cnn_keras.data.files.image_pixels import placement, resize_image
from pipelines.serving.converted.classification import encoded_names
from pipelines.serving.converted.served import FLOAT, INTEGER, STRING, Array, Ask, Row, Served, of_images, slot
from pipelines.serving.converted.suppression import suppress


def detect(description: dict[str, Any], ask: Ask) -> dict[str, Served]:
    """The signatures of a detector; the boxes of an image are those of the best candidates, padded with zeros."""
    framing, settings, names = description["preprocessing"], description["suppress"], description["classes"]
    settings = {name: settings[name] for name in ("threshold", "iou_threshold", "limit", "soft")}
    labels, limit = encoded_names(names), settings["limit"]
    outputs = [
        slot("boxes", FLOAT, limit, 4),
        slot("class_id", INTEGER, limit),
        slot("count", np.int32),
        slot("label", STRING, limit),
        slot("scores", FLOAT, limit),
    ]

    def answer(image: Array) -> Row:
        found = ask(resize_image(image, tuple(framing["size"]), fit=framing["fit"]))
        candidates, scores, classes = suppress(found["boxes"], found["scores"], settings)
        corners = _clipped(_placed(candidates, image.shape[:2], framing), image.shape[:2])
        count = len(scores)
        rows = {"boxes": corners, "class_id": classes, "label": labels[classes], "scores": scores}
        filled = {name: _padded(values, limit) for name, values in rows.items()}
        filled["label"][count:] = b""
        return {**filled, "count": count}

    return of_images(framing["channels"], (None, None), outputs, answer)


def localize(description: dict[str, Any], ask: Ask) -> dict[str, Served]:
    """The signatures of a localizer: those of a detector, with at most one thing in an image."""
    framing, names, marks = (description[key] for key in ("preprocessing", "classes", "landmarks"))
    labels, mark_names, threshold = encoded_names(names), encoded_names(marks), description["threshold"]
    outputs = [
        slot("boxes", FLOAT, 1, 4),
        slot("class_id", INTEGER, 1),
        slot("count", np.int32),
        slot("label", STRING, 1),
        slot("presence", FLOAT),
        slot("probabilities", FLOAT, len(names)),
        slot("scores", FLOAT, 1),
    ]
    if marks:
        outputs += [slot("landmarks", FLOAT, 1, len(marks), 2), slot("landmark_names", STRING, len(marks))]

    def answer(image: Array) -> Row:
        said = ask(resize_image(image, tuple(framing["size"]), fit=framing["fit"]))
        extent, presence, probabilities = image.shape[:2], said["presence"], said["probabilities"]
        real = bool(presence >= threshold)
        best = int(probabilities.argmax()) if real else 0
        row = {
            "boxes": real * _clipped(_placed(said["boxes"][None], extent, framing), extent),
            "class_id": [best],
            "count": int(real),
            "label": labels[[best]] if real else [b""],
            "presence": presence,
            "probabilities": probabilities,
            "scores": [real * presence],
        }
        if marks:
            row |= {"landmarks": real * _placed(said["landmarks"], extent, framing)[None], "landmark_names": mark_names}
        return row

    return of_images(framing["channels"], (None, None), outputs, answer)


def _placed(points: Array, extent: tuple[int, ...], framing: dict[str, Any]) -> Array:
    """Coordinates x, y, … in [0, 1] of the frame, float32 (…, 2 or 4), in pixels of the image that it was made of.

    Of boxes those without area, which are padding, become zeros.
    """
    scaled, start = placement(extent, framing["size"], fit=framing["fit"])
    frame = np.array(framing["size"], np.float32)
    times = points.shape[-1] // 2
    scale, move, sides = (np.tile(part[::-1], times) for part in (scaled / frame, start / frame, _sides(extent)))
    placed = (points - move) / scale * sides
    if times == 2:
        placed = np.where((points[:, 2:] > points[:, :2]).all(axis=-1, keepdims=True), placed, 0)
    return np.asarray(placed, np.float32)


def _clipped(boxes: Array, extent: tuple[int, ...]) -> Array:
    return np.asarray(np.clip(boxes, 0, np.tile(_sides(extent)[::-1], 2)))


def _sides(extent: tuple[int, ...]) -> Array:
    return np.array(extent, np.float32)


def _padded(values: Array, limit: int) -> Array:
    return np.pad(values, [(0, limit - len(values)), *[(0, 0)] * (values.ndim - 1)])
