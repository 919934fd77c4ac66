"""How fast would a training be on many GPUs? A prediction from what one of them does and from stated bandwidths.

Every GPU computes a step on its own part of the batch; then the gradients are summed around a ring (Patarasuk and Yuan,
"Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009): each of n GPUs sends 2 (n - 1) / n of
their bytes, in 2 (n - 1) messages, over the slowest connection of the ring. Meanwhile every machine reads, decodes and
augments its part of the next batch, as `cnn_keras.data.host_share` has it. The slower of the two makes the step.

What is left out: that gradients can be sent while others are still computed, which hides some of the time; that a step
waits for the slowest GPU; and that other jobs share the network. The batch of one GPU stays the same, so the batch of
all grows with their number.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Step(NamedTuple):
    """What one GPU does."""

    batch: int  # images of a step
    seconds: float  # of a step, without waiting for input
    gradients: int  # bytes


class Cluster(NamedTuple):
    """Machines that are all alike, and what connects their GPUs."""

    gpus: int  # of a machine
    link: float  # bytes per second from GPU to GPU in a machine
    network: float  # bytes per second from machine to machine
    latency: float  # seconds that a message takes besides
    input: float  # images per second that a machine reads, decodes and augments


class Prediction(NamedTuple):
    """A step on so many GPUs. `bottleneck` is what takes longest: computation, gradients or input."""

    gpus: int
    images_per_second: float
    efficiency: float  # images per second of a GPU, as a share of what it computes alone
    computation: float  # seconds of a step
    gradients: float
    input: float
    bottleneck: str


def ring_all_reduce(size: float, members: int, *, bandwidth: float, latency: float) -> float:
    """Seconds in which `members` sum `size` bytes that each of them has; bandwidth in bytes per second."""
    return 2 * (members - 1) / members * size / bandwidth + 2 * (members - 1) * latency


def predict(step: Step, cluster: Cluster, gpus: int) -> Prediction:
    """What a step on `gpus` GPUs takes, on as few machines as hold them."""
    machines = -(-gpus // cluster.gpus)
    bandwidth = cluster.link if machines == 1 else min(cluster.link, cluster.network)
    seconds = {
        "computation": step.seconds,
        "gradients": ring_all_reduce(step.gradients, gpus, bandwidth=bandwidth, latency=cluster.latency),
        "input": min(gpus, cluster.gpus) * step.batch / cluster.input,  # of a machine that is full
    }
    total = max(seconds["computation"] + seconds["gradients"], seconds["input"])
    slowest = "input" if seconds["input"] == total else max(("computation", "gradients"), key=seconds.__getitem__)
    return Prediction(gpus, gpus * step.batch / total, step.seconds / total, **seconds, bottleneck=slowest)


def show(predictions: Sequence[Prediction], step: Step, cluster: Cluster, console: Console) -> None:
    """A table of predictions, and what they rest on."""
    table = Table(box=None, header_style="bold")
    for name in ("GPUs", "images/s", "efficiency", "computation", "gradients", "input"):
        table.add_column(name, justify="right")
    table.add_column("bottleneck")
    for one in predictions:
        milliseconds = (f"{1000 * seconds:,.1f} ms" for seconds in (one.computation, one.gradients, one.input))
        table.add_row(
            str(one.gpus), f"{one.images_per_second:,.0f}", f"{one.efficiency:.0%}", *milliseconds, one.bottleneck
        )
    console.print(table)
    console.print(
        f"{step.batch} images for each GPU; gradients of {step.gradients / 2**20:,.1f} MB; machines of {cluster.gpus} "
        f"GPUs, {cluster.link / 1e9:g} GB/s between them, {cluster.network / 1e9:g} GB/s between machines; the input "
        f"of a machine gives {cluster.input:,.0f} images/s"
    )
