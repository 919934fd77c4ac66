"""What the results of stages depend on besides recipe and code. Read before TensorFlow is imported."""

from typing import Any

from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.tasks.stylize import extractor_choice
from pipelines.tasks.stylize.config import Data, Recipe


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    match stage:
        case "prepare":
            return {"method": recipe.train.method, "files": files_digest(recipe.data)}
        case "train":
            chosen = extractor_choice.chosen(recipe.train.loss)
            return {"extractor": f"{chosen.builder} {chosen.weights}"}
        case _:
            return {}


def files_digest(data: Data) -> str:
    """Changes when a picture, a style or a mask is added, removed or written to.

    Raises:
        Fault: no content is given. Here, not in the section: such a recipe can still be shown.
    """
    if data.content.path is None and data.content.name is None:
        raise Fault("data.content is required; --set data.content.path=PATH names a picture, a folder or a video")
    paths = [data.content.path, *(style.path for style in data.styles)]
    paths += [style.mask.path for style in data.styles if style.mask]
    files = [
        file for path in paths if path is not None for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
    ]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return run_files.digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
