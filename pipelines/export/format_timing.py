"""How fast a network is in its format, measured in a process of its own: `python -m pipelines.export.format_timing`.

The arguments are a folder of `cnn export --format`, or a SavedModel's with the word savedmodel, the name of the input
and its sizes before; what is measured is printed as JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipelines.export import runtimes

BATCHES = (1, 8)
SECONDS = 2.0  # for each batch size
LEAST = 20  # calls


def measure(load: Callable[[], Callable[[Any], Any]], shape: list[int], dtype: str) -> dict[str, Any]:
    """Seconds to load, megabytes that loading and asking take, for each batch size latencies and rows per second."""
    process = psutil.Process()
    before, started = process.memory_info().rss, time.perf_counter()
    ask = load()
    figures: dict[str, Any] = {"load_seconds": time.perf_counter() - started}
    generator = np.random.default_rng(0)
    for count in BATCHES:
        batch = generator.integers(0, 256, (count, *shape)).astype(dtype)
        ask(batch)  # the first call of a size takes longer
        times: list[float] = []
        while sum(times) < SECONDS or len(times) < LEAST:
            started = time.perf_counter()
            ask(batch)
            times.append(time.perf_counter() - started)
        low, high = np.quantile(times, (0.5, 0.99))
        figures[f"batch_{count}"] = {
            "p50_ms": 1e3 * float(low),
            "p99_ms": 1e3 * float(high),
            "rows_per_second": count * len(times) / sum(times),
        }
    return {**figures, "megabytes": (process.memory_info().rss - before) / 2**20}


def main(arguments: list[str]) -> None:
    """Measure what the arguments name."""
    if arguments[0] == "savedmodel":
        _, folder, name, dtype, *sizes = arguments
        figures = measure(lambda: _saved_model(folder, name), [int(size) for size in sizes], dtype)
    else:
        folder = arguments[0]
        about = runtimes.describe(Path(folder))["input"]
        figures = measure(lambda: runtimes.Network(Path(folder)), about["shape"][1:], about["dtype"])
    print(json.dumps(figures))


def _saved_model(folder: str, name: str) -> Callable[[Any], Any]:
    import tensorflow as tf  # of this format alone

    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures["serving_tensor" if name == "image" else "serving_default"]

    def ask(batch: Any, keep: Any = loaded) -> Any:  # the loaded model must outlive its signatures
        return [output.numpy() for output in signature(**{name: tf.constant(batch)}).values()]

    return ask


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(sys.argv[1:])
