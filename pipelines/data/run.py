"""What the preparation of data needs of a run."""

from pathlib import Path
from typing import Any, Protocol

from rich.console import Console


class Run(Protocol):
    """One run, as `pipelines.engine.stages.Run` is: its recipe, its folder, and what its stages have written."""

    recipe: Any
    console: Console
    folder: Path

    def finished(self, stage: str) -> Path:
        """The folder of a stage that has been run, or a Fault that says how to run it."""
        ...

    def facts(self, stage: str) -> dict[str, Any]:
        """What a finished stage returned."""
        ...
