"""A car of the Donkey simulator (sdsim), driven over its socket by a network that steers.

The protocol is that of gym-donkeycar 22: the simulator listens; messages are JSON objects with a `msg_type`, its own
end with a new line each, ours with their last brace. It offers its scenes and asks what the car is to look like; then
it sends `telemetry` with the camera's picture in base64, and is answered with `control`, whose numbers are strings.
"""

import base64
import contextlib
import csv
import json
import math
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.data.validation import progress
from pipelines.engine import stop_signals
from pipelines.inference import predict
from pipelines.inference.exported_model import newest
from pipelines.inference.prediction import Prediction
from pipelines.inference.steering import Steerer, Steering

PATIENCE = 30.0  # seconds without a message after which the simulator is given up
LIMIT = 2**23  # bytes of a message; a picture of 160×120 has about 10,000
CHUNK = 2**18  # bytes read at once
LOOKED = 0.2  # seconds between two looks at whether to stop
CAR = {"body_style": "donkey", "body_r": "128", "body_g": "128", "body_b": "128", "car_name": "cnn", "font_size": "100"}
ROW = ("frame", "time", "angle", "throttle", "speed", "cte", "hit")

Ask = Callable[[bytes], Prediction]  # an encoded picture to a `Steering`, or to what says why it cannot be read


class Summary(NamedTuple):
    """How a drive went.

    Attributes:
        frames: that were answered.
        skipped: that were not, because a newer one had already come.
        refused: messages that could not be used, by what was wrong with them.
        seconds: from the first frame to the last.
        hits: how often the car touched something.
        cte: the largest distance from the middle of the track, in the simulator's unit; None if it is not told.
        is_whole: all frames that were wanted have come.
    """

    frames: int
    skipped: int
    refused: dict[str, int]
    seconds: float
    hits: int
    cte: float | None
    is_whole: bool


def load(model: Path) -> Steerer:
    """The newest version of a network that steers.

    Raises:
        Fault: the model is none.
    """
    folder = newest(model)
    predictor = predict.predictor_of(predict.load(folder), folder, top=1)
    if not isinstance(predictor, Steerer):
        raise Fault(f"MODEL must be a network that steers, got a model that is none in {folder}")
    return predictor


def drive(
    ask: Ask,
    address: tuple[str, int],
    console: Console,
    *,
    steps: int,
    scene: str | None = None,
    throttle: float | None = None,
    table: Path | None = None,
) -> Summary:
    """Steer the car for so many frames, or until Ctrl-C, SIGTERM or the simulator's end; then it brakes.

    Args:
        scene: to load where the simulator asks; None: its first one.
        throttle: −1 to 1, in all frames; None: what the network says.
        table: a CSV file, a row for each frame.

    Raises:
        Fault: nobody listens at the address, it has no such scene, it sends nothing for `PATIENCE` seconds, or the
            network says no throttle and none is given.
    """
    stopped = threading.Event()
    with stop_signals.set_at(stopped), progress(console) as bar, ExitStack() as stack:
        task = bar.add_task("driving", total=steps)
        writer = _writer(table, stack)
        car = _Car(ask, stack.enter_context(_connected(address)), scene, throttle)
        for row in islice(car.drive(stopped), steps):
            if writer:
                writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])
            bar.advance(task)
        car.brake()
    return car.summary(steps)


class _Car:
    """A connection, and what has come through it."""

    def __init__(self, ask: Ask, connection: socket.socket, scene: str | None, throttle: float | None) -> None:
        self.ask, self.connection = ask, connection
        self.scene, self.throttle = scene, throttle
        self.frames = self.skipped = self.hits = 0
        self.refused: Counter[str] = Counter()
        self.furthest: float | None = None
        self.started = self.last = 0.0
        self.hit = "none"

    def drive(self, stopped: threading.Event) -> Iterator[tuple[Any, ...]]:
        """Answer what comes; yield a ROW for each frame that was answered."""
        for messages in self._received(stopped):
            newest = max((place for place, one in enumerate(messages) if one["msg_type"] == "telemetry"), default=-1)
            for place, message in enumerate(messages):
                if message["msg_type"] != "telemetry":
                    self._prepare(message)
                elif place < newest:
                    self.skipped += 1
                elif (row := self._steer(message)) is not None:
                    yield row

    def brake(self) -> None:
        """Stop the car, if the simulator still listens."""
        with contextlib.suppress(OSError):
            self._control(0.0, 0.0, brake=1.0)

    def summary(self, steps: int) -> Summary:
        """What `drive` returns."""
        seconds = self.last - self.started
        refused = dict(self.refused)
        return Summary(self.frames, self.skipped, refused, seconds, self.hits, self.furthest, self.frames == steps)

    def _prepare(self, message: dict[str, Any]) -> None:
        """Answer a message that comes before the drive; those that need no answer are left."""
        if message["msg_type"] == "scene_selection_ready":
            self._send({"msg_type": "get_scene_names"})
        elif message["msg_type"] == "scene_names":
            names = message.get("scene_names")
            names = [str(name) for name in names] if isinstance(names, list) else []
            if not names or self.scene not in (None, *names):
                raise Fault(f"--scene must be one of {', '.join(names) or 'the simulator, which lists none'}")
            self._send({"msg_type": "load_scene", "scene_name": self.scene or names[0]})
        elif message["msg_type"] in ("need_car_config", "car_loaded"):
            self._send({"msg_type": "car_config", **CAR})

    def _steer(self, message: dict[str, Any]) -> tuple[Any, ...] | None:
        """Answer a frame; None for one without a picture that can be read."""
        try:
            encoded = base64.b64decode(message["image"], validate=True)
        except (KeyError, TypeError, ValueError):
            self.refused["telemetry without a picture in base64"] += 1
            return None
        answer = self.ask(encoded)
        if not isinstance(answer, Steering):
            self.refused["a picture that cannot be read"] += 1
            return None
        throttle = self.throttle if self.throttle is not None else answer.throttle
        if throttle is None:
            raise Fault(
                "--throttle must be given, because the network does not say it; it was trained without data.throttle"
            )
        self._control(answer.angle, throttle)
        return self._row(answer.angle, throttle, message)

    def _row(self, angle: float, throttle: float, message: dict[str, Any]) -> tuple[Any, ...]:
        self.last = time.monotonic()
        self.started = self.started or self.last
        speed, away, hit = _number(message.get("speed")), _number(message.get("cte")), str(message.get("hit", "none"))
        if away is not None:
            self.furthest = max(abs(away), self.furthest or 0.0)
        self.hits += hit != "none" and hit != self.hit
        self.hit, self.frames = hit, self.frames + 1
        return self.frames - 1, round(self.last - self.started, 3), angle, throttle, speed, away, hit

    def _control(self, steering: float, throttle: float, brake: float = 0.0) -> None:
        numbers = {"steering": steering, "throttle": throttle, "brake": brake}
        told = {name: f"{min(max(value, -1.0), 1.0):.6f}" for name, value in numbers.items()}
        self._send({"msg_type": "control", **told})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # the next reading finds its end
            self.connection.sendall(json.dumps(message).encode())

    def _received(self, stopped: threading.Event) -> Iterator[list[dict[str, Any]]]:
        """What has come since the last time, until the simulator ends the connection or `stopped` is set."""
        rest, heard, is_open = b"", time.monotonic(), True
        while is_open and not stopped.is_set():
            if not _is_readable(self.connection, LOOKED):
                if time.monotonic() - heard > PATIENCE:
                    raise Fault(f"the simulator must send frames, and has sent nothing for {PATIENCE:.0f} s")
                continue
            while is_open and len(rest) <= LIMIT and _is_readable(self.connection, 0):
                chunk = self._chunk()
                rest, heard, is_open = rest + chunk, time.monotonic(), bool(chunk)
            *lines, rest = rest.split(b"\n")
            if len(rest) > LIMIT:
                self.refused[f"longer than {LIMIT // 2**20} MB"] += 1
                rest = b""
            yield [message for line in lines if (message := self._parsed(line)) is not None]

    def _chunk(self) -> bytes:
        """The next bytes; none at the end of the connection."""
        try:
            return self.connection.recv(CHUNK)
        except ConnectionError:
            return b""

    def _parsed(self, line: bytes) -> dict[str, Any] | None:
        if not line.strip():
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self.refused["no JSON"] += 1
            return None
        if not isinstance(message, dict) or not isinstance(message.get("msg_type"), str):
            self.refused["no object with a msg_type"] += 1
            return None
        return message


def _connected(address: tuple[str, int]) -> socket.socket:
    try:
        connection = socket.create_connection(address, timeout=PATIENCE)
    except OSError as error:
        raise Fault(
            f"a Donkey simulator must listen at {address[0]}:{address[1]}, got: {error.strerror or error}; start it, "
            "or say where with --host and --port"
        ) from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _is_readable(connection: socket.socket, seconds: float) -> bool:
    return bool(select.select([connection], [], [], seconds)[0])


def _writer(path: Path | None, stack: ExitStack) -> Any:
    """A CSV writer with its header; the file gets its name when the stack is closed. None without a path."""
    if path is None:
        return None
    temporary = stack.enter_context(durable.atomic_write(path))
    writer = csv.writer(stack.enter_context(temporary.open("w", encoding="utf-8", newline="")), lineterminator="\n")
    writer.writerow(ROW)
    return writer


def _number(value: Any) -> float | None:
    """A finite number, or None for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
