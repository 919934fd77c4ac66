"""What is served beside what the network was made for, in the metrics of a server."""

import io
import json
import re
import time
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from cnn_keras.metrics.image_statistics import image_statistics
from pipelines.data import run_files
from pipelines.inference.exported_model import newest
from pipelines.serving import observation
from pipelines.serving.server import application
from tests.toy_model import export

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

REFERENCE = {
    "size": [4, 4],
    "channels": 1,
    "fit": "stretch",
    "classes": ["a", 'b"\n'],
    "pictures": 4,
    "histograms": {
        **{name: {"bounds": [1.0, 2.0], "counts": [1, 2, 1], "sum": 8.0} for name in observation.PICTURES},
        "confidence": {"bounds": [0.5, 0.9], "counts": [0, 1, 3], "sum": 3.5},
    },
    "answers": {"a": 3, 'b"\n': 1},
}


def parsed(text):
    """The values by metric and labels."""
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_what_a_server_is_asked_and_answers_stands_beside_its_reference(exported):
    folder = newest(exported.run / "export" / "small")
    files = sorted(exported.photos.rglob("*.png"))[:3]
    with TestClient(application(folder)) as client:
        labels = Counter()
        for file in files:
            answer = client.post("/predict", files={"file": file.read_bytes()}).json()
            labels[answer["predictions"][0]["label"]] += 1
            deadline = time.monotonic() + 60
            count = sum(labels.values())
            while (found := parsed(client.get("/metrics").text))[
                'cnn_picture_width_count{of="served",version="1"}'
            ] < count:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    held_out = json.loads((exported.run / "reference.json").read_text())
    for name, metric in (("brightness", "cnn_picture_brightness"), ("confidence", "cnn_answer_confidence")):
        assert found[f'{metric}_count{{of="reference",version="1"}}'] == held_out["count"]
        total = found[f'{metric}_sum{{of="reference",version="1"}}']
        assert total == pytest.approx(sum(held_out["quantities"][name]), abs=1e-4)
        assert found[f'{metric}_count{{of="served",version="1"}}'] == len(files)
    bright = [
        image_statistics(np.asarray(Image.open(file).resize((28, 28), 2))[..., None]).brightness for file in files
    ]
    assert found['cnn_picture_brightness_sum{of="served",version="1"}'] == pytest.approx(sum(bright), abs=0.01)
    for name in "0123":
        assert found[f'cnn_answers_total{{of="served",version="1",answer="{name}"}}'] == labels[name]
        expected = held_out["answers"].count(name)
        assert found[f'cnn_answers_total{{of="reference",version="1",answer="{name}"}}'] == expected


def test_a_tenth_of_the_reference_lies_in_each_bucket(exported):
    reference = json.loads((newest(exported.run / "export" / "small") / run_files.REFERENCE).read_text())
    row = reference["histograms"]["brightness"]
    assert row["counts"][0] == row["counts"][-1] == 0
    assert sum(row["counts"]) == reference["pictures"]
    assert max(row["counts"]) <= np.ceil(reference["pictures"] / 10) + 1
    width = reference["histograms"]["width"]
    assert width["bounds"][0] < 24 == width["bounds"][-1]
    assert width["counts"] == [0, reference["pictures"], 0]


def test_lines_are_prometheus_text_with_one_type_for_each_metric():
    pair = observation.Observation(REFERENCE), observation.Observation(REFERENCE)
    pair[1].called({}, {"probabilities": np.array([[0.95, 0.05], [0.3, 0.7]])})
    lines = list(observation.lines(dict(enumerate(pair, 1))))
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) == len([line for line in lines if line.startswith("# HELP")]) == 8
    pattern = re.compile(r'cnn_\w+\{(\w+="(\\.|[^"\\])*",?)+\} \S+')
    assert all(pattern.fullmatch(line) for line in lines if line[0] != "#")
    found = parsed("\n".join(lines))
    assert found['cnn_answer_confidence_bucket{of="served",version="2",le="0.9"}'] == 1
    assert found['cnn_answer_confidence_bucket{of="served",version="2",le="+Inf"}'] == 2
    assert found['cnn_answers_total{of="served",version="2",answer="b\\"\\n"}'] == 1
    assert found['cnn_answer_confidence_count{of="served",version="1"}'] == 0


def test_ranked_answers_count_as_plain_ones():
    seen = observation.Observation(REFERENCE)
    classes = np.array([[b"a", b"b"], [b"b", b"a"]], object)
    seen.called({}, {"classes": classes, "scores": np.array([[0.8, 0.2], [0.9, 0.1]])})
    assert seen.answers == {"a": 1, "b": 1}


def test_pictures_are_measured_as_they_come_and_as_the_network_is_given_them():
    seen = observation.Observation(REFERENCE)
    seen.measure(png(np.full((6, 8), 255, np.uint8)))
    seen.measure(np.full((6, 8, 1), 255, np.uint8))
    seen.measure(b"no picture")
    found = parsed("\n".join(observation.lines({1: seen})))
    for name, total in (("width", 16), ("height", 12), ("brightness", 2), ("contrast", 0), ("sharpness", -16)):
        assert found[f'cnn_picture_{name}_sum{{of="served",version="1"}}'] == pytest.approx(total)


def test_pictures_that_come_while_another_is_measured_are_only_counted(monkeypatch):
    monkeypatch.setattr(observation.threading.Thread, "start", lambda thread: None)
    seen = observation.Observation(REFERENCE)
    seen.called({"image_bytes": np.array([b"one", b"two", b"three"], object)}, {})
    assert seen.unmeasured == 2


def test_without_a_reference_nothing_is_compared(tmp_path, caplog):
    folder = export(tmp_path / "toy" / "1")
    version = newest(folder)
    assert observation.of(version) is None
    (version / run_files.REFERENCE).parent.mkdir(exist_ok=True)
    (version / run_files.REFERENCE).write_text("{}")
    assert observation.of(version) is None
    assert "damaged" in caplog.text


def test_masks_and_numbers_are_counted_by_what_they_are_of():
    row = {"bounds": [0.0, 0.5, 1.0], "counts": [0, 1, 1, 0], "sum": 1.0}
    names = ("share of road", "share of sky", "confidence")
    reference = REFERENCE | {"answers": {}, "classes": ["road", "sky"], "histograms": dict.fromkeys(names, row)}
    seen = observation.Observation(reference)
    outputs = {"shares": np.array([[0.25, 0.75]]), "confidence": np.array([[1.0, 0.4]])}
    seen.called(
        {}, {**outputs, "classes": np.array([[b"road", b"sky"]], object), "mask_bytes": np.array([b""], object)}
    )
    lines = list(observation.lines({1: seen}))
    assert len([line for line in lines if line.startswith("# TYPE cnn_answer_share")]) == 1
    found = parsed("\n".join(lines))
    assert found['cnn_answer_share_sum{of="served",version="1",name="road"}'] == 0.25
    assert found['cnn_answer_share_bucket{of="served",version="1",name="sky",le="0.5"}'] == 0
    assert found['cnn_answer_share_count{of="reference",version="1",name="sky"}'] == 2
    assert found['cnn_answer_confidence_sum{of="served",version="1"}'] == pytest.approx(0.25 + 0.75 * 0.4)


def test_objects_are_counted_by_the_likeliest_of_a_picture():
    row = {"bounds": [0.0, 2.0], "counts": [0, 1, 0], "sum": 1.0}
    reference = REFERENCE | {"answers": {"cat": 1, "nothing": 0}, "histograms": {"objects": row, "box_side": row}}
    seen = observation.Observation(reference)
    boxes, label = np.array([[[0, 0, 2, 2]]] * 2, np.float32), np.array([["cat"], [""]], object)
    outputs = {"boxes": boxes, "scores": np.array([[0.9], [0]]), "label": label, "count": np.array([1, 0])}
    seen.called({}, outputs)
    found = parsed("\n".join(observation.lines({1: seen})))
    assert found['cnn_answers_total{of="served",version="1",answer="nothing"}'] == 1
    assert found['cnn_answer_objects_count{of="served",version="1"}'] == 2
    assert found['cnn_answer_box_side_count{of="served",version="1"}'] == 1
