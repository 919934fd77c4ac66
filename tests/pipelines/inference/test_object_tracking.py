"""`cnn track`: films of coloured things whose paths are known, asked about by a detector that is always right."""

import csv
import json
import os
import signal
import weakref

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnn_keras.errors import Fault
from cnn_keras.ops.byte_track import ByteTrack
from cnn_keras.ops.counting import LineCounter
from pipelines.data import video_io
from pipelines.inference import object_tracking
from pipelines.inference.frames import FRAMES
from tests import colour_detector
from tests.colour_detector import COLOURS
from tests.conftest import cnn

HEIGHT, WIDTH, LENGTH = 120, 161, 80  # an odd width
DOOR = "door=80,0,80,120"  # downwards: "in" is from right to left
YARD = "yard=100,0,161,0,161,120,100,120"
PATHS = {  # by film and colour: x and y of the centre at the beginning, in the middle and at the end
    "ahead": {"red": ((20, 30), (80, 30), (140, 30)), "blue": ((140, 90), (80, 90), (20, 90))},
    "turning": {"red": ((20, 30), (140, 30), (20, 40)), "green": ((140, 90), (110, 60), (140, 90))},
    "beside": {"green": ((20, 20), (70, 60), (20, 100)), "blue": ((150, 60), (90, 60), (150, 60))},
}
COUNTS = {  # crossings of the door, and visitors of the yard
    "ahead": ({"red": {"in": 0, "out": 1}, "blue": {"in": 1, "out": 0}}, {"red": 1, "blue": 1}),
    "turning": ({"red": {"in": 1, "out": 1}}, {"red": 1, "green": 1}),
    "beside": ({}, {"blue": 1}),
}


def frames(name, length=LENGTH):
    """The pictures of a film."""
    ground = np.random.default_rng(0).integers(110, 140, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for time in np.linspace(0, 2, length):
        picture, part = ground.copy(), min(int(time), 1)
        for colour, path in PATHS[name].items():
            x, y = np.round(np.array(path[part]) + (time - part) * np.subtract(path[part + 1], path[part])).astype(int)
            picture[y - 8 : y + 8, x - 10 : x + 10] = COLOURS[colour]
        yield picture


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    colour_detector.write(folder / "1")
    return folder


def write(folder, name):
    """A folder of PNG files."""
    folder.mkdir()
    for number, picture in enumerate(frames(name)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", PATHS)
def test_the_counts_of_a_film_are_exact(model, tmp_path, capsys, name):
    film, table, mot, events = (tmp_path / end for end in ("a.mp4", "a.csv", "a.txt", "e.csv"))
    files = ("--out", film, "--csv", table, "--mot", mot, "--events", events)
    source = write(tmp_path / "film", name)
    assert cnn("track", model, source, *files, "--line", DOOR, "--zone", YARD, "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    crossed, visited = COUNTS[name]
    assert counts["objects"] == dict.fromkeys(sorted(PATHS[name], key=list(COLOURS).index), 1)
    assert (counts["lines"], counts["zones"]["yard"]["visitors"]) == ({"door": crossed}, visited)
    happened = [row for row in rows_of(events) if row["place"] == "door"]
    assert len(happened) == sum(sum(ways.values()) for ways in crossed.values())
    rows = rows_of(table)
    assert len(rows) == LENGTH * len(PATHS[name])
    assert {(row["label"], row["id"]) for row in rows} == {
        (label, str(number)) for number, label in enumerate(counts["objects"], 1)
    }
    assert float(rows[-1]["time"]) == pytest.approx((LENGTH - 1) / video_io.RATE, abs=1e-3)
    for row, line in zip(rows, mot.read_text().splitlines(), strict=True):  # the same, counted from 1
        frame, number, left, top, width, height, *_, end = map(float, line.split(","))
        assert (frame, number, end) == (int(row["frame"]) + 1, int(row["id"]), -1)
        edges = [float(row[edge]) for edge in ("left", "top", "right", "bottom")]
        np.testing.assert_allclose([left - 1, top - 1, left - 1 + width, top - 1 + height], edges, atol=0.06)
    assert sum(1 for _ in video_io.frames(film)) == LENGTH


def test_a_box_is_where_the_thing_is_in_every_frame_of_a_video(model, tmp_path):
    video, table = tmp_path / "ahead.mp4", tmp_path / "a.csv"
    video_io.write(video, frames("ahead"), rate=10.0)
    assert cnn("track", model, video, "--csv", table) == 0
    red = [row for row in rows_of(table) if row["label"] == "red"]
    middles = [(float(row["left"]) + float(row["right"])) / 2 for row in red]
    np.testing.assert_allclose(middles, np.linspace(20, 140, LENGTH), atol=2)
    assert float(red[-1]["time"]) == pytest.approx((LENGTH - 1) / 10, abs=1e-3)


def test_images_that_cannot_be_read_are_black_frames_and_reported(model, tmp_path, capsys):
    source, table, film = write(tmp_path / "film", "ahead"), tmp_path / "a.csv", tmp_path / "a.mp4"
    (source / "0.png").write_bytes(b"broken")
    Image.new("RGB", (8, 8)).save(source / "20.png")
    assert cnn("track", model, source, "--csv", table, "--out", film) == 0
    told = capsys.readouterr().out
    assert f"2 of {LENGTH} frames could not be used" in told
    assert {int(row["frame"]) for row in rows_of(table)} == {*range(2, LENGTH)} - {
        20
    }  # reported from the second box on
    assert {row["id"] for row in rows_of(table)} == {"1", "2"}
    assert next(video_io.frames(film)).mean() < 5


def test_ctrl_c_leaves_a_film_that_plays(model, tmp_path, monkeypatch, capsys):
    def interrupted():
        for number, picture in enumerate(frames("ahead", 400)):
            if number == 20:
                os.kill(os.getpid(), signal.SIGINT)
            yield picture

    stream = video_io.Stream("film", interrupted(), 25.0, 400, False, [])
    monkeypatch.setattr(video_io, "open_stream", lambda source, rate: stream)
    film, table = tmp_path / "a.mp4", tmp_path / "a.csv"
    assert cnn("track", model, "film", "--out", film, "--csv", table) == 130
    assert "interrupted" in capsys.readouterr().out
    length = sum(1 for _ in video_io.frames(film))
    assert 0 < length <= 21
    assert int(rows_of(table)[-1]["frame"]) == length - 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.mp4"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--line", "0,0,500,0"), "line 1 must be in the frames, 160×120 pixels"),
        (("--zone", "a=0,0,5,5,-1,9"), "a must be in the frames"),
        (("--line", "1,2,3"), "--line must be four numbers"),
        (("--line", "1,2,3,nan"), "--line must be four numbers"),
        (("--zone", "1,2,3,4"), "--zone must be x and y of at least three points"),
        (("--line", "a=1,2,3,4", "--line", "a=1,2,3,5"), "different names"),
        (("--line", "a=1,2,3,4", "--zone", "a=1,2,3,4,5,9"), "different names"),
        (("--anchor", "top"), "anchor must be center or bottom"),
        (("--high", "0.9"), "low, high and new must be"),
        (("--csv", "nowhere/a.csv"), "--csv must be in a folder that exists"),
    ],
)
def test_what_is_wrong_is_told_and_no_file_is_left(model, tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    video_io.write(tmp_path / "film.mp4", frames("ahead", 4), rate=10.0)
    line = () if "--line" in arguments else ("--line", "9,9,99,99")
    assert cnn("track", model, "film.mp4", "--out", "a.mp4", *line, *arguments) == Fault.INPUT
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_an_exception_within_a_film_leaves_no_file(model, tmp_path):
    def broken():
        yield from frames("ahead", 20)
        raise Fault("enough")

    outputs = object_tracking.Outputs(*(tmp_path / name for name in ("a.mp4", "a.csv", "a.txt", "e.csv")))
    with pytest.raises(Fault, match="enough"):
        follow(model, broken(), outputs)
    assert not list(tmp_path.iterdir())


def follow(model, pictures, outputs, **stream):
    tracking = object_tracking.Tracking(ByteTrack(), lines={"door": LineCounter([[80, 0], [80, 120]])}, zones={})
    source = video_io.Stream("film", pictures, 25.0, None, stream.get("is_live", False), [])
    return object_tracking.track(object_tracking.load(model), source, tracking, outputs, Console(quiet=True))


def test_few_frames_are_in_memory_at_a_time(model, tmp_path):
    alive, most = weakref.WeakSet(), 0

    class Picture(np.ndarray):
        """An array that can be counted."""

        __hash__ = object.__hash__

    def counted():
        nonlocal most
        for picture in frames("ahead", 10 * FRAMES):
            most = max(most, len(alive))
            own = picture.view(Picture)
            alive.add(own)
            yield own

    follow(model, counted(), object_tracking.Outputs(tmp_path / "a.mp4", tmp_path / "a.csv"))
    assert FRAMES - 1 <= most <= 2 * FRAMES


def test_the_film_of_a_slow_camera_keeps_the_time(model, tmp_path, monkeypatch):
    """A frame each 0.2 s, at 25 frames per second, is shown five times."""
    clock = iter(np.arange(0, 100, 0.2))
    monkeypatch.setattr(object_tracking.time, "monotonic", lambda: next(clock))
    follow(model, frames("ahead", 10), object_tracking.Outputs(tmp_path / "a.mp4"), is_live=True)
    assert sum(1 for _ in video_io.frames(tmp_path / "a.mp4")) == pytest.approx(50, abs=5)


def test_a_model_that_is_no_detector_is_refused(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.answer = tf.function(lambda image_bytes: {"painted": tf.zeros(1)}, [tf.TensorSpec(None, tf.string)])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.answer})
    with pytest.raises(Fault, match="MODEL must be"):
        object_tracking.load(tmp_path)
