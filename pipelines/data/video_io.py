"""Videos, frame by frame, by OpenCV: what a detector is asked about, and pictures of what it answered."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from cnn_keras.data.files import durable
from cnn_keras.errors import Unreadable

Array = np.ndarray[Any, np.dtype[Any]]

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
RATE = 25.0  # frames per second of a video that does not say


class Facts(NamedTuple):
    """What a video says of itself; there may be fewer frames than it says."""

    rate: float  # frames per second
    frames: int


def facts(path: Path) -> Facts:
    """What is written in the head of a video.

    Raises:
        Unreadable: it is no video, or OpenCV cannot read its kind.
    """
    video = _opened(path)
    try:
        rate, count = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
        return Facts(rate if 0 < rate < 1000 else RATE, max(0, int(count)))
    finally:
        video.release()


def frames(path: Path) -> Iterator[Array]:
    """The frames in their order, uint8 [H, W, 3], RGB, upright; one at a time is in memory.

    Raises:
        Unreadable: it is no video, or OpenCV cannot read its kind.
    """
    video = _opened(path)
    try:
        while True:
            there, frame = video.read()
            if not there:
                return
            yield np.ascontiguousarray(frame[:, :, ::-1])
    finally:
        video.release()


def write(path: Path, pictures: Iterable[Array], *, rate: float) -> int:
    """Write pictures, uint8 [H, W, 3], RGB and all of one size, as an MPEG-4 video `path`; return how many.

    Until the last is written the file has another name.
    """
    left, count = iter(pictures), 0
    first = next(left, None)
    if first is None:
        return 0
    with durable.atomic_write(path, suffix=".mp4") as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), rate, first.shape[1::-1])
        for picture in chain([first], left):
            writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
            count += 1
        writer.release()
    return count


def _opened(path: Path) -> Any:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the exception tells what is wrong with a file
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        video.release()
        raise Unreadable("not a video", "no video that OpenCV can read")
    return video
