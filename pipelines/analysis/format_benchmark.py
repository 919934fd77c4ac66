"""`cnn bench export`: the formats of a run side by side, each measured in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.export import runtimes
from pipelines.inference import exported_model

TIMING = "pipelines.export.format_timing"
PATIENCE = 600  # seconds in which a format must have been measured


def measure(run: Path) -> list[dict[str, Any]]:
    """A row for the SavedModel, whose metric is that of the trained network, and one for each format and precision.

    A row has `format`, `precision` and either `problem`, why it cannot run here, or `bytes`, `load_seconds`,
    `megabytes`, `batch_1` and `batch_8` (`p50_ms`, `p99_ms`, `rows_per_second`), `metric`, `value`, `changed` and
    `decisions`. What has not been written yet has a `problem` that says how to.

    Raises:
        Fault: the run was not exported in any other format.
    """
    folders = sorted(path.parent for path in (run / runtimes.FOLDER).glob(f"*/{runtimes.DESCRIPTION}"))
    if not folders:
        raise Fault(f"RUN must have networks in other formats, found none in {run}; `cnn export --format` writes them")
    described = [runtimes.describe(folder) for folder in folders]
    return [_saved_model(run, described[0]), *map(_converted, folders, described), *_unwritten(described)]


def _saved_model(run: Path, about: dict[str, Any]) -> dict[str, Any]:
    name, version = about["name"], about["version"]
    folder = exported_model.newest(run / "export" / name / str(version))
    size = sum(path.stat().st_size for path in run_files.files(folder))
    proof, taken = about["proof"], about["input"]
    arguments = ["savedmodel", str(folder), taken["name"], taken["dtype"], *map(str, taken["shape"][1:])]
    figures = {"metric": proof["metric"], "value": proof["original"], "changed": 0, "decisions": proof["decisions"]}
    return {"format": "savedmodel", "precision": "float32", "bytes": size, **figures, **_timed(arguments)}


def _converted(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    row = {key: about[key] for key in ("format", "precision", "bytes")}
    row |= {key: about["proof"][key] for key in ("metric", "value", "changed", "decisions")}
    try:
        runtimes.require(about["format"])
    except Fault as missing:
        return {**row, "problem": str(missing)}
    return {**row, **_timed([str(folder)])}


def _unwritten(described: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    known = {(about["format"], about["precision"]) for about in described}
    for name, kind in runtimes.FORMATS.items():
        for precision in kind.precisions:
            if (name, precision) not in known:
                problem = f"not written; `cnn export RECIPE --format {name} --precision {precision}` does"
                yield {"format": name, "precision": precision, "problem": problem}


def _timed(arguments: Sequence[str]) -> dict[str, Any]:
    """What a process of its own measures, or why it could not."""
    command = [sys.executable, "-W", "ignore", "-m", TIMING, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except subprocess.TimeoutExpired:
        return {"problem": f"it took more than {PATIENCE} seconds"}
    except subprocess.CalledProcessError as failed:
        lines = failed.stderr.strip().splitlines() or [f"exit code {failed.returncode}"]
        return {"problem": lines[-1][:200]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Print the table, and why what is not in it cannot run."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    metric = next(row["metric"] for row in rows if "metric" in row)
    headings = ("", "MB", "load\ns", "RAM\nMB", "1 row\nms", "8 rows\nms", "rows\n/s", metric, "changed")
    for heading in headings:  # 80 columns hold them; in fewer a figure goes on in the next line
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for row in (row for row in rows if "problem" not in row):
        one, eight = row["batch_1"], row["batch_8"]
        figures = [row["bytes"] / 1e6, row["load_seconds"], row["megabytes"]]
        latencies = [f"{_short(batch['p50_ms'])}–{_short(batch['p99_ms'])}" for batch in (one, eight)]
        measured = [*map(_short, figures), *latencies, _short(eight["rows_per_second"]), f"{row['value']:.4f}"]
        table.add_row(f"{row['format']} {row['precision']}", *measured, f"{row['changed']:,}/{row['decisions']:,}")
    console.print(table)
    console.print("[dim]milliseconds: the median and the 99th percentile[/]")
    for row in (row for row in rows if "problem" in row):
        console.print(f"[dim]{row['format']} {row['precision']}: {row['problem']}[/]", highlight=False)


def _short(figure: float) -> str:
    return f"{figure:,.2f}" if figure < 10 else f"{figure:,.0f}"
