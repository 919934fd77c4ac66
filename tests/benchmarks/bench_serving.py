"""How fast is the server, against a bare loop over the same SavedModel? Run it on a quiet machine:

    python tests/benchmarks/bench_serving.py [MODEL_FOLDER] [--seconds 5] [--clients 1 8 32] [--json FILE]

Without a folder a network of LeNet's size with random weights is exported into a temporary one. The bare loop calls
`serving_default` with one PNG at a time; the clients post the same PNG in JSON over kept-alive connections.
FILE holds the same figures.
"""

import argparse
import base64
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import psutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))
SERVE = (
    "import sys; from pathlib import Path; from pipelines.serving.server import serve; serve(Path(sys.argv[1]), port=0)"
)


def lenet():
    """uint8 images (batch, 28, 28, 1) to logits (batch, 10), in LeNet's layers; and their random weights."""
    import tensorflow as tf

    random = tf.random.Generator.from_seed(0)
    shapes = [(5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 10)]
    first, second, *dense = [tf.Variable(random.normal(shape, stddev=0.1)) for shape in shapes]

    def network(image):
        x = tf.cast(image, tf.float32) / 255
        x = tf.nn.avg_pool2d(tf.tanh(tf.nn.conv2d(x, first, 1, "SAME")), 2, 2, "SAME")
        x = tf.nn.avg_pool2d(tf.tanh(tf.nn.conv2d(x, second, 1, "VALID")), 2, 2, "SAME")
        x = tf.reshape(x, (-1, 400))
        for weights in dense[:-1]:
            x = tf.tanh(x @ weights)
        return x @ dense[-1]

    return network, (first, second, *dense)


def picture():
    import numpy as np

    from cnn_keras.data.files.image_file import encode_png

    return encode_png(np.random.default_rng(0).integers(0, 256, (28, 28, 1), np.uint8))


def bare_loop(folder):
    """A function of seconds to calls per second and CPU milliseconds per call of `serving_default`, one PNG each."""
    import tensorflow as tf

    call = tf.saved_model.load(str(folder)).signatures["serving_default"]
    data = tf.constant([picture()])

    def run(seconds):
        calls, cpu, started = 0, time.process_time(), time.perf_counter()
        while time.perf_counter() - started < seconds:
            for output in call(image_bytes=data).values():
                output.numpy()
            calls += 1
        return calls / (time.perf_counter() - started), 1e3 * (time.process_time() - cpu) / calls

    run(1)  # warm
    return run


def load(address, request, clients, seconds):
    """Latencies in seconds, in order, of `clients` connections that each send the next request after an answer."""
    selector, latencies = selectors.DefaultSelector(), []
    for _ in range(clients):
        connection = socket.create_connection(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        selector.register(connection, selectors.EVENT_READ, [time.perf_counter(), b""])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for key, _ in selector.select(0.1):
            key.data[1] += key.fileobj.recv(65536)
            head, _, body = key.data[1].partition(b"\r\n\r\n")
            if not body or not body.rstrip().endswith(b"}"):
                continue
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(key.data[1].decode())
            latencies.append(time.perf_counter() - key.data[0])
            key.data[:] = [time.perf_counter(), b""]
            key.fileobj.sendall(request)
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    return sorted(latencies)


def started(folder):
    """The server's process, its (host, port), and the seconds until it was ready."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stdout=subprocess.PIPE, text=True)
    ready = process.stdout.readline()
    host, port = ready.strip().rsplit("/", 1)[1].split(":")
    return process, (host, int(port)), time.perf_counter() - begun


def main():
    from tests.benchmarks import results

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.model
        if folder is None:
            from tests.toy_model import export

            network, weights = lenet()
            folder = Path(temporary) / "lenet" / "1"
            export(folder, network=network, weights=weights, labels=list("0123456789"), size=28, odd=False)
        rows = bench(folder, options.clients, options.seconds)
    if options.json:
        results.write(options.json, rows, by="model")


def bench(folder, clients, seconds):
    """Print a row for each number of clients, and return them."""
    process, address, start = started(folder)
    server = psutil.Process(process.pid)
    name = json.load(urlopen("http://{}:{}/healthz".format(*address)))["model"]
    body = json.dumps({"instances": [{"b64": base64.b64encode(picture()).decode()}]}).encode()
    head = f"POST /v1/models/{name}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    print(f"ready after {start:.1f} s with {megabytes(server)}")
    print("           bare loop            server")
    print("clients    calls/s  CPU ms      requests/s  CPU ms      p50 ms  p99 ms    memory")
    loop, rows = bare_loop(folder), []
    for count in clients:
        bare, bare_cpu = loop(seconds)
        cpu = sum(server.cpu_times()[:2])
        late = load(address, head.encode() + body, count, seconds)
        cpu = 1e3 * (sum(server.cpu_times()[:2]) - cpu) / len(late)
        rate, p50, p99 = len(late) / seconds, 1e3 * late[len(late) // 2], 1e3 * late[-1 - len(late) // 100]
        rows.append(
            {
                "model": name,
                "clients": count,
                "loop_calls_per_second": bare,
                "loop_cpu_ms": bare_cpu,
                "requests_per_second": rate,
                "cpu_ms": cpu,
                "p50_ms": p50,
                "p99_ms": p99,
                "megabytes": server.memory_info().rss / 2**20,
                "ready_seconds": start,
                "times_loop": rate / bare,
            }
        )
        print(
            f"{count:7} {bare:10.0f} {bare_cpu:7.2f} {rate:9.0f} {rate / bare:4.2f}x {cpu:7.2f} {cpu / bare_cpu:4.2f}x "
            f"{p50:9.1f} {p99:7.1f}   {megabytes(server)}"
        )
    process.send_signal(signal.SIGTERM)
    print(f"stopped with exit code {process.wait(30)}")
    return rows


def megabytes(process):
    return f"{process.memory_info().rss / 2**20:.0f} MB"


if __name__ == "__main__":
    main()
