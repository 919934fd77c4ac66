"""Augmentations on pictures whose pixels are their own coordinates, and what a recipe may say about them."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.data.transforms import addons, augment, geometric, warp
from cnn_keras.data.transforms.warp import FILLS
from cnn_keras.errors import Fault

SEEDS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
FITTED = {"values": [0.2, 0.02, 0.004], "vectors": [[0.6, 0.6, 0.5], [-0.7, 0.0, 0.7], [0.4, -0.8, 0.4]]}
GEOMETRY = {
    "mirror": augment.mirror(),
    "flip": augment.flip(),
    "crop": augment.crop(padding=2),
    "resized_crop": augment.resized_crop(),
    "scale_jitter": augment.scale_jitter(shortest=(15, 20)),
    "affine": augment.affine(rotate=30, shift=0.2, zoom=0.3, shear=10),
    "rotate": augment.rotate(degrees=40),
    "shear": augment.shear(degrees=30),
    "elastic": augment.elastic(),
}
COLOURS = {
    "brighten": augment.brighten(brightness=0.3, contrast=0.5),
    "saturate": augment.saturate(saturation=0.5, hue=40),
    "tint": augment.tint(shift=0.1),
    "pca_colour": augment.pca_colour(amount=0.5, **FITTED),
    "grey": augment.grey(),
    "cutout": augment.cutout(size=0.4),
    "blur": augment.blur(),
    "noise": augment.noise(),
    "addons_mean_filter": addons.addons_mean_filter(),
    "addons_median_filter": addons.addons_median_filter(),
}
WARPS = {"addons_dense_warp": addons.addons_dense_warp(), "addons_sparse_warp": addons.addons_sparse_warp()}
ALL = {**GEOMETRY, **COLOURS, **WARPS, "rand_augment": augment.rand_augment()}
MIXINGS = {"mixup", "cutmix", "mosaic"}  # in test_mixing.py
RGB_ONLY = {"saturate", "pca_colour", "grey", "rand_augment"}
FEW = {
    "mirror": 2,
    "flip": 2,
    "grey": 2,
    "crop": 9,
    "blur": 7,
    "addons_mean_filter": 2,
    "addons_median_filter": 2,
    "rand_augment": 12,
}  # pictures that twenty seeds make at least


def coordinates(height=9, width=15, channels=3):
    """uint8 (height, width, channels): ten times the row, ten times the column, 255."""
    y, x = np.mgrid[:height, :width]
    return np.stack([10 * y, 10 * x, np.full_like(x, 255)], axis=-1)[..., :channels].astype(np.uint8)


def test_every_augmentation_is_tried_here():
    assert ALL.keys() | MIXINGS == augment.catalogue().keys()


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, channels=st.sampled_from([1, 3]))
def test_the_same_seed_gives_the_same_uint8_picture_in_the_same_shape(name, seed, channels):
    channels = 3 if name in RGB_ONLY else channels
    example = {"image": coordinates(channels=channels), "label": 3, "id": "a"}
    first, second = (ALL[name](example, seed) for _ in range(2))
    assert first["image"].dtype == tf.uint8
    assert first["image"].shape == (9, 15, channels)
    np.testing.assert_array_equal(first["image"], second["image"])
    assert (first["label"], first["id"], first.keys()) == (3, "a", example.keys())


@pytest.mark.parametrize("name", ALL)
def test_other_seeds_give_other_pictures(name):
    pictures = {ALL[name]({"image": coordinates()}, (seed, 0))["image"].numpy().tobytes() for seed in range(20)}
    assert 20 >= len(pictures) >= FEW.get(name, 20)
    assert len(pictures) == 2 or name not in ("mirror", "flip", "grey")


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
    matrix = geometric.about_centre(**numbers, centre=centre)
    slow = warp.resample(tf.constant(image), matrix, image.shape[:2], fill=fill).numpy()
    fast = warp.sample(tf.constant(image), matrix, image.shape[:2], fill=fill).numpy()
    if fill != "wrap":  # where TensorFlow's own operation leaves out the last pixel
        np.testing.assert_allclose(slow.astype(int), fast, atol=1)
    return slow


@pytest.mark.parametrize("fill", ["constant", "nearest", "reflect"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (6, 1), (2, 2), (7, 5)])
def test_sides_of_one_pixel_and_places_far_beyond_the_border(fill, height, width):
    image = tf.constant(coordinates(height, width))
    dynamic = tf.function(lambda image, matrix: warp.sample(image, matrix, (3, 4), fill=fill))
    dynamic = dynamic.get_concrete_function(tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([3, 3]))
    for y, x in itertools.product((-1.7, -0.5, 0.3, height - 0.6), (-40, -0.6, 0.3, width - 0.7, width + 30)):
        matrix = tf.constant([[0.9, 0.2, x], [-0.1, 0.8, y], [0, 0, 1]], tf.float32)
        slow = warp.resample(image, matrix, (3, 4), fill=fill).numpy().astype(int)
        np.testing.assert_allclose(slow, warp.sample(image, matrix, (3, 4), fill=fill), atol=1)
        np.testing.assert_allclose(slow, dynamic(image, matrix), atol=1)


def test_what_stays_upright_is_read_as_everything_else():
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (9, 15, 3)).astype(np.uint8))
    for fill, matrix in itertools.product(FILLS, ([[-0.7, 0, 12.3], [0, 1.4, -1.6], [0, 0, 1]], np.eye(3))):
        ways = (warp.sample(image, np.float32(matrix), (8, 13), fill=fill, upright=way) for way in (False, True))
        np.testing.assert_array_equal(*ways)


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


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_refuses_what_it_cannot_move(name):
    with pytest.raises(
        Fault, match=f"augment.{name} must be able to move .* cannot move depth, pose; it knows angle, boxes"
    ):
        ALL[name]({"image": coordinates(), "label": 0, "pose": 0, "depth": 0}, (0, 0))


@pytest.mark.parametrize("name", COLOURS)
def test_colours_leave_everything_else_alone(name):
    assert ALL[name]({"image": coordinates(), "boxes": "here", "pose": 1}, (0, 0))["boxes"] == "here"


@pytest.mark.parametrize("name", sorted(RGB_ONLY))
def test_what_needs_colours_refuses_grey_pictures(name):
    with pytest.raises(Fault, match=f"augment.{name} must be given 3 channels, got 1; leave it out"):
        ALL[name]({"image": coordinates(channels=1)}, (0, 0))


def test_compose_takes_the_steps_in_turn_with_a_seed_for_each():
    steps = augment.compose(["mirror", {"affine": {"rotate": 20}}, "mirror"])
    example = {"image": coordinates()}
    found = {steps(example, (0, seed))["image"].numpy().tobytes() for seed in range(12)}
    assert len(found) == 12
    flips = [augment.compose(["mirror", "mirror"])(example, (0, seed))["image"].numpy() for seed in range(20)]
    assert any((flip != example["image"]).any() for flip in flips)  # the two mirrors do not always agree


def test_crops_cut_the_recipes_size_from_pictures_read_at_another():
    steps = augment.compose([{"resized_crop": {"source": [30, 40]}}, "mirror"], size=(8, 9))
    assert steps.source == (30, 40)
    assert steps({"image": coordinates(20, 22)}, (0, 0))["image"].shape == (8, 9, 3)
    assert augment.compose(["mirror"], size=(8, 9)).source is None
    with pytest.raises(Fault, match=r"augment\.crop\.size must be data\.size, \[8, 9\], got \[4, 4\]"):
        augment.compose([{"crop": {"size": [4, 4]}}], size=(8, 9))


def test_nothing_is_said_on_the_console_when_a_pipeline_is_built(caplog):
    steps = augment.compose(["mirror", {"affine": {"zoom": 0.1}}, {"brighten": {"contrast": 0.2}}, "mixup"])
    images = tf.data.Dataset.from_tensors(coordinates()).map(lambda image: steps({"image": image}, (0, 1))["image"])
    images.batch(2).map(lambda batch: steps.mix({"image": batch, "label": tf.eye(2)}, (0, 1)))
    assert not caplog.records


def as_ever(image, seed, *, rotate, shift, zoom):
    """`affine` as it was before there was anything else, written out."""
    draws = tf.random.stateless_uniform((5,), seed, -1.0, 1.0)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    centre, move, scale = (size - 1) / 2, draws[3:] * shift * size, tf.exp(draws[2] * math.log1p(zoom))
    angle = draws[0] * math.radians(rotate)
    cos, sin, slope = tf.cos(angle) / scale, tf.sin(angle) / scale, tf.tan(draws[1] * 0.0)
    a, b, c, d = cos + slope * sin, slope * cos - sin, sin, cos
    y, x = centre[0] + move[0], centre[1] + move[1]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=tf.stack([a, b, centre[1] - a * x - b * y, c, d, centre[0] - c * x - d * y, 0.0, 0.0])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]
    return tf.saturate_cast(tf.round(moved), tf.uint8)


def test_small_pictures_are_augmented_as_they_ever_were():
    """The digests of trained networks hang on it."""
    arguments = {"rotate": 10, "shift": 0.08, "zoom": 0.1}
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 1), np.uint8)
    steps = augment.compose([{"affine": arguments}])
    seeds = tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_split((0, 1), 40))

    def both(seed):
        before = as_ever(tf.constant(image), tf.random.experimental.stateless_fold_in(seed, 0), **arguments)
        return before, steps({"image": image}, seed)["image"]

    for before, now in seeds.map(both):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("side", [20, 72])
def test_threads_change_nothing(side):
    """Twice the same batches; the larger pictures are augmented by the compiled program."""
    recipe = [
        {"crop": {"padding": 3}}, "mirror", {"affine": {"rotate": 20}}, {"elastic": {}},
        {"brighten": {"contrast": 0.2}}, "tint", {"saturate": {"hue": 20}}, "cutout", "blur", "noise",
    ]  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    steps = augment.compose(recipe)
    seeds = tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_split((3, 1), 24))

    def batches(threads):
        found = seeds.map(lambda seed: steps({"image": image}, seed)["image"], num_parallel_calls=threads).batch(8)
        return np.concatenate(list(found.as_numpy_iterator()))

    np.testing.assert_array_equal(batches(1), batches(2))


def test_no_augmentation_is_none():
    assert augment.compose([]) is None


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (["miror"], "augment.miror: unknown augmentation; did you mean mirror?"),
        (["x"], f"augment.x: unknown augmentation; known: {', '.join(augment.catalogue())}"),
        (["_window"], f"augment._window: unknown augmentation; known: {', '.join(augment.catalogue())}"),
        (["fit_pca_colour"], "augment.fit_pca_colour: unknown augmentation; did you mean pca_colour?"),
        ([{"affine": {"rotation": 10}}], "augment.affine.rotation: unknown argument; did you mean rotate?"),
        ([{"mirror": {"probability": 1}}], "augment.mirror.probability: unknown argument; known: pairs"),
        ([{"affine": {}, "mirror": {}}], "augment must list one augmentation per entry, got affine, mirror"),
        ([{}], "augment must list one augmentation per entry, got an empty mapping"),
        (
            [{"affine": {"fill": "black"}}],
            "augment.affine.fill must be constant, nearest, reflect or wrap, got 'black'",
        ),
        ([{"affine": {"rotate": "ten"}}], "augment.affine.rotate must be a number of at least 0, got 'ten'"),
        ([{"affine": {"zoom": -1}}], "augment.affine.zoom must be a number of at least 0, got -1"),
        (
            ["brighten"],
            "augment.brighten must have at least one of brightness, contrast above 0, got none, which changes nothing; "
            "write brighten: {brightness: 0.2}, for example",
        ),
        ([{"brighten": {"contrast": True}}], "augment.brighten.contrast must be a number of at least 0, got True"),
        (
            [{"brighten": {"brightness": math.nan}}],
            "augment.brighten.brightness must be a number of at least 0, got nan",
        ),
        (
            [{"crop": {"padding": 0}}],
            "augment.crop must have at least one of padding above 0, got none, which changes nothing; "
            "write crop: {padding: 0.2}, for example",
        ),
        ([{"crop": {"padding": 1.5}}], "augment.crop.padding must be a number of whole pixels, got 1.5"),
        ([{"crop": {"size": 32}}], "augment.crop.size must be [height, width] in pixels, got 32"),
        (
            [{"resized_crop": {"area": [0, 1]}}],
            "augment.resized_crop.area must be [least, largest], above 0 and at most 1, got [0, 1]",
        ),
        (
            [{"scale_jitter": {"shortest": [200, 300], "size": [224, 224]}}],
            "augment.scale_jitter.size must be at most shortest (200), got [224, 224]",
        ),
        ([{"elastic": {"amount": 0.2}}], "augment.elastic.amount must be below 0.0833333 with 3 cells, got 0.2"),
        (
            [{"mirror": {"pairs": [0, 1]}}],
            "augment.mirror.pairs must be a list of pairs of landmarks' numbers, got [0, 1]",
        ),
        ([{"cutout": {"holes": 0}}], "augment.cutout.holes must be a whole number of at least 1, got 0"),
        ([{"grey": {"chance": 2}}], "augment.grey.chance must be a number from 0 to 1, got 2"),
        ([{"rand_augment": {"magnitude": 11}}], "augment.rand_augment.magnitude must be a number from 0 to 10, got 11"),
        (
            [{"rand_augment": {"fill": "red"}}],
            "augment.rand_augment.fill must be constant, nearest, reflect or wrap, got 'red'",
        ),
        (
            [{"mosaic": {"scale": [1, 2]}}],
            "augment.mosaic.scale must be [least, largest], above 0 and at most 1, got [1, 2]",
        ),
        (
            ["mixup", "mirror"],
            "augment.mixup must stand after all that are not of batches; move it to the end of the list",
        ),
        (
            [{"pca_colour": {"values": [1, 2]}}],
            "augment.pca_colour.values and vectors must hold 3 and 3 × 3 numbers; leave both to the task",
        ),
    ],
)
def test_a_recipe_that_cannot_be_right_is_a_fault(recipe, message):
    with pytest.raises(Fault) as fault:
        augment.compose(recipe)
    assert str(fault.value) == message
