"""Which files have heat maps, and what is said of those that have none."""

from io import StringIO
from types import SimpleNamespace

import numpy as np
from PIL import Image
from rich.console import Console

from pipelines.analysis import why
from pipelines.engine.heat_maps import Strip


def test_a_file_without_objects_and_a_video_are_named(tmp_path, monkeypatch):
    bright, dark, film = tmp_path / "bright.png", tmp_path / "dark[1].png", tmp_path / "film.mp4"
    for path, level in ((bright, 200), (dark, 0)):
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path)

    def explain(examples):
        return [[Strip("bright", "", [image] * 3)] if image.any() else [] for image in examples]

    monkeypatch.setattr(why, "_opened", lambda *given: SimpleNamespace(recipe=SimpleNamespace(data=None)))
    monkeypatch.setattr(why, "_explainer", lambda run: explain)
    console = Console(file=StringIO(), width=200)
    count = why.draw("detect/any", [dark, bright, film], tmp_path / "why", runs=tmp_path, console=console)
    assert (count, [path.name for path in (tmp_path / "why").iterdir()]) == (1, ["0001-bright.png"])
    said = console.file.getvalue().splitlines()
    assert said == [f"{film}: a video has no heat maps", f"{dark}: nothing is found in it, so it has no heat map"]
