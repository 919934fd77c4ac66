"""Encoded images of a request: within the limits and upright before the graph sees them."""

from collections.abc import Sequence

from cnn_keras.data.files.image_file import OPENERS, Picture
from cnn_keras.errors import Unreadable
from pipelines.serving.http.errors import Refusal, of_row
from pipelines.serving.http.limits import Limits

ANEW = 4  # decoding, writing and decoding again costs as much as decoding so many pictures


def check_headers(files: Sequence[bytes], limits: Limits) -> list[Picture]:
    """Each file with its header looked at, and no more; see `cnn_keras.data.files.image_file.Picture`.

    Raises:
        Refusal: no image, too many pixels, or too many in all; the row at fault is named.
    """
    pictures: list[Picture] = []
    for row, file in enumerate(files):
        try:
            pictures.append(Picture(file, pixel_limit=limits.pixels, tiff=False))
        except Unreadable as reason:
            raise Refusal(400, of_row(row, len(files), str(reason))) from None
        if len(files) > 1 and sum(picture.area for picture in pictures) > limits.request_pixels:
            raise Refusal(400, f"images of one request must have {limits.request_pixels:,} pixels at most together")
    return pictures


def upright(pictures: Sequence[Picture]) -> list[bytes]:
    """Each as a JPEG or PNG that stands the way a person sees it. Large ones take seconds.

    Raises:
        Refusal: one that must be written anew is broken; its row is named.
    """

    files = []
    for row, picture in enumerate(pictures):
        try:
            files.append(picture.plain())
        except Unreadable as reason:
            raise Refusal(400, of_row(row, len(pictures), str(reason))) from None
    return files


def work(pictures: Sequence[Picture]) -> int:
    """What they cost, in pixels that are decoded once."""
    return sum(picture.area * (1 if picture.ready else ANEW) for picture in pictures)


def looks_encoded(body: bytes) -> bool:
    """Whether a body starts like an image file: the client forgot to say so."""
    return body.startswith(tuple(OPENERS))
