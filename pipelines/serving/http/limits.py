"""How much one server takes on before it says no."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Every bound of the server; what lies above it is refused with the status in brackets."""

    head: int = 32 * 2**10  # bytes of a request's first line and headers [431]
    headers: int = 100  # of them [431]
    body: int = 16 * 2**20  # bytes of a request's body, after inflating gzip [413]
    chunks: int = 20_000  # that a body may come in [413]
    values: int = 2_000_000  # numbers, strings, lists of a JSON body; only 125,000 of them with names [413]
    memory: int = 256 * 2**20  # bytes of all larger bodies held at one moment [429]
    rows: int = 128  # instances, examples or files of one request [400]
    pixels: int = 50_000_000  # width x height of one encoded image [400]
    request_pixels: int = 100_000_000  # of all images of one request, or of one call of the model [400]
    queue: int = 256  # rows accepted and not yet answered [429]
    queue_pixels: int = 1_000_000_000  # of the images accepted and not yet answered [429]
    batch: int = 8  # rows that one call of the model takes
    connections: int = 1_000  # open at one moment; beyond, the one goes that has waited longest
    pipelined: int = 8  # requests sent ahead over one connection; beyond, it is closed
    head_seconds: float = 10.0  # for a head to arrive, from the answer before [408]
    read_seconds: float = 30.0  # for a body to arrive [408]
    answer_seconds: float = 60.0  # from a whole body to its answer [504]
