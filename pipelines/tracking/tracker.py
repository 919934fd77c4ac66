"""MLflow: runs, metrics, pictures, data sets and models - and training that does not depend on any of it.

Every event is first written into the run's journal (`pipelines/tracking/journal.py`); a daemon thread, the uploader,
then tells the events to the tracking store, in order. A dead or slow store keeps nobody waiting: what it
missed stays in the journal, and `push` tells it later, to the same store or to another. Telling twice does no
harm: the run carries its journal's id, metrics their time, a registered model its event's id, and an artifact
replaces itself.

HTTP is bounded by MLflow's own variables, `MLFLOW_HTTP_REQUEST_TIMEOUT` (30 s unless set) and
`MLFLOW_HTTP_REQUEST_MAX_RETRIES` (1 unless set). MLflow's telemetry is off.

This is the only file that imports mlflow, and only inside functions: the import takes three seconds.
"""

import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.tracking import pyfunc, registry
from pipelines.tracking.dashboard import dashboard
from pipelines.tracking.events import Recorder
from pipelines.tracking.journal import Event, Journal
from pipelines.tracking.store import ENVIRONMENT, artifacts, create_store, public, store_uri
from pipelines.tracking.uploader import Uploader, brief

__all__ = ["Tracker", "create_store", "dashboard", "promote", "public", "push", "reachable", "store_uri"]

log = logging.getLogger(__name__)

BATCH = 100  # parameters that MLflow takes in one request
JOURNAL_TAG = "cnn.journal"
PARENT_TAG = "cnn.parent"  # the journal's id of the run that MLflow shows this one below
BEFORE_TAG = "cnn.before_journal"  # the journal's id of the run whose data this one has, and further data beside it
# Answers that the same request would always get: that event is given up, and those after it get through.
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}
# MLflow's column types for TensorFlow's tensor types.
COLUMNS = {"string": "string", "bool": "boolean", "float32": "float", "float64": "double", "int64": "long"}


class Tracker(Recorder):
    """The MLflow run of one pipeline. Only the first call in a process waits: for the import of mlflow.

    As a context it ends the run on leaving: FINISHED, FAILED after an exception, KILLED after Ctrl-C.

    Args:
        delivers: whether the store is told, or the journal alone.

    Raises:
        Fault: on construction, when `MLFLOW_TRACKING_URI` names an old file store.
    """

    def __init__(
        self,
        folder: Path,
        *,
        experiment: str,
        name: str,
        tags: Mapping[str, Any] | None = None,
        delivers: bool = True,
    ) -> None:
        super().__init__(folder, experiment=experiment, name=name)
        self.store = store_uri()
        self._delivers = delivers
        self._tags = dict(tags or {})  # of every run that it begins
        self._uploader: Uploader | None = None
        self._monitors: list[Any] = []

    @property
    def identity(self) -> str | None:
        """What other runs of the experiment name in their tag `cnn.parent`; None before the run was begun."""
        return next((str(event["journal"]) for event in self._events("start")), None)

    def start(self, tags: Mapping[str, Any] | None = None) -> None:
        """Begin a new run, with the tags of its construction too."""
        super().start(self._tags | dict(tags or {}))

    def go_on(self) -> None:
        """Go on with the last run of the folder if its parent is this tracker's, else begin one."""
        start = next(self._events("start"), None)
        if start is None or start["tags"].get(PARENT_TAG) != self._tags.get(PARENT_TAG):
            self.start()
        else:
            self.adopt()

    def adopt(self) -> None:
        """Take over the folder's last run, and tell the store what it missed of it."""
        super().adopt()
        if _pending(self.journals, self.store):
            self._deliver()

    def below(self, folder: Path, *, name: str) -> "Tracker":
        """The tracker of a run that MLflow shows below this one, of which the store is told first."""
        self.close()
        tags = self._tags | {PARENT_TAG: self.identity}
        return Tracker(folder, experiment=self._experiment, name=name, tags=tags, delivers=self._delivers)

    def system(self) -> None:
        """One sample of CPU, memory and GPU use by MLflow's names; its step is the run's age in seconds."""
        sample: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            sample |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        self.metrics({f"system/{key}": value for key, value in sample.items()}, step=self.age())

    def finish(self, status: str, timeout: float = 30) -> int:
        """End the run - FINISHED, FAILED or KILLED - if anything was told, and close."""
        if self._open:
            self.end(status)
        return self.close(timeout)

    def close(self, timeout: float = 30) -> int:
        """Wait up to `timeout` seconds for the uploader; return how many events are still untold."""
        if self._uploader:
            self._uploader.close(timeout)
            self._uploader = None
        return _pending(self.journals, self.store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED" if error else "FINISHED")

    def _append(self, kind: str, **fields: Any) -> None:
        super()._append(kind, **fields)
        self._deliver()

    def _deliver(self) -> None:
        """Have the uploader tell the store what it has not been told, if it is to be told at all."""
        if not self._delivers:
            return
        if self._uploader is None:
            _mlflow()
            self._monitors = self._monitors or _monitors()
            self._uploader = Uploader(lambda: _deliver(self.journals, self.store))
            self._uploader.start()
        self._uploader.wake()


def push(folder: Path) -> tuple[int, int]:
    """Tell the present store every event of a run's folder, and of an ensemble's members, that it does not have.

    Returns how many were delivered, and how many came in meanwhile.

    Raises:
        Fault: the folder has no journal, or the store does not take the events.
    """
    store, journals = store_uri(), Path(folder) / "tracking"
    if not Journal.all(journals):
        raise Fault(f"RUN must be the folder of a tracked run, found no journal in {journals}")
    folders = [journals, *sorted(Path(folder).glob("members/*/tracking"))]  # a run before those that are shown below it
    before = sum(_pending(each, store) for each in folders)
    with reachable(store):
        for each in folders:
            _deliver(each, store)
    return before - (after := sum(_pending(each, store) for each in folders)), after


def promote(name: str, *, requirement: str | None = None) -> dict[str, Any]:
    """Make the candidate of a registered model its champion: see `pipelines.tracking.registry.promote`."""
    with reachable(store_uri()) as client:
        return registry.promote(client, name, requirement)


def _deliver(journals: Path, store: str) -> None:
    """Tell `store` every event it does not have, oldest first, up to the first that it cannot be told.

    One process at a time; while another one is at it, this raises TimeoutError.
    """
    with FileLock(journals / ".lock", timeout=0):
        client = _connect(store)
        for journal in Journal.all(journals):
            bookmark = journal.bookmark(public(store))
            for offset, event in journal.events(bookmark["delivered"]):
                if bookmark["run"] is None and event["kind"] != "start":
                    continue  # of a run whose beginning is damaged
                bookmark["run"] = _tell(client, bookmark["run"], event, folder=journals.parent, store=store)
                journal.advance(public(store), run=bookmark["run"], delivered=offset)


def _tell(client: Any, run: str | None, event: Event, *, folder: Path, store: str) -> str | None:
    """Tell one event; return the id of the run, which the first one opens."""
    if event["kind"] == "start":
        return _open(client, event, store)
    try:
        _log(client, str(run), event, folder)
    except _mlflow().exceptions.MlflowException as error:
        if error.error_code not in REFUSALS:
            raise
        log.warning("MLflow refused %s: %s", event["kind"], brief(error))
    return run


def _open(client: Any, event: Event, store: str) -> str:
    """The run to join, the run that this journal opened before, or a new one in its experiment."""
    if event["join"]:
        return str(client.get_run(event["join"]).info.run_id)
    name, journal, root = event["experiment"], event["journal"], artifacts(store)
    if experiment := client.get_experiment_by_name(name):
        identity = experiment.experiment_id
    else:
        identity = client.create_experiment(name, artifact_location=root and (root / name).as_uri())
    if existing := _opened(client, identity, journal):
        return existing
    tags = event["tags"] | {JOURNAL_TAG: journal}
    if parent := _opened(client, identity, tags.get(PARENT_TAG)):
        tags["mlflow.parentRunId"] = parent
    if before := _opened(client, identity, tags.get(BEFORE_TAG)):
        tags["cnn.before_run"] = before
    run = client.create_run(identity, start_time=event["time"], tags=tags, run_name=event["name"])
    return str(run.info.run_id)


def _opened(client: Any, experiment: str, journal: str | None) -> str | None:
    """The run that was opened for a journal, if it was."""
    if journal is None:
        return None
    runs = client.search_runs([experiment], f"tags.`{JOURNAL_TAG}` = '{journal}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _log(client: Any, run: str, event: Event, folder: Path) -> None:
    """Tell an event of an open run. A joined run is ended by whoever began it."""
    entities = _mlflow().entities
    match event:
        case {"kind": "metrics", "values": values, "step": step, "time": time}:
            metrics = [entities.Metric(key, _drawable(value), time, step) for key, value in values.items()]
            for start in range(0, len(metrics), BATCH):
                client.log_batch(run, metrics=metrics[start : start + BATCH])
        case {"kind": "params", "values": values}:
            _log_params(client, run, values)
        case {"kind": "tags", "values": values}:
            client.log_batch(run, tags=[entities.RunTag(key, value) for key, value in values.items()])
        case {"kind": "dataset", "name": name, "digest": digest, "context": context}:
            data = entities.Dataset(name, digest, source_type="local", source=json.dumps({"uri": event["source"]}))
            tags = [entities.InputTag("mlflow.data.context", context)]
            client.log_inputs(run, [entities.DatasetInput(data, tags)])
        case {"path": path} if not (folder / path).exists():
            log.warning("%s is not logged: the file no longer exists", folder / path)
        case {"kind": "artifact", "path": path, "folder": into}:
            client.log_artifact(run, str(folder / path), into or None)
            _push(client.get_run(run).info.artifact_uri, into, Path(path).name)
        case {"kind": "model"}:
            registry.register(client, run, event, lambda: _log_model(client, run, event, folder))
        case {"kind": "resume"} if _own(client, run):
            client.update_run(run, status="RUNNING")
        case {"kind": "end", "status": status, "time": time} if _own(client, run):
            client.set_terminated(run, status, end_time=time)


def _push(location: str, *inside: str) -> None:
    """Push what MLflow has copied on this machine to the disk, before a bookmark says that it was told."""
    if urlsplit(location).scheme == "file":
        durable.sync(Path(unquote(urlsplit(location).path), *inside))


def _log_params(client: Any, run: str, values: dict[str, str]) -> None:
    """Add the parameters the run does not have; MLflow never changes one."""
    known = client.get_run(run).data.params
    if changed := [key for key, value in values.items() if known.get(key, value) != value]:
        log.warning("parameters of an MLflow run cannot change, it keeps the old %s", ", ".join(changed))
    params = [_mlflow().entities.Param(key, value) for key, value in values.items() if key not in known]
    for start in range(0, len(params), BATCH):
        client.log_batch(run, params=params[start : start + BATCH])


def _log_model(client: Any, run: str, event: Event, folder: Path) -> Any:
    """Log the SavedModel as a pyfunc whose loader, `pipelines/tracking/pyfunc.py`, goes along: nothing is pickled."""
    mlflow = _mlflow()
    experiment = client.get_run(run).info.experiment_id
    with tempfile.TemporaryDirectory() as temporary:
        packed = Path(temporary) / "model"
        mlflow.pyfunc.save_model(
            packed,
            loader_module=Path(pyfunc.__file__).stem,
            code_paths=[pyfunc.__file__],
            data_path=str(folder / event["path"]),
            signature=_signature(event["signature"]),
            # Given, not found out: MLflow would spend a minute importing the model in another process.
            pip_requirements=[f"tensorflow=={version('tensorflow')}", "pandas"],
        )
        model = client.create_logged_model(experiment, name=event["name"], source_run_id=run)
        client.log_model_artifacts(model.model_id, str(packed))
        _push(model.artifact_location)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run, [mlflow.entities.LoggedModelOutput(model.model_id, step=0)])
    return model


def _signature(sides: dict[str, dict[str, tuple[str, int]]]) -> Any:
    """MLflow's signature: a column for every tensor, whose first axis is the rows of the table."""
    mlflow = _mlflow()
    schema = mlflow.types.schema

    def column(name: str, dtype: str, rank: int) -> Any:
        kind: Any = schema.DataType["binary" if name.endswith("_bytes") else COLUMNS.get(dtype, "integer")]
        for _ in range(rank - 1):
            kind = schema.Array(kind)
        return schema.ColSpec(kind, name)

    schemas = [schema.Schema([column(name, *kind) for name, kind in side.items()]) for side in sides.values()]
    return mlflow.models.ModelSignature(*schemas)


def _own(client: Any, run: str) -> bool:
    return JOURNAL_TAG in client.get_run(run).data.tags


def _drawable(value: float | str) -> float:
    """NaN for an infinity, which MLflow would store as 1.8e308 and draw to scale."""
    return number if math.isfinite(number := float(value)) else math.nan


def _pending(journals: Path, store: str) -> int:
    return sum(journal.pending(public(store)) for journal in Journal.all(journals))


def _monitors() -> list[Any]:
    """MLflow's own samplers, asked once: the CPU's answers are about the time since it was asked last."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor  # start-up
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor  # start-up

    monitors: list[Any] = [CPUMonitor()]
    try:
        monitors.append(GPUMonitor())
    except (ImportError, RuntimeError) as reason:  # no pynvml, no NVIDIA driver
        log.debug("GPU metrics are not recorded: %s", reason)
    for monitor in monitors:
        monitor.collect_metrics()
        monitor.clear_metrics()
    return monitors


def _connect(store: str) -> Any:
    """A client of the store; a local one is created first."""
    mlflow = _mlflow()
    create_store(store)
    return mlflow.MlflowClient(tracking_uri=store, registry_uri=store)


@contextmanager
def reachable(store: str) -> Iterator[Any]:
    """A client for a command that needs the store; that it does not answer is for the user to mend."""
    try:
        yield _connect(store)
    except (_mlflow().exceptions.MlflowException, OSError) as error:
        reason = f"MLFLOW_TRACKING_URI must be a store that answers, got {public(store)}: {brief(error)}"
        raise Fault(reason) from None


@cache
def _mlflow() -> Any:
    """MLflow, imported quietly and in the main thread, before the uploader asks for it.

    Two threads that import large packages at the same time can each see the other's half-made.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    warnings.filterwarnings("ignore", module=r"mlflow\.")  # its own deprecations, and advice on input examples
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, in a notebook
    import mlflow.pyfunc  # start-up: it takes seconds

    for name in ("mlflow", "alembic", "urllib3.connectionpool"):  # what is wrong is said once, by the uploader
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return mlflow
