"""The files that a source of images with boxes is made of, known without TensorFlow."""

from pathlib import Path
from typing import Any

from cnn_keras import plugins
from cnn_keras.data.files import input_file
from cnn_keras.data.files.file_tree import describe_path
from cnn_keras.data.formats import yolo
from cnn_keras.errors import Fault
from pipelines.data import source_files, yaml_file
from pipelines.data.boxes.box_config import Data

PATHLESS = ("deepforest", "composites", "cards")  # sources that come along


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to; nothing is read.

    Raises:
        Fault: the source needs a path and has none. Here, not in the section: such a recipe can still be shown.
    """
    if data.path is None and data.source not in PATHLESS and not plugins.is_reference(data.source):
        raise Fault(f"data.path is required with source: {data.source}; write it there or --set data.path=PATH")
    if data.path is None or not (input_file.is_folder(data.path) or input_file.is_regular(data.path)):
        return None  # reading the source will say what is wrong
    folder = data.path if input_file.is_folder(data.path) else data.path.parent
    roots = {folder.parent if data.source == "coco" and folder.name == "annotations" else folder}
    roots |= {data.images} if data.images else set()
    if data.source == "yolo":
        inner = folder / str(read_description(describing(data.path)).get("path") or ".")
        roots |= {inner} if not folder.is_relative_to(inner) else set()
    return source_files.files_digest(*(root for root in roots if input_file.is_folder(root)))


def describing(path: Path) -> Path:
    """The file that describes a YOLO data set: `path`, or that of the folder: data.yaml, obj.data or one of names."""
    if not input_file.is_folder(path):
        return path
    there = [
        inner for pattern in ("data.yaml", "dataset.yaml", "*.yaml", "*.yml", "*.data") for inner in path.glob(pattern)
    ]
    named = yolo.infer_description(path)
    return there[0] if there else path / named["names"] if named else path / "data.yaml"


def read_description(path: Path) -> dict[str, Any]:
    """The entries of a YOLO data.yaml; those of Darknet's obj.data, or of a file of names, under the same keys."""
    if not input_file.is_regular(path):
        raise Fault(f"data.path must be a YAML file that names the images and classes, got {describe_path(path)}")
    if path.suffix == ".data":
        return dict(yolo.darknet(path))
    if path.suffix in (".txt", ".names"):
        return {yolo.UNSPLIT: ".", "names": path.name}
    document = yaml_file.parse(input_file.read_text(path), where=str(path))
    if not isinstance(document, dict):
        raise Fault(
            f"{path} must contain a mapping with train and names, got {type(document).__name__}", code=Fault.DATA
        )
    return document
