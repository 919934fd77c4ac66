"""Doing what a finished run says comes next."""

import re
import shlex

from pipelines.inference.exported_model import newest
from tests.conftest import cnn


def follow(recipe, runs, files, *, capsys, monkeypatch):
    """Run a finished recipe again, and do what it prints; what would never end is begun and left.

    Args:
        files: what stands for FILES or PEOPLE.

    Returns:
        The verbs that were done.
    """
    monkeypatch.setattr("pipelines.serving.server.serve", lambda folder, **_: newest(folder))
    monkeypatch.setattr("pipelines.tracking.tracker.dashboard", lambda **_: None)
    capsys.readouterr()
    assert cnn("run", recipe, "--runs", runs) == 0
    commands = [shlex.split(said) for said in re.findall(r"^  cnn (.+?)  ", capsys.readouterr().out, re.MULTILINE)]
    for words in commands:
        given = [str(part) for word in words for part in (files if word in ("FILES", "PEOPLE") else [word])]
        assert cnn(*given) == 0, given
    return [words[0] for words in commands]
