"""Checks of this machine: versions, devices and why there is no GPU, disk, tracking store."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from cnn_keras.errors import Fault
from pipelines.data.run_files import versions
from pipelines.engine import precision

DISK_GB = 2.0  # less free space than this is a failure waiting to happen


def examine() -> dict[str, Any]:
    """The results of all checks by name; `failed` names those that will stop a run."""
    report: dict[str, Any] = {"versions": versions(), "cores": os.cpu_count(), **_devices()}
    if units := precision.bfloat16_units():
        report["bfloat16"] = f"{', '.join(units)}; {precision.ADVICE}"
    report["disk_free_gb"] = round(shutil.disk_usage(Path.cwd()).free / 2**30, 1)
    report["writable"] = _writable(Path.cwd())
    report["store"], store_problem = _store()
    failed = {
        "disk": report["disk_free_gb"] < DISK_GB and f"only {report['disk_free_gb']} GB free, {DISK_GB} GB needed",
        "writable": not report["writable"] and f"cannot write to {Path.cwd()}",
        "store": store_problem,
    }
    report["failed"] = {name: reason for name, reason in failed.items() if reason}
    return report


def show(report: dict[str, Any], console: Console) -> None:
    """Print the results, one line each."""
    for name, value in report.items():
        if name == "failed":
            continue
        text = ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value)
        console.print(f"[bold]{name.replace('_', ' '):>14}[/]  {escape(text)}", soft_wrap=True)
    for name, reason in report["failed"].items():
        console.print(f"[bold red]{name:>14}[/]  {escape(reason)}", soft_wrap=True)


def _devices() -> dict[str, Any]:
    import tensorflow as tf  # start-up: what else is said comes before

    gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
    if gpus:
        return {"gpus": ", ".join(gpus)}
    if not tf.test.is_built_with_cuda():
        return {"gpus": "none", "why_no_gpu": "this TensorFlow is built without CUDA"}
    if not Path("/proc/driver/nvidia/version").exists():
        return {
            "gpus": "none",
            "why_no_gpu": "no NVIDIA driver is loaded (nvidia-smi fails too)",
        }
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return {"gpus": "none", "why_no_gpu": "CUDA_VISIBLE_DEVICES hides them"}
    return {
        "gpus": "none",
        "why_no_gpu": "the CUDA libraries are missing; install the extra: pip install -e '.[gpu]'",
    }


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _store() -> tuple[str, str | None]:
    """Where tracking goes, and what is wrong with it."""
    from pipelines.tracking import tracker  # start-up

    try:
        store = tracker.store_uri()
        with tracker.reachable(store) as client:
            client.search_experiments(max_results=1)
    except Fault as fault:
        return "unusable", str(fault)
    return tracker.public(store), None
