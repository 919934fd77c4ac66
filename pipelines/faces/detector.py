"""Detectors of faces: OpenCV's cascades, or an exported detector such as that of face-api.js, or BlazeFace.

A detector is a function of a picture, uint8 (height, width, 3), RGB, that gives its faces, the surest first. Where a
gallery has none, each picture is one face.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow as tf

from cnn_keras.data.transforms import face_alignment
from cnn_keras.errors import Fault
from pipelines.faces.gallery import OPENCV, Array
from pipelines.inference import exported_model

# Detectors by name, and where `cnn import-weights`, followed by the folder's name, writes them.
IMPORTED = {"ssd": Path("face-api") / "faces", "blazeface": Path("human-faces") / "blazeface"}
MARGIN = 0.25  # around a face that is cut out, as a share of its box
SMALLEST = 0.15  # of a picture's shorter side: faces that cascades look for
NEIGHBOURS = 5  # windows in which a cascade must find a face, for it to be one
MIDDLE = 55.7  # what the last stage sums up at a score of a half: below are textures, above the faces of ORL


class Face(NamedTuple):
    """A face in a picture."""

    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels
    score: float  # in (0, 1]; those of two detectors cannot be compared

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


FaceDetector = Callable[[Array], list[Face]]


def resolve(name: str, runs: Path) -> str:
    """What a gallery keeps of `--detector`: "" and "opencv" as they are, of any other the folder of its versions.

    Args:
        name: "", "opencv", one of IMPORTED, or the recipe or the folder of a detector.

    Raises:
        Fault: nothing is there.
    """
    if name in ("", OPENCV):
        return name
    folder = IMPORTED.get(name)
    if folder and not folder.is_dir():
        raise Fault(
            f"--detector {name} requires {folder}, which is not there; `cnn import-weights {folder.parent} PACKAGE` "
            "writes it"
        )
    return str(exported_model.locate(str(folder) if folder else name, runs).resolve())


def open_detector(reference: str) -> FaceDetector | None:
    """The detector that `resolve` gave; None where each picture is one face.

    Raises:
        Fault: the model is no detector that takes pictures alone.
    """
    if not reference:
        return None
    return cascades() if reference == OPENCV else Exported(Path(reference))


class Exported:
    """An exported detector, of which everything that it finds is taken to be a face.

    Raises:
        Fault: the model is no detector that takes pictures alone.
    """

    def __init__(self, folder: Path) -> None:
        self._loaded = tf.saved_model.load(str(exported_model.newest(folder)))
        self._find = self._loaded.signatures.get("serving_tensor")
        outputs = set(self._find.structured_outputs) if self._find else set()
        if not {"boxes", "scores", "count"} <= outputs or list(self._find.structured_input_signature[1]) != ["image"]:
            raise Fault(f"--detector must be a detector that takes pictures alone, got {folder}")

    def __call__(self, image: Array) -> list[Face]:
        outputs = {name: value[0].numpy() for name, value in self._find(image=tf.constant(image[None])).items()}
        boxes, scores = (outputs[name][: outputs["count"]].tolist() for name in ("boxes", "scores"))
        return [Face(tuple(box), score) for box, score in zip(boxes, scores, strict=True) if _is_whole(box)]


def cascades() -> FaceDetector:
    """OpenCV's cascade for faces from the front, of which those count in which `face_alignment.cascades` finds eyes.

    The score is the logistic function of what the last stage of the cascade sums up, less MIDDLE.
    """
    cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_alt2.xml")
    find_eyes = face_alignment.cascades()

    def detect(image: Array) -> list[Face]:
        grey, scale = face_alignment.enlarge(image)
        side = round(face_alignment.FACE * SMALLEST)
        boxes, _, sums = cascade.detectMultiScale3(
            grey, 1.05, NEIGHBOURS, minSize=(side, side), outputRejectLevels=True
        )
        height, width = image.shape[:2]
        faces = []
        for (left, top, across, down), stage in zip(boxes, np.ravel(sums), strict=True):
            corners = (np.array([left, top, left + across, top + down]) - face_alignment.MARGIN) / scale
            box = tuple(np.clip(corners, 0, [width, height, width, height]).tolist())
            if _is_whole(box) and find_eyes("", crop(image, box)) is not None:
                faces.append(Face(box, float(1 / (1 + np.exp(MIDDLE - stage)))))
        return sorted(faces, key=lambda face: -face.score)

    return detect


def crop(image: Array, box: tuple[float, ...], *, margin: float = MARGIN) -> Array:
    """The part of a picture around a box, with a margin on every side as far as the picture goes.

    Args:
        image: uint8 (height, width, channels).
        box: left, top, right, bottom in pixels.
        margin: as a share of the box's width and height.

    Returns:
        uint8, of the box's size and the margins.
    """
    left, top, right, bottom = box
    across, down = margin * (right - left), margin * (bottom - top)
    start = max(0, round(top - down)), max(0, round(left - across))
    end = round(bottom + down), round(right + across)
    return np.ascontiguousarray(image[start[0] : max(end[0], start[0] + 1), start[1] : max(end[1], start[1] + 1)])


def _is_whole(box: Sequence[float]) -> bool:
    """Whether a box has two pixels of height and width."""
    left, top, right, bottom = box
    return right - left >= 2 and bottom - top >= 2
