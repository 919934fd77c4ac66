"""Where an exported model is."""

from pathlib import Path

from cnn_keras.errors import Fault
from pipelines.engine.stages import run_folder


def locate(reference: str, runs: Path) -> Path:
    """The folder of a model's versions: a recipe's export below `runs`, or any folder that holds versions or is one.

    Raises:
        Fault: nothing has been exported there; the message says how to.
    """
    given = Path(reference)
    if (given / "saved_model.pb").is_file() or any(given.glob("[0-9]*/saved_model.pb")):
        return given
    exported = run_folder(reference, runs) / "export"
    models = sorted({path.parent.parent for path in exported.glob("*/[0-9]*/saved_model.pb")})
    if not models and any(exported.glob("*/[0-9]*/card.md")):
        raise Fault(f"MODEL must be a run that exports a network, got {reference}, whose paintings are in {exported}")
    if not models:
        raise Fault(
            f"MODEL must be a recipe whose run was exported or a SavedModel's folder, found nothing in {exported}; "
            "`cnn run RECIPE` exports it"
        )
    return max(models, key=lambda folder: newest(folder).stat().st_mtime)


def newest(folder: Path) -> Path:
    """The highest version below `folder`, or `folder` itself when it is a version."""
    if (folder / "saved_model.pb").is_file():
        return folder
    return folder / str(max((int(inner.name) for inner in folder.glob("*") if inner.name.isdigit()), default=0))
