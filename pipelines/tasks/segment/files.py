"""The files behind a recipe's data, asked before each stage: without TensorFlow, which no stage may need."""

from cnn_keras.data import input_file
from cnn_keras.errors import Fault
from pipelines.data import validation
from pipelines.tasks.segment.config import Data


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to; nothing is read.

    Raises:
        Fault: the source needs a path and has none. Here, not in the section: such a recipe can still be shown.
    """
    cutouts = data.composites is not None and data.composites.cutouts == "folder"
    if data.path is None and (data.source not in ("nuclei", "mni152", "composites") or cutouts):
        raise Fault(f"data.path is required with source: {data.source}; write it there or --set data.path=PATH")
    if data.path is None:
        return None
    folder = data.path if input_file.is_folder(data.path) else data.path.parent
    root = folder.parent if data.source == "coco" and folder.name == "annotations" else folder
    return validation.files_digest(root, *([data.images] if data.images else []))
