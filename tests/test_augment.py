"""Augmentations on pictures whose pixels are their own coordinates, and what a recipe may say about them."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.data import augment
from cnn_keras.fault import Fault

SEEDS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
FILLS = ("constant", "nearest", "reflect", "wrap")
ALL = {
    "mirror": augment.mirror(),
    "affine": augment.affine(rotate=30, shift=0.2, zoom=0.3, shear=10),
    "brighten": augment.brighten(brightness=0.3, contrast=0.5),
}


def coordinates(height=9, width=15, channels=3):
    """uint8 (height, width, channels): ten times the row, ten times the column, 255."""
    y, x = np.mgrid[:height, :width]
    return np.stack([10 * y, 10 * x, np.full_like(x, 255)], axis=-1)[..., :channels].astype(np.uint8)


def test_every_augmentation_is_tried_here():
    assert ALL.keys() == augment.catalogue().keys()


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, channels=st.sampled_from([1, 3]))
def test_the_same_seed_gives_the_same_uint8_picture_in_the_same_shape(name, seed, channels):
    example = {"image": coordinates(channels=channels), "label": 3, "id": "a"}
    first, second = (ALL[name](example, seed) for _ in range(2))
    assert first["image"].dtype == tf.uint8
    assert first["image"].shape == (9, 15, channels)
    np.testing.assert_array_equal(first["image"], second["image"])
    assert (first["label"], first["id"], first.keys()) == (3, "a", example.keys())


@pytest.mark.parametrize("name", ALL)
def test_other_seeds_give_other_pictures(name):
    pictures = {ALL[name]({"image": coordinates()}, (seed, 0))["image"].numpy().tobytes() for seed in range(20)}
    assert len(pictures) == (2 if name == "mirror" else 20)


@pytest.mark.parametrize("name", ALL)
def test_a_graph_keeps_the_static_shape_and_the_picture(name):
    spec = {"image": tf.TensorSpec((9, 15, 3), tf.uint8)}
    graph = tf.function(ALL[name], input_signature=[spec, tf.TensorSpec((2,), tf.int32)])
    assert graph.get_concrete_function().output_shapes["image"] == (9, 15, 3)
    example = {"image": coordinates()}
    difference = graph(example, (1, 2))["image"].numpy().astype(int) - ALL[name](example, (1, 2))["image"].numpy()
    assert np.abs(difference).max() <= 1  # a compiler may contract a multiplication and an addition


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_mirror_is_either_the_picture_or_its_mirror_image_and_twice_is_the_picture(seed):
    image = coordinates()
    once = augment.mirror()({"image": image}, seed)
    expected = image if (once["image"].numpy() == image).all() else image[:, ::-1]
    np.testing.assert_array_equal(once["image"], expected)
    np.testing.assert_array_equal(augment.mirror()(once, seed)["image"], image)


def test_mirror_flips_every_second_picture():
    image = coordinates()
    flipped = sum((ALL["mirror"]({"image": image}, (0, n))["image"].numpy() != image).any() for n in range(200))
    assert 70 < flipped < 130


@pytest.mark.parametrize("fill", FILLS)
def test_settings_of_zero_change_nothing(fill):
    image = coordinates()
    np.testing.assert_array_equal(augment.affine(fill=fill)({"image": image}, (1, 2))["image"], image)
    np.testing.assert_array_equal(augment.brighten()({"image": image}, (1, 2))["image"], image)


def moved(image, *, fill="constant", **drawn):
    """`image` under a transform that is given instead of drawn."""
    centre = (np.array(image.shape[:2], np.float32) - 1) / 2
    numbers = {"angle": 0.0, "shear": 0.0, "scale": 1.0, "move": (0.0, 0.0)} | drawn
    transform = augment._about_centre(**numbers, centre=centre)
    return augment._transformed(tf.constant(image), transform, fill).numpy()


@given(st.integers(-4, 4), st.integers(-4, 4))
@settings(max_examples=20, deadline=None)
def test_a_shift_by_whole_pixels_is_exact(down, right):
    image = coordinates()
    expected = np.zeros_like(image)
    height, width = 9 - abs(down), 15 - abs(right)
    top, left = max(down, 0), max(right, 0)
    inner = image[max(-down, 0) : max(-down, 0) + height, max(-right, 0) : max(-right, 0) + width]
    expected[top : top + height, left : left + width] = inner
    np.testing.assert_array_equal(moved(image, move=(float(down), float(right))), expected)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_rotation_by_quarter_turns_is_exact(quarters):
    image = coordinates(11, 11)
    np.testing.assert_array_equal(
        moved(image, angle=quarters * math.pi / 2), np.rot90(image, quarters)
    )  # anti-clockwise


def test_zooming_by_two_doubles_the_centre():
    image = coordinates(9, 9)
    zoomed = moved(image, scale=2.0)
    np.testing.assert_array_equal(zoomed[::2, ::2], image[2:7, 2:7])
    np.testing.assert_array_equal(zoomed[1::2, ::2, 0], image[2:6, 2:7, 0] + 5)  # half-way between two rows


def test_shear_moves_each_row_by_its_distance_from_the_middle():
    image = coordinates(9, 15)
    sheared = moved(image, shear=math.pi / 4, fill="wrap")  # one column per row
    for row in range(9):
        np.testing.assert_array_equal(sheared[row, 5:10], image[row, 5 + (row - 4) : 10 + (row - 4)])


@given(SEEDS, st.integers(0, 255))
@settings(max_examples=20, deadline=None)
def test_an_even_picture_stays_even_under_every_transform(seed, level):
    image = np.full((9, 15, 1), level, np.uint8)
    step = augment.affine(rotate=45, shift=0.2, zoom=0.5, shear=20, fill="nearest")
    np.testing.assert_array_equal(step({"image": image}, seed)["image"], image)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_affine_stays_within_what_it_was_told(seed):
    image = coordinates(21, 21)[..., :2].astype(int)
    step = augment.affine(shift=0.1, fill="nearest")
    difference = step({"image": np.uint8(image)}, seed)["image"].numpy()[5:16, 5:16] - image[5:16, 5:16]
    assert np.abs(difference).max() <= 22  # 0.1 × 21 pixels, ten levels each, rounded


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_brighten_moves_levels_linearly_and_clips(seed):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    changed = (
        augment.brighten(brightness=0.2, contrast=0.3)({"image": image}, seed)["image"].numpy().ravel().astype(int)
    )
    assert (np.diff(changed) >= 0).all()
    assert abs(changed[128] - 128) <= 0.2 * 255 + 1
    inner = changed[(changed > 0) & (changed < 255)]
    assert 0.7 - 0.02 <= (inner[-1] - inner[0]) / (len(inner) - 1) <= 1.3 + 0.02


@pytest.mark.parametrize("name", ["mirror", "affine"])
def test_geometry_refuses_what_it_cannot_move(name):
    with pytest.raises(ValueError, match=f"{name} cannot move boxes, mask"):
        ALL[name]({"image": coordinates(), "label": 0, "mask": 0, "boxes": 0}, (0, 0))


def test_colours_leave_boxes_alone():
    assert ALL["brighten"]({"image": coordinates(), "boxes": "here"}, (0, 0))["boxes"] == "here"


def test_compose_takes_the_steps_in_turn_with_a_seed_for_each():
    steps = augment.compose(["mirror", {"affine": {"rotate": 20}}, "mirror"])
    example = {"image": coordinates()}
    found = {steps(example, (0, seed))["image"].numpy().tobytes() for seed in range(12)}
    assert len(found) == 12
    flips = [augment.compose(["mirror", "mirror"])(example, (0, seed))["image"].numpy() for seed in range(20)]
    assert any((flip != example["image"]).any() for flip in flips)  # the two mirrors do not always agree


def test_no_augmentation_is_none():
    assert augment.compose([]) is None


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (["miror"], "augment.miror: unknown augmentation; did you mean mirror?"),
        (["x"], "augment.x: unknown augmentation; known: mirror, affine, brighten"),
        (["_built"], "augment._built: unknown augmentation; known: mirror, affine, brighten"),
        ([{"affine": {"rotation": 10}}], "augment.affine.rotation: unknown argument; did you mean rotate?"),
        ([{"mirror": {"probability": 1}}], "augment.mirror.probability: unknown argument; known: none"),
        ([{"affine": {}, "mirror": {}}], "augment must list one augmentation per entry, got affine, mirror"),
        ([{}], "augment must list one augmentation per entry, got an empty mapping"),
        (
            [{"affine": {"fill": "black"}}],
            "augment.affine.fill must be constant, nearest, reflect or wrap, got 'black'",
        ),
        ([{"affine": {"rotate": "ten"}}], "augment.affine.rotate must be a number of at least 0, got 'ten'"),
        ([{"affine": {"zoom": -1}}], "augment.affine.zoom must be a number of at least 0, got -1"),
        ([{"brighten": {"contrast": True}}], "augment.brighten.contrast must be a number of at least 0, got True"),
        (
            [{"brighten": {"brightness": math.nan}}],
            "augment.brighten.brightness must be a number of at least 0, got nan",
        ),
    ],
)
def test_a_recipe_that_cannot_be_right_is_a_fault(recipe, message):
    with pytest.raises(Fault) as fault:
        augment.compose(recipe)
    assert str(fault.value) == message
