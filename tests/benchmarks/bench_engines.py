"""How much faster is the server without TensorFlow? Run it on a quiet machine:

    python tests/benchmarks/bench_engines.py [BUILDER …] [--side 224] [--classes 1000] [--clients 8] [--seconds 5]
        [--engines ENGINE …] [--peer PYTHON] [--json FILE]

Each network has random weights and takes JPEG files of 256×256 pixels at 224×224, or at `--side` files that are as much
larger. Its SavedModel and its other formats
are written into a temporary folder, int8 calibrated on windows of scikit-learn's two photographs, and each is served in
a process of its own, one after the other. The ratios are of one run, to the engine tensorflow. FILE holds the same
figures.

`--peer` names the Python of an environment with nvidia-pytriton, openvino and Pillow: NVIDIA's Triton server, whose
wheel has its Python backend alone, then answers by openvino-float32 too, from the bytes of the same JPEG. Up to
`--clients` requests are one call of the network. Its memory is that of all its processes, shared pages counted once.
"""

import argparse
import base64
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[2]))
BUILDERS = ("efficientnet.efficientnet_lite0", "resnet.resnet18")
ENGINES = ("litert-float32", "onnx-float32", "openvino-float32", "openvino-bfloat16", "openvino-int8")
CALIBRATION = 50  # pictures
SERVE = (
    "import sys; from pathlib import Path; from pipelines.serving.server import serve; "
    "serve(Path(sys.argv[1]), port=0, engine=sys.argv[2])"
)

TRITON = """
import io, sys
import numpy, openvino
from PIL import Image
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
file, port, side, rows = sys.argv[1], *map(int, sys.argv[2:])
network = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
def picture(data):
    return numpy.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
@batch
def answer(image):
    return [network(numpy.stack([picture(row[0]) for row in image]))[0]]
inputs = [Tensor(name="image", dtype=bytes, shape=(1,))]
outputs = [Tensor(name="probabilities", dtype=numpy.float32, shape=(-1,))]
config = ModelConfig(max_batch_size=rows, batcher=DynamicBatcher())
with Triton(config=TritonConfig(http_port=port, allow_grpc=False, allow_metrics=False)) as server:
    server.bind("network", answer, inputs, outputs, config=config)
    server.serve()
"""

WRITE = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from pathlib import Path; "
    "from tests.benchmarks.bench_engines import write; "
    "write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:])"
)


def write(builder, side, classes, folder, engines):
    """The network in every format, each in a folder by its name below `folder`."""
    import keras
    import tensorflow as tf

    from cnn_keras import models
    from cnn_keras.data.input_pipeline import Shape
    from pipelines.export import formats, runtimes, savedmodel
    from tests.benchmarks import bench_decoding

    shape, names = Shape((side, side), 3), [str(number) for number in range(classes)]
    network = models.build(builder, input_shape=(side, side, 3), classes=classes)
    image = keras.Input((side, side, 3), dtype="uint8", name="image")
    normalized = keras.layers.Normalization(mean=[120.0] * 3, variance=[3600.0] * 3)(image)
    model = keras.Model(image, network(normalized), name="network")
    savedmodel.write_classifier(model, folder / "tensorflow" / "network" / "1", shape=shape, names=names)
    convertible = formats.Convertible(
        model=model,
        answer=lambda batch: {"probabilities": savedmodel.probabilities(model, batch)},
        tensor=tf.TensorSpec((None, side, side, 3), tf.uint8, name="image"),
        about={"preprocessing": formats.image_preprocessing(shape), "outputs": {"probabilities": ""}, "classes": names},
        **dict.fromkeys(("examples", "changed", "score", "measure")),
        metric="",
    )
    facts = {
        "task": "classify",
        "name": "network",
        "version": 1,
        "input": {"shape": [None, side, side, 3], "dtype": "uint8"},
    }
    rows = [bench_decoding.by_pillow(data) for data in bench_decoding.jpegs(CALIBRATION, (side, side))]
    for engine in engines:
        target = runtimes.Target(*engine.split("-"))
        (folder / engine).mkdir()
        formats.write(convertible, folder / engine, target, np.stack(rows))
        description = {**facts, **target._asdict(), **convertible.about}
        (folder / engine / "network.json").write_text(json.dumps(description))


def picture(side):
    file, generator = io.BytesIO(), np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).resize((side * 8 // 7, side * 8 // 7))
    smooth.save(file, "JPEG", quality=90)
    return file.getvalue()


def measure(folder, engine, side, clients, seconds):
    """Requests per second, CPU milliseconds of each, p50 and p99 in milliseconds, megabytes, seconds until ready."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", SERVE, str(folder), engine]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        host, port = process.stdout.readline().strip().rsplit("/", 1)[1].split(":")
        ready = time.perf_counter() - begun
        name = json.load(urlopen(f"http://{host}:{port}/healthz"))["model"]
        body = json.dumps({"instances": [{"b64": base64.b64encode(picture(side)).decode()}]}).encode()
        head = f"POST /v1/models/{name}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        return {**asked(process, (host, int(port)), head.encode() + body, clients, seconds), "ready_seconds": ready}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def measure_triton(python, file, side, clients, seconds):
    """The same of a Triton server that calls OpenVINO."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    begun = time.perf_counter()
    command = [python, "-c", TRITON, str(file), str(address[1]), str(side), str(clients)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not is_ready(address):
            if process.poll() is not None:
                raise RuntimeError(f"{python} must have nvidia-pytriton, openvino and Pillow")
            time.sleep(0.05)
        ready, data = time.perf_counter() - begun, picture(side)
        raw = struct.pack("<I", len(data)) + data
        sizes = {"parameters": {"binary_data_size": len(raw)}}
        about = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1], **sizes}]}).encode()
        head = (
            f"POST /v2/models/network/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(about) + len(raw)}\r\n"
            f"Inference-Header-Content-Length: {len(about)}\r\n\r\n"
        )
        return {**asked(process, address, head.encode() + about + raw, clients, seconds), "ready_seconds": ready}
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def is_ready(address):
    try:
        return urlopen("http://{}:{}/v2/models/network/ready".format(*address)).status == 200
    except OSError:
        return False


def asked(process, address, request, clients, seconds):
    """What a server does for clients that ask all the time, its processes together."""
    from tests.benchmarks.bench_serving import load

    parent = psutil.Process(process.pid)
    processes = [parent, *parent.children(recursive=True)]
    load(address, request, clients, 1)  # every size of a batch has been seen
    cpu = sum(sum(one.cpu_times()[:2]) for one in processes)
    late = load(address, request, clients, seconds)
    cpu = sum(sum(one.cpu_times()[:2]) for one in processes) - cpu
    memory = sum(one.memory_full_info().pss for one in processes) if processes[1:] else parent.memory_info().rss
    return {
        "requests_per_second": len(late) / seconds,
        "cpu_ms": 1e3 * cpu / len(late),
        "p50_ms": 1e3 * late[len(late) // 2],
        "p99_ms": 1e3 * late[-1 - len(late) // 100],
        "megabytes": memory / 2**20,
    }


def main():
    from tests.benchmarks import results

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("builders", nargs="*", default=BUILDERS)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--engines", nargs="+", default=ENGINES)
    parser.add_argument("--peer", help="a Python with nvidia-pytriton, openvino and Pillow")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.peer and "openvino-float32" not in options.engines:
        parser.error("--peer answers by openvino-float32, which --engines must name")
    rows = []
    for builder in options.builders:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            command = [sys.executable, "-W", "ignore", "-c", WRITE, builder, str(options.side), str(options.classes)]
            subprocess.run([*command, folder, *options.engines], check=True)
            print(f"{builder}, {options.clients} clients")
            print("engine                requests/s        CPU ms        p50 ms  p99 ms     MB  ready s")
            servers = {"tensorflow": partial(measure, folder / "tensorflow" / "network", "tensorflow")}
            servers |= {name: partial(measure, folder / name, name.partition("-")[0]) for name in options.engines}
            if options.peer:
                network = folder / "openvino-float32" / "network.xml"
                servers["triton, openvino"] = partial(measure_triton, options.peer, network)
            for engine, server in servers.items():
                row = server(options.side, options.clients, options.seconds)
                if engine == "tensorflow":
                    first = row
                rate, cpu = (row[key] / first[key] for key in ("requests_per_second", "cpu_ms"))
                rows.append(
                    {
                        "network": builder,
                        "side": options.side,
                        "classes": options.classes,
                        "clients": options.clients,
                        "engine": engine,
                        **row,
                        "times_tensorflow": rate,
                        "times_tensorflow_cpu": 1 / cpu,
                    }
                )
                print(
                    f"{engine:18} {row['requests_per_second']:6.1f} {rate:4.2f}x {row['cpu_ms']:6.1f} {1 / cpu:4.2f}x "
                    f"{row['p50_ms']:6.0f} {row['p99_ms']:7.0f} {row['megabytes']:6.0f} {row['ready_seconds']:8.1f}"
                )
        if options.json:
            results.write(options.json, rows, by="network")


if __name__ == "__main__":
    main()
