"""Many crops: the right windows of an image whose pixels are their own coordinates, and the mean of the answers."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.ops import test_time_augmentation

SIZE = (14, 21)  # a frame of 16×24: two rows and three columns to spare


def coordinates(height, width):
    """uint8 (1, height, width, 2): each pixel is its row and its column."""
    return np.stack(np.mgrid[:height, :width], axis=-1).astype("uint8")[None]


def test_ten_crops_are_the_corners_and_the_centre_each_beside_its_mirror():
    frame = coordinates(*test_time_augmentation.frame_size(SIZE, "ten"))
    found = test_time_augmentation.views(frame, SIZE).numpy()
    assert found.shape == (10, *SIZE, 2)
    for number, (top, left) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3), (1, 1)]):
        window = frame[0, top : top + 14, left : left + 21]
        np.testing.assert_array_equal(found[2 * number], window)
        np.testing.assert_array_equal(found[2 * number + 1], window[:, ::-1])
    np.testing.assert_array_equal(found[test_time_augmentation.center_view()], frame[0, 1:15, 1:22])
    np.testing.assert_array_equal(
        test_time_augmentation.views(frame, SIZE, mirror=False)[test_time_augmentation.center_view(mirror=False)],
        frame[0, 1:15, 1:22],
    )


def test_without_mirrors_there_are_five_and_the_views_of_an_image_stay_together():
    frames = np.concatenate([coordinates(16, 24), 100 + coordinates(16, 24)])
    found = test_time_augmentation.views(frames, SIZE, mirror=False).numpy()
    assert found.shape == (10, *SIZE, 2)
    np.testing.assert_array_equal(found[5:], found[:5] + 100)


def test_at_five_scales_there_are_fifty_views_the_larger_the_scale_the_less_each_sees():
    assert test_time_augmentation.frame_size((224, 224), "ten") == (256, 256)
    assert test_time_augmentation.frame_size((224, 224), "multiscale") == (384, 384)
    frame = coordinates(*test_time_augmentation.frame_size(SIZE, "multiscale"))
    found = test_time_augmentation.views(frame, SIZE, kind="multiscale").numpy().astype(int)
    assert len(found) == test_time_augmentation.count("multiscale") == 50
    np.testing.assert_array_equal(found[40], frame[0, :14, :21])  # the left top at the largest scale, as it is
    columns = [np.ptp(found[10 * scale + 8, :, :, 1]) for scale in range(5)]  # that the centre sees, of 36
    assert columns == sorted(columns, reverse=True)
    np.testing.assert_allclose(columns, [20 * 12 / wide for wide in (8, 9, 10, 11, 12)], atol=1.5)


def test_an_image_of_one_colour_stays_so_at_every_scale():
    frame = np.full((2, *test_time_augmentation.frame_size((28, 28), "multiscale"), 3), 77, "uint8")
    assert np.unique(test_time_augmentation.views(frame, (28, 28), kind="multiscale")).tolist() == [77]


@pytest.mark.parametrize("mirror", [False, True])
def test_the_probabilities_of_an_image_are_the_mean_over_its_views(mirror):
    def model(images, training):
        assert training is False
        left, low = (
            tf.reduce_mean(tf.cast(images[:, :, :2], tf.float32), [1, 2, 3]),
            tf.reduce_mean(tf.cast(images[:, -2:], tf.float32), [1, 2, 3]),
        )
        return tf.stack([left / 50, low / 90], axis=1)

    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 1), dtype="uint8")
    found = test_time_augmentation.probabilities(model, frames, SIZE, mirror=mirror).numpy()
    for frame, said in zip(frames, found, strict=True):
        logits = model(
            tf.constant(test_time_augmentation.views(frame[None], SIZE, mirror=mirror)), training=False
        ).numpy()
        each = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(said, each.mean(axis=0), rtol=1e-5)


# Views of whole pictures


VIEWS = test_time_augmentation.whole_views("multiscale")


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("frame", [(60, 90), (31, 47)])
def test_boxes_lie_where_their_things_are_seen_and_come_back_exactly(view, frame):
    height, width = frame
    picture = np.zeros((1, height, width, 3), np.uint8)
    left, top, right, bottom = width // 3, height // 4, 2 * width // 3, height // 2
    picture[:, top:bottom, left:right] = 255
    box = tf.constant([[[left / width, top / height, right / width, bottom / height], [0, 0, 0, 0]]], tf.float32)
    seen, placed = view.picture(tf.constant(picture)).numpy()[0, ..., 0], view.boxes(box, frame)
    assert seen.shape == frame
    rows, columns = np.nonzero(seen > 127)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(placed[0, 0] * (width, height, width, height), found, atol=0.51)
    np.testing.assert_allclose(view.back(placed, frame), box, atol=1e-6)
    assert not np.any(placed[0, 1])  # padding stays padding


def test_each_view_is_another_and_the_first_is_the_picture_itself():
    picture = tf.constant(coordinates(30, 60))
    seen = [view.picture(picture).numpy() for view in VIEWS]
    np.testing.assert_array_equal(seen[0], picture)
    np.testing.assert_array_equal(seen[1], picture[:, :, ::-1])
    assert len({view.tobytes() for view in seen}) == len(VIEWS) == 6
    assert [(view.share, view.mirrored) for view in test_time_augmentation.whole_views("flip")] == [
        (1, False),
        (1, True),
    ]
    assert len(test_time_augmentation.whole_views("multiscale", mirror=False)) == 3


@pytest.mark.parametrize("view", test_time_augmentation.whole_views("multiscale"))
def test_what_is_said_of_each_pixel_comes_back_to_where_it_is_seen(view):
    """Maps that say where a pixel is seen: come back, they say where it is."""
    size = 60
    across, down = np.meshgrid(*[np.arange(size, dtype=np.float32)] * 2)
    images = np.stack([across, down, 0 * down], axis=-1).astype(np.uint8)[None]
    back = view.maps_back(tf.cast(view.picture(images), tf.float32)).numpy()[0]
    inside = slice(3, -3)  # the border is blended with the black around it
    for number, right in enumerate((across, down)):
        np.testing.assert_allclose(back[inside, inside, number], right[inside, inside], atol=1.01)
