"""Embeddings of faces, pairs of them and their distance."""

from typing import Any

import numpy as np

from cnn_keras.data.files.image_pixels import decode, resize_image
from pipelines.serving.converted.served import FLOAT, STRING, Array, Ask, Row, Served, of_images, served, slot
from pipelines.serving.signature import DEFAULT_SIGNATURE


def missing(description: dict[str, Any]) -> str | None:
    """What of a model is not in its network, so that it cannot be served by it."""
    if description["preprocessing"].get("align") == "landmarks":
        return "faces are aligned by a network that finds their landmarks, which is not in it"
    if description["head"]:
        return "the head that compares two embeddings is not in it"
    return None


def signatures(description: dict[str, Any], ask: Ask) -> dict[str, Served]:
    """The signatures of an embedder, whose distance is the squared one."""
    framing, rates = description["preprocessing"], description["rates"]
    size, channels = tuple(framing["size"]), framing["channels"]
    dimension = int(ask(np.zeros((*size, channels), np.uint8))["embedding"].shape[-1])

    def embed(image: Array) -> Array:
        return ask(resize_image(image, size, fit=framing["fit"]))["embedding"]

    def match(left: Array, right: Array) -> Row:
        return {"distance": np.square(left - right).sum(dtype=np.float32)}

    def verify(left_image_bytes: bytes, right_image_bytes: bytes) -> Row:
        pair = [embed(decode(file, channels=channels)) for file in (left_image_bytes, right_image_bytes)]
        distance = match(*pair)["distance"]
        return {"distance": distance, "same": distance <= np.float32(rates["threshold"]), **rates}

    vectors = [slot("embedding", FLOAT, dimension)]
    calls = of_images(channels, size, vectors, lambda image: {"embedding": embed(image)})
    files = [slot("left_image_bytes", STRING), slot("right_image_bytes", STRING)]
    sides = [slot("left", FLOAT, dimension), slot("right", FLOAT, dimension)]
    kinds = {name: np.int32 if isinstance(rate, int) else np.float32 for name, rate in rates.items()}
    answers = [slot("distance", FLOAT), slot("same", np.bool_), *(slot(name, kind) for name, kind in kinds.items())]
    default = calls[DEFAULT_SIGNATURE]
    return {
        **calls,
        "embed": served("embed", list(default.signature.inputs.values()), vectors, default.answer),
        "verify": served("verify", files, answers, verify),
        "match": served("match", sides, [slot("distance", FLOAT)], match),
    }
