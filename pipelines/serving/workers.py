"""Several processes that serve one port: the system deals connections out among them (SO_REUSEPORT).

Each has processors and a copy of the model of its own. One that dies is replaced; a signal to the process that has
started them ends them all, each of which answers what it has accepted; so does the end of that process.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

from cnn_keras.errors import Fault
from pipelines.engine import stop_signals

PATIENCE = 0.2  # seconds between two looks at whether to stop

Serve = Callable[..., None]  # with `say`, which hears that the server is ready; returns after a signal


class Worker:
    """A process that serves."""

    def __init__(self, serve: Serve, processors: set[int]) -> None:
        context = multiprocessing.get_context("spawn")  # a copy of TensorFlow's threads would hang
        self._said, theirs = context.Pipe(duplex=False)
        self.processors = processors
        self.process = context.Process(target=_work, args=(theirs, serve, processors), name="worker")
        self.process.start()
        theirs.close()

    def ready(self, stopped: threading.Event) -> str:
        """What it says once it is ready; empty when told to stop before.

        Raises:
            Fault: it cannot serve, and why.
        """
        while not self._said.poll(PATIENCE):
            if stopped.is_set():
                return ""
        try:
            said: str | Fault = self._said.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            raise Fault(f"a worker must be ready before it ends, got the exit code {code}") from None
        if isinstance(said, Fault):
            raise said
        return said


def run(count: int, serve: Serve, say: Callable[[str], None]) -> None:
    """Have `count` processes run `serve`, which must be picklable, until SIGTERM or Ctrl-C.

    Args:
        say: hears what the first one says when all are ready.

    Raises:
        Fault: one of them cannot serve.
    """
    stopped = threading.Event()
    with stop_signals.set_at(stopped):
        workers: list[Worker] = []
        try:
            workers += [Worker(serve, processors) for processors in shares(sorted(os.sched_getaffinity(0)), count)]
            messages = [worker.ready(stopped) for worker in workers]
            if not stopped.is_set():
                say(messages[0])
            while not stopped.is_set():
                wait([worker.process.sentinel for worker in workers], PATIENCE)
                for place, worker in enumerate(workers):
                    if not worker.process.is_alive() and not stopped.is_set():
                        say(f"a worker ended with the exit code {worker.process.exitcode}; another takes its place")
                        workers[place] = Worker(serve, worker.processors)
                        workers[place].ready(stopped)
        finally:
            for worker in workers:
                worker.process.terminate()
            for worker in workers:
                worker.process.join()


def shares(processors: list[int], count: int) -> list[set[int]]:
    """Processors for each of `count` workers, none of them without one."""
    return [set(processors[place::count]) or {processors[place % len(processors)]} for place in range(count)]


def _work(said: Connection, serve: Serve, processors: set[int]) -> None:
    """What a worker does."""
    os.setsid()  # Ctrl-C is for the process that started it, which then tells it to end
    os.sched_setaffinity(0, processors)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        serve(say=said.send)
    except Fault as fault:
        said.send(fault)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
