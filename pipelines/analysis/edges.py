"""Edges: what fixed filters answer to a photograph, as a picture; a network's first layer by hand."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnn_keras.errors import Fault
from cnn_keras.learn import filters
from pipelines.data import image_io
from pipelines.plots import image_grid

LONGEST = 480  # pixels; a larger image is shrunk first, so that a response is a pixel of the picture


def edges(image: Path, *, kind: str = "sobel", output: Path | None = None) -> Path:
    """Draw the image, its vertical and horizontal responses and their magnitude side by side.

    Args:
        image: an image file; one with a side longer than LONGEST is shrunk before it is filtered.
        kind: a filter of `cnn_keras.learn.filters`: "simple", "sobel" or "scharr".
        output: the PNG file to write; None writes `<stem>-edges.png` into the working directory.

    Returns:
        The path of the picture.

    Raises:
        Fault: when the kind is unknown, the image cannot be read or the picture cannot be written.
    """
    if kind not in filters.VERTICAL:
        raise Fault(f"--filter must be one of {', '.join(filters.VERTICAL)}, got {kind}")
    output = _checked(output or Path(f"{image.stem}-edges.png"), image)
    photo = Image.fromarray(image_io.read(image))
    photo.thumbnail((LONGEST, LONGEST))
    responses = filters.edges(np.asarray(photo), kind)
    white = max(float(np.percentile(responses.magnitude, 99)), 1.0)  # one for all three, so that they compare
    pictures = [(np.minimum(response / white, 1) * 255).astype(np.uint8) for response in responses]
    titles = [
        image.name,
        f"vertical: {_written(filters.VERTICAL[kind])}",
        f"horizontal: {_written(filters.HORIZONTAL[kind])}",
        "magnitude",
    ]
    heading = f"Edges ({kind}), {photo.width} × {photo.height} pixels; white is a step of {white:.0f} of 255 or more"
    side = LONGEST / image_grid.DOTS
    try:
        return image_grid.contact_sheet([np.asarray(photo), *pictures], titles, output, heading=heading, size=side)
    except OSError as error:
        raise Fault(f"--output must be a file that can be written, got {output}: {error.strerror}") from error


def _checked(output: Path, image: Path) -> Path:
    if output.suffix.lower() != ".png":
        raise Fault(f"--output must end in .png, got {output}")
    if output.resolve() == image.resolve():
        raise Fault(f"--output must be another file than IMAGE, got {output}")
    return output


def _written(weights: Any) -> str:
    return " | ".join(" ".join(f"{weight}".replace("-", "−") for weight in row) for row in weights)
