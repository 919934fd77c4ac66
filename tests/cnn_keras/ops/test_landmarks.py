"""Landmarks: losses and metrics worked by hand, framing that undoes itself, tables and cards as sources."""

import io
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnn_keras.data import annotation
from cnn_keras.data.formats import landmarks_csv
from cnn_keras.data.sources import detection
from cnn_keras.data.sources.synthetic import cards
from cnn_keras.errors import Fault
from cnn_keras.ops import boxes, landmarks
from cnn_keras.ops.resize import resize_image


def test_smooth_l1_is_a_parabola_near_zero_and_a_line_beyond():
    found = landmarks.smooth_l1(tf.constant([0.0, 0.1, -0.2, 0.5, -1.2]), bend=0.2).numpy()
    assert found == pytest.approx([0, 0.025, 0.1, 0.4, 1.1])


def test_wing_is_steep_near_zero_and_a_line_beyond():
    # w = 10, ε = 2: 10 ln(1 + x / 2), and beyond 10 less C = 10 - 10 ln 6.
    found = landmarks.wing(tf.constant([0.0, 2.0, -8.0, 10.0, -15.0]), width=10.0, curvature=2.0).numpy()
    assert found == pytest.approx([0, 10 * math.log(2), 10 * math.log(5), 10 * math.log(6), 5 + 10 * math.log(6)])


@pytest.mark.parametrize(("kind", "bend"), [("smooth_l1", landmarks.BEND), ("wing", landmarks.WIDTH)])
def test_the_two_pieces_of_a_loss_meet(kind, bend):
    below, above = landmarks.LOSSES[kind](tf.constant([bend * (1 - 1e-5), bend * (1 + 1e-5)])).numpy()
    assert below == pytest.approx(above, rel=1e-3)


def test_what_is_not_visible_is_not_asked_for():
    truth = tf.constant([[[0.5, 0.5, 1], [0.0, 0.0, 0], [0.2, 0.8, 1]], [[0.1, 0.1, 0], [0.2, 0.2, 0], [0.3, 0.3, 0]]])
    said = tf.Variable([[[0.5, 0.7], [0.9, 0.9], [0.2, 0.8]], [[0.9, 0.9], [0.9, 0.9], [0.9, 0.9]]])
    with tf.GradientTape() as tape:
        found = landmarks.mean_loss(truth, said, kind="smooth_l1")
    slopes = tape.gradient(found, said).numpy()
    # One of two visible landmarks is missed by 0.2, of which the bend takes half of 0.02.
    assert found.numpy() == pytest.approx([(0.2 - 0.01) / 2, 0])
    assert slopes[0, 0].tolist() == pytest.approx([0, 0.5])
    assert not slopes[0, 1].any()
    assert not slopes[1].any()


def test_pck_and_nme_by_hand():
    truth = np.array([[[10, 10, 1], [30, 10, 1]], [[50, 50, 1], [0, 0, 0]]], float)
    said = np.array([[[13, 14], [30, 10]], [[50, 58], [99, 99]]], float)
    things = np.array([[0, 0, 100, 25], [40, 40, 60, 60]], float)
    far = landmarks.distances(truth, said)
    assert far[0].tolist() == [5, 0]
    assert far[1, 0] == 8
    assert math.isnan(far[1, 1])
    assert landmarks.pck(far, things, alpha=0.05) == pytest.approx(2 / 3)  # 5 of 5 allowed, 0 of 5, 8 of 1
    assert landmarks.pck(far, things, alpha=0.4) == 1
    assert landmarks.nme(far, things) == pytest.approx((5 / 50 + 0 + 8 / 20) / 3)
    assert math.isnan(landmarks.pck(far[1:, 1:], things[1:]))


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(20, 200), st.integers(20, 200)),
    st.sampled_from([(64, 64), (32, 96)]),
    st.sampled_from(["pad", "stretch", "crop"]),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_points_of_a_frame_are_those_of_the_picture_again(given, wanted, fit, point):
    marks = tf.constant([[*point, 1.0], [0.3, 0.6, 0.0]])
    there = landmarks.letterbox(marks, given, wanted, fit=fit)
    back = landmarks.unletterbox(there, given, wanted, fit=fit)
    np.testing.assert_allclose(back, marks, atol=1e-5)
    box = boxes.letterbox(tf.constant([[0.3, 0.6, 1.0, 1.0]]), given, wanted, fit=fit)[0]
    np.testing.assert_allclose(there[1, :2], box[:2], atol=1e-5)  # a point goes where a corner of a box goes


def test_a_batch_of_pictures_has_each_its_own_frame():
    marks = tf.random.stateless_uniform((3, 5, 2), [0, 1])
    sizes = tf.constant([[40, 80], [64, 64], [90, 30]])
    together = landmarks.letterbox(marks, sizes, (64, 64))
    for row in range(3):
        np.testing.assert_allclose(together[row], landmarks.letterbox(marks[row], sizes[row], (64, 64)), atol=1e-6)


def test_a_point_stays_on_its_pixel_when_a_picture_is_framed():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[10, 60] = 255
    framed = resize_image(tf.constant(picture), (160, 160), fit="pad").numpy()[..., 0]
    row, column = np.unravel_index(framed.argmax(), framed.shape)
    x, y = landmarks.letterbox(tf.constant([[60.5 / 80, 10.5 / 40]]), (40, 80), (160, 160))[0].numpy() * 160
    assert abs(x - (column + 0.5)) <= 1
    assert abs(y - (row + 0.5)) <= 1


def table(folder, text, names=("a.png", "b.png", "c.png")):
    for name in names:
        Image.new("RGB", (40, 30)).save(folder / name)
    (folder / "points.csv").write_text(text)
    return folder / "points.csv"


def test_a_table_of_points_is_read(tmp_path):
    path = table(
        tmp_path,
        "path,label,left,top,right,bottom,eye_x,eye_y,eye_visible,nose_x,nose_y,split\n"
        "a.png,cat,1,2,30,20,10,5,1,12.5,9,train\n"
        "b.png,dog,0,0,40,30,3,4,0,,,test\n"
        "c.png,,,,,,,,,,,\n",
    )
    first, second, third = detection.load("points", path=path).items
    (cat,) = first.objects
    assert (cat.box, cat.name) == ((1, 2, 30, 20), "cat")
    assert cat.landmarks == (("eye", 10, 5, True), ("nose", 12.5, 9, True))
    assert second.objects[0].landmarks == (("eye", 3, 4, False), ("nose", 0, 0, False))
    assert (first.split, second.split, third.split, third.objects) == ("train", "test", None, ())


def test_without_boxes_and_labels_a_thing_is_what_is_around_its_points(tmp_path):
    path = table(tmp_path, "path,a_x,a_y,b_x,b_y\na.png,5,20,30,6\nb.png,1,x,2,3\nc.png,,,,\n")
    first, second, third = landmarks_csv.read(path).items
    assert first.objects[0].box == (5, 6, 30, 20)
    assert first.objects[0].name == "thing"
    assert second.objects == ()
    assert second.troubles[0][0] == "malformed annotation"
    assert (third.objects, third.troubles) == ((), ())


def test_a_table_without_points_is_refused(tmp_path):
    with pytest.raises(Fault, match="NAME_x and NAME_y"):
        landmarks_csv.read(table(tmp_path, "path,x,y\na.png,1,2\n"))


def test_the_corners_of_a_card_are_where_they_are_drawn():
    items = cards.read(count=60, side=96, empty=0.0).items
    whole = [item for item in items if all(mark.visible for mark in item.objects[0].landmarks)]
    assert len(whole) > 10
    for item in whole:
        (card,) = item.objects
        assert [mark.name for mark in card.landmarks] == list(cards.CORNERS)
        assert annotation.enclosing_box([value for mark in card.landmarks for value in mark[1:3]]) == pytest.approx(
            card.box, abs=2.0
        )
        left, right = card.landmarks[3], card.landmarks[2]  # its lower corners: the digit stands upright
        assert left.x < right.x
        assert left.y > card.landmarks[0].y


def test_cards_are_the_same_every_time_and_some_pictures_have_none():
    first, second = (cards.read(count=40, side=48, empty=0.3, seed=3).items for _ in range(2))
    assert [item.objects for item in first] == [item.objects for item in second]
    assert first[7].read() == second[7].read()
    assert np.asarray(Image.open(io.BytesIO(first[7].read()))).shape == (48, 48, 3)
    assert 4 <= sum(not item.objects for item in first) <= 20
    assert [item.split for item in first].count("test") == 8
