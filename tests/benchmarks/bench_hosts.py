"""Do two hosts of one core train as fast as one of two cores, and as fast as predicted? Run it on a quiet machine:

    python tests/benchmarks/bench_hosts.py [--network resnet.resnet20] [--steps 20] [--batch 128] [--json FILE]

A network learns random pictures of 32×32, mirrored and turned, on two processes of one core each, connected by
loopback, and then on one process of two cores. The first two steps, which compile, are not counted. `speedup` is the
ratio of images per second, two hosts to one; `cpu` is that of images per second of CPU time, of all processes together,
which hardly depends on what else the machine does. `input` is the CPU time of the hosts' input alone, as a share of all
their CPU time: each of them mirrors and turns its half of a batch. FILE holds the same figures.

What `cnn bench scaling` would predict of the two hosts is computed from a third process, of one core with half of the
batch, and from what the hosts take to sum 16 MB and 4 bytes. It is compared with what their steps took. All of this is
CPU time, which is what a step takes on a core that does nothing else.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parents[2]
WARM = 2  # steps
SUMMED = 2**22  # float32 values


def batches(size, share):
    import tensorflow as tf

    from cnn_keras.data import host_share
    from cnn_keras.data.transforms import augment

    generator = np.random.default_rng(0)
    pictures, labels = generator.integers(0, 256, (size, 32, 32, 3), np.uint8), generator.integers(0, 10, size)
    moved = augment.compose(["mirror", {"affine": {"rotate": 10}}])

    def one(row):
        seed = tf.stack([0, tf.cast(row, tf.int32)])
        picture = moved({"image": tf.gather(pictures, row % size)}, seed)["image"]
        return tf.cast(picture, tf.float32) / 255, tf.gather(labels, row % size)

    def work(rows, size):
        return rows.map(one, num_parallel_calls=tf.data.AUTOTUNE).batch(size, drop_remainder=True)

    rows = tf.data.Dataset.range(2**31)
    return host_share.batches(rows, work, share=share, count=2**31, batch_size=size).prefetch(2)


def measure(network, steps, size):
    """Seconds of wall and of CPU time of these steps, and of CPU time of their input alone."""
    import keras

    from cnn_keras import models
    from pipelines.engine import devices
    from pipelines.engine.hosts import environment
    from pipelines.engine.recipe import Train
    from pipelines.engine.training import trainer

    if host := environment.host():
        devices.join(*host, "auto")
    settings = Train(batch_size=size, optimizer="sgd")
    trainer.set_up(0, settings)
    model = models.build(network, input_shape=(32, 32, 3), classes=10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile_model(model, settings, loss=loss, metrics=[], steps=steps)
    stream = batches(size, (host.rank, len(host.addresses)) if host else (0, 1))
    model.fit(stream, epochs=1, steps_per_epoch=WARM, shuffle=False, verbose=0)
    wall, cpu = time.perf_counter(), time.process_time()
    model.fit(stream, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    alone = time.process_time()
    for _ in stream.take(steps):
        pass
    found = {"wall": wall, "cpu": cpu, "input": time.process_time() - alone}
    found["gradients"] = 4 * sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return found | ({"large": summed(devices._hosts, SUMMED), "small": summed(devices._hosts, 1)} if host else {})


def summed(strategy, length):
    """Seconds of CPU time in which this host and the others sum so many float32 values."""
    import tensorflow as tf

    values = tf.ones(length)

    @tf.function(autograph=False)
    def run():
        return strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", values)[0])

    for number in range(WARM + 20):
        if number == WARM:
            begun = time.process_time()
        run().numpy()
    return (time.process_time() - begun) / 20


def started(cores, arguments, batch, host=None):
    from pipelines.engine.hosts import environment

    variables = {**os.environ, **({"TF_CONFIG": environment.tf_config(host)} if host else {})}
    command = [sys.executable, "-m", "tests.benchmarks.bench_hosts", "--cores", *map(str, cores)]
    command += ["--network", arguments.network, "--steps", str(arguments.steps), "--batch", str(batch)]
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)


def answers(processes):
    lines = [process.communicate()[0].splitlines() for process in processes]
    assert not any(process.returncode for process in processes), "a process failed"
    return [json.loads(each[-1]) for each in lines]


def addresses():
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in (one, two))


def compare(arguments):
    from pipelines.engine.hosts.environment import Host

    cores = sorted(os.sched_getaffinity(0))[:2]
    places = addresses()
    two = answers([started([core], arguments, arguments.batch, Host(places, rank)) for rank, core in enumerate(cores)])
    (one,) = answers([started(cores, arguments, arguments.batch)])
    (half,) = answers([started(cores[:1], arguments, arguments.batch // 2)])
    images, wall = arguments.steps * arguments.batch, max(each["wall"] for each in two)
    cpu = sum(each["cpu"] for each in two)
    return {
        "one": {"images_per_second": images / one["wall"], "images_per_cpu_second": images / one["cpu"]},
        "two": {"images_per_second": images / wall, "images_per_cpu_second": images / cpu},
        "speedup": one["wall"] / wall,
        "cpu": one["cpu"] / cpu,
        "input": sum(each["input"] for each in two) / cpu,
        "prediction": prediction(half, two, arguments.batch, arguments.steps),
    }


def prediction(half, two, batch, steps):
    """Seconds of CPU time of a step of two hosts, each on one core, as it is predicted and as it is."""
    from pipelines.analysis import scaling

    small, large = (max(each[size] for each in two) for size in ("small", "large"))
    latency, bandwidth = small / 2, 4 * SUMMED / (large - small)  # of a ring of two: two messages, all bytes once
    # A core computes and prepares the input: both are in what a step takes.
    step = scaling.Step(batch // 2, half["cpu"] / steps, half["gradients"])
    cluster = scaling.Cluster(gpus=1, link=bandwidth, network=bandwidth, latency=latency, input=float("inf"))
    found = scaling.predict(step, cluster, 2)
    return {
        "computation": found.computation,
        "gradients": found.gradients,
        "predicted": batch / found.images_per_second,
        "measured": max(each["cpu"] for each in two) / steps,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet.resnet20", help="a builder of the catalogue")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cores", type=int, nargs="+", help=argparse.SUPPRESS)  # of a process that measures
    arguments = parser.parse_args()
    if arguments.cores:
        os.sched_setaffinity(0, arguments.cores)
        return print(json.dumps(measure(arguments.network, arguments.steps, arguments.batch)))
    sys.path.insert(0, str(ROOT))
    found = compare(arguments)
    for name in ("one", "two"):
        speed = ", ".join(f"{value:,.1f} {key}" for key, value in found[name].items())
        print(f"{name:>4} host{'s' if name == 'two' else ''}: {speed}")
    print(f"speedup {found['speedup']:.2f}, by CPU time {found['cpu']:.2f}; input {found['input']:.1%} of the CPU time")
    print("a step of two hosts: " + ", ".join(f"{1000 * s:.1f} ms {key}" for key, s in found["prediction"].items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
