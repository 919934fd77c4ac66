"""A run that several hosts share: the chief runs its stages, and the others take their part in each training.

All hosts see the same folder of runs. What is prepared, evaluated and exported is the work of the chief alone, and so
is every file of the run and all that MLflow is told. The others wait for it, train on what it prepared, from the state
that it saved, in a folder that is removed again, and end when there is nothing more to train.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.engine import devices
from pipelines.engine.hosts.environment import Host
from pipelines.engine.stages import Run, Stage, partial_folder, tracked
from pipelines.engine.stages import run_stages as run_all_stages
from pipelines.engine.startup import numerics
from pipelines.tracking import tracker

# What TensorFlow makes of a host that no longer answers; anything else is an error of the training.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


def run_stages(
    host: Host, recipe: Any, last: str, *, console: Console, runs: Path, force: Sequence[str] = (), extend: int = 0
) -> None:
    """Do this host's part of the stages up to `last`; nothing may have been computed in the process before.

    Raises:
        Fault: another host was lost (code HOST), or what `stages.run_stages` raises.
    """
    place = f"host {host.rank + 1} of {len(host.addresses)}, {host.addresses[host.rank]}"
    console.print(f"[bold]{recipe.task}/{recipe.name}[/]  [dim]{place}[/]")
    shares = last != "prepare" and not recipe.untrained
    if shares:
        with connected():
            devices.join(*host, recipe.train.devices)
    if not host.is_chief:
        if shares:
            Worker(recipe, console, runs, host).assist()
        return
    run = Chief(recipe, console, runs, host) if shares else Run(recipe, console, runs)
    with tracked(run):
        run_all_stages(run, last, force=force, extend=extend)
        if isinstance(run, Chief):
            run.dismiss()


@contextmanager
def connected() -> Iterator[None]:
    """Report a host that was lost as an error that the user can fix.

    Raises:
        Fault: another host does not answer any more.
        KeyboardInterrupt: Ctrl-C while TensorFlow waits for another host, of which it makes a RuntimeError.
    """
    try:
        yield
    except LOST as error:
        what = str(error).strip().splitlines()[0].rpartition("}} ")[2]
        raise Fault(
            "another host of this training has ended or does not answer: its own messages say why. The state after the "
            f"last whole epoch is saved; start the same command on all hosts to resume. TensorFlow says: {what[:200]}",
            code=Fault.HOST,
        ) from None
    except RuntimeError as error:
        if "KeyboardInterrupt" in str(error):
            raise KeyboardInterrupt from None
        raise


class Chief(Run):
    """The run as the first host has it."""

    _dismissed = False

    def __init__(self, recipe: Any, console: Console, root: Path, host: Host) -> None:
        super().__init__(recipe, console, root)
        self._host = host

    def compute(self, stage: Stage, folder: Path, target: dict[str, Any]) -> dict[str, Any]:
        """Compute the stage together with the other hosts; see `Run.compute`."""
        if stage.name == "train":
            with connected():
                devices.from_chief(target)
                devices.from_chief()  # the others have read what is to be resumed
                self.share = self._host.rank, len(self._host.addresses)
                try:
                    return super().compute(stage, folder, target)
                finally:
                    self.share = 0, 1
        if stage.after:
            self.dismiss()
        return super().compute(stage, folder, target)

    def dismiss(self) -> None:
        """Let the others end: there is nothing more to train."""
        if not self._dismissed:
            with connected():
                devices.from_chief()
            self._dismissed = True


class Worker(Run):
    """The run as every other host has it: what it writes, and what it tells, is thrown away."""

    def __init__(self, recipe: Any, console: Console, root: Path, host: Host) -> None:
        super().__init__(recipe, console, root)
        self.share = host.rank, len(host.addresses)
        self._scratch = tempfile.TemporaryDirectory(prefix="cnn-worker-")
        self.cache = Path(self._scratch.name)
        self.tracker = tracker.Tracker(self.cache, experiment=recipe.task, name=recipe.name, delivers=False)

    def assist(self) -> None:
        """Take part in every training of the run, until the chief says that there are no more."""
        self.check()
        self.console.print("          waiting for the chief")
        with connected():
            while (target := devices.from_chief()) is not None:
                self._train(target)

    def _train(self, target: dict[str, Any]) -> None:
        begun = partial_folder(self, "train")
        if not begun.is_dir():
            raise Fault(
                f"--runs must be a folder that all hosts share, found no training of the chief in {self.folder}"
            )
        folder = self.cache / "train"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(begun, folder)
        devices.from_chief()
        with numerics():
            self.task.train(self, folder, **target)
