"""Which hosts share a training: what the environment says of them, by TF_CONFIG or by SLURM.

TF_CONFIG is TensorFlow's own variable, which Kubeflow, Vertex AI and SageMaker set in each process. Under SLURM a step
of several tasks, as `srun` starts it, is read by TensorFlow's resolver. One host alone is as none.
"""

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from cnn_keras.errors import Fault

KINDS = ("chief", "master", "worker")  # of TF_CONFIG's processes that train, the chief first
PORT = 8888  # under SLURM, of the first task of a node


class Host(NamedTuple):
    """One of the hosts that share a training; the first is the chief, which alone writes the run."""

    addresses: tuple[str, ...]  # host:port of each
    rank: int  # of this one, from 0

    @property
    def is_chief(self) -> bool:
        return self.rank == 0


def host(environment: Mapping[str, str] = os.environ) -> Host | None:
    """This host among those that share a training; None where it is alone.

    Raises:
        Fault: TF_CONFIG or SLURM's variables do not say who is who.
    """
    this = None
    if "TF_CONFIG" in environment:
        this = _of_tf_config(environment["TF_CONFIG"])
    elif int(environment.get("SLURM_STEP_NUM_TASKS") or 1) > 1:
        this = _of_slurm(int(environment["SLURM_STEP_NUM_TASKS"]))
    return this if this and len(this.addresses) > 1 else None


def check_number(wanted: int, host: Host | None) -> None:
    """Raise a Fault unless there are as many hosts as `--hosts` wants; 0 takes any number."""
    number = len(host.addresses) if host else 1
    if wanted not in (0, number):
        raise Fault(
            f"--hosts must be the number of hosts that TF_CONFIG or SLURM names, {number}, got {wanted}; --local "
            "starts so many on this machine"
        )


def tf_config(host: Host) -> str:
    """The variable TF_CONFIG of a host."""
    task = {"type": "worker", "index": host.rank}
    return json.dumps({"cluster": {"worker": list(host.addresses)}, "task": task})


def _of_tf_config(text: str) -> Host | None:
    try:
        given = json.loads(text or "{}")
        cluster, task = given.get("cluster", {}), given.get("task", {})
        places = [(kind, index) for kind in KINDS for index in range(len(cluster.get(kind, ())))]
        if len(places) < 2:
            return None
        addresses = tuple(str(cluster[kind][index]) for kind, index in places)
        return Host(addresses, places.index((task["type"], int(task["index"]))))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Fault(
            'TF_CONFIG must be JSON such as {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", '
            f'"index": 0}}}}, with a task that is one of its chiefs and workers, got {text[:300]}'
        ) from None


def _of_slurm(tasks: int) -> Host:
    import tensorflow as tf  # start-up: only under SLURM

    try:
        # Without GPUs its sums divide by zero: one for each task is a way to tell it nothing of them.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=PORT, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = resolver.cluster_spec().job_tasks("worker")
        return Host(tuple(addresses), resolver.get_task_info()[1])
    except (RuntimeError, ValueError) as error:
        raise Fault(f"SLURM must say which nodes a step has, got: {error}") from None
