"""`cnn review`: what is listed is what the model answers to examples it was not trained on, and the page shows it."""

import csv
import io
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.analysis.labelling import findings, mask_findings, review_page
from pipelines.data import split_manifest
from pipelines.tasks.detect import box_report, error_types
from tests import tiny_tasks
from tests.conftest import cnn
from tests.pipelines.tasks import test_detect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def reviewed(exported, tmp_path_factory):
    out = tmp_path_factory.mktemp("review") / "out"
    assert exported.cnn("review", "classify/small", "--out", out) == 0
    return out


def table(out):
    with (out / "findings.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def content(out):
    """What the page is told."""
    page = (out / "index.html").read_text()
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_all_that_was_not_trained_on_is_listed_with_the_answer_of_evaluate(exported, reviewed):
    rows = {row["path"]: row for row in table(reviewed)}
    splits = {row["id"]: row["split"] for row in split_manifest.rows(exported.run / "prepare")}
    assert set(rows) == {name for name, split in splits.items() if split != "train"}
    with (exported.run / "evaluate" / "predictions.csv").open(newline="") as file:
        for expected in csv.DictReader(file):
            row = rows[expected["id"]]
            assert [row["label"], row["prediction"]] == [expected["truth"], expected["prediction"]]
            assert float(row["score"]) == pytest.approx(float(expected["confidence"]), abs=1e-5)
            assert (row["kind"] == findings.RIGHT) == (expected["truth"] == expected["prediction"])


def test_the_most_suspicious_is_first(reviewed):
    qualities = [float(row["quality"]) for row in table(reviewed)]
    assert qualities == sorted(qualities)


def test_the_page_holds_the_first_rows_and_their_pictures(exported, tmp_path):
    out = tmp_path / "out"
    assert exported.cnn("review", "classify/small", "--out", out, "--limit", 5) == 0
    told, rows = content(out), table(out)
    assert [told["pictures"][row["picture"]][0] for row in told["rows"]] == [row["path"] for row in rows[:5]]
    assert len(list((out / "pictures").iterdir())) == 5
    for name, file, width, height, *boxes in told["pictures"]:
        with Image.open(out / file) as shown, Image.open(exported.photos / name) as original:
            assert shown.size == (width, height) == original.size
            assert (np.asarray(shown.convert("L")) == np.asarray(original)).all()  # small ones without loss
        assert boxes == [[], []]


def test_the_page_asks_for_nothing_else(reviewed):
    page = (reviewed / "index.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)


@pytest.mark.skipif(CHROMIUM is None, reason="requires Chromium")
def test_a_browser_shows_a_card_for_each_row_that_is_not_right(reviewed, tmp_path):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    dom = subprocess.run(
        [*command, f"file://{reviewed}/index.html"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    wrong = [row for row in table(reviewed) if row["kind"] != findings.RIGHT]
    assert len(re.findall('<figure class="card"', dom)) == len(wrong)
    assert "Review of classify/small" in dom


def test_no_text_of_a_file_ends_the_script(tmp_path, monkeypatch):
    name = "</script><b>&'\""
    row, picture = findings.Finding(0, findings.WRONG, name, "b", 0.5, 0.1), findings.Picture(name, 0, 0)
    found = findings.Findings(name, [row], [picture], [], [name, "b"])
    monkeypatch.setattr(findings, "encoded", lambda *arguments: [(0, png())])
    review_page.write(found, tmp_path / "out", limit=9, console=Console(quiet=True))
    assert content(tmp_path / "out")["classes"] == [name, "b"]
    assert (tmp_path / "out" / "index.html").read_text().count("</script>") == 2


def png():
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    return out.getvalue()


TRUTH = {
    "images": [{"id": 7, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}],
    "categories": [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"image_id": 7, "category_id": 5, "bbox": [0, 0, 10, 10]},
        {"image_id": 7, "category_id": 2, "bbox": [50, 50, 10, 10]},
    ],
}


def result(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def errors_of(results):
    pairs = zip(box_report.objects_of(TRUTH), box_report.detected(TRUTH, results), strict=True)
    scenes = [error_types.scene(*pair) for pair in pairs]
    names = [category["name"] for category in TRUTH["categories"]]
    return [finding for number, scene in enumerate(scenes) for finding in findings._errors(number, scene, names)]


def test_the_errors_of_boxes_have_their_kind_and_are_about_their_boxes():
    results = [
        result(7, 2, [0, 0, 10, 10], 0.9),  # the cat, called a dog
        result(3, 5, [0, 0, 10, 10], 0.6),  # in a picture without anything
    ]
    assert errors_of(results) == [
        findings.Finding(0, "wrong class", "cat", "dog", 0.9, pytest.approx(0.1), 0, 0),
        findings.Finding(0, "missed", "dog", "", 0.0, 0.5, 1),
        findings.Finding(1, "not annotated", "", "cat", 0.6, pytest.approx(0.4), None, 0),
    ]


def test_what_is_right_is_no_error():
    assert errors_of([result(7, 5, [0, 0, 10, 10], 0.9), result(7, 2, [50, 50, 10, 10], 0.2)]) == []


@pytest.mark.slow
def test_after_a_cross_validation_every_example_is_listed_by_the_fold_that_tests_it(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(exported.root)
    runs = tmp_path / "runs"
    assert cnn("cross-validate", "small.yaml", "--folds", 2, "--set", "train.epochs=1", "--runs", runs) == 0
    assert cnn("review", "small.yaml", "--out", tmp_path / "out", "--runs", runs) == 0
    rows = {row["path"]: row for row in table(tmp_path / "out")}
    assert set(rows) == {path.relative_to(exported.photos).as_posix() for path in exported.photos.rglob("*.png")}
    for number in (1, 2):
        folder = runs / "classify/small/folds/classify" / f"fold-{number}" / "evaluate"
        with (folder / "predictions.csv").open(newline="") as file:
            for expected in csv.DictReader(file):
                assert rows[expected["id"]]["prediction"] == expected["prediction"]
    told = content(tmp_path / "out")
    for name, file, *_ in told["pictures"][::20]:
        with Image.open(tmp_path / "out" / file) as shown, Image.open(exported.photos / name) as original:
            assert (np.asarray(shown.convert("L")) == np.asarray(original)).all()


@pytest.mark.slow
def test_the_errors_of_a_detector_are_in_its_own_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test_detect.write_squares(tmp_path)
    assert cnn("run", "squares.yaml") == 0
    assert cnn("review", "squares.yaml", "--out", "out") == 0
    truth = json.loads((tmp_path / "runs/detect/squares/prepare/truth-test.json").read_text())
    sizes = {image["file_name"]: [image["width"], image["height"]] for image in truth["images"]}
    told = content(tmp_path / "out")
    assert told["rows"]
    for name, file, width, height, annotated, found in told["pictures"]:
        assert [width, height] == sizes[name]
        with Image.open(tmp_path / "out" / file) as shown, Image.open(tmp_path / name) as original:
            assert (np.asarray(shown) == np.asarray(original)).all()
            for left, top, right, bottom, label, _ in annotated:
                inside = np.asarray(original)[round(top) : round(bottom), round(left) : round(right)]
                assert (inside == {"white": (255, 255, 255), "red": (255, 0, 0)}[label]).all()
        assert found


def test_a_run_that_is_not_there_is_refused_and_nothing_is_written(tmp_path, capsys):
    assert cnn("review", "classify/none", "--runs", tmp_path, "--out", tmp_path / "out") == Fault.INPUT
    assert "cnn evaluate RECIPE" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_each_label_of_several_is_judged_by_itself(monkeypatch):
    """Of 20 pictures all labels are as probable as they should be, but for one that is missing and one too many."""
    labels = np.tile(np.array([[1, 0], [0, 1]], np.float32), (10, 1))
    probabilities = np.where(labels > 0, 0.8, 0.2)
    probabilities[4, 1], probabilities[7, 1] = 0.95, 0.1
    pictures = [findings.Picture(str(row), 0, row) for row in range(20)]
    run = SimpleNamespace(
        facts=lambda stage: {"classes": ["cat", "dog"]}, recipe=SimpleNamespace(task="classify", name="x")
    )
    answers = findings.OutOfSample(labels, probabilities, pictures, [(run, "test")])
    monkeypatch.setattr(findings, "out_of_sample", lambda run: answers)
    assert findings._of_labels(run).rows == [
        findings.Finding(4, findings.LABEL_ERROR, "", "dog", pytest.approx(0.95), pytest.approx(0.05)),
        findings.Finding(7, findings.LABEL_ERROR, "dog", "", 0.0, pytest.approx(0.1)),
    ]


def test_an_object_that_is_missed_is_more_suspicious_than_a_border_that_is_off():
    truth, labels = np.zeros((2, 20, 20), np.int64)
    truth[2:12, 2:12], labels[2:12, 2:13] = 1, 1  # a large one, whose border is a column off
    truth[15:17, 15:17] = 2  # a small one, missed
    truth[0] = labels[0, 0] = -1
    confidence = np.full((20, 20), 0.5)
    confidence[15:17, 15:17] = 0.9
    by_pair = {(one.truth, one.answer): one for one in mask_findings.differences(truth, labels, confidence)}
    assert by_pair.keys() == {(0, 1), (2, 0)}
    assert by_pair[2, 0] == mask_findings.Difference(2, 0, pytest.approx(0.9), pytest.approx(0.1))
    assert by_pair[0, 1].quality == pytest.approx(1 - 0.5 * 10 / 110)
    kinds = [mask_findings._finding(0, by_pair[pair], ["background", "a", "b"]) for pair in ((0, 1), (2, 0))]
    assert [(one.kind, one.label, one.prediction) for one in kinds] == [
        ("not annotated", "", "a"),
        ("missed", "b", ""),
    ]
    assert mask_findings.differences(labels, labels, confidence) == []


def test_a_mask_is_drawn_beside_its_answer_and_what_differs_has_an_edge():
    image, truth, labels = np.full((6, 8, 1), 100, np.uint8), np.zeros((6, 8), np.int64), np.zeros((6, 8), np.int64)
    labels[2:4, 3:5] = 1
    drawn = mask_findings.draw(image, truth, labels, (0, 1), ["background", "thing"])
    assert drawn.shape == (6, 16 + mask_findings.GAP, 3)
    right = drawn[:, 8 + mask_findings.GAP :]
    assert (drawn[1, 3:5] == 255).all()
    assert (right[1, 3:5] == 255).all()
    assert (drawn[2:4, 3:5] == 100).all()
    assert (right[2:4, 3:5] != 100).any()


@pytest.mark.slow
def test_masks_are_reviewed_beside_their_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tiny_tasks.write("segment", tmp_path)
    assert cnn("evaluate", recipe, "--set", "train.epochs=1", "--set", "evaluate.require={}") == 0
    assert cnn("review", "segment/shapes", "--out", tmp_path / "out") == 0
    rows, told = table(tmp_path / "out"), content(tmp_path / "out")
    assert len(rows) == len(told["rows"]) > 0
    assert [float(row["quality"]) for row in rows] == sorted(float(row["quality"]) for row in rows)
    for _, file, width, height, *_ in told["pictures"]:
        with Image.open(tmp_path / "out" / file) as shown:
            assert shown.size == (width, height)
