"""Alignment: a face turned and scaled so that its eyes stand where every other face's do.

An aligner is a function of a picture's id and pixels that says where the eyes are, or None where it finds none; such a
picture is used as it is. `annotated_eyes` takes them from a list, `cascades` are OpenCV's detectors, and `Landmarks`
asks a network of landmarks – inside the graph, so that an exported model can do it too.
"""

import io
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow as tf
from PIL import Image

from cnn_keras.data import annotation
from cnn_keras.data.files import file_tree
from cnn_keras.data.files.image_file import encode_png, normalize
from cnn_keras.data.transforms import warp
from cnn_keras.errors import Fault

COLUMNS = ("path", "left_x", "left_y", "right_x", "right_y")


class Eyes(NamedTuple):
    """The centres of the eyes, (x, y) in pixels from the top left corner; the left one is at the picture's left."""

    left: tuple[float, float]
    right: tuple[float, float]


Aligner = Callable[[str, np.ndarray], Eyes | None]
LOOKED = (150, 150)  # height and width in which landmarks are looked for a second time
NOWHERE = ((0.0, 0.0), (1.0, 0.0))  # eyes that are not there
FACE, MARGIN = 400, 120  # pixels of the shorter side in which cascades look, and around it
PLACES = Eyes((0.33, 0.38), (0.67, 0.38))  # shares of width and height: the face in the middle, chin and forehead in it


def annotated_eyes(path: Path) -> Aligner:
    """An aligner that reads the eyes from a CSV file with the columns path, left_x, left_y, right_x and right_y.

    `path` is that of the picture below its source, as in `split.csv`.

    Raises:
        Fault: no such file, other columns, or a place that is no number (code DATA).
    """
    rows = {}
    for line, row in file_tree.rows(path, COLUMNS, argument="data.align.path"):
        places = annotation.finite_numbers([row[name] for name in COLUMNS[1:]])
        if places is None:
            raise Fault(f"{path}, line {line}: places must be finite numbers", code=Fault.DATA)
        rows[row["path"]] = places
    eyes = {name: Eyes((a, b), (c, d)) for name, (a, b, c, d) in rows.items()}
    return lambda name, image: eyes.get(name)


class _Cascades(threading.local):
    """Detectors for each thread: one that two threads use at once raises an exception, or finds what is not there."""

    def __init__(self) -> None:
        self.face, glasses, eye = (
            cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")
            for name in ("frontalface_alt2", "eye_tree_eyeglasses", "eye")
        )
        self.eyes = glasses, eye


def cascades() -> Aligner:
    """OpenCV's cascades: the largest face, and in either half of its upper part the surest eye.

    Viola and Jones, "Rapid object detection using a boosted cascade of simple features", 2001, as trained by Lienhart
    and others; the files come with OpenCV. Small pictures are enlarged and given a margin first, because the detectors
    want a face of a hundred pixels with something around it. Several threads may use the aligner.
    """
    own = _Cascades()

    def eye(grey: np.ndarray, width: int) -> tuple[float, float] | None:
        sizes: dict[str, Any] = {"minSize": (width // 8,) * 2, "maxSize": (width // 2,) * 2}
        for detector in own.eyes:
            boxes, _, scores = detector.detectMultiScale3(grey, 1.05, 1, outputRejectLevels=True, **sizes)
            if len(boxes):
                left, top, across, down = boxes[int(np.argmax(scores))]
                return left + across / 2, top + down / 2
        return None

    def aligner(name: str, image: np.ndarray) -> Eyes | None:
        grey, scale = enlarge(image)
        faces = own.face.detectMultiScale(grey, 1.05, 2, minSize=(FACE // 4,) * 2)
        if not len(faces):
            return None
        left, top, side, _ = (int(number) for number in max(faces, key=lambda box: box[2]))
        upper, eyes = slice(top + side * 3 // 20, top + side * 3 // 5), []
        for start in (left + side // 12, left + side * 23 // 50):
            place = eye(grey[upper, start : start + side * 23 // 50], side)
            if place is None:
                return None
            eyes.append(((place[0] + start - MARGIN) / scale, (place[1] + upper.start - MARGIN) / scale))
        return Eyes(*eyes)

    return aligner


def enlarge(image: np.ndarray) -> tuple[np.ndarray, float]:
    """A picture as cascades want it: grey, FACE pixels its shorter side, with a border of MARGIN pixels.

    Args:
        image: uint8 (height, width, 1 or 3), RGB.

    Returns:
        uint8 (height', width'), and how many of its pixels one of the picture is.
    """
    scale = FACE / min(image.shape[:2])
    grey = image[..., 0] if image.shape[-1] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(grey, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REPLICATE), scale


class Landmarks:
    """An aligner that asks a model of landmarks twice: the second time about the face as the first has aligned it.

    Args:
        model: a loaded SavedModel whose `serving_tensor` takes `image`, uint8 (1, height, width, 3), and gives
            `landmarks`, float32 (1, 1, L, 2), x and y in pixels, `landmark_names`, string (1, L), and `count`, int32
            (1,), 0 where nothing was found: what `localize` exports.

    Raises:
        Fault: it finds no landmarks, or none whose name begins with left_eye or right_eye.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._answer = model.signatures["serving_tensor"]
        if "landmarks" not in self._answer.structured_outputs:
            raise Fault("data.align.path must be a model that finds landmarks, got one that finds none")
        names = self._answer(image=tf.zeros((1, *LOOKED, 3), tf.uint8))["landmark_names"][0].numpy()
        self._eyes = [
            [row for row, name in enumerate(names) if name.decode().startswith(side)]
            for side in ("left_eye", "right_eye")
        ]
        if not all(self._eyes):
            known = ", ".join(name.decode() for name in names[:8])
            raise Fault(f"data.align.path must find landmarks named left_eye and right_eye, got one with {known} …")
        self._find = tf.function(self.find, input_signature=[tf.TensorSpec((None, None, None), tf.uint8)])

    def __call__(self, name: str, image: np.ndarray) -> Eyes | None:
        eyes, is_found = self._find(tf.constant(image))
        return Eyes(*(tuple(eye) for eye in eyes.numpy().tolist())) if is_found else None

    def find(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Inside a graph: the eyes, float32 (2, 2), as of `Eyes`, and whether there are any, bool ()."""
        image = tf.cond(tf.shape(image)[-1] == 1, lambda: tf.repeat(image, 3, axis=-1), lambda: image)
        image = tf.ensure_shape(image, (None, None, 3))
        first, is_found = self._once(image)
        again, still = self._once(align_face(image, first, size=LOOKED))
        turn, move = _turn(first, LOOKED)
        return _points(_complex(again) * turn + move), is_found & still

    def _once(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        answer = self._answer(image=image[None])
        points = answer["landmarks"][0, 0]
        eyes = tf.stack([tf.reduce_mean(tf.gather(points, rows), axis=0) for rows in self._eyes])
        eyes = tf.gather(eyes, tf.argsort(eyes[:, 0]))  # whichever side the names mean
        apart = tf.norm(eyes[1] - eyes[0]) > 1
        is_found = (answer["count"][0] > 0) & apart
        return tf.where(is_found, eyes, NOWHERE), is_found


def align_face(image: tf.Tensor, eyes: tf.Tensor, *, size: tuple[int, ...], places: Eyes = PLACES) -> tf.Tensor:
    """Cut a face out so that its eyes stand at `places`: one rotation, scale and shift, bilinear; black beyond.

    Works inside a graph, with pictures of any size; a large one is averaged down first.

    Args:
        image: uint8 (height, width, channels), 0–255.
        eyes: where they are, real (2, 2), see `Eyes`.
        size: (height, width) to return.
        places: where they are to be, as shares of width and height.

    Returns:
        uint8 (*size, channels).
    """
    image, eyes = tf.convert_to_tensor(image), tf.cast(tf.convert_to_tensor(eyes), tf.float32)
    extent = tf.cast(tf.shape(image)[:2], tf.float32)
    smaller = tf.maximum(tf.round(extent / tf.maximum(tf.abs(_turn(eyes, size, places)[0]), 1)), 1)
    shrunk = tf.cond(
        tf.reduce_all(smaller == extent),
        lambda: image,
        lambda: tf.saturate_cast(
            tf.round(tf.image.resize(image, tf.cast(smaller, tf.int32), antialias=True)), tf.uint8
        ),
    )
    turn, move = _turn(eyes * (smaller / extent)[::-1], size, places)
    a, b = tf.math.real(turn), tf.math.imag(turn)
    # From the middles of the result's pixels to those of the source's.
    x, y = (part(move) + shift / 2 - 0.5 for part, shift in ((tf.math.real, a - b), (tf.math.imag, a + b)))
    matrix = tf.stack([tf.stack([a, -b, x]), tf.stack([b, a, y]), tf.constant([0.0, 0.0, 1.0])])
    aligned = warp.resample(shrunk, matrix, size, fill="constant")
    return tf.ensure_shape(aligned, (*size, image.shape[-1]))


def _turn(eyes: tf.Tensor, size: tuple[int, ...], places: Eyes = PLACES) -> tuple[tf.Tensor, tf.Tensor]:
    """What takes places z of the result, x + iy, to turn · z + move of the picture: two complex numbers."""
    height, width = size
    left, right = (complex(x * width, y * height) for x, y in places)
    points = _complex(eyes)
    turn = (points[1] - points[0]) / (right - left)
    return turn, points[0] - turn * left


def _complex(points: tf.Tensor) -> tf.Tensor:
    return tf.complex(points[:, 0], points[:, 1])


def _points(numbers: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.math.real(numbers), tf.math.imag(numbers)], axis=1)


def align_items(items: Iterable[Any], aligner: Aligner, *, size: tuple[int, int], without_face: list[str]) -> list[Any]:
    """The items with aligned pictures; ids of those in which the aligner finds no eyes go to `without_face`."""
    known: dict[str, Eyes | None] = {}  # a picture is read more than once, and looking takes long
    return [item._replace(read=partial(_aligned, item, aligner, size, without_face, known)) for item in items]


def _aligned(
    item: Any, aligner: Aligner, size: tuple[int, int], without_face: list[str], known: dict[str, Any]
) -> bytes:
    data, _ = normalize(item.read())
    aligned = align_image(data, partial(_once, item.id, aligner, known), size=size)
    if aligned is None:
        without_face.append(item.id)
    return aligned or data


def _once(name: str, aligner: Aligner, known: dict[str, Any], image: np.ndarray) -> Eyes | None:
    if name not in known:
        known[name] = aligner(name, image)
    return known[name]


def align_image(data: bytes, find: Callable[[np.ndarray], Eyes | None], *, size: tuple[int, int]) -> bytes | None:
    """An encoded JPEG or PNG with its face aligned, as PNG.

    Args:
        find: takes the pixels, uint8 (height, width, 1 or 3).
        size: height and width of the result.

    Returns:
        None where `find` finds no eyes.
    """
    with Image.open(io.BytesIO(data)) as picture:
        image = np.asarray(picture if picture.mode == "L" else picture.convert("RGB"))
    image = image.reshape(*image.shape[:2], -1)
    eyes = find(image)
    return None if eyes is None else encode_png(align_face(image, eyes, size=size).numpy())
