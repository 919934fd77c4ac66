"""`cnn predict --why`: which parts of files the answers of a run's model rest on."""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cnn_keras import plugins
from cnn_keras.errors import Fault
from pipelines.data import array_dataset, image_io, run_files, video_io
from pipelines.engine import heat_maps, stages
from pipelines.engine import recipe as recipes
from pipelines.plots.image_grid import Array

AT_ONCE = 16  # files


def draw(reference: str, files: Sequence[Path], folder: Path, *, runs: Path, console: Console) -> int:
    """Write a picture of each answer to files of images, signals or volumes into a folder; return of how many files.

    The trained model is asked, not the exported graph, which has no layers to look into. A file in which it finds
    nothing is named, as a video is.

    Args:
        reference: a run, `classify/digits-lenet5`, or its recipe.
        files: readable ones; videos are left out.

    Raises:
        Fault: no such run, or of a task whose answers have no heat maps.
    """
    run = _opened(reference, runs, console)
    explain = _explainer(run)
    stills = []
    for file in dict.fromkeys(files):
        if file.name.lower().endswith(video_io.SUFFIXES):
            console.print(f"{file}: a video has no heat maps", markup=False, soft_wrap=True)
        else:
            stills.append(file)
    count = 0
    for start in range(0, len(stills), AT_ONCE):
        batch = stills[start : start + AT_ONCE]
        for file, strips in zip(batch, explain(list(_read(batch, run.recipe.data))), strict=True):
            if not strips:
                console.print(f"{file}: nothing is found in it, so it has no heat map", markup=False, soft_wrap=True)
            else:
                named = [strip._replace(detail=file.name) for strip in strips]
                target = folder / f"{stills.index(file):04d}-{file.stem}.png"
                heat_maps.draw(named, target, heading=f"What the answer to {file.name} rests on")
                count += 1
    return count


def _opened(reference: str, runs: Path, console: Console) -> stages.Run:
    folder = stages.run_folder(reference, runs)
    if not (folder / "train" / run_files.MANIFEST).is_file():
        raise Fault(f"--why must go with a run, whose model can be looked into, found none in {folder}")
    return stages.Run(recipes.load(str(folder / "recipe.yaml")), console, folder.parents[1])


def _explainer(run: stages.Run) -> heat_maps.Explainer:
    """That of the file `explanation.py` of the run's task."""
    module = f"{run.task.__name__}.explanation"
    explanation: Any = importlib.import_module(module) if plugins.source(module) else None
    if not hasattr(explanation, "explainer"):
        raise Fault(f"--why must go with a task that explains the answer to one file, got {run.recipe.task}")
    explain: heat_maps.Explainer = explanation.explainer(run)
    return explain


def _read(files: Sequence[Path], data: Any) -> Iterator[Array]:
    for file in files:
        noun = next((kind for kind in array_dataset.LIBRARIES if _is_of(file, kind)), None)
        if noun:
            yield array_dataset.library(noun).read(file)[0]
        else:
            yield image_io.read(file, channels=getattr(data, "channels", 3))


def _is_of(file: Path, noun: str) -> bool:
    return file.name.lower().endswith(array_dataset.library(noun).SUFFIXES)
