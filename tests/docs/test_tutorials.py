"""The tutorials are notebooks, and each of them runs from its first cell to its last."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from pipelines.tracking.store import create_store, sqlite_uri
from tests.docs.documents import generator

nbformat = pytest.importorskip("nbformat")  # of the extra dev
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = dict(generator().tutorials())
CHECKED = "\nassert not _exit_code"  # IPython goes on after a command that fails


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A tracking database without runs, to be copied: to make one takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    create_store(sqlite_uri(path))
    return path


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_tutorial_is_a_notebook_that_it_links_to(name):
    nbformat.validate(generator().notebook(NOTEBOOKS[name]))
    assert f"({name}.ipynb)" in NOTEBOOKS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_tutorial_runs(name, empty_store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(Path(shutil.copy(empty_store, tmp_path))))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    notebook = nbformat.from_dict(generator().notebook(NOTEBOOKS[name]))
    for cell in notebook.cells:
        cell.source += CHECKED if cell.source.startswith("!") else ""
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "text" in output]
    written = "".join(output.text for output in outputs).replace("\r\n", "\n")
    assert "Warning" not in written
    assert not re.search(r"\r|\x1b\[[0-9;?]*[^0-9;?m]", written)  # lines and colours: nothing draws over what is there
