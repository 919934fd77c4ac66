"""From the folder to a warm server, and from SIGTERM to the last answer."""

import io
import json
import shutil
import signal
import socket
from contextlib import ExitStack

import httpx
import numpy as np
import psutil
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from cnn_keras.errors import Fault
from pipelines.serving import workers
from pipelines.serving.model import Model
from pipelines.serving.server import serve
from pipelines.serving.warmup import PACKED, warm_up, zeros
from tests.toy_model import export, running

IN_FLIGHT = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export(tmp_path_factory.mktemp("models") / "toy" / "1")


class Recording:
    """A model that only remembers how it was called."""

    def __init__(self, model):
        self.folder, self.signatures, self.calls = model.folder, model.signatures, []

    def __call__(self, signature, tensors):
        self.calls.append((signature, {name: tensor.tolist() for name, tensor in tensors.items()}))
        if signature == "root":
            raise ValueError("a guess that does not fit")


def connected(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def read(connection):
    """Everything until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_sigterm_loses_no_request_that_was_sent(folder):
    file = io.BytesIO()
    Image.new("1", (5000, 5000)).save(file, "PNG")  # a tenth of a second of decoding
    body = file.getvalue()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with running(folder) as (process, url), ExitStack() as stack:
        idle = stack.enter_context(connected(url))
        connections = [stack.enter_context(connected(url)) for _ in range(IN_FLIGHT)]
        for connection in connections:
            connection.sendall(head.encode() + body)
        process.send_signal(signal.SIGTERM)
        answers = [read(connection) for connection in connections]
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert all(b'"label":"dark"' in answer for answer in answers)
        assert any(b"\r\nconnection: close\r\n" in answer for answer in answers)
        assert read(idle) == b""
        assert process.wait(30) == 0
        assert process.stdout.read() == "drained without Keras\n"
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


def test_ctrl_c_ends_the_server_without_a_traceback(folder):
    with running(folder) as (process, url):
        assert httpx.get(f"{url}/healthz").is_success
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_warm_up_calls_every_signature_with_one_row_and_a_batch(folder):
    model = Recording(Model(folder))
    warm_up(model, rows=8)
    sizes = [len(next(iter(tensors.values()))) for name, tensors in model.calls if name == "serving_default"]
    assert sizes == [1, 8]
    assert {name for name, _ in model.calls} == set(model.signatures)


def test_warm_up_guesses_are_accepted_by_the_classifier(folder):
    model = Model(folder)
    for name in ("serving_default", "serving_tensor"):
        assert len(model(name, zeros(model.signatures[name]))["label"]) == 1


def test_warm_up_replays_the_requests_packed_with_the_model(folder, tmp_path):
    version = shutil.copytree(folder, tmp_path / "toy" / "1")
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = "root"
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto([9.0]))
    example = PredictionLog()
    example.classify_log.request.model_spec.signature_name = "serving_classify"
    example.classify_log.request.input.example_list.examples.add().features.feature[
        "image_bytes"
    ].bytes_list.value.append(b"?")
    (version / PACKED).parent.mkdir()
    with tf.io.TFRecordWriter(str(version / PACKED)) as writer:
        writer.write(log.SerializeToString())
        writer.write(example.SerializeToString())
    model = Recording(Model(version))
    warm_up(model, rows=2)
    assert ("root", {"x": [9.0]}) in model.calls
    ((_, tensors), *_) = [call for call in model.calls if call[0] == "serving_classify"]
    assert tf.train.Example.FromString(tensors["inputs"][0]).features.feature["image_bytes"].bytes_list.value == [b"?"]


def test_a_taken_port_is_a_fault_at_once():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(Fault, match="port must be free, got"):
        serve("nowhere", port=other.getsockname()[1])


@pytest.mark.parametrize(
    ("place", "message"),
    [({"port": 70_000}, "port must be 0 or between"), ({"host": "203.0.113.7", "port": 0}, "host must be an address")],
)
def test_an_address_that_cannot_be_had_is_a_fault(place, message):
    with pytest.raises(Fault, match=message):
        serve("nowhere", **place)


def test_a_warning_is_given_before_others_are_let_in(tmp_path):
    said = []
    with pytest.raises(Fault, match="no such folder"):
        serve(tmp_path / "absent", host="0.0.0.0", port=0, say=said.append)
    assert len(said) == 1
    assert said[0].startswith("warning: 0.0.0.0 ")


def test_metadata_survives_json(folder):
    model = Model(folder)
    assert json.loads(json.dumps(model.signature_def)).keys() >= model.signatures.keys()
    assert np.dtype("uint8") == model.signatures["serving_tensor"].inputs["image"].dtype
    assert model.signatures["serving_tensor"].inputs["image"].shape == (None, 8, 8, 1)


@pytest.mark.slow
def test_workers_share_a_port_are_replaced_and_end_in_order(folder):
    with running(folder, workers=2) as (process, url):
        children = [
            child
            for child in psutil.Process(process.pid).children()
            if any("spawn_main" in part for part in child.cmdline())
        ]
        assert len(children) == 2
        with socket.create_connection((url.split(":")[1][2:], int(url.split(":")[2]))) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        children[0].kill()
        assert "exit code -9" in process.stdout.readline()
        for _ in range(10):
            assert httpx.get(f"{url}/healthz").is_success
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not any(child.is_running() for child in children)


@pytest.mark.slow
def test_workers_that_cannot_serve_say_why(tmp_path):
    with pytest.raises(Fault, match="no such folder"):
        serve(tmp_path / "absent", port=0, workers=2)


@pytest.mark.parametrize(("count", "shares"), [(1, [{0, 2, 5}]), (2, [{0, 5}, {2}]), (4, [{0}, {2}, {5}, {0}])])
def test_processors_are_shared_among_workers(count, shares):
    assert workers.shares([0, 2, 5], count) == shares
