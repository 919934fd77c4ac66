"""Numbers of answers: one of a picture each, counted by hand for every kind of output."""

import numpy as np
import pytest

from pipelines.engine import answer_statistics
from pipelines.engine.answer_statistics import NOTHING, Answers


def test_of_objects_there_are_the_number_the_best_score_the_usual_size_and_the_likeliest_class():
    boxes = np.zeros((3, 4, 4), np.float32)
    boxes[0, :3] = [[0, 0, 4, 9], [10, 10, 12, 12], [5, 5, 13, 7]]  # sides 6, 2 and 4
    boxes[1, 0] = [0, 0, 3, 3]
    scores = np.array([[0.5, 0.9, 0.4, 0], [0.7, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    label = np.array([[b"cat", b"dog", b"cat", b""], [b"cow", b"", b"", b""], [b""] * 4], object)
    outputs = {"boxes": boxes, "scores": scores, "label": label, "count": np.array([3, 1, 0], np.int32)}
    found = answer_statistics.measure(outputs)
    assert found.classes == ["dog", "cow", NOTHING]
    assert found.quantities["objects"] == [3, 1, 0]
    assert found.quantities["score"] == pytest.approx([0.9, 0.7, 0])
    assert found.quantities["box_side"] == [4, 3]


def test_of_masks_there_are_the_shares_and_the_confidence_of_a_pixel():
    legend = np.array([[b"road", b"sky"]] * 2, object)
    shares, confidence = np.array([[0.25, 0.75], [1, 0]]), np.array([[0.6, 0.8], [0.9, 0]])
    found = answer_statistics.measure({"classes": legend, "shares": shares, "confidence": confidence})
    assert found.quantities["share of sky"] == [0.75, 0]
    assert found.quantities["confidence"] == pytest.approx([0.25 * 0.6 + 0.75 * 0.8, 0.9])
    assert found.classes == []


def test_numbers_angles_and_classes():
    names = np.array([[b"age", b"height"]], object)
    values = answer_statistics.measure({"values": np.array([[30.0, 1.8]]), "names": names})
    assert values.quantities == {"value of age": [30.0], "value of height": [1.8]}
    assert answer_statistics.measure({"angle": np.array([-0.5])}).quantities == {"angle": [-0.5]}
    classified = answer_statistics.measure({"probabilities": np.array([[0.2, 0.8]])}, ["a", "b"])
    assert classified == Answers({"confidence": [0.8]}, ["b"])
    assert answer_statistics.measure({"embedding": np.zeros((1, 8))}) == Answers({}, [])


def test_parts_are_joined_in_their_order():
    parts = [Answers({"score": [1.0], "box_side": [2.0]}, ["a"]), Answers({"score": [0.0], "box_side": []}, ["b"])]
    assert answer_statistics.joined(parts) == Answers({"score": [1.0, 0.0], "box_side": [2.0]}, ["a", "b"])
    assert answer_statistics.joined([]) == Answers({}, [])
