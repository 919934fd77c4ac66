"""Heat maps of reports: what is drawn of images, signals and volumes, and the scores that tasks explain."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras import models
from cnn_keras.learn import visualization
from cnn_keras.models import centernet
from pipelines.engine import heat_maps
from pipelines.plots.image_grid import Strip
from pipelines.tasks.detect.explanation import POSITIONS, score_of_object
from pipelines.tasks.localize.explanation import presence_and_class
from pipelines.tasks.segment.explanation import largest
from pipelines.tasks.verify.explanation import similarity

RANDOM = np.random.default_rng(0)


def orange(picture):
    """How much more red than blue a picture is, by column."""
    return (picture[..., 0].astype(float) - picture[..., 2]).mean(axis=0)


def test_the_ground_of_a_signal_is_coloured_where_the_evidence_is():
    heat = np.zeros(50)
    heat[10:15] = 2
    plain, heated = heat_maps.draw_heat_map(np.zeros((50, 1), np.float32), heat)
    assert plain.shape == heated.shape
    across = orange(heated)
    assert across[len(across) // 4] > 60
    assert abs(across[len(across) // 2 :]).max() < 5


def test_planes_of_a_volume_go_through_the_hottest_voxel():
    volume, heat = RANDOM.normal(size=(6, 8, 10, 1)).astype(np.float32), np.zeros((6, 8, 10))
    volume[4, 1, 7] = 9  # the brightest
    heat[4, 1, 7] = 1
    plain, heated = heat_maps.draw_heat_map(volume, heat)
    assert plain.shape == heated.shape
    assert (plain.min(axis=-1) == 255).any()
    assert orange(heated).max() > orange(plain).max()
    cold = heat_maps.draw_heat_map(volume, np.roll(heat, 1, axis=0))[0]
    assert not np.array_equal(cold, plain)


@pytest.mark.parametrize("length", [4, 5, 8, 13])
def test_the_window_in_the_middle_of_what_is_smaller_is_mirrored(length):
    values = np.arange(length)[:, None]
    found = heat_maps.middle_window(values, (8,))[:, 0]
    if length >= 8:
        start = (length - 8) // 2
        assert found.tolist() == list(range(start, start + 8))
    else:
        before = (8 - length + 1) // 2
        assert found[before : before + length].tolist() == list(range(length))
        assert found[before - 1] == 0


def test_a_report_has_the_answers_to_the_first_few_examples_and_none_without_answers(tmp_path):
    picture = np.full((8, 8, 3), 99, np.uint8)
    asked = []

    def explain(examples):
        asked.extend(examples)
        return [[Strip(f"answer {number}", "", [picture, picture])] * (number % 2) for number in range(len(examples))]

    examples = ((picture + number, f"{number}.png") for number in range(9))
    heat_maps.report(explain, examples, tmp_path, heading="Answers")
    assert len(asked) == heat_maps.SHOWN
    with Image.open(tmp_path / heat_maps.FILE) as drawn:
        assert drawn.width > 100
    (tmp_path / heat_maps.FILE).unlink()
    heat_maps.report(lambda examples: [[] for _ in examples], [(picture, "0.png")], tmp_path, heading="None")
    heat_maps.report(explain, (), tmp_path, heading="None")
    assert not list(tmp_path.iterdir())


def test_a_classifier_explains_its_likeliest_class():
    entry = keras.Input((12, 1))
    x = keras.layers.Conv1D(2, 1, use_bias=False, name="conv")(entry)
    model = keras.Model(entry, keras.layers.GlobalAveragePooling1D()(x))
    model.get_layer("conv").set_weights([np.array([[[3.0, -3.0]]])])
    signal = np.zeros((12, 1), np.float32)
    signal[3] = 5
    ((strip,), (other,)) = heat_maps.classifier(model, ["up", "down"], lambda one: one)([signal, -signal])
    assert [one.name.split()[0] for one in (strip, other)] == ["up", "down"]
    assert len(strip.images) == 2


def test_the_score_of_an_object_is_the_odds_of_the_candidate_that_its_box_is_of():
    candidates = tf.constant([[[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0.5, 0.5, 1, 1]]])
    scores = tf.constant([[[0.9, 0.1], [0.2, 0.6], [0.2, 0.7]]])
    target = score_of_object(lambda outputs: (candidates, outputs))
    with tf.GradientTape() as tape:
        tape.watch(scores)
        found = target(scores, np.array([[0.5, 0.5, 1, 1]], np.float32), np.array([1]))
    assert float(found[0]) == pytest.approx(np.log(0.7 / 0.3), abs=1e-4)
    assert np.argwhere(tape.gradient(found, scores).numpy()).tolist() == [[0, 2, 1]]


def test_certainty_still_has_a_gradient():
    score = tf.constant([[[1.0 - 1e-7]]])
    target = score_of_object(lambda outputs: (tf.constant([[[0.0, 0, 1, 1]]]), outputs))
    with tf.GradientTape() as tape:
        tape.watch(score)
        found = target(score, np.array([[0, 0, 1, 1]], np.float32), np.array([0]))
    assert np.isfinite(found)
    assert tape.gradient(found, score).numpy().item() > 1


@pytest.mark.parametrize(
    "builder",
    ["centernet.centernet", "yolo.yolov2_tiny", "yolo.yolov3_tiny", "yolo.yolo_small", "yolov1.yolov1_small"],
)
def test_the_map_that_explains_a_detector_lies_over_the_picture(builder):
    shape = (96, 128, 3)
    model = models.build(builder, input_shape=shape, classes=2)
    layer = visualization.bottleneck_layer(model, input_shape=shape, positions=POSITIONS)
    row = visualization.spatial_layers(model, input_shape=shape)[layer]
    for axis in (0, 1):
        middle = row.middle[axis] + row.jump[axis] * (row.output_shape[axis] - 1) / 2
        assert abs(middle - (shape[axis] - 1) / 2) <= row.jump[axis]


def test_centernets_objects_rest_on_something_and_those_of_a_head_that_does_not_look_on_nothing():
    keras.utils.set_random_seed(0)
    model = centernet.centernet(input_shape=(64, 64, 3), classes=2)
    pictures = RANDOM.random((2, 64, 64, 3), np.float32)
    layer = visualization.bottleneck_layer(model, positions=POSITIONS)
    target = score_of_object(lambda outputs: centernet.decode(model, outputs))

    def explained():
        boxes, scores = centernet.decode(model, model(pictures))
        best = boxes[:, 0].numpy(), scores[:, 0].numpy().argmax(axis=-1)
        return visualization.grad_cam(model, pictures, target, *best, layer=layer, pooled=False)

    assert (explained().max(axis=(1, 2)) > 0).all()
    head = model.get_layer("heatmap")
    head.set_weights([np.zeros_like(head.get_weights()[0]), np.float32([-2, -1])])
    assert not explained().any()


@pytest.mark.parametrize("sizes", [(3, 4), (2, 3, 4)])
def test_the_score_of_a_class_of_pixels_is_the_sum_of_its_logits_where_it_is_likeliest(sizes):
    logits = RANDOM.normal(size=(2, *sizes, 3)).astype(np.float32)
    found = visualization.mask_logits(tf.constant(logits), np.array([2, 0]))
    for row, number in enumerate((2, 0)):
        there = logits[row].argmax(axis=-1) == number
        assert float(found[row]) == pytest.approx(logits[row][there][:, number].sum(), abs=1e-4)


def test_the_largest_classes_are_told_without_the_ground():
    labels = np.array([0] * 9 + [1] * 2 + [3] * 5)
    assert largest(labels, ["background", "cat", "dog", "bird"]) == [3, 1]
    assert largest(labels, ["sky", "cat", "dog", "bird"]) == [0, 3, 1]
    assert largest(labels * 0, ["background", "cat"]) == []


def test_a_localizer_explains_its_presence_and_class():
    y = np.arange(16, dtype=np.float32).reshape(2, 8)
    np.testing.assert_allclose(presence_and_class(tf.constant(y), np.array([0, 2])), [0 + 5, 8 + 15])


def test_pictures_are_the_more_alike_the_less_their_embeddings_differ():
    one, other = np.eye(3, dtype=np.float32)[:2], np.eye(3, dtype=np.float32)[[0, 2]]
    pair = {side: keras.Input((3,), name=side) for side in ("left", "right")}
    distance = keras.ops.sum(keras.ops.square(pair["left"] - pair["right"]), axis=-1)
    np.testing.assert_allclose(similarity(keras.Model(pair, distance))(one, other), [0, -2])
