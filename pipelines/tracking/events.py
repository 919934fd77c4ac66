"""What a pipeline has to tell about itself, in words that MLflow accepts, written into its journal."""

import getpass
import hashlib
import json
import logging
import math
import os
import re
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.data.schema import flatten
from pipelines.tracking.journal import Event, Journal
from pipelines.tracking.pyfunc import signature

log = logging.getLogger(__name__)

BEGINNING = {"start", "params", "tags", "dataset", "artifact"}  # kinds of events before anything is measured
VALUE_LIMIT, TAG_LIMIT, NAME_LIMIT, DIGEST_LIMIT = 6000, 8000, 250, 36  # characters; MLflow's own limits


class Recorder:
    """The run of one pipeline, `runs/<task>/<name>/`: goes on with the last one begun, or begins one.

    Calls return at once and raise nothing for what they are told. The journals are in the folder `tracking/`.
    """

    def __init__(self, folder: Path, *, experiment: str, name: str) -> None:
        self.folder = Path(folder)
        self.journals = self.folder / "tracking"
        self._experiment, self._name = experiment, name
        self._journal = Journal.last(self.journals)
        if self._journal.written and not any(self._events("start")):  # damaged: what it told is in the store
            self._journal.set_aside()
            self._journal = Journal.last(self.journals)
        self._open = False  # whether this process has told the run anything
        self._steps: dict[int, dict[str, Any]] | None = None  # the numbers that the run has been told, once asked for

    def start(self, tags: Mapping[str, Any] | None = None) -> None:
        """Begin a new run - or join the one that `MLFLOW_RUN_ID` or an open `mlflow.start_run()` names.

        One that was begun like this and killed before all was told that it begins with is taken for it; any other that
        was killed is ended.
        """
        run = {
            "experiment": self._experiment,
            "name": self._name,
            "tags": _tags({"mlflow.user": _user(), "mlflow.source.type": "LOCAL"} | dict(tags or {})),
            "join": _run_to_join(),
        }
        events = [event for _, event in self._journal.events()]
        if events and run.items() <= events[0].items() and {event["kind"] for event in events} <= BEGINNING:
            self._open = True
            return
        if events:
            self.adopt()
            if self._open:
                self.end("KILLED")
            self._journal = Journal.after(self._journal)
            self._steps = None
        self._open = True
        self._append("start", journal=uuid.uuid4().hex, **run)

    def adopt(self) -> None:
        """Take over a run whose process was killed before it could end it."""
        lifecycle = [event["kind"] for event in self._events("start", "resume", "end")]
        self._open = self._open or (bool(lifecycle) and lifecycle[-1] != "end")

    def mark(self, text: str) -> None:
        """Note in the journal that everything up to here has been told."""
        self._tell("mark", text=text)

    def marked(self, text: str) -> bool:
        """Whether the run has this mark."""
        return any(event["text"] == text for event in self._events("mark"))

    def params(self, values: Mapping[str, Any]) -> None:
        """Settings, nested or flat: {"train": {"patience": None}} is told as train.patience = null."""
        self._tell("params", values={key: _text(value) for key, value in distinct(_pairs(values)).items()})

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Numbers of one step, told in one batch; NaN and infinities are kept and show as gaps."""
        self._tell("metrics", values=_written(values), step=int(step))

    def once(self, values: Mapping[str, Any], step: int = 0) -> bool:
        """Tell numbers of one step unless the run has been told them before; whether it had not.

        The state of a training is on the disk before its last epoch is told, and a kill may come between the two.
        """
        if self._steps is None:
            self._steps = {}
            for event in self._events("metrics"):
                self._steps.setdefault(event["step"], {}).update(event["values"])
        known = self._steps.setdefault(step, {})
        if (numbers := _written(values)).items() <= known.items():
            return False
        self.metrics(values, step)
        known.update(numbers)
        return True

    def tags(self, values: Mapping[str, Any]) -> None:
        """Words about the run; `mlflow.note.content` is its description, in Markdown."""
        self._tell("tags", values=_tags(values))

    def artifact(self, path: Path, folder: str = "") -> None:
        """A file or a folder, put under `folder` among the run's artifacts - as it is when its turn comes."""
        self._tell("artifact", path=self._relative(path), folder=folder)

    def dataset(self, *, name: str, digest: str, source: str, context: str) -> None:
        """The data the run used and the digest of its content; `context` is training, validation or test."""
        short = digest.removeprefix("sha256:")[:DIGEST_LIMIT]
        self._tell("dataset", name=name, digest=short, source=str(source), context=context)

    def model(
        self,
        folder: Path,
        *,
        name: str,
        metrics: Mapping[str, Any],
        requirement: str | None = None,
        identity: str | None = None,
    ) -> None:
        """An exported SavedModel: logged as a pyfunc, registered as a version of `name`, alias `candidate`.

        `metrics` and `requirement` ("accuracy >= 0.98") go with the version, for its promotion. The folder
        must be where it will stay: it is copied when its turn comes. What is told twice with the same identity is one.
        """
        self._tell(
            "model",
            id=identity or uuid.uuid4().hex,
            path=self._relative(folder),
            name=name,
            metrics={key: value for key, value in _numbers(metrics).items() if math.isfinite(value)},
            requirement=requirement,
            signature=signature(folder),
        )

    def age(self) -> int:
        """Seconds since the run was begun; 0 before that."""
        started = next((event["time"] for event in self._events("start")), None)
        return 0 if started is None else int(time.time() - started / 1000)

    def end(self, status: str) -> None:
        """The run's end: FINISHED, FAILED or KILLED. A later event of the same run opens it again."""
        self._tell("end", status=status)
        self._open = False

    def _events(self, *kinds: str) -> Iterator[Event]:
        return (event for _, event in self._journal.events() if event["kind"] in kinds)

    def _tell(self, kind: str, **fields: Any) -> None:
        """Write an event into the run, which it begins or reopens if need be; an empty one says nothing."""
        if not fields.get("values", True):
            return
        if not self._journal.written:
            self.start()
        elif not self._open:
            self._open = True
            self._append("resume")
        self._append(kind, **fields)

    def _append(self, kind: str, **fields: Any) -> None:
        try:
            self._journal.append(kind, **fields)
        except OSError as error:  # a full disk is training's to report, when it cannot save its weights
            log.warning("tracking lost an event (%s): %s", kind, error)

    def _relative(self, path: Path) -> str:
        """A path in the run's folder is kept relative to it: the folder may be moved before a push."""
        path, folder = Path(path).absolute(), self.folder.absolute()
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def clean(name: str) -> str:
    """The nearest name that MLflow takes: letters, digits, `_ - . : /` and spaces, no empty folders.

    "accuracy (top-5)" becomes "accuracy _top-5".
    """
    parts = re.sub(r"[^\w.\- :/]+", "_", name).strip("_ ").split("/")
    return "/".join(part for part in parts if part.strip("."))[:NAME_LIMIT].rstrip("/") or "_"


def distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Values by their cleaned names, of which those that would be one are told apart by digits of the name's digest.

    "cat (a)" and "cat [a]", told together, become "cat _a-738fff" and "cat _a-a38d02".
    """
    named = dict(pairs)
    common = Counter(map(clean, named))
    latest = {}
    for name, value in named.items():
        key = clean(name)
        if common[key] > 1 and key != name:
            digits = hashlib.sha256(name.encode(errors="backslashreplace")).hexdigest()[:6]
            key = f"{key[: NAME_LIMIT - 7]}-{digits}"
        latest[key] = value
    return latest


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in flatten(values).items() if key]


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {}
    for key, value in distinct(_pairs(values)).items():
        try:
            numbers[key] = float(value)
        except (TypeError, ValueError):
            log.warning("metric %s is left out: it must be a number, got %r", key, value)
    return numbers


def _written(values: Mapping[str, Any]) -> dict[str, float | str]:
    """Numbers as JSON has them."""
    return {key: value if math.isfinite(value) else str(value) for key, value in _numbers(values).items()}


def _text(value: Any) -> str:
    """A setting as the recipe writes it: null, true, [1, 2]; words without quotes."""
    return (value if isinstance(value, str) else json.dumps(value, default=str))[:VALUE_LIMIT]


def _tags(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value)[:TAG_LIMIT] for key, value in distinct(values.items()).items()}


def _user() -> str:
    """The login name; a container may have none."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return "unknown"


def _run_to_join() -> str | None:
    """The MLflow run that somebody opened around this process, or in it."""
    if "mlflow" in sys.modules and (run := sys.modules["mlflow"].active_run()):
        return str(run.info.run_id)
    return os.environ.get("MLFLOW_RUN_ID") or None
