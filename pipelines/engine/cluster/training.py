"""A training whose hosts are processes on the nodes of a Ray cluster; all of them see the same folder of runs."""

import socket
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import TextIOBase
from typing import Any

from rich.console import Console
from rich.text import Text

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine import stages, startup
from pipelines.engine.cluster.connection import Cluster, Workplace, own_process
from pipelines.engine.hosts.environment import Host

PATIENCE = 10  # seconds in which a host must end when another has failed: its state is on the disk


def run_stages(
    cluster: Cluster,
    run: stages.Run,
    last: str,
    count: int,
    *,
    reference: str,
    overrides: Sequence[str],
    force: Sequence[str],
    **options: Any,
) -> None:
    """Prepare the data of a run, then do the stages up to `last` on so many hosts, their lines behind `host 1 │`.

    Args:
        reference: the recipe, and `overrides` of its settings, by which the hosts open the run.
        options: `runs` and `extend`.

    Raises:
        Fault: a host was lost (code HOST), or what the first host that failed raised.
    """
    ray, share = cluster.ray, cluster.share(count)
    if not all(part >= 1 for part in share.values()):
        raise Fault(f"--hosts must be at most the number of processors, and of GPUs, of the cluster, got {count}")
    with stages.tracked(run):
        stages.run_stages(run, "prepare", force=force)
    options["force"] = [stage for stage in force if stage != "prepare"]
    lines = ray.util.queue.Queue(actor_options={"num_cpus": 0})
    group = ray.util.placement_group([share] * count, strategy="SPREAD")
    processes = [
        ray.remote(Process).options(**_place(ray, group, rank, share)).remote(cluster.workplace)
        for rank in range(count)
    ]
    addresses = tuple(cluster.result([process.address.remote() for process in processes]))
    running = [
        process.run.remote(Host(addresses, rank), lines, reference, last, list(overrides), options)
        for rank, process in enumerate(processes)
    ]
    try:
        while running:
            done, running = ray.wait(running, timeout=0.2)
            _show(lines, run.console)
            for ended in done:
                cluster.result(ended)
    except Fault:
        ray.wait(running, num_returns=len(running), timeout=PATIENCE) if running else None
        raise
    finally:
        _show(lines, run.console)
        for process in processes:
            ray.kill(process)
        ray.util.remove_placement_group(group)


class Process:
    """A host's process, an actor: nothing has been computed in it before."""

    def __init__(self, workplace: Workplace) -> None:
        workplace.enter()

    def address(self) -> str:
        """host:port by which the others reach this one, of a port that nobody uses now."""
        import ray  # optional

        host = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind((host, 0))
            return f"{host}:{free.getsockname()[1]}"

    def run(
        self, host: Host, lines: Any, reference: str, last: str, overrides: list[str], options: dict[str, Any]
    ) -> None:
        """Do this host's part of the stages up to `last`."""
        with redirect_stdout(Lines(lines, host.rank)):
            console = startup.console_for()
            recipe = recipes.load(reference, overrides)
            if len(host.addresses) == 1:
                run = stages.Run(recipe, console, options.pop("runs"))
                with stages.tracked(run):
                    stages.run_stages(run, last, **options)
                return
            startup.load_tensorflow(console)
            from pipelines.engine.hosts import shared_run  # start-up: TensorFlow

            shared_run.run_stages(host, recipe, last, console=console, **options)


class Lines(TextIOBase):
    """A file whose lines are put into a queue of Ray's, with the number of the host."""

    def __init__(self, queue: Any, rank: int) -> None:
        self._queue, self._rank, self._begun = queue, rank, ""

    def write(self, text: str) -> int:
        """Keep what is no whole line yet."""
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._queue.put((self._rank, line))
        return len(text)


def _place(ray: Any, group: Any, rank: int, share: dict[str, float]) -> dict[str, Any]:
    """The options of an actor that takes a part of a group."""
    return {
        "num_cpus": share["CPU"],
        "num_gpus": share.get("GPU", 0),
        "scheduling_strategy": ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group, rank),
        "runtime_env": own_process(share),
    }


def _show(lines: Any, console: Console) -> None:
    for rank, line in lines.get_nowait_batch(lines.qsize()):
        console.print(Text(f"host {rank + 1} │ ", style="dim").append(line, style="not dim"))
