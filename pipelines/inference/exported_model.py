"""Where an exported model is."""

from pathlib import Path

from cnn_keras.errors import Fault
from pipelines.engine.stages import run_folder
from pipelines.export import runtimes


def locate(reference: str, runs: Path) -> Path:
    """The folder of a model's versions: a recipe's export below `runs`, or any folder that holds versions or is one.

    Raises:
        Fault: nothing has been exported there; the message says how to.
    """
    named = Path(reference)
    if (named / "saved_model.pb").is_file() or any(named.glob("[0-9]*/saved_model.pb")):
        return named
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


def locate_converted(reference: str, runs: Path, engine: str, precision: str | None) -> Path:
    """The folder of a run's network for another engine than TensorFlow.

    Raises:
        Fault: no such engine or precision, or nothing has been written for it; the message says how to.
    """
    if engine not in runtimes.FORMATS:
        raise Fault(f"--engine must be tensorflow, {', '.join(runtimes.FORMATS)}, got {engine!r}")
    if precision is not None and precision not in runtimes.FORMATS[engine].precisions:
        known = " or ".join(runtimes.FORMATS[engine].precisions)
        raise Fault(f"--precision of {engine} must be {known}, got {precision!r}")
    return runtimes.find(run_folder(reference, runs), engine, precision)


def newest(folder: Path) -> Path:
    """`folder` itself when it holds a SavedModel, otherwise its sub-folder with the highest number.

    Raises:
        Fault: neither is there.
    """
    found = versions(folder)
    return found[max(found)]


def versions(folder: Path) -> dict[int, Path]:
    """The folders of a model's versions, by number: `folder` alone when it holds a SavedModel, 1 if it has no number.

    Raises:
        Fault: there is none.
    """
    folder = folder.absolute()
    if (folder / "saved_model.pb").is_file():
        return {int(folder.name) if folder.name.isdecimal() else 1: folder}
    numbered = [child for child in folder.glob("*/") if child.name.isdecimal()]
    if found := {int(child.name): child for child in numbered if (child / "saved_model.pb").is_file()}:
        return found
    contents = "no such folder"
    if folder.is_dir():
        contents = f"which holds {', '.join(sorted(child.name for child in folder.iterdir())[:8]) or 'nothing'}"
    raise Fault(
        "model folder must be a SavedModel or hold numbered ones (<name>/1/saved_model.pb), "
        f"got {folder}, {contents}; `cnn export RECIPE` writes one"
    )
