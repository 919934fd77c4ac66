"""Encoded images of a request: within the limits and upright before the graph sees them."""

import io
from collections.abc import Sequence

from pipelines.serving.limits import Limits
from pipelines.serving.refusal import Refusal, of_row


def upright(files: Sequence[bytes], limits: Limits) -> list[bytes]:
    """Each file as a JPEG or PNG that stands the way a person sees it; see `cnn_keras.data.encoded.plain`.

    Raises:
        Refusal: no image, too many pixels, or too many in all; the row at fault is named.
    """
    from cnn_keras.data.encoded import Unreadable, plain

    plain_files, pixels = [], 0
    for row, file in enumerate(files):
        try:
            data, _ = plain(file, pixel_limit=limits.pixels, tiff=False)
        except Unreadable as reason:
            raise Refusal(400, of_row(row, len(files), str(reason))) from None
        pixels += _pixels(data) if len(files) > 1 else 0
        if pixels > limits.request_pixels:
            raise Refusal(400, f"images of one request must have {limits.request_pixels:,} pixels at most together")
        plain_files.append(data)
    return plain_files


def _pixels(data: bytes) -> int:
    from cnn_keras.data.encoded import OPENERS

    opener = next(opener for signature, opener in OPENERS.items() if data.startswith(signature))
    width, height = opener(io.BytesIO(data)).size
    return int(width * height)


def looks_encoded(body: bytes) -> bool:
    """Whether a body starts like an image file: the client forgot to say so."""
    from cnn_keras.data.encoded import OPENERS

    return body.startswith(tuple(OPENERS))
