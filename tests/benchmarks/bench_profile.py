"""Where does the time of a training step go? TensorFlow's profiler, by kind of operation. Run it on a quiet machine:

    python tests/benchmarks/bench_profile.py [NETWORK ...] [--steps 5] [--json FILE]

Four networks learn random examples with the losses and optimisers of the recipes, in float32 on the CPU: ResNet-20 and
EfficientNet-Lite0 as classifiers, a U-Net with the loss of `segment`, a small YOLO with that of `detect`. After two
steps some are profiled. The time of an operation is that of the thread which runs it, less that of the operations in
it; the shares are of the sum over all of them. Beside them stands the CPU time of a step without the
profiler. FILE holds the same figures.
"""

import argparse
import collections
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks import results

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROUNDS = 5  # of steps whose CPU time is measured; the median counts
SHOWN = 8  # kinds of a network, at most
# What an operation is for, by the beginning of its type; the first that fits.
KINDS = {
    "depthwise convolution, forward": (
        "DepthwiseConv2dNative",
        "_MklNativeDepthwiseConv2dNative",
        "_FusedDepthwiseConv2dNative",
    ),
    "depthwise convolution, backward": ("DepthwiseConv2dNativeBackprop", "_MklNativeDepthwiseConv2dNativeBackprop"),
    "convolution, gradient of the input": ("Conv2DBackpropInput", "_MklNativeConv2DBackpropInput"),
    "convolution, gradient of the kernel": ("Conv2DBackpropFilter", "_MklNativeConv2DBackpropFilter"),
    "convolution, forward": ("Conv2D", "_MklNativeConv2D", "_FusedConv2D", "_MklNativeFusedConv2D"),
    "batch normalisation": ("FusedBatchNorm", "_FusedBatchNorm", "_MklNativeFusedBatchNorm", "_MklFusedBatchNorm"),
    "activation": ("Relu", "LeakyRelu", "Sigmoid", "Softplus", "Elu", "_MklNativeRelu", "_MklLeakyRelu"),
    "pooling": ("MaxPool", "AvgPool", "_MklNativeMaxPool", "_MklNativeAvgPool"),
    "resizing": ("Resize",),
    "optimiser": ("ResourceApply", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
    "softmax and losses": ("Softmax", "_MklSoftmax", "LogSoftmax", "SparseSoftmax", "Log", "Exp"),
    "sums and means": ("Sum", "Mean", "Max", "Min", "Prod", "BiasAddGrad"),
    "copies, pads and layouts": (
        "Transpose",
        "Reshape",
        "Concat",
        "Slice",
        "StridedSlice",
        "Pad",
        "Tile",
        "Gather",
        "Pack",
        "Unpack",
        "Cast",
        "Fill",
        "ZerosLike",
        "Split",
        "BroadcastTo",
        "MirrorPad",
        "_MklTranspose",
    ),
    "matrix product": ("MatMul", "_MklMatMul", "_FusedMatMul", "_MklFusedMatMul", "BatchMatMul"),
    "element by element": (
        "Add",
        "Sub",
        "Mul",
        "RealDiv",
        "Div",
        "Square",
        "Sqrt",
        "Rsqrt",
        "Maximum",
        "Minimum",
        "Select",
        "Neg",
        "Pow",
        "Greater",
        "Less",
        "Equal",
        "NotEqual",
        "Logical",
        "BiasAdd",
        "SquaredDifference",
        "Abs",
        "_FusedBinary",
        "Atan",
        "_MklAdd",
        "_MklMul",
        "_MklSub",
        "Reciprocal",
        "DivNoNan",
    ),
}


def classifier(builder, side, batch):
    """A network of the catalogue with its loss and optimiser, and one batch."""
    import keras

    from cnn_keras import models

    model = models.build(builder, input_shape=(side, side, 3), classes=10)
    generator = np.random.default_rng(0)
    pictures = generator.normal(size=(batch, side, side, 3)).astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    return model, (pictures, generator.integers(0, 10, batch))


def unet():
    """The network of `segment/nuclei-unet`."""
    import keras

    from cnn_keras import models
    from pipelines.tasks.segment import model as segment_model
    from pipelines.tasks.segment.config import Loss

    network = models.build("unet.unet_small", input_shape=(128, 128, 1), classes=2, filters=8)
    model = segment_model.trainable(network, Loss(cross_entropy=1.0, dice=1.0), pixels={"ground": 3, "nucleus": 1})
    generator = np.random.default_rng(0)
    pictures = generator.normal(size=(8, 128, 128, 1)).astype("float32")
    masks = generator.integers(1, 3, (8, 128, 128, 1)).astype("uint8")
    model.compile(keras.optimizers.Adam(2e-3))
    return model, (pictures, masks)


def yolo():
    """The network of `detect/composites-yolo_tiny`; its batch has four boxes in each picture."""
    import keras

    from cnn_keras import models
    from pipelines.tasks.detect import training

    network = models.build("yolo.yolo_small", input_shape=(160, 160, 3), classes=10)
    entry = keras.Input((160, 160, 3), dtype="uint8", name="image")
    rescaled = keras.layers.Normalization(axis=None, mean=0.0, variance=255.0**2, name="normalization")(entry)
    model = training.trainable(keras.Model(entry, network(rescaled)), "yolo.yolo_small", size=(160, 160))
    model.compile(keras.optimizers.Adam(2e-3, weight_decay=5e-4, use_ema=True, ema_momentum=0.99))
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 0.6, (16, 4, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(0.1, 0.4, (16, 4, 2))], axis=-1).astype("float32")
    truth = {"boxes": boxes, "classes": generator.integers(0, 10, (16, 4))}
    pictures = generator.integers(0, 256, (16, 160, 160, 3)).astype("uint8")
    return model, (pictures, truth)


NETWORKS = {
    "ResNet-20, 32², batch 128": lambda: classifier("resnet.resnet20", 32, 128),
    "EfficientNet-Lite0, 224², batch 16": lambda: classifier("efficientnet.efficientnet_lite0", 224, 16),
    "U-Net, 128², batch 8": unet,
    "YOLO-tiny, 160², batch 16": yolo,
}


def kind_of(operation):
    """What an operation is for; its own type where that is not known."""
    fitting = [
        (len(beginning), kind)
        for kind, beginnings in KINDS.items()
        for beginning in beginnings
        if operation.startswith(beginning)
    ]
    return max(fitting)[1] if fitting else operation


def operations(folder):
    """Seconds and number of the operations of each type in a profile: of each thread, less what runs inside."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # where TensorFlow keeps the format of its profiles

    (path,) = Path(folder).rglob("*.xplane.pb")
    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    seconds, numbers = collections.Counter(), collections.Counter()
    for plane in space.planes:
        if plane.name != "/host:CPU":
            continue
        for line in plane.lines:
            open_events = []  # (end, type) of those that the next one may be inside of
            for event in sorted(line.events, key=lambda each: (each.offset_ps, -each.duration_ps)):
                name = plane.event_metadata[event.metadata_id].name
                found = re.fullmatch(r"[^:]*:(_?[A-Z]\w*)(#.*)?", name)
                if not found:
                    continue
                end = event.offset_ps + event.duration_ps
                while open_events and open_events[-1][0] <= event.offset_ps:
                    open_events.pop()
                if open_events:
                    seconds[open_events[-1][1]] -= event.duration_ps / 1e12
                seconds[found[1]] += event.duration_ps / 1e12
                numbers[found[1]] += 1
                open_events.append((end, found[1]))
    return seconds, numbers


def rows(name, steps):
    """The figures of a network."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model, batch = NETWORKS[name]()
    batches = tf.data.Dataset.from_tensors(batch).repeat()

    def fit(count):
        started = time.process_time()
        model.fit(batches, epochs=1, steps_per_epoch=count, shuffle=False, verbose=0)
        return 1000 * (time.process_time() - started) / count

    fit(2)
    cpu = statistics.median(fit(steps) for _ in range(ROUNDS))
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        fit(steps)
        tf.profiler.experimental.stop()
        seconds, numbers = operations(folder)
    whole = sum(seconds.values())
    kinds, counts, types = collections.Counter(), collections.Counter(), collections.defaultdict(collections.Counter)
    for operation, spent in seconds.items():
        kind = kind_of(operation)
        kinds[kind] += spent
        counts[kind] += numbers[operation]
        types[kind][operation] += spent
    found = [
        {
            "network": name,
            "kind": kind,
            "share": spent / whole,
            "ms_per_step": 1000 * spent / steps,
            "operations_per_step": counts[kind] / steps,
            "types": {operation: 1000 * each / steps for operation, each in types[kind].most_common(4)},
            "cpu_ms_per_step": cpu,
        }
        for kind, spent in kinds.most_common(SHOWN)
    ]
    keras.backend.clear_session()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="the beginning of a name; all if none is given")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    chosen = [name for name in NETWORKS if name.lower().startswith(tuple(map(str.lower, arguments.networks)) or "")]
    if not chosen:
        parser.error(f"NETWORK must begin one of {'; '.join(NETWORKS)}")
    found = []
    for name in chosen:
        new = rows(name, arguments.steps)
        found += new
        print(f"{name}: {new[0]['cpu_ms_per_step']:,.0f} ms of CPU time for a step")
        for row in new:
            types = ", ".join(f"{kind} {spent:.1f}" for kind, spent in row["types"].items())
            figures = f"{row['share']:6.1%} {row['ms_per_step']:8.1f} ms {row['operations_per_step']:6.0f}×"
            print(f"  {figures} {row['kind']}: {types}")
        print(flush=True)
        if arguments.json:
            results.write(arguments.json, found, by="network")


if __name__ == "__main__":
    main()
