"""Micro-batching: whatever has queued up while the model was busy goes into its next call together.

Nothing waits for company. A thread runs the model, so that the event loop never blocks; requests of one
signature and shape share a call, in the order they came. When a shared call fails each request is run again
alone, so that one bad image costs nobody else an answer. A model that answers several calls at once has as many
threads, and each takes one request.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.serving.http.errors import Refusal, from_tensorflow, of_row
from pipelines.serving.signature import Tensors

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """One request's call of the model.

    Attributes:
        signature: which callable of the model.
        tensors: makes the inputs; runs on the model's thread, because turning pictures upright takes time.
        pixels: of its pictures, as `pipelines.serving.rest.images.work` counts them.
        rows: how many rows those inputs have.
        shape: jobs of the same signature and shape may share a call; None: this one runs alone and whole.
    """

    signature: str
    tensors: Callable[[], Tensors]
    rows: int
    shape: Hashable | None
    pixels: int = 0
    answer: "asyncio.Future[Tensors]" = field(init=False)


class Batcher:
    """The queue before the model and the threads behind it."""

    def __init__(
        self,
        model: Callable[[str, Tensors], Tensors],
        *,
        batch: int,
        limit: int,
        calls: int = 1,
        pixels: int = 2**62,
        queue_pixels: int = 2**62,
        watch: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """`batch` rows and `pixels` at most share a call, `limit` rows and `queue_pixels` at most are waiting.

        `calls` of the model run at once; where they are several, requests do not share one. `watch` hears of calls.
        """
        self._model = model
        self._batch = batch
        self._limit = limit
        self._pixels = pixels
        self._queue_pixels = queue_pixels
        self._watch = watch
        self._calls = calls
        self._waiting: deque[Job] = deque()
        self._ending = False
        self._changed = threading.Condition()
        self.rows = self.pixels = 0  # accepted and not yet answered; touched by the event loop only

    def start(self) -> None:
        """Start the threads that call the model."""
        self._loop = asyncio.get_running_loop()
        self._threads = [threading.Thread(target=self._work, name="model", daemon=True) for _ in range(self._calls)]
        for thread in self._threads:
            thread.start()

    async def drain(self) -> None:
        """Answer everything accepted, then end the threads."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    async def __call__(self, job: Job) -> Tensors:
        """The model's outputs for `job`, its rows only.

        Raises:
            Refusal: the queue is full, or the model refused the inputs; the row at fault is named.
        """
        full = self.rows + job.rows > self._limit or self.pixels + job.pixels > self._queue_pixels
        if self.rows and full:
            raise Refusal(429, f"the server is busy with {self.rows} rows; try again in a moment")
        self.rows += job.rows
        self.pixels += job.pixels
        job.answer = self._loop.create_future()
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        return await job.answer

    def at_once(self, job: Job) -> Tensors:
        """The model's outputs for `job`, without the queue and its threads: who calls this waits.

        Raises:
            Refusal: the model refused the inputs; the row at fault is named.
        """
        try:
            answer = self._alone(job, job.tensors())
        except Exception as error:
            answer = _refusal(error)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _work(self) -> None:
        while jobs := self._next():
            self._run(jobs)

    def _next(self) -> list[Job]:
        """The oldest job, and all that may share its call; none when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            return self._company(self._waiting) if self._waiting else []

    def _company(self, waiting: deque[Job]) -> list[Job]:
        """Take the oldest job off `waiting`, and all that may share its call."""
        first = waiting.popleft()
        together, rows, pixels = [first], first.rows, first.pixels
        if first.shape is not None and self._calls == 1:
            for job in list(waiting):
                alike = (job.signature, job.shape) == (first.signature, first.shape)
                if alike and rows + job.rows <= self._batch and pixels + job.pixels <= self._pixels:
                    waiting.remove(job)
                    together.append(job)
                    rows += job.rows
                    pixels += job.pixels
        return together

    def _run(self, jobs: list[Job]) -> None:
        answers: list[tuple[Job, Tensors | Exception]] = []
        ready: list[tuple[Job, Tensors]] = []
        for job in jobs:
            if job.answer.cancelled():  # its client was told that it took too long
                answers.append((job, {}))
                continue
            try:
                ready.append((job, job.tensors()))
            except Exception as error:
                answers.append((job, _refusal(error)))
        answers += self._called(ready)
        self._loop.call_soon_threadsafe(self._deliver, answers)

    def _deliver(self, answers: list[tuple[Job, Tensors | Exception]]) -> None:
        for job, answer in answers:
            self.rows -= job.rows
            self.pixels -= job.pixels
            if job.answer.cancelled():
                continue
            if isinstance(answer, Exception):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)

    def _called(self, ready: list[tuple[Job, Tensors]]) -> list[tuple[Job, Tensors | Exception]]:
        """Each job with its share of one call's outputs; alone when the shared call fails."""
        if not ready:
            return []
        if len(ready) == 1:
            return [(ready[0][0], self._alone(*ready[0]))]
        try:
            outputs = self._call(ready[0][0].signature, _joined([tensors for _, tensors in ready]))
            shares = _split(outputs, [job.rows for job, _ in ready])
        except Exception:
            return [(job, self._alone(job, tensors)) for job, tensors in ready]
        return [(job, share) for (job, _), share in zip(ready, shares, strict=True)]

    def _alone(self, job: Job, tensors: Tensors) -> Tensors | Exception:
        try:
            if job.shape is None or job.rows <= self._batch:
                return self._call(job.signature, tensors)
            parts = [self._rows_of(job, tensors, slice(at, at + self._batch)) for at in range(0, job.rows, self._batch)]
            return _joined(parts)
        except Exception as error:
            return self._blamed(job, tensors, error)

    def _blamed(self, job: Job, tensors: Tensors, error: Exception) -> Exception:
        """`error` with the name of the first row that fails by itself, if any does."""
        if job.shape is not None and job.rows > 1:
            for row in range(job.rows):
                try:
                    self._rows_of(job, tensors, slice(row, row + 1))
                except Exception as reason:
                    refusal = _refusal(reason)
                    return Refusal(refusal.status, of_row(row, job.rows, refusal.message))
        return _refusal(error)

    def _rows_of(self, job: Job, tensors: Tensors, rows: slice) -> Tensors:
        return self._call(job.signature, {name: tensor[rows] for name, tensor in tensors.items()})

    def _call(self, signature: str, tensors: Tensors) -> Tensors:
        self._watch(max((len(tensor) for tensor in tensors.values() if tensor.ndim), default=1))
        return self._model(signature, tensors)


def _refusal(error: Exception) -> Refusal:
    """What the client hears. A bug's traceback goes to the log, never into an answer."""
    refusal = error if isinstance(error, Refusal) else from_tensorflow(error)
    if refusal is None:
        log.error("the model failed", exc_info=error)
        return Refusal(500, "internal error; the server's log has the reason")
    return refusal


def _joined(parts: list[Tensors]) -> Tensors:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _split(outputs: Tensors, rows: list[int]) -> list[Tensors]:
    """Cut outputs whose first axis is the batch into the jobs' shares; ValueError when it is not."""
    ends = np.cumsum(rows)
    if any(len(output) != ends[-1] for output in outputs.values()):
        raise ValueError("an output's first axis is not the batch")
    parts: dict[str, list[Any]] = {name: np.split(output, ends[:-1]) for name, output in outputs.items()}
    return [{name: shares[index] for name, shares in parts.items()} for index in range(len(rows))]
