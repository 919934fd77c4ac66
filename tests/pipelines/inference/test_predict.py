"""Predict: every file gets an answer or a reason, and evaluate's answers are predict's."""

import csv
import json
import os

import pytest
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.inference import predict
from pipelines.inference.exported_model import locate
from tests.conftest import cnn


def test_predict_says_what_evaluate_said(exported, capsys):
    with (exported.run / "evaluate" / "predictions.csv").open() as file:
        expected = {row["id"]: row for row in csv.DictReader(file)}
    files = [exported.photos / name for name in expected]
    assert exported.cnn("predict", "classify/small", *files, "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    for answer, row in zip(answers, expected.values(), strict=True):
        assert answer["classes"][0]["label"] == row["prediction"]
        assert abs(answer["classes"][0]["probability"] - float(row["confidence"])) < 1e-5


def test_parts_that_are_asked_about_elsewhere_come_to_the_same_answers_in_the_same_order(exported):
    model, console, asked = locate("classify/small", exported.root / "runs"), Console(quiet=True), []

    def elsewhere(function, items):
        asked.extend(items)
        return map(function, items)

    alone = predict.predict(model, [exported.photos], top=3, console=console)
    assert predict.predict(model, [exported.photos], top=3, console=console, parallel_map=elsewhere) == alone
    assert [file for part in asked for file in part] == [answer.path for answer in alone]
    assert len(asked) > 1


def test_a_bad_file_is_named_and_the_others_are_answered(exported, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes((exported.photos / "0" / "00.png").read_bytes())
    (folder / "b.png").write_bytes((exported.photos / "0" / "00.png").read_bytes()[:60])  # fails in the graph
    (folder / "c.jpg").write_text("not an image")
    (folder / "d.png").write_bytes((exported.photos / "1" / "00.png").read_bytes())
    os.mkfifo(folder / "e.png")
    out = tmp_path / "answers.csv"
    pictures = tmp_path / "pictures"
    assert exported.cnn("predict", "classify/small", folder, "--csv", out, "--pictures", pictures) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["problem"]) for row in rows] == [False, True, True, False, True]
    assert rows[-1]["problem"] == "must be a regular file, got a named pipe"
    assert sorted(path.name for path in pictures.iterdir()) == ["0000-a.png", "0003-d.png"]
    assert "3 of 5 could not be read" in capsys.readouterr().out


def test_the_csv_has_the_likeliest_classes_and_every_probability(exported, tmp_path):
    (tmp_path / "broken.png").write_text("no")
    files = [exported.photos / "0" / "00.png", exported.photos / "1" / "00.png", tmp_path / "broken.png"]
    out = tmp_path / "answers.csv"
    assert exported.cnn("predict", "classify/small", *files, "--csv", out, "--top", "2") == 0
    with out.open() as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    ranks = ["label", "probability", "label_2", "probability_2"]
    assert reader.fieldnames == ["path", *ranks, "problem", "p(0)", "p(1)", "p(2)", "p(3)"]
    for row in rows[:2]:
        every = {name: float(row[f"p({name})"]) for name in "0123"}
        assert sum(every.values()) == pytest.approx(1, abs=1e-5)
        assert [row["label"], row["label_2"]] == sorted(every, key=every.get, reverse=True)[:2]
        assert every[row["label"]] == float(row["probability"])
    assert [rows[2][column] for column in ranks] == [""] * 4
    assert rows[2]["problem"]


def test_a_long_name_stands_on_one_line(exported, tmp_path, capsys):
    path = tmp_path / ("a photograph with a long name " * 6 + ".png")
    path.write_bytes((exported.photos / "0" / "00.png").read_bytes())
    assert exported.cnn("predict", "classify/small", path) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if str(path) in line)
    assert "%" in line


def test_nothing_readable_exits_3(exported, tmp_path):
    (tmp_path / "a.png").write_text("no")
    assert exported.cnn("predict", "classify/small", tmp_path / "a.png") == Fault.DATA


def test_a_path_that_is_not_there_exits_2(exported, tmp_path, capsys):
    assert exported.cnn("predict", "classify/small", tmp_path / "none.png") == Fault.INPUT
    assert "none.png" in capsys.readouterr().err


def test_a_run_that_was_never_exported_says_how_to_export_it(tmp_path, capsys):
    assert cnn("predict", "classify/never", tmp_path, "--runs", tmp_path) == Fault.INPUT
    assert "`cnn run RECIPE`" in capsys.readouterr().err
