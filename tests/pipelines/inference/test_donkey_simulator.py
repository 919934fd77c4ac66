"""The Donkey simulator's protocol, spoken by a small simulator of our own: hands, frames, bad messages, the end."""

import base64
import contextlib
import csv
import io
import json
import socket
import threading

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.inference import donkey_simulator
from pipelines.inference.prediction import Prediction
from pipelines.inference.steering import Steering

BAD = [
    b"no json",
    b"[1, 2]",
    b'{"speed": 1}',
    b"[" * 100_000,
    b'{"msg_type": "telemetry"}',
    b'{"msg_type": "telemetry", "image": "*"}',
    b'{"msg_type": "telemetry", "image": "bm8gcGljdHVyZQ=="}',
    b'{"msg_type": "ping"}',
]
REFUSED = {
    "no JSON": 2,
    "no object with a msg_type": 2,
    "telemetry without a picture in base64": 2,
    "a picture that cannot be read": 1,
}


class Simulator(threading.Thread):
    """A server of one car: it offers scenes, is told what the car looks like, and sends a frame for each control."""

    def __init__(self, frames, *, bad=(), leaves=False):
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = self.server.getsockname()
        self.frames, self.bad, self.leaves, self.heard = frames, bad, leaves, []

    def run(self):
        with self.server:
            connection, _ = self.server.accept()
        self.connection, self.rest = connection, ""
        with connection, contextlib.suppress(OSError):  # the driver may leave
            self.send({"msg_type": "scene_selection_ready"})
            assert self.next() == {"msg_type": "get_scene_names"}
            self.send({"msg_type": "scene_names", "scene_names": ["warehouse", "generated_track"]})
            self.heard.append(self.next())
            self.send({"msg_type": "car_loaded"})
            self.heard.append(self.next())
            for line in self.bad:
                connection.sendall(line + b"\n")
                self.await_reading()
            for number, shade in enumerate(self.frames):
                self.send(telemetry(shade, number))
                self.heard.append(self.next())
            if not self.leaves:
                self.heard.append(self.next())

    def await_reading(self):
        """Messages of the same moment are read together, of which the newest frame alone is answered."""
        threading.Event().wait(0.05)

    def send(self, message):
        text = json.dumps(message).encode() + b"\n"
        self.connection.sendall(text[:20])
        self.connection.sendall(text[20:])

    def next(self):
        decoder = json.JSONDecoder()
        while True:
            try:
                message, end = decoder.raw_decode(self.rest)
            except ValueError:
                chunk = self.connection.recv(4096)
                if not chunk:
                    return None
                self.rest += chunk.decode()
            else:
                self.rest = self.rest[end:]
                return message


def telemetry(shade, number=0):
    file = io.BytesIO()
    Image.fromarray(np.full((12, 16, 3), shade, np.uint8)).save(file, "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    hit = "wall" if number in (1, 2) else "none"
    return {"msg_type": "telemetry", "image": picture, "speed": 2.5, "cte": -0.5 * number, "hit": hit}


def ask(encoded):
    """Steers by the brightness of a picture."""
    try:
        pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    except OSError as error:
        return Prediction(source=encoded, problem=str(error))
    angle = pixels.mean() / 127.5 - 1
    return Steering(source=encoded, angle=angle, low=angle, high=angle, throttle=1.5)


def driven(simulator, **options):
    simulator.start()
    console = Console(file=io.StringIO())
    summary = donkey_simulator.drive(options.pop("ask", ask), simulator.address, console, **options)
    simulator.join(10)
    return summary


def test_the_car_is_steered_by_the_pictures_and_brakes_at_the_end(tmp_path):
    simulator = Simulator([0, 255, 51], bad=BAD)
    summary = driven(simulator, steps=3, scene="generated_track", table=tmp_path / "drive.csv")
    scene, car, *controls = simulator.heard
    assert scene == {"msg_type": "load_scene", "scene_name": "generated_track"}
    assert car["msg_type"] == "car_config"
    assert all(isinstance(value, str) for control in controls for value in control.values())
    assert [float(control["steering"]) for control in controls] == pytest.approx([-1, 1, -0.6, 0])
    assert [float(control["throttle"]) for control in controls] == [1, 1, 1, 0]
    assert [float(control["brake"]) for control in controls] == [0, 0, 0, 1]
    assert (summary.frames, summary.skipped, summary.hits, summary.cte) == (3, 0, 1, 1.0)
    assert summary.refused == REFUSED
    assert summary.is_whole
    with (tmp_path / "drive.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["angle"]) for row in rows] == pytest.approx([-1, 1, -0.6])
    assert [row["hit"] for row in rows] == ["none", "wall", "wall"]


def test_without_a_scene_the_first_one_is_loaded_and_the_end_of_the_simulator_ends_the_drive():
    simulator = Simulator([10], leaves=True)
    summary = driven(simulator, steps=5, throttle=0.25)
    assert simulator.heard[0]["scene_name"] == "warehouse"
    assert float(simulator.heard[2]["throttle"]) == 0.25
    assert (summary.frames, summary.is_whole) == (1, False)


def test_of_frames_that_have_come_together_the_newest_is_answered():
    here, there = socket.socketpair()
    with here, there:
        for shade in (0, 255, 51):
            there.sendall(json.dumps(telemetry(shade)).encode() + b"\n")
        car = donkey_simulator._Car(ask, here, None, None)
        row = next(car.drive(threading.Event()))
        assert row[2] == pytest.approx(-0.6)
        assert car.skipped == 2


def test_what_does_not_go_says_why(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()
    with pytest.raises(Fault, match="must listen at"):
        donkey_simulator.drive(ask, free, Console(file=io.StringIO()), steps=1)
    with pytest.raises(Fault, match="--scene must be one of warehouse, generated_track"):
        driven(Simulator([0]), steps=1, scene="moon")

    def of_angles(encoded):
        return Steering(source=encoded, angle=0.0, low=0.0, high=0.0)

    with pytest.raises(Fault, match="--throttle must be given"):
        driven(Simulator([0]), steps=1, ask=of_angles, table=tmp_path / "drive.csv")
    assert not list(tmp_path.iterdir())


def test_a_message_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr(donkey_simulator, "LIMIT", 1000)
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"x" * 3000)
        there.close()
        car = donkey_simulator._Car(ask, here, None, None)
        assert list(car.drive(threading.Event())) == []
        assert sum(car.refused.values()) >= 1
