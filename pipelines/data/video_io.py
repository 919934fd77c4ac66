"""Videos, frame by frame, by OpenCV: what a detector is asked about, and pictures of what it answered."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from cnn_keras.data.files import durable
from cnn_keras.data.files.file_tree import HIDDEN, IMAGE_SUFFIXES, natural
from cnn_keras.errors import Fault, Unreadable
from pipelines.data import image_io

Array = np.ndarray[Any, np.dtype[Any]]

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
RATE = 25.0  # frames per second of a video that does not say
PATIENCE = 10_000  # milliseconds that a stream may take to be opened, or to send a frame


class Facts(NamedTuple):
    """What a video says of itself; there may be fewer frames than it says."""

    rate: float  # frames per second
    frames: int


class Stream(NamedTuple):
    """Frames from anywhere, to be read once."""

    name: str  # without a password
    frames: Iterator[Array]  # uint8 (height, width, 3), RGB, all of one size
    rate: float  # frames per second
    length: int | None  # frames, if that is known
    is_live: bool  # a camera's: it has no end, and the frames come when they come
    problems: list[str]  # frames that could not be read, and are black; it grows while they are read


def open_stream(source: str, *, rate: float | None = None) -> Stream:
    """The frames of a video file, of a folder of images in the order of their names, of a webcam or of a URL.

    Args:
        source: a path, the number of a webcam, or a URL that FFmpeg reads: rtsp://, http:// and so on.
        rate: frames per second, if not what the source says; a folder has RATE.

    Raises:
        Fault: there is nothing that can be read.
    """
    path, problems = Path(source), list[str]()
    if path.is_dir():
        files = [file for file in path.iterdir() if not file.name.startswith(HIDDEN)]
        images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise Fault(f"SOURCE must be a folder with images, found none in {source}", code=Fault.DATA)
        images.sort(key=lambda file: natural(file.name))
        return Stream(source, _images(images, problems), rate or RATE, len(images), False, problems)
    is_url, is_webcam = "://" in source, source.isdecimal()
    name = re.sub("//[^/@]*@", "//", source)
    if not (is_url or is_webcam or path.is_file()):
        known = "a video file, a folder of images, the number of a webcam or a URL"
        raise Fault(f"SOURCE must be {known}, found nothing at {source}")
    if path.suffix.lower() in IMAGE_SUFFIXES and not is_url:  # OpenCV would look for others with the next numbers
        raise Fault(f"SOURCE must be a video or a folder of images, got the image {source}; `cnn predict` takes one")
    try:
        video = _opened(int(source) if is_webcam else source)
    except Unreadable as error:
        why = "check that there is such a camera, and that no other program has it" if is_webcam else str(error)
        raise Fault(f"SOURCE {name} cannot be opened: {why}", code=Fault.DATA) from error
    said = _said(video)
    is_live = is_webcam or (is_url and not said.frames)
    return Stream(name, _read(video), rate or said.rate, said.frames or None, is_live, problems)


def facts(path: Path) -> Facts:
    """What is written in the head of a video.

    Raises:
        Unreadable: it is no video, or OpenCV cannot read its kind.
    """
    video = _opened(str(path))
    try:
        return _said(video)
    finally:
        video.release()


def frames(path: Path) -> Iterator[Array]:
    """The frames in their order, uint8 [H, W, 3], RGB, upright; one at a time is in memory.

    Raises:
        Unreadable: it is no video, or OpenCV cannot read its kind.
    """
    yield from _read(_opened(str(path)))


def write(path: Path, pictures: Iterable[Array], *, rate: float) -> int:
    """Write pictures, uint8 [H, W, 3], RGB and all of one size, as an MPEG-4 video `path`; return how many.

    A last row or column that makes a side odd is left out, because players want even sides. Until the last picture is
    written the file has another name.

    Raises:
        Fault: the file cannot be written.
    """
    left, count = iter(pictures), 0
    first = next(left, None)
    if first is None:
        return 0
    height, width = (side // 2 * 2 for side in first.shape[:2])
    with durable.atomic_write(path, suffix=".mp4") as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
        if not writer.isOpened():
            raise Fault(f"{path} cannot be written: check that its folder exists and is writable", code=Fault.STORAGE)
        try:
            for picture in chain([first], left):
                writer.write(np.ascontiguousarray(picture[:height, :width, ::-1]))
                count += 1
        finally:
            writer.release()
        if _written(temporary) != count:  # OpenCV does not report a full disk
            raise Fault(f"{path} cannot be written to its end: check that the disk is not full", code=Fault.STORAGE)
    return count


def _written(path: Path) -> int:
    """How many frames a file has, 0 if it is no video."""
    try:
        return facts(path).frames
    except Unreadable:
        return 0


def _opened(source: str | int) -> Any:
    """A file or a URL, or the number of a webcam, opened by OpenCV."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the exception tells what is wrong with a file
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, PATIENCE, cv2.CAP_PROP_READ_TIMEOUT_MSEC, PATIENCE]
    is_url = isinstance(source, str) and "://" in source
    video = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits) if is_url else cv2.VideoCapture(source)
    if not video.isOpened():
        video.release()
        raise Unreadable("not a video", "no video that OpenCV can read")
    return video


def _said(video: Any) -> Facts:
    rate, count = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
    return Facts(rate if 0 < rate < 1000 else RATE, max(0, int(count)))


def _read(video: Any) -> Iterator[Array]:
    """The frames of an open video, which is closed at the end; all are made as large as the first."""
    shape: tuple[int, ...] = ()
    try:
        while True:
            there, frame = video.read()
            if not there:
                return
            shape = shape or frame.shape
            if frame.shape != shape:  # a camera has been set to another size
                frame = cv2.resize(frame, shape[1::-1])
            yield np.ascontiguousarray(frame[:, :, ::-1])
    finally:
        video.release()


def _images(files: list[Path], problems: list[str]) -> Iterator[Array]:
    """Images as frames; those that cannot be read, or have another size than the first one, are black and reported."""
    shape: tuple[int, ...] = ()
    unread = 0  # before the size is known
    for file in files:
        picture = None
        try:
            picture = image_io.read(file)
            shape = shape or picture.shape
            if picture.shape != shape:
                height, width = picture.shape[:2]
                raise Fault(f"{file} must be as large as the first, {shape[1]}×{shape[0]}, got {width}×{height}")
        except Fault as fault:
            problems.append(str(fault))
            picture = None
        if not shape:
            unread += 1
            continue
        yield from (np.zeros(shape, np.uint8) for _ in range(unread))
        unread = 0
        yield np.zeros(shape, np.uint8) if picture is None else picture
