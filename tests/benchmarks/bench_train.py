"""How long is a training step, against the same network with Keras's own layers? Run it on a quiet machine:

    python tests/benchmarks/bench_train.py [NETWORK ...] [--rounds 5] [--steps 2] [--xla] [--json FILE]

Four networks of the catalogue learn random pictures by `fit`, in float32 and in mixed_bfloat16, with SGD, without XLA:
as their builders make them, and as Keras makes them again of their configuration, which names its own layers only. The
four contestants of a network take turns in every round; the median round counts. CPU time is of all threads together
and hardly depends on what else the machine does; the ratios are of CPU time, to Keras in float32 and to Keras in the
same precision. With --xla our layers in float32 are compiled by XLA, too, which takes minutes. Where torch and
torchvision are installed, without triton, whose LLVM does not start beside TensorFlow's, PyTorch trains torchvision's
networks and a ResNet-20, channels last. FILE holds the same figures, beside those that it has of other networks.
"""

import argparse
import gc
import itertools
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks import results

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
NETWORKS = {  # builder: side of the pictures, and how many of them are a batch
    "resnet.resnet20": (32, 128),
    "resnet.resnet18": (224, 16),
    "mobilenet.mobilenet_v2": (224, 16),
    "efficientnet.efficientnet_lite0": (224, 16),
}
PRECISIONS = ("float32", "mixed_bfloat16")
CLASSES = 10


def compiled(model, *, xla=False):
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=xla)
    return model


def contestants(builder, side, *, xla):
    """Whose layers and which precision: the compiled network. Those of one precision begin with the same weights."""
    import keras

    from cnn_keras import models

    found = {}
    for precision in PRECISIONS:
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(precision)
        ours = models.build(builder, input_shape=(side, side, 3), classes=CLASSES)
        keras.config.set_dtype_policy("float32")
        theirs = keras.Model.from_config(ours.get_config())
        assert any(type(layer) is keras.layers.BatchNormalization for layer in theirs.layers)
        theirs.set_weights(ours.get_weights())
        found["keras", precision], found["ours", precision] = compiled(theirs), compiled(ours)
    if xla:
        found["xla", "float32"] = compiled(keras.models.clone_model(found["ours", "float32"]), xla=True)
    return found


def torch_resnet20(num_classes):
    """ResNet-20 of the CIFAR family (He et al., 2016, section 4.2) as cnn_keras builds it, in PyTorch."""
    from torch import nn
    from torchvision.models.resnet import BasicBlock, conv1x1

    def projection(filters_in, filters, stride):
        return nn.Sequential(conv1x1(filters_in, filters, stride), nn.BatchNorm2d(filters))

    blocks = [BasicBlock(16, 16) for _ in range(3)]
    for filters in (32, 64):
        blocks += [BasicBlock(filters // 2, filters, 2, projection(filters // 2, filters, 2))]
        blocks += [BasicBlock(filters, filters) for _ in range(2)]
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


class TorchNetwork:
    """A network of PyTorch that learns like Keras's: SGD with momentum, channels last, in one precision."""

    def __init__(self, build, precision):
        import torch

        self.network = build(num_classes=CLASSES).train().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.01, momentum=0.9)
        self.precision = precision

    def fit(self, batches, *, steps_per_epoch, **_):
        """Takes its steps on the first batch, as all others do."""
        import torch

        images, labels = (torch.from_numpy(part.numpy()) for part in next(iter(batches)))
        images = images.permute(0, 3, 1, 2)  # the same memory, channels last
        for _ in range(steps_per_epoch):
            self.optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "mixed_bfloat16"):
                loss = torch.nn.functional.cross_entropy(self.network(images), labels)
            loss.backward()
            self.optimizer.step()


def torch_contestants(builder):
    """The networks of PyTorch, where it is installed and has this one."""
    try:
        from torchvision import models
    except ImportError:
        return {}
    name = builder.partition(".")[2]
    build = torch_resnet20 if name == "resnet20" else getattr(models, name, None)
    return {("torch", precision): TorchNetwork(build, precision) for precision in PRECISIONS if build}


def measure(model, batches, steps):
    """Seconds of wall and of CPU time that a step takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    model.fit(batches, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
    return (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps


def rows(builder, rounds, steps, *, xla):
    """A row for each of a network's contestants."""
    import keras
    import tensorflow as tf

    side, batch = NETWORKS[builder]
    generator = np.random.default_rng(0)
    pictures = generator.normal(size=(batch, side, side, 3)).astype("float32")
    batches = tf.data.Dataset.from_tensors((pictures, generator.integers(0, CLASSES, batch))).repeat()
    found = contestants(builder, side, xla=xla) | torch_contestants(builder)
    for model in found.values():
        measure(model, batches, 2)  # traces, and allocates memory
    measured = {key: [] for key in found}
    for _, (key, model) in itertools.product(range(rounds), found.items()):
        measured[key].append(measure(model, batches, steps))
    medians = {
        key: [statistics.median(column) for column in zip(*taken, strict=True)] for key, taken in measured.items()
    }
    del found, model
    keras.backend.clear_session()
    gc.collect()
    return [
        {
            "network": builder,
            "side": side,
            "batch": batch,
            "precision": precision,
            "layers": whose,
            "images_per_second": batch / wall,
            "cpu_ms_per_step": 1000 * cpu,
            "times_keras_float32": medians["keras", "float32"][1] / cpu,
            "times_keras": medians["keras", precision][1] / cpu,
        }
        for (whose, precision), (wall, cpu) in medians.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; all, if none is named"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--xla", action="store_true", help="compile our layers by XLA, too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    unknown = set(arguments.networks) - set(NETWORKS)
    if unknown:
        parser.error(f"NETWORK must be one of {', '.join(NETWORKS)}, got {', '.join(sorted(unknown))}")
    found = []
    print(f"{'':32} {'':14} {'':6} images/s   CPU ms   × Keras float32   × Keras")
    for builder in arguments.networks or NETWORKS:
        new = rows(builder, arguments.rounds, arguments.steps, xla=arguments.xla)
        found += new
        for row in new:
            print(
                f"{builder:32} {row['precision']:14} {row['layers']:6} {row['images_per_second']:8.1f} "
                f"{row['cpu_ms_per_step']:8.0f} {row['times_keras_float32']:17.2f} {row['times_keras']:9.2f}",
                flush=True,
            )
        if arguments.json:
            results.write(arguments.json, found, by="network")


if __name__ == "__main__":
    main()
