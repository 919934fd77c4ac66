"""Pipelines for convolutional networks: recipes that are prepared, trained, evaluated and exported, from Python.

>>> import pipelines as cnn
>>> run = cnn.run("small.yaml", train={"epochs": 4})  # or a shipped recipe: classify/digits-lenet5
classify/small...
>>> run.metrics["test_accuracy"] > 0.3
True
>>> run.history[-1]["epoch"]
4
>>> run.predict("photos/0/00.png", top=1)
[{'path': 'photos/0/00.png', 'classes': [{'label': '0', 'probability': 0...}], 'problem': None}]
>>> run.draw("photos/0/00.png")[0].mode
'RGB'
>>> run.model.count_params()
61196
>>> cnn.load("classify/small").folder.name
'small'

Importing this package imports nothing else: the command line starts here too.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a start-up border: these cost seconds
    from pipelines.inference.finished_run import FinishedRun


def run(recipe: str | PathLike[str], *, runs: str | PathLike[str] = "runs", **sections: Any) -> FinishedRun:
    """Prepare, train, evaluate and export what a recipe says; a stage is skipped if nothing that it reads has changed.

    Args:
        recipe: a shipped one, such as `classify/digits-lenet5`, or a YAML file's path.
        runs: the folder that holds the runs.
        sections: changes to the recipe: `data={"path": "photos"}, train={"epochs": 5}, seed=1`. What they do not name
            stays as it is; paths are relative to the working directory.

    Raises:
        Fault: something that is the user's to fix; its `code` is the exit code of `cnn run`.
    """
    from pipelines.inference import finished_run  # start-up: the command line starts here, too

    return finished_run.run(str(recipe), runs, sections)


def load(run: str | PathLike[str], *, runs: str | PathLike[str] = "runs") -> FinishedRun:
    """An earlier run, by its name, such as `classify/digits-lenet5`, or by its recipe's file.

    Raises:
        Fault: there is no such run.
    """
    from pipelines.inference import finished_run  # start-up: the command line starts here, too

    return finished_run.load(str(run), runs)
