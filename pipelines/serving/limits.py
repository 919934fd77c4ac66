"""How much one server takes on before it says no."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Every bound of the server; what lies above it is refused with the status in brackets."""

    body: int = 16 * 2**20  # bytes of a request's body, after inflating gzip [413]
    memory: int = 256 * 2**20  # bytes of all bodies held at one moment [429]
    rows: int = 128  # instances, examples or files of one request [400]
    pixels: int = 50_000_000  # width x height of one encoded image [400]
    request_pixels: int = 100_000_000  # of all images of one request [400]
    queue: int = 256  # rows accepted and not yet answered [429]
    batch: int = 8  # rows that one call of the model takes
    read_seconds: float = 30.0  # for a body to arrive [408]
    answer_seconds: float = 60.0  # from a whole body to its answer [504]
