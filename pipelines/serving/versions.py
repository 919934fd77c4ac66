"""The versions of a model that are served at once.

Its folder is looked at every second. A new version is loaded and warmed up while the others answer, and takes requests
once it is ready; an old one is let go when the last of its requests has its answer.
"""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cnn_keras.errors import Fault
from pipelines.export import runtimes
from pipelines.inference import exported_model
from pipelines.serving import observation
from pipelines.serving.batching import Batcher, Job
from pipelines.serving.converted.model import ConvertedModel
from pipelines.serving.http.limits import Limits
from pipelines.serving.memory import give_back
from pipelines.serving.model import Model
from pipelines.serving.observation import Observation
from pipelines.serving.signature import Tensors
from pipelines.serving.warmup import warm_up

log = logging.getLogger(__name__)

PERIOD = 1.0  # seconds between two looks
SMALL_PICTURES = 1_000_000  # pixels of a request that is not kept waiting by those with larger pictures
FEW_PIXELS = 50_000  # of a picture that is decoded in less time than a thread takes to begin under load

Served = Callable[[Model, str, Tensors, Tensors], None]  # a model, a signature, what it was given and what it answered
State = tuple[tuple[str, int, int], ...]  # of a folder: paths, sizes and times of its files


@dataclass(frozen=True)
class Source:
    """Where versions come from.

    Attributes:
        folder: a version, or for TensorFlow `<name>/`, which holds versions by their numbers.
        engine: tensorflow, or another one, with which TensorFlow is not imported.
    """

    folder: Path
    engine: str = "tensorflow"

    def folders(self) -> dict[int, Path]:
        """The folders of the versions that there are."""
        versions = exported_model.versions if self.engine == "tensorflow" else runtimes.versions
        return versions(self.folder)

    def load(self, folder: Path, rows: int) -> Model:
        """A version, warmed up for batches of so many rows. Takes seconds."""
        model = Model(folder) if self.engine == "tensorflow" else ConvertedModel(folder)
        warm_up(model, rows)
        return model


class Version:
    """A loaded version with the queues before it."""

    def __init__(self, model: Model, limits: Limits, watch: Callable[[int], None], served: Served | None) -> None:
        self.model, self._served = model, served
        self.observation = observation.of(model.folder)
        self._users, self._unused = 0, asyncio.Event()
        self._unused.set()
        self._batcher, self._large_batcher = (
            Batcher(
                call,
                batch=limits.batch,
                limit=limits.queue,
                calls=calls,
                pixels=limits.request_pixels,
                queue_pixels=limits.queue_pixels,
                watch=watch,
            )
            for call, calls in ((self._call, model.parallel), (self._call_and_give_back, 1))
        )

    @property
    def rows(self) -> int:
        """Accepted and not yet answered."""
        return self._batcher.rows + self._large_batcher.rows

    def start(self) -> None:
        """Start the threads that call the model."""
        self._batcher.start()
        self._large_batcher.start()

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Keep it for a request."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def __call__(self, job: Job, *, is_short: bool = False) -> Tensors:
        """The model's outputs; see `Batcher`.

        A small picture in a short request is answered at once where the model is quick: threads that take turns with
        Python's lock take longer.
        """
        is_small = is_short and job.rows == 1 and 0 < job.pixels <= FEW_PIXELS
        if is_small and self.model.is_quick and not self._served:
            return self._batcher.at_once(job)
        return await (self._batcher if job.pixels <= SMALL_PICTURES else self._large_batcher)(job)

    async def drain(self) -> None:
        """Answer everything accepted, then end the threads."""
        await self._unused.wait()
        await self._batcher.drain()
        await self._large_batcher.drain()
        self.model.close()

    def _call(self, signature: str, tensors: Tensors) -> Tensors:
        outputs = self.model(signature, tensors)
        if self.observation:
            self.observation.called(tensors, outputs)
        if self._served:
            self._served(self.model, signature, tensors, outputs)
        return outputs

    def _call_and_give_back(self, signature: str, tensors: Tensors) -> Tensors:
        """Large pictures are not what the next request needs memory for."""
        try:
            return self._call(signature, tensors)
        finally:
            give_back()


class Versions:
    """The newest versions of a model, so many of them."""

    def __init__(
        self,
        source: Source,
        limits: Limits,
        *,
        count: int = 1,
        watch: Callable[[int], None] = lambda rows: None,
        say: Callable[[str], None] = lambda message: None,
        served: Served | None = None,
    ) -> None:
        """Load those that there are.

        Args:
            count: of versions that are served at once.
            watch: hears of calls; see `Batcher`.
            say: hears which versions come and go later on.
            served: hears of what each call was given and answered; must return at once.

        Raises:
            Fault: there is none, or one of them cannot be loaded.
        """
        self._source, self._limits, self._count = source, limits, count
        self._watch, self._say, self._served = watch, say, served
        folders = source.folders()
        models = [source.load(folders[number], limits.batch) for number in sorted(folders)[-count:]]
        self._versions = {model.version: Version(model, limits, watch, served) for model in models}
        self._seen: dict[int, State] = {}  # of folders that are not loaded, when they were last looked at
        self._refused: dict[int, State] = {}

    @property
    def newest(self) -> Version:
        """The one with the highest number."""
        return self._versions[max(self._versions)]

    @property
    def numbers(self) -> list[int]:
        """Of those that are served, in order."""
        return sorted(self._versions)

    @property
    def observations(self) -> dict[int, Observation]:
        """What is served by each version that was exported with a reference."""
        return {number: each.observation for number, each in sorted(self._versions.items()) if each.observation}

    @property
    def rows(self) -> int:
        """Accepted and not yet answered."""
        return sum(version.rows for version in self._versions.values())

    def get(self, number: int) -> Version | None:
        """The version of this number, where it is served."""
        return self._versions.get(number)

    def start(self) -> None:
        """Start what answers requests."""
        for version in self._versions.values():
            version.start()

    async def drain(self) -> None:
        """Answer everything accepted."""
        for version in self._versions.values():
            await version.drain()

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.look()
            except Exception:  # nobody but the log hears of it, and the versions there are go on
                log.exception("the folder of versions could not be looked at")

    async def look(self) -> None:
        """Take what is new, and let go of what is more than is to be served."""
        folders = await asyncio.to_thread(self._folders)
        for number in sorted(folders)[-self._count :]:
            if number not in self._versions:
                await self._take(number, folders[number])
        for number in self.numbers[: -self._count]:
            version = self._versions.pop(number)
            name = version.model.name
            await version.drain()
            del version
            _forget()
            self._say(f"{name}/{number} is no longer served")

    def _folders(self) -> dict[int, Path]:
        try:
            return self._source.folders()
        except Fault:  # it is just being replaced, or gone; what is loaded is served on
            return {}

    async def _take(self, number: int, folder: Path) -> None:
        """Load a version that nobody has written to since the last look."""
        state = await asyncio.to_thread(_state, folder)
        before, self._seen[number] = self._seen.get(number), state
        if state != before or state == self._refused.get(number):
            return
        try:
            model = await asyncio.to_thread(self._source.load, folder, self._limits.batch)
        except (Fault, OSError) as refused:
            self._refused[number] = state
            self._say(f"version {number} is not served: {refused}")
            return
        if model.version != number or await asyncio.to_thread(_state, folder) != state:
            model.close()  # it was replaced meanwhile; the next look finds what is there now
            return
        version = Version(model, self._limits, self._watch, self._served)
        version.start()
        self._versions[number] = version
        self._say(f"{model.name}/{number} is served")


def _state(folder: Path) -> State:
    """What changes when somebody writes into a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(str(path.relative_to(folder)), path.stat()) for path in files]
    return tuple((name, fact.st_size, fact.st_mtime_ns) for name, fact in facts)


def _forget() -> None:
    """Free a model's memory: it is full of circles, and was frozen when the server started."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    give_back()
