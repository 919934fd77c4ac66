"""What the server did, as text for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats)."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 16.0, 32.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


HELP = {  # metric: its type, and what it is
    "cnn_requests_total": ("counter", "Requests that were answered, by kind and HTTP status."),
    "cnn_errors_total": ("counter", "Requests that were answered with 4xx or 5xx."),
    "cnn_request_seconds": ("histogram", "Seconds from the first byte of a request to its answer."),
    "cnn_batch_rows": ("histogram", "Rows in a call of the model."),
    "cnn_queue_rows": ("gauge", "Rows that were accepted and have no answer yet."),
    "cnn_body_bytes": ("gauge", "Bytes of request bodies in memory."),
    "cnn_picture_width": ("histogram", "Width of a picture as it was sent, in pixels."),
    "cnn_picture_height": ("histogram", "Height of a picture as it was sent, in pixels."),
    "cnn_picture_brightness": ("histogram", "Mean level of what the network is given."),
    "cnn_picture_contrast": ("histogram", "Standard deviation of the levels of what the network is given."),
    "cnn_picture_sharpness": ("histogram", "Sharpness of what the network is given."),
    "cnn_answer_confidence": ("histogram", "Largest probability of an answer; of a mask the mean over its pixels."),
    "cnn_answer_objects": ("histogram", "Objects that were found in a picture."),
    "cnn_answer_score": ("histogram", "Score of the likeliest object in a picture, 0 without any."),
    "cnn_answer_box_side": ("histogram", "Median square root of the areas of the boxes in a picture, in pixels."),
    "cnn_answer_share": ("histogram", "Share of the pixels of a picture that are of a class."),
    "cnn_answer_value": ("histogram", "A number that was answered."),
    "cnn_answer_angle": ("histogram", "Steering angle, from -1 to 1."),
    "cnn_answers_total": ("counter", "Answers of each class; of objects the class of the likeliest in a picture."),
    "cnn_pictures_unmeasured_total": ("counter", "Pictures that were sent and not measured."),
    "cnn_kept_pictures_total": ("counter", "Pictures that were to be kept, by what became of them."),
    "cnn_kept_bytes": ("gauge", "Bytes in the folder of kept pictures when it was last written to."),
}


def heading(metric: str) -> Iterator[str]:
    """The lines before a metric's values."""
    kind, text = HELP[metric]
    yield f"# HELP {metric} {text}"
    yield f"# TYPE {metric} {kind}"


class Histogram:
    """Counts of observations up to each bound, and their sum; those of before may be given."""

    def __init__(self, bounds: tuple[float, ...], counts: Sequence[int] = (), total: float = 0.0) -> None:
        self._bounds = bounds
        self._counts = [*counts] or [0] * (len(bounds) + 1)
        self._sum = total

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, label: str = "") -> Iterator[str]:
        """The histogram in Prometheus' text format."""
        below = 0
        comma = f"{label}," if label else ""
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            below += count
            yield f'{name}_bucket{{{comma}le="{bound}"}} {below}'
        braces = f"{{{label}}}" if label else ""
        yield f"{name}_sum{braces} {self._sum:.6f}"
        yield f"{name}_count{braces} {below}"


def labels(**values: object) -> str:
    """Labels as they stand in braces: name="value", what is special in a value escaped."""
    escaped = {
        name: str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for name, value in values.items()
    }
    return ",".join(f'{name}="{value}"' for name, value in escaped.items())


class RequestMetrics:
    """Counters of requests and errors, histograms of latency and of the rows in each call of the model."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self._rows = Histogram(ROWS)

    def request(self, kind: str, status: int, seconds: float) -> None:
        """Count one request: its kind, its HTTP status and how many seconds it took."""
        self._requests[kind, status] += 1
        self._seconds[kind].observe(seconds)

    def call(self, rows: int) -> None:
        self._rows.observe(rows)

    def text(self, gauges: Mapping[str, float], further: Iterable[str] = ()) -> str:
        """Everything counted so far, `gauges` as they stand now, and further lines."""
        return "\n".join([*self._lines(gauges), *further]) + "\n"

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        yield from heading("cnn_requests_total")
        for (kind, status), count in sorted(self._requests.items()):
            yield f'cnn_requests_total{{kind="{kind}",status="{status}"}} {count}'
        yield from heading("cnn_errors_total")
        errors: Counter[str] = Counter()
        for (kind, status), count in self._requests.items():
            errors[kind] += count if status >= 400 else 0
        for kind, count in sorted(errors.items()):
            yield f'cnn_errors_total{{kind="{kind}"}} {count}'
        yield from heading("cnn_request_seconds")
        for kind, histogram in sorted(self._seconds.items()):
            yield from histogram.lines("cnn_request_seconds", f'kind="{kind}"')
        yield from heading("cnn_batch_rows")
        yield from self._rows.lines("cnn_batch_rows")
        for name, value in gauges.items():
            yield from heading(f"cnn_{name}")
            yield f"cnn_{name} {value:g}"
