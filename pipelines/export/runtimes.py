"""Networks in other formats than TensorFlow's, each asked through its own runtime; TensorFlow is not imported here.

A converted network is a folder: the file or files of its format beside `network.json`, which says what the network
takes, what has to be done to a picture before, and what it answers. `pipelines.export.formats` writes them.
"""

import contextlib
import importlib
import importlib.util
import os
import queue
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.data import run_files

Array = np.ndarray[Any, np.dtype[Any]]
Ask = Callable[[Array], dict[str, Array]]  # a batch to named outputs

DESCRIPTION = "network.json"
FOLDER = "formats"  # of a run, where its converted networks are
VERSIONS = "versions"  # of that folder, where those of older versions of the model are


class Format(NamedTuple):
    """A format of networks.

    Attributes:
        file: that its runtime opens.
        precisions: it can be written in.
        writes: packages that writing takes, beside TensorFlow.
        runs: packages that running takes.
        extra: of this package, that installs them.
        quantizes: packages that writing it in int8 takes beside those.
    """

    file: str
    precisions: tuple[str, ...]
    writes: tuple[str, ...]
    runs: tuple[str, ...]
    extra: str
    quantizes: tuple[str, ...] = ()


class Target(NamedTuple):
    """A format and a precision."""

    format: str
    precision: str

    def __str__(self) -> str:
        return f"{self.format}-{self.precision}"


FORMATS = {
    "litert": Format("network.tflite", ("float32", "float16", "int8"), (), ("ai_edge_litert",), "edge"),
    "onnx": Format("network.onnx", ("float32", "float16", "int8"), ("onnx", "tf2onnx"), ("onnxruntime",), "edge"),
    "openvino": Format(
        "network.xml",
        ("float32", "float16", "bfloat16", "int8"),
        ("onnx", "tf2onnx"),
        ("openvino",),
        "openvino",
        ("nncf",),
    ),
}


def require(name: str, *, writes: str | None = None) -> None:
    """Raise a Fault unless the packages are installed that a format takes to be run.

    With `writes`, a precision, those too that it takes to be written.
    """
    kind = FORMATS[name]
    packages = (*(kind.writes if writes else ()), *(kind.quantizes if writes == "int8" else ()), *kind.runs)
    missing = [package for package in packages if not importlib.util.find_spec(package)]
    if missing:
        raise Fault(
            f"{name} requires {', '.join(missing)}, which is not installed; "
            f"`pip install 'cnn-keras[{kind.extra}]'` installs it"
        )


def targets(names: Sequence[str], precisions: Sequence[str]) -> list[Target]:
    """Every format of `names` in every precision; savedmodel, which is float32, is not among them.

    Raises:
        Fault: a format or precision that is unknown, or does not go with the other, or whose packages are missing.
    """
    known = ["savedmodel", *FORMATS]
    if unknown := [name for name in names if name not in known]:
        raise Fault(f"--format must be of {', '.join(known)}, got {unknown[0]!r}")
    wanted = []
    for name in dict.fromkeys(names):
        possible = ("float32",) if name == "savedmodel" else FORMATS[name].precisions
        if wrong := [precision for precision in precisions if precision not in possible]:
            raise Fault(f"--precision of {name} must be {' or '.join(possible)}, got {wrong[0]!r}")
        if name != "savedmodel":
            for precision in dict.fromkeys(precisions):
                require(name, writes=precision)
                wanted.append(Target(name, precision))
    return wanted


def check(task: Any, recipe: Any) -> None:
    """Raise a Fault where a task's recipe has no network that can be converted, before anything is computed."""
    known = hasattr(task, "convertible")
    if reason := task.unconvertible(recipe) if known else f"the task {recipe.task} has none":
        raise Fault(f"--format must be savedmodel here: the others hold a network of one tensor, and {reason}")


class Network:
    """A converted network, ready to be asked by several threads; those beyond `callers` wait.

    Attributes:
        folder: of its files.
        description: the contents of `network.json`.
    """

    def __init__(self, folder: Path, *, threads: int | None = None, callers: int = 1, rows: int | None = None) -> None:
        """Load a network.

        Args:
            folder: that `pipelines.export.formats` has written.
            threads: that share the work of one call; None: as many as the process has processors.
            callers: threads that are answered at once, each by `threads` of its own.
            rows: of every batch; None: any. OpenVINO is faster where it knows.

        Raises:
            Fault: its runtime is not installed, or refuses the file.
        """
        self.folder = folder
        self.description = describe(folder)
        name = str(self.description["format"])
        require(name)
        load = {"litert": _litert, "onnx": _onnx, "openvino": _openvino}[name]
        path = folder / FORMATS[name].file
        try:
            asks = load(path, self.description, Use(threads or len(os.sched_getaffinity(0)), callers, rows))
        except (RuntimeError, ValueError, OSError) as refused:
            lines = str(refused).strip().splitlines() or [type(refused).__name__]
            raise Fault(f"{path} must be a network that {name} reads, got: {lines[0][:300]}") from refused
        except Exception as refused:
            if type(refused).__module__.partition(".")[0] != "onnxruntime":  # whose errors have no class in common
                raise
            raise Fault(f"{path} must be a network that {name} reads, got: {str(refused)[:300]}") from refused
        self._idle: queue.LifoQueue[Ask] = queue.LifoQueue()  # the last one's memory is still in the caches
        for ask in asks:
            self._idle.put(ask)

    def __call__(self, batch: Array) -> dict[str, Array]:
        """What the network answers for a batch of its input, (N, …), by name."""
        ask = self._idle.get()
        try:
            return ask(batch)
        finally:
            self._idle.put(ask)


class Use(NamedTuple):
    """How a network is asked; see `Network`."""

    threads: int
    callers: int
    rows: int | None


def _litert(path: Path, description: Mapping[str, Any], use: Use) -> list[Ask]:
    from ai_edge_litert.interpreter import Interpreter  # optional

    def ask() -> Ask:
        runner = Interpreter(model_path=str(path), num_threads=use.threads).get_signature_runner()
        (name,) = runner.get_input_details()
        return lambda batch: {key: np.asarray(value) for key, value in runner(**{name: batch}).items()}

    return [ask() for _ in range(use.callers)]  # an interpreter answers one thread


def _onnx(path: Path, description: Mapping[str, Any], use: Use) -> list[Ask]:
    import onnxruntime  # optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = use.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken = [tensor.name for tensor in session.get_inputs()]
    if len(taken) != 1:  # weights that the converter has made inputs of
        raise ValueError(f"it takes {', '.join(taken)} instead of one input")
    names = [tensor.name for tensor in session.get_outputs()]
    return [lambda batch: dict(zip(names, session.run(names, {taken[0]: batch}), strict=True))] * use.callers


def _openvino(path: Path, description: Mapping[str, Any], use: Use) -> list[Ask]:
    openvino = import_openvino()
    # Without a hint OpenVINO computes in bfloat16 where the processor can.
    hint = {"bfloat16": "bf16"}.get(description["precision"], "f32")
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": use.threads * use.callers,
        "NUM_STREAMS": use.callers,
        "ENABLE_CPU_PINNING": False,  # every model of a process, and every process, is pinned to the same processors
    }
    core = openvino.Core()
    model = core.read_model(path)
    if use.rows:
        model.reshape([use.rows, *description["input"]["shape"][1:]])
    compiled = core.compile_model(model, "CPU", settings)
    names = list(description["outputs"])  # an output may have others of its own beside

    def ask(request: Any) -> Ask:
        def answer(batch: Array) -> dict[str, Array]:
            given = request.get_input_tensor().data if use.rows else None
            if given is not None and (batch.shape, batch.dtype) == (given.shape, given.dtype):
                given[:] = batch  # as an argument of `infer`, it takes 50 µs more
                request.infer()
            else:
                request.infer([batch])
            return {name: request.get_tensor(name).data.copy() for name in names}

        return answer

    return [ask(compiled.create_infer_request()) for _ in range(use.callers)]


def import_openvino() -> Any:
    """OpenVINO without its telemetry."""
    with without_telemetry():
        return importlib.import_module("openvino")


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Keep what is imported here from reporting to Google Analytics.

    `import openvino` (2026.4) alone has `openvino_telemetry` start a process that does, and NNCF reports what it is
    asked for. Where that package is missing they do without.
    """
    absent: dict[str, Any] = {} if "openvino_telemetry" in sys.modules else {"openvino_telemetry": None}
    sys.modules |= absent
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def try_apart(folder: Path) -> None:
    """Load a network and ask it once in a process of its own, which a runtime's native code may end.

    What else is wrong with the network is left to who loads it here.

    Raises:
        Fault: the process was ended.
    """
    command = [sys.executable, "-W", "ignore", "-m", "pipelines.export.runtimes", str(folder)]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    if code < 0:
        target = Target(*(str(describe(folder)[key]) for key in Target._fields))
        raise Fault(
            f"{target} cannot hold this network: its runtime ended the process that asked it "
            f"({signal.Signals(-code).name}); take another format or precision"
        )


def describe(folder: Path) -> dict[str, Any]:
    """The contents of `network.json`."""
    return run_files.read_json(folder / DESCRIPTION)


def find(run: Path, name: str, precision: str | None = None) -> Path:
    """The folder of a run's network in this format; of several precisions the first one of `FORMATS`.

    Raises:
        Fault: it has none; the message says how to make one.
    """
    precisions = (precision,) if precision else FORMATS[name].precisions
    for candidate in precisions:
        folder = run / FOLDER / str(Target(name, candidate))
        if (folder / DESCRIPTION).is_file():
            return folder
    option = f" --precision {precision}" if precision else ""
    raise Fault(
        f"the run must have a network for {name}, found none in {run / FOLDER}; "
        f"`cnn export RECIPE --format {name}{option}` writes it"
    )


def versions(folder: Path) -> dict[int, Path]:
    """The folders of a network's versions, by number: `folder` has the newest one, see `set_aside`.

    Raises:
        Fault: there is none.
    """
    older = folder.parent.glob(f"{VERSIONS}/[0-9]*/{folder.name}/{DESCRIPTION}")
    found = {int(path.parent.parent.name): path.parent for path in older}
    if not (folder / DESCRIPTION).is_file():
        raise Fault(f"model folder must hold a {DESCRIPTION}, found none in {folder}; `cnn export --format` writes it")
    return {**found, int(describe(folder)["version"]): folder}


def set_aside(folder: Path, version: int) -> None:
    """Move the network in a folder that another version is to replace to `versions/<its number>/` beside it."""
    before = int(describe(folder)["version"]) if (folder / DESCRIPTION).is_file() else version
    if before == version:
        return
    place = folder.parent / VERSIONS / str(before) / folder.name
    shutil.rmtree(place, ignore_errors=True)
    durable.mkdir(place.parent)
    durable.rename(folder, place)


def size(folder: Path) -> int:
    """Bytes of a network's files, what describes it and its data left out."""
    beside = (DESCRIPTION, run_files.REFERENCE.name)
    return sum(path.stat().st_size for path in run_files.files(folder) if path.name not in beside)


if __name__ == "__main__":
    _network = Network(Path(sys.argv[1]))
    _input = _network.description["input"]
    _network(np.zeros((1, *_input["shape"][1:]), _input["dtype"]))
