"""Videos, folders of images, webcams and URLs as frames, and films that are written whole or not at all."""

import numpy as np
import pytest
from PIL import Image

from cnn_keras.errors import Fault
from pipelines.data import video_io


def pictures(count, size=(48, 64)):
    return [np.full((*size, 3), 10 * number, np.uint8) for number in range(count)]


def test_the_images_of_a_folder_are_frames_in_the_order_of_their_numbers(tmp_path):
    for number, picture in enumerate(pictures(12)):
        Image.fromarray(picture).save(tmp_path / f"frame{number}.png")
    (tmp_path / ".frame0.png").write_bytes(b"hidden")
    (tmp_path / "notes.txt").write_text("none")
    stream = video_io.open_stream(str(tmp_path))
    assert (stream.length, stream.rate, stream.is_live) == (12, video_io.RATE, False)
    assert [int(frame[0, 0, 0]) for frame in stream.frames] == [10 * number for number in range(12)]
    assert stream.problems == []


def test_a_video_is_a_stream_with_its_rate_or_another(tmp_path):
    assert video_io.write(tmp_path / "a.mp4", pictures(7), rate=12.0) == 7
    stream = video_io.open_stream(str(tmp_path / "a.mp4"))
    assert (stream.rate, stream.length, stream.is_live) == (12.0, 7, False)
    assert sum(1 for _ in stream.frames) == 7
    assert video_io.open_stream(str(tmp_path / "a.mp4"), rate=5.0).rate == 5.0


def test_odd_sides_become_even(tmp_path):
    video_io.write(tmp_path / "a.mp4", pictures(3, (49, 65)), rate=12.0)
    assert {frame.shape for frame in video_io.frames(tmp_path / "a.mp4")} == {(48, 64, 3)}


def test_a_camera_that_changes_its_size_goes_on(monkeypatch):
    class Camera:
        def __init__(self, number):
            self.left = [*pictures(2), *pictures(2, (24, 32))]

        def isOpened(self):  # noqa: N802 – OpenCV's name
            return True

        def get(self, what):
            return 0.0

        def read(self):
            return (True, self.left.pop(0)) if self.left else (False, None)

        def release(self):
            self.left = None

    monkeypatch.setattr(video_io.cv2, "VideoCapture", Camera)
    stream = video_io.open_stream("0")
    assert (stream.is_live, stream.length, stream.rate) == (True, None, video_io.RATE)
    assert [frame.shape for frame in stream.frames] == [(48, 64, 3)] * 4


@pytest.mark.parametrize("name", ["nothing.mp4", "empty", "image.png", "text.mp4", "99"])
def test_what_is_no_video_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    Image.new("RGB", (9, 9)).save(tmp_path / "image.png")
    with pytest.raises(Fault, match="SOURCE"):
        video_io.open_stream(name)


def test_a_password_is_not_told():
    with pytest.raises(Fault) as caught:
        video_io.open_stream("http://me:secret@127.0.0.1:9/film")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_film_that_cannot_be_written_is_told_at_its_first_frame(tmp_path):
    def endless():
        while True:
            yield pictures(1)[0]

    with pytest.raises(Fault, match="cannot be written"):
        video_io.write(tmp_path / "nowhere" / "a.mp4", endless(), rate=12.0)


def test_a_film_that_is_cut_off_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(video_io.cv2.VideoWriter, "write", lambda writer, picture: None, raising=True)
    with pytest.raises(Fault, match="cannot be written to its end"):
        video_io.write(tmp_path / "a.mp4", pictures(3), rate=12.0)
    assert not list(tmp_path.iterdir())
