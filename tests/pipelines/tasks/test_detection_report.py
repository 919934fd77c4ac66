"""The report on a detector: pycocotools' numbers, errors told apart, and pictures that state their thresholds."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pipelines.plots import charts, image_grid
from pipelines.tasks.detect import box_report, error_types
from pipelines.tasks.detect.box_report import say
from pipelines.tasks.detect.error_types import KINDS, Detected, Objects

FILES = {
    "report.json",
    "detections.json",
    "predictions.csv",
    *(f"{name}.png" for name in ("pr_curves", "confusion_matrix", "errors", "best", "worst")),
}
NAMES = ["tree", "$5", "猫"]
BOX = (10.0, 10.0, 30.0, 30.0)
MOVED = (10.0, 10.0, 30.0, 16.0)  # IoU 0.3 with BOX
ELSEWHERE = (40.0, 40.0, 60.0, 60.0)
AWAY = (70.0, 40.0, 90.0, 60.0)


def world(images, *, classes=3, seed=0, crowd=0.1):
    """Truth in COCO JSON, its ids neither in order nor from 0, detections of every kind, and the pictures."""
    random = np.random.default_rng(seed)
    categories = [{"id": 90 - 7 * number, "name": NAMES[number]} for number in range(classes)]
    truth = {"images": [], "annotations": [], "categories": categories}
    detections, drawn = [], []
    for image in range(images):
        truth["images"].append({"id": 500 - image, "width": 100, "height": 80, "file_name": f"{image}.jpg"})
        drawn.append(random.integers(0, 256, (80, 100, 3), np.uint8))
        found = [[(*random.uniform(0, 40, 2), *random.uniform(50, 80, 2)), random.integers(classes)] for _ in range(2)]
        for _ in range(random.integers(1, 6)):
            number, box = int(random.integers(classes)), np.repeat(random.uniform(0, 50, (1, 2)), 2, axis=0).ravel()
            box[2:] += random.uniform(5, 40, 2)
            note = {"id": len(truth["annotations"]), "image_id": 500 - image, "category_id": 90 - 7 * number}
            side = box[2:] - box[:2]
            note |= {"bbox": [*box[:2].tolist(), *side.tolist()], "area": float(np.prod(side))}
            truth["annotations"].append(note | {"iscrowd": int(random.random() < crowd)})
            for _ in range(random.integers(0, 3)):
                said = number if random.random() < 0.8 else random.integers(classes)
                off = random.normal(0, 1.5, 4).clip(-2, 2)
                found.append([tuple(box + off), said])
        boxes, numbers = zip(*found, strict=True)
        detections.append(Detected(np.array(boxes, np.float32), random.random(len(found)), np.array(numbers)))
    return truth, detections, drawn


def report_of(folder, truth, detections, drawn=None, **settings):
    def pictures_of(rows):
        return [drawn[row] if drawn else np.zeros((80, 100, 3), np.uint8) for row in rows]

    settings = {"threshold": 0.5, "pictures_of": pictures_of} | settings
    return box_report.detection_report(folder, truth, detections=detections, **settings)


def truth_of(objects, categories=2):
    """COCO JSON of one image with these (box, class number), or with more images in a list of lists."""
    images = objects if objects and isinstance(objects[0], list) else [objects]
    notes = [
        {"id": 0, "image_id": image, "category_id": number, "bbox": [*box[:2], box[2] - box[0], box[3] - box[1]]}
        for image, rows in enumerate(images)
        for box, number in rows
    ]
    sizes = [{"id": image, "width": 100, "height": 80} for image in range(len(images))]
    return {
        "images": sizes,
        "annotations": notes,
        "categories": [{"id": n, "name": NAMES[n]} for n in range(categories)],
    }


def detected(*rows):
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return Detected(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores), np.array(classes, int))


def objects_of(*rows):
    boxes, classes = zip(*rows, strict=True) if rows else ((), ())
    return Objects(np.array(boxes, float).reshape(-1, 4), np.array(classes, int), np.zeros(len(rows), bool))


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the pictures out where only numbers are asked for."""
    for name in ("_draw_figures", "_draw_images"):
        monkeypatch.setattr(box_report, name, lambda *_, **__: None)


def test_the_figures_are_those_of_pycocotools_on_the_written_files(tmp_path, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, detections, drawn = world(25)
    report = report_of(tmp_path, truth, detections, drawn)
    assert capsys.readouterr().out == ""
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert json.loads((tmp_path / "report.json").read_text()) == report
    for note in truth["annotations"]:
        note["id"] += 1  # pycocotools takes an object of id 0 for none
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    coco = COCO(tmp_path / "truth.json")
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "detections.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    sizes = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar")
    np.testing.assert_allclose([-1 if report[name] is None else report[name] for name in sizes], evaluation.stats[:9])
    scenes = list(map(error_types.scene, box_report.objects_of(truth), detections))
    assert error_types.table(scenes, 3).ap50() == pytest.approx(report["ap50"])
    assert np.mean([row["ap50"] for row in report["classes"]]) == pytest.approx(report["ap50"])
    assert 0.1 < report["ap50_interval"][0] < report["ap50"] < report["ap50_interval"][1] < 0.9
    assert [row["name"] for row in report["classes"]] == NAMES


def test_perfect_answers_are_perfect(tmp_path, undrawn):
    objects = [[(BOX, 0), (ELSEWHERE, 1)], [(BOX, 1)], []]
    detections = [detected(*((box, 0.9, number) for box, number in rows)) for rows in objects]
    report = report_of(tmp_path, truth_of(objects), detections)
    for name in ("ap", "ap50", "ap75", "voc_map50", "voc2007_map50", "precision", "recall", "f1"):
        assert report[name] == pytest.approx(1), name
    assert report["ap50_interval"] == pytest.approx([1, 1])
    assert report["confusion"] == [[1, 0, 0], [0, 2, 0], [0, 0, 0]]
    assert all(row == {"count": 0, "ap50_gain": 0} for row in report["errors"].values())
    assert report["classes"][1]["best"] == pytest.approx({"score": 0.9, "precision": 1, "recall": 1, "f1": 1})


def test_nothing_found_nothing_to_find_and_neither(tmp_path):
    objects, hit = [(BOX, 0)], detected((BOX, 0.9, 0))
    nothing_found = report_of(tmp_path, truth_of(objects), [detected()])
    assert nothing_found["ap50"] == nothing_found["recall"] == nothing_found["voc_map50"] == 0
    assert nothing_found["ap50_interval"] is None  # of a single image
    assert nothing_found["errors"]["missed"] == {"count": 1, "ap50_gain": 1}
    assert nothing_found["classes"][0]["best"] is None
    assert nothing_found["classes"][1]["ap"] is None  # has no objects
    nothing_there = report_of(tmp_path, truth_of([]), [hit])
    assert nothing_there["ap50"] is nothing_there["ap50_interval"] is None
    assert nothing_there["errors"]["background"]["count"] == 1
    neither = report_of(tmp_path, truth_of([]), [detected()])
    assert neither["ap"] is None
    assert {path.name for path in tmp_path.iterdir()} == FILES
    console = Console(record=True, width=120)
    for report in (nothing_found, nothing_there, neither):
        say(console, report)
    assert "AP50 0.000" in console.export_text()


def test_a_class_without_objects_counts_in_no_mean(tmp_path, undrawn):
    report = report_of(tmp_path, truth_of([(BOX, 0)], 3), [detected((BOX, 0.9, 0), (BOX, 0.8, 2))])
    assert report["ap50"] == pytest.approx(1)
    assert report["voc_map50"] == 1
    assert [row["ap50"] for row in report["classes"]] == [pytest.approx(1), None, None]
    assert report["confusion"][3][2] == 1  # the object is found, so the other answer is about nothing


def test_difficult_objects_and_crowds_need_not_be_found(tmp_path, undrawn):
    truth = truth_of([(BOX, 0), (ELSEWHERE, 0)])
    for key in ("iscrowd", "difficult"):
        changed = truth | {"annotations": [truth["annotations"][0], {**truth["annotations"][1], key: 1}]}
        inside = (45.0, 45.0, 50.0, 50.0)
        report = report_of(tmp_path, changed, [detected((BOX, 0.9, 0), (inside, 0.95, 0), (ELSEWHERE, 0.99, 0))])
        assert report["ap50"] == pytest.approx(1)  # to COCO it lies in a crowd
        assert report["precision"] == report["recall"] == 1
        assert report["voc_map50"] == 1 / 2  # to VOC what is inside a difficult object is wrong
        assert (report["objects"], report["difficult"]) == (1, 1)
        assert report["confusion"] == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("kind", "extra", "gain"),
    [
        # One object of each class is found at 0.5; the error is ahead of it.
        ("classification", [(ELSEWHERE, 0.9, 1)], 1.0),
        ("localisation", [((40, 40, 60, 46), 0.9, 0)], 1.0),
        ("both", [((40, 40, 60, 46), 0.9, 1)], None),
        ("background", [((70, 0, 90, 9), 0.9, 0)], None),
        ("duplicate", [(BOX, 0.4, 0)], None),
    ],
)
def test_each_kind_of_error_is_told_from_the_others(kind, extra, gain):
    truth = objects_of((BOX, 0), (AWAY, 1), (ELSEWHERE, 0))
    scenes = [error_types.scene(truth, detected((BOX, 0.5, 0), (AWAY, 0.5, 1), *extra))]
    counts = error_types.counts(scenes)
    noticed = kind in ("classification", "localisation")  # such an object is not missed as well
    assert counts == dict.fromkeys(KINDS, 0) | {kind: 1, "missed": 0 if noticed else 1}
    gains = error_types.gains(scenes, 2)
    before = error_types.table(scenes, 2).ap50()
    if gain is not None:
        assert gains[kind] == pytest.approx(gain - before)  # the only thing wrong, once put right
    elif kind == "duplicate":
        assert gains[kind] == 0  # it comes after everything that can be found
    else:
        assert gains[kind] > 0.1


def test_what_an_error_costs_is_worked_by_hand():
    # A mistake ahead of the only object: precision 1/2 throughout. Without it 1.
    scenes = [error_types.scene(objects_of((BOX, 0)), detected((BOX, 0.5, 0), (ELSEWHERE, 0.9, 0)))]
    assert error_types.gains(scenes, 1)["background"] == pytest.approx(1 / 2)
    # One of two objects missed: precision 1 at the 51 recalls of 0 to 0.5. Not looked for, 1 throughout.
    scenes = [error_types.scene(objects_of((BOX, 0), (ELSEWHERE, 0)), detected((BOX, 0.5, 0)))]
    assert error_types.gains(scenes, 1)["missed"] == pytest.approx(1 - 51 / 101)
    # Two of the wrong class on one object: one is put right, the other dropped.
    double = detected((BOX, 0.5, 1), (BOX, 0.4, 1))
    scenes = [error_types.scene(objects_of((BOX, 0)), double)]
    assert error_types.gains(scenes, 2)["classification"] == pytest.approx(1)
    assert error_types.counts(scenes)["missed"] == 0


def test_confusions_are_counted_from_the_threshold_on():
    truth = objects_of((BOX, 0), (ELSEWHERE, 1))
    found = detected((BOX, 0.9, 0), (ELSEWHERE, 0.8, 0), (ELSEWHERE, 0.7, 0), (MOVED, 0.6, 1), (ELSEWHERE, 0.3, 1))
    # Both objects answered as 0; the second such answer and the misplaced one are about nothing.
    expected = [[1, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert error_types.confusion([error_types.scene(truth, found, threshold=0.5)], 2).tolist() == expected
    found_at_last = [[1, 0, 0], [0, 1, 0], [2, 1, 0]]
    assert error_types.confusion([error_types.scene(truth, found)], 2).tolist() == found_at_last
    empty = error_types.confusion([error_types.scene(truth, found, threshold=1)], 2)
    assert empty.tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_rows_of_a_confusion_matrix_are_the_objects_and_columns_the_detections():
    truth, detections, _ = world(30, seed=3)
    scenes = list(map(error_types.scene, box_report.objects_of(truth), detections))
    counts = error_types.confusion(scenes, 3)
    wanted = sum(np.bincount(one.truth.classes[~one.truth.difficult], minlength=3) for one in scenes)
    counted = sum(np.bincount(one.found.classes[one.outcomes >= 0], minlength=3) for one in scenes)
    assert counts[:3].sum(axis=1).tolist() == wanted.tolist()
    assert counts[:, :3].sum(axis=0).tolist() == counted.tolist()
    assert np.trace(counts) == sum(one.right for one in scenes)


def test_every_figure_states_its_thresholds(tmp_path, monkeypatch):
    headings = []
    for module, names in {
        charts: ("precision_recall", "confusion_matrix", "panels"),
        image_grid: ("detections",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, lambda *given, heading, **_: headings.append((heading, given)))
    truth, detections, drawn = world(4)
    report_of(tmp_path, truth, detections, drawn, threshold=0.37, decoding="NMS at IoU 0.45")
    assert len(headings) == 5
    for heading, given in headings:
        assert "score ≥ 0.37, IoU ≥ 0.5" in heading + str(given)
    assert sum("NMS at IoU 0.45" in heading for heading, _ in headings) == 2  # those over all scores


def test_predictions_list_what_is_drawn_and_what_was_missed(tmp_path, undrawn):
    found = detected((BOX, 0.9, 0), (MOVED, 0.8, 0), (ELSEWHERE, 0.2, 1))
    report_of(tmp_path, truth_of([(BOX, 0), (ELSEWHERE, 1)]), [found])
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["score"], row["left"], row["outcome"]) for row in rows] == [
        ("tree", "0.900000", "10.00", "right"),
        ("tree", "0.800000", "10.00", "localisation"),
        ("$5", "", "40.00", "missed"),
    ]


def test_boxes_are_drawn_where_they_are_on_a_smaller_picture(tmp_path):
    truth, found = truth_of([(BOX, 0)]), detected((BOX, 0.9, 0))
    half = [np.zeros((40, 50, 3), np.uint8)]
    sheets = []
    for drawn in (half, None):
        report_of(tmp_path, truth, [found], drawn)
        with Image.open(tmp_path / "best.png") as image:
            sheets.append(np.all(np.asarray(image.convert("RGB")) == (0, 114, 178), axis=2))
    assert sheets[0].any()
    small, whole = ([np.flatnonzero(sheet.any(axis=axis))[[0, -1]] for axis in (0, 1)] for sheet in sheets)
    np.testing.assert_allclose(small, whole, atol=3)


def test_more_than_a_hundred_detections_an_image_are_all_looked_at(tmp_path, undrawn):
    grid = [(10.0 * (i % 12), 10.0 * (i // 12), 10.0 * (i % 12) + 8, 10.0 * (i // 12) + 8) for i in range(144)]
    found = detected(*((box, 0.9 - i / 1000, 0) for i, box in enumerate(grid)))
    report = report_of(tmp_path, truth_of([(box, 0) for box in grid]), [found])
    assert report["ap50"] == pytest.approx(1)
    assert report["ar"] == pytest.approx(1)
    assert report["settings"]["limit"] == 144


def test_as_many_detections_as_images_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match="detections must have 1 entries"):
        report_of(tmp_path, truth_of([(BOX, 0)]), [])


def test_squares_of_a_picture_hold_each_object_and_each_detection_once():
    """A detection goes with the object that it is about, whichever square its own midpoint is in."""
    truth = objects_of(((2, 2, 12, 12), 0), ((42, 4, 52, 14), 1), ((60, 50, 90, 70), 0))
    said = detected(
        ((2, 2, 12, 12), 0.9, 0), ((45, 4, 55.5, 14), 0.8, 1), ((80, 2, 90, 9), 0.7, 0), ((2, 60, 9, 70), 0.6, 1)
    )
    whole = error_types.scene(truth, said)
    parts = error_types.squares(7, whole, (80, 100), side=45)
    assert [part.window for part in parts] == [(0, 0, 50, 40), (50, 0, 100, 40), (0, 40, 50, 80), (50, 40, 100, 80)]
    assert {part.image for part in parts} == {7}
    assert [(len(part.scene.truth.classes), len(part.scene.found.scores)) for part in parts] == [
        (2, 2),
        (0, 1),
        (0, 1),
        (1, 0),
    ]
    assert parts[0].scene.about.tolist() == [0, 1]
    assert [part.scene.right for part in parts] == [2, 0, 0, 0]
    assert [part.scene.missed.tolist() for part in parts] == [[False, False], [], [], [True]]
    together, alone = (error_types.table(scenes, 2) for scenes in ([part.scene for part in parts], [whole]))
    assert together.ap50() == alone.ap50()
    np.testing.assert_array_equal(together.positives.sum(axis=0), alone.positives[0])


def test_one_large_picture_has_an_interval_by_its_squares(tmp_path):
    objects = [((x, y, x + 8, y + 8), 0) for x in (5, 35, 65, 85) for y in (5, 45, 65)]
    found = detected(*[(box, 0.5 + 0.03 * row, 0) for row, (box, _) in enumerate(objects[::2])])
    settings = {"detections": [found], "threshold": 0.3, "pictures_of": lambda rows: [np.zeros((80, 100, 3), np.uint8)]}
    assert box_report.detection_report(tmp_path, truth_of(objects, 1), **settings)["ap50_interval"] is None
    report = box_report.detection_report(tmp_path, truth_of(objects, 1), **settings, square=30)
    low, high = report["ap50_interval"]
    assert low < report["ap50"] < high
    assert (tmp_path / "worst.png").is_file()
