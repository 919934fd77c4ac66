"""Numbers of images, each with the interval that it lies in."""

from typing import Any

from cnn_keras.data.files.image_pixels import resize_image
from pipelines.serving.converted.served import FLOAT, STRING, Array, Ask, Row, Served, of_images, slot


def signatures(description: dict[str, Any], ask: Ask) -> dict[str, Served]:
    """The signatures of a network that answers with numbers."""
    framing, size = description["preprocessing"], tuple(description["preprocessing"]["size"])
    told = {key: [name.encode() for name in description[key]] for key in ("names", "units")}
    told["interval"] = description["interval"]

    def answer(image: Array) -> Row:
        return {**ask(resize_image(image, size, fit=framing["fit"])), **told}

    count = len(description["names"])
    outputs = [slot(name, FLOAT, count) for name in ("values", "low", "high")]
    outputs += [slot(name, STRING, count) for name in ("names", "units")]
    return of_images(framing["channels"], (None, None), [*outputs, slot("interval", FLOAT)], answer)
