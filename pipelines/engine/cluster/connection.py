"""A Ray cluster for as long as a command runs: one that exists already, or an engine of this machine's own.

Ray is an optional package, and only this folder imports it. What a node is asked to do runs in this process's working
folder, so that relative paths mean the same there.
"""

import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cnn_keras import plugins
from cnn_keras.errors import Fault
from pipelines.engine.startup import quiet_environment

LOCAL = "ray"  # the address that starts an engine
LOOPBACK = "127.0.0.1"
CHUNK = 32  # items of a task, which should last longer than sending it
AHEAD = 2  # tasks for each processor: one that runs and one that waits
RETRIES = 3  # of a task whose process or node was lost
PATIENCE = 10  # seconds in which an address must answer
STORE_BYTES = 2**29  # of results that wait, in shared memory; Ray puts more of them on the disk
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class Workplace(NamedTuple):
    """Where a node works: this process's folder, and its settings of MLflow."""

    folder: str
    environment: dict[str, str]

    @classmethod
    def here(cls) -> "Workplace":
        """That of this process."""
        environment = {key: value for key, value in os.environ.items() if key.startswith("MLFLOW_")}
        return cls(str(Path.cwd()), environment)

    def enter(self) -> None:
        """Make it the place of the process that calls this.

        Raises:
            Fault: the node does not have the folder.
        """
        quiet_environment()
        os.environ.update(self.environment)
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise Fault(
                f"the working folder must be one that all nodes of the cluster share, got {self.folder}: "
                f"{error.strerror}",
                code=Fault.STORAGE,
            ) from None


class Cluster:
    """What a connected cluster does for a command."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.workplace = Workplace.here()

    @property
    def processors(self) -> int:
        """Of all nodes that it has now."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def share(self, count: int) -> dict[str, float]:
        """What each of so many processes can have: processors, of one node, and GPUs if there are any."""
        whole = self.ray.cluster_resources()
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        largest = {kind: max(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")}
        share = {kind: min(whole.get(kind, 0) / count, most) for kind, most in largest.items() if most}
        return {kind: int(part) if part >= 1 else part for kind, part in share.items()}

    def map(self, function: Callable[[Any], Any], items: Sequence[Any], *, chunk: int = CHUNK) -> Iterator[Any]:
        """As the built-in `map`: results in the order of the items, each of them once.

        Some items make a task. The tasks of a process or node that was lost are done again. No more than AHEAD tasks
        for each processor are sent before the results of the first are asked for.

        Raises:
            Fault: a task was lost more than RETRIES times (code HOST), or what `function` raises.
        """
        task = self.ray.remote(max_retries=RETRIES)(_apply)
        for file in (module for module in plugins.READ if module.endswith(".py")):  # no node can import its name
            self.ray.cloudpickle.register_pickle_by_value(sys.modules[file])
        left, shared, pending = iter(items), self.ray.put(function), deque[Any]()
        while batch := list(islice(left, chunk)):
            pending.append(task.remote(self.workplace, shared, batch))
            if len(pending) >= AHEAD * self.processors:
                yield from self.result(pending.popleft())
        while pending:
            yield from self.result(pending.popleft())

    def side_by_side(self, most: int = 0) -> Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]:
        """`as_completed` with so many tasks at a time, each with its share of the cluster.

        Args:
            most: 0 takes one for each GPU, or for each processor where there are none.
        """
        whole = self.ray.cluster_resources()
        most = most or int(whole.get("GPU", 0)) or self.processors
        share = self.share(most)
        resources: dict[str, Any] = {"num_cpus": share.get("CPU", 0), "num_gpus": share.get("GPU", 0)}
        return partial(self.as_completed, most=most, runtime_env=own_process(share), **resources)

    def as_completed(
        self, function: Callable[[Any], Any], items: Iterable[Any], *, most: int, **resources: Any
    ) -> Iterator[Any]:
        """The result of a task for each item as it comes, `most` at a time; an item is drawn when there is room.

        Raises:
            Fault: as `map`.
        """
        task = self.ray.remote(max_retries=RETRIES, **resources)(_apply)
        left, running = iter(items), list[Any]()
        while True:
            running += [task.remote(self.workplace, function, [item]) for item in islice(left, most - len(running))]
            if not running:
                return
            (done,), running = self.ray.wait(running)
            yield from self.result(done)

    def result(self, reference: Any) -> Any:
        """What a task returned.

        Raises:
            Fault: it was lost (code HOST), or what the task raised.
        """
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self.ray.exceptions.RayError as error:
            what = str(error).strip().splitlines()[0]
            raise Fault(
                f"a process or a node of the cluster was lost. What is whole is saved; start the same command again to "
                f"go on. Ray says: {what[:200]}",
                code=Fault.HOST,
            ) from None


def own_process(share: dict[str, float]) -> dict[str, Any]:
    """The environment that makes Ray start a process, and TensorFlow use no more than its processors there."""
    return {"env_vars": {"TF_NUM_INTRAOP_THREADS": str(max(1, int(share.get("CPU", 1))))}}


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """The cluster at an address, as Ray writes them, `ray://host:10001`, `host:6379` or `auto`; LOCAL starts one here.

    Raises:
        Fault: Ray is not installed, or nothing answers at the address.
    """
    os.environ.update(QUIET)  # before Ray is imported, which reads them then
    if address == LOCAL:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    ray = _import_ray()
    connect = _start_engine if address == LOCAL else partial(_join, address)
    with connect(ray):
        yield Cluster(ray)


def _import_ray() -> Any:
    try:
        import ray.util.queue  # optional
    except ImportError:
        raise Fault("--on requires Ray, which is not installed; `pip install 'cnn-keras[cluster]'`") from None
    return ray


@contextmanager
def _start_engine(ray: Any) -> Iterator[None]:
    """An engine with the processors of this machine, which ends with this process and talks on loopback alone."""
    # On Linux Ray takes another address of the machine for "localhost", and listens on all; the test of its sockets
    # fails if this seam moves.
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    folder = tempfile.mkdtemp(prefix="cnn-ray-")
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address=LOOPBACK,
            _temp_dir=folder,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _join(address: str, ray: Any) -> Iterator[None]:
    try:
        if address != "auto":  # Ray itself would try for minutes
            place = urlsplit(address if "//" in address else f"//{address}")
            socket.create_connection((place.hostname or "", place.port or 0), timeout=PATIENCE).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise Fault(
            f"--on must be {LOCAL}, auto or the address of a Ray cluster that answers, such as ray://host:10001, got "
            f"{address}: {str(error).strip().splitlines()[0][:200]}"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _apply(workplace: Workplace, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """A task: the results of some items."""
    workplace.enter()
    return [function(item) for item in items]
