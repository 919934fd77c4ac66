"""Detectors and segmenters on the same pictures: differences against the figures, intervals against whole resamples."""

import csv
import json

import numpy as np
import pytest

from cnn_keras.metrics import segmentation
from pipelines.analysis import compare_runs, paired_pictures
from pipelines.tasks.detect import box_report, error_types
from pipelines.tasks.segment import tally
from tests.pipelines.tasks.test_detection_report import world

PICTURES = 40


def write(folder, truth, detections):
    (folder / "prepare").mkdir(parents=True)
    (folder / "evaluate").mkdir()
    (folder / "prepare" / "truth-test.json").write_text(json.dumps(truth))
    (folder / "evaluate" / "detections.json").write_text(json.dumps(box_report.results(truth, detections)))
    return folder


@pytest.fixture(scope="module")
def detectors(tmp_path_factory):
    """A detector with false alarms, and one that has only every other of them."""
    truth, detections, _ = world(PICTURES)
    better = []
    for objects, found in zip(box_report.objects_of(truth), detections, strict=True):
        wrong = np.flatnonzero(error_types.scene(objects, found).outcomes == 0)[::2]
        better.append(error_types.Detected(*(np.delete(column, wrong, axis=0) for column in found)))
    folder, runs = tmp_path_factory.mktemp("detectors"), (detections, better)
    return truth, runs, [write(folder / name, truth, one) for name, one in zip(("first", "second"), runs, strict=True)]


def same(truth):
    return [(image["file_name"],) * 2 for image in truth["images"]]


def test_ap50_of_drawn_pictures_is_that_of_a_set_which_has_them_as_often():
    truth, detections, _ = world(12, seed=1)
    pairs = zip(box_report.objects_of(truth), detections, strict=True)
    scenes = [error_types.scene(*pair) for pair in pairs]
    weights = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), 5)
    found = error_types.table(scenes, 3).resampled_ap50(weights)
    for value, times in zip(found, weights, strict=True):
        drawn = [scene for scene, count in zip(scenes, times, strict=True) for _ in range(count)]
        assert value == pytest.approx(error_types.table(drawn, 3).ap50(), abs=1e-12)


def test_the_gain_of_ap50_is_that_of_pycocotools_and_is_surer_than_of_two_test_sets(detectors):
    truth, runs, folders = detectors
    row = paired_pictures.differences(*folders, same(truth))["ap50"]
    (old, before), (new, after) = (box_report.ap50(truth, one) for one in runs)
    assert row["difference"] == pytest.approx(new - old, abs=1e-6)
    low, high = row["interval"]
    assert 0 < low < row["difference"] < high
    wide_low, wide_high = compare_runs.difference_interval(new, after, old, before)
    assert high - low < 0.8 * (wide_high - wide_low)
    assert row["pictures"] == PICTURES


def test_equal_detectors_do_not_differ_in_any_draw(detectors):
    truth, _, (_, folder) = detectors
    row = paired_pictures.differences(folder, folder, same(truth))["ap50"]
    assert (row["difference"], row["interval"]) == (0, (0, 0))


def test_pictures_whose_annotations_differ_are_left_out_and_few_are_not_compared(detectors, tmp_path):
    truth, (_, detections), (first, _) = detectors
    changed = truth | {"annotations": truth["annotations"][1:]}
    second = write(tmp_path / "changed", changed, detections)
    assert paired_pictures.differences(first, second, same(truth))["ap50"]["pictures"] == PICTURES - 1
    assert paired_pictures.differences(first, second, same(truth)[: paired_pictures.FEW]) == {}
    renamed = truth | {"categories": [category | {"name": "x"} for category in truth["categories"]]}
    assert paired_pictures.differences(first, write(tmp_path / "other", renamed, detections), same(truth)) == {}


def test_the_comparison_of_runs_has_it_in_the_place_of_the_independent_one(detectors):
    truth, runs, folders = detectors
    measured = []
    for folder, detections in zip(folders, runs, strict=True):
        value, interval = box_report.ap50(truth, detections)
        names = [image["file_name"] for image in truth["images"]]
        report = {"ap50": value, "ap50_interval": list(interval)}
        examples = {name: f"content of {name}" for name in names}
        measured.append(compare_runs.Measured(folder.name, {}, report, examples, 0.0, None, names, folder=folder))
    found = compare_runs.figures(*measured)
    assert found["figures"]["ap50"] == paired_pictures.differences(*folders, same(truth))["ap50"]
    assert f"on {PICTURES} shared test pictures" in compare_runs.change(found, "ap50", found["figures"]["ap50"])


def segmented(folder, errors):
    """A run of a segmenter that is wrong at so many pixels, and what was counted of it."""
    drawn, names = np.random.default_rng(7), ["background", "a", "b"]
    truths = drawn.integers(0, 3, (PICTURES, 8, 8))
    answers = np.where(np.random.default_rng(3).random(truths.shape) < errors, (truths + 1) % 3, truths)
    examples = zip(truths, answers, strict=True)
    counted = tally.tally([tally.Answer(str(row), *pair, 1.0) for row, pair in enumerate(examples)], 3, tolerance=1.0)
    (folder / "evaluate").mkdir(parents=True)
    rows = counted.rows_by_class(names)
    with (folder / "evaluate" / "pictures_by_class.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "evaluate" / "report.json").write_text(json.dumps({"classes": [{"name": name} for name in names]}))
    return counted


def test_the_gain_of_a_segmenter_is_that_of_the_same_draws_of_its_confusions(tmp_path):
    first, second = segmented(tmp_path / "first", 0.3), segmented(tmp_path / "second", 0.25)
    found = paired_pictures.differences(
        tmp_path / "first", tmp_path / "second", [(str(row),) * 2 for row in range(PICTURES)]
    )
    for name in ("mean_iou", "mean_dice"):
        old, new = (getattr(segmentation.scores(sum(one.pictures)), name) for one in (first, second))
        assert found[name]["difference"] == pytest.approx(new - old)
        draws = zip(first.samples(), second.samples(), strict=True)
        expected = np.percentile([getattr(b, name) - getattr(a, name) for a, b in draws], (2.5, 97.5))
        assert found[name]["interval"] == pytest.approx(tuple(expected))
        assert found[name]["interval"][0] > 0
