"""Geometry on pictures whose pixels are their own coordinates: boxes, landmarks and masks go where the pixels go."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.data.transforms import augment, transform
from cnn_keras.data.transforms.geometric import about_centre
from cnn_keras.errors import Fault
from tests.cnn_keras.data.transforms.test_augment import GEOMETRY, SEEDS

SIDE = 84  # pixels: levels of 3 are exact in uint8, and the picture is large enough to be compiled
EYES = [[0, 1]]
MOVING = {
    "mirror": augment.mirror(pairs=EYES),
    "flip": augment.flip(pairs=EYES),
    "crop": augment.crop(padding=8, fill="nearest"),
    "cut": augment.crop(padding=0, size=(60, 50)),
    "resized_crop": augment.resized_crop(area=(0.3, 1)),
    "resized": augment.resized_crop(area=(0.3, 1), size=(50, 100)),
    "scale_jitter": augment.scale_jitter(shortest=(90, 120), size=(70, 80)),
    "affine": augment.affine(rotate=30, shift=0.1, zoom=0.3, shear=10, fill="nearest"),
    "rotate": augment.rotate(degrees=180, fill="nearest"),
    "shear": augment.shear(degrees=30, fill="nearest"),
    "elastic": augment.elastic(fill="nearest"),
    "rand_augment": augment.rand_augment(fill="nearest").geometry,
    "all": augment.compose(
        [
            {"mirror": {"pairs": EYES}},
            {"rotate": {"degrees": 20, "fill": "reflect"}},
            {"resized_crop": {"area": [0.4, 1], "size": [60, 70]}},
            {"elastic": {"amount": 0.03}},
        ]
    ),
}


def coordinates(side=SIDE):
    """uint8 (side, side, 3): three times the row, three times the column, 255."""
    y, x = np.mgrid[:side, :side]
    return np.stack([3 * y, 3 * x, np.full_like(x, 255)], axis=-1).astype(np.uint8)


def bilinear(image, x, y):
    """The levels at a place between pixels, x and y in pixels."""
    x, y = min(max(x, 0), image.shape[1] - 1.001), min(max(y, 0), image.shape[0] - 1.001)
    column, row = int(x), int(y)
    part = image[row : row + 2, column : column + 2].astype(float)
    down = part[0] * (1 - y + row) + part[-1] * (y - row)
    return down[0] * (1 - x + column) + down[-1] * (x - column)


def test_every_augmentation_of_geometry_is_tried_here():
    assert MOVING.keys() >= GEOMETRY.keys()


@pytest.mark.parametrize("name", MOVING)
@given(seed=SEEDS, spots=st.lists(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)), min_size=3, max_size=3))
@settings(max_examples=8, deadline=None)
def test_landmarks_are_where_their_pixels_are(name, seed, spots):
    landmarks = np.array([[x, y, 1] for x, y in spots], np.float32)
    moved = MOVING[name]({"image": coordinates(), "landmarks": landmarks}, seed)
    image, found = moved["image"].numpy(), moved["landmarks"].numpy()
    order = (0, 1, 2)
    levels = [bilinear(image, x * image.shape[1] - 0.5, y * image.shape[0] - 0.5) for x, y, _ in found]
    expected = [(3 * (y * SIDE - 0.5), 3 * (x * SIDE - 0.5)) for x, y, _ in landmarks]
    if name in ("mirror", "flip", "all"):

        def distance(rows):
            return sum(abs(levels[n][:2] - np.array(expected[row])).sum() for n, row in enumerate(rows) if found[n, 2])

        order = min(((0, 1, 2), (1, 0, 2)), key=distance)  # one that left the picture cannot tell
    for (x, y, seen), level, row in zip(found, levels, order, strict=True):
        assert seen == (0 <= x <= 1 and 0 <= y <= 1)
        if seen and 0.03 < x < 0.97 and 0.03 < y < 0.97:
            np.testing.assert_allclose(level[:2], expected[row], atol=3)  # a pixel


@pytest.mark.parametrize("name", MOVING)
@given(seed=SEEDS, corner=st.tuples(st.integers(10, 40), st.integers(10, 40)), size=st.integers(8, 30))
@settings(max_examples=8, deadline=None)
def test_a_box_is_around_the_pixels_of_its_mask(name, seed, corner, size):
    (left, top), (right, bottom) = corner, (corner[0] + size, corner[1] + size)
    mask = np.zeros((SIDE, SIDE), np.int32)
    mask[top:bottom, left:right] = 7
    boxes = np.array([[left, top, right, bottom], [0, 0, 0, 0]], np.float32) / SIDE
    moved = MOVING[name]({"image": coordinates(), "mask": mask, "boxes": boxes, "classes": [3, 0]}, seed)
    found, shown = moved["boxes"].numpy(), moved["mask"].numpy()
    assert shown.shape == moved["image"].shape[:2]
    assert set(np.unique(shown)) <= {0, 7}
    assert moved["classes"] == [3, 0]
    assert not found[1].any()  # padding stays padding
    if not found[0].any():
        return  # most of it has left the picture
    rows, columns = np.nonzero(shown)
    around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    pixels = found[0] * [*shown.shape[::-1], *shown.shape[::-1]]
    scale = max(1, *(np.array(shown.shape) / SIDE)) * 1.8  # an enlarged pixel of the mask has that edge
    np.testing.assert_allclose(around, pixels, atol=1.5 + scale)


@pytest.mark.parametrize("name", MOVING)
def test_a_mask_is_read_where_the_picture_is_read_and_never_blended(name):
    y, x = np.mgrid[:SIDE, :SIDE]
    moved = MOVING[name]({"image": coordinates(), "mask": (1000 * y + x).astype(np.int32)[..., None]}, (3, 4))
    image, mask = moved["image"].numpy().astype(int), moved["mask"].numpy()[..., 0]
    assert moved["mask"].shape == (*image.shape[:2], 1)
    assert np.abs(image[..., 0] - 3 * (mask // 1000)).max() <= 2
    assert np.abs(image[..., 1] - 3 * (mask % 1000)).max() <= 2


@pytest.mark.parametrize("name", MOVING)
def test_compiled_or_not_it_is_the_same_picture(name):
    """TensorFlow's own operation is the oracle of the compiled reading, except for fields, which it does not know."""
    parts = MOVING["all"]._chain.steps if name == "all" else [MOVING[name]]
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    example = {"image": photo, "boxes": [[0.2, 0.3, 0.6, 0.7]], "mask": photo[..., 0]}
    plain, fast = (
        transform.Chain(parts, compiled=way)(example, [(5, n) for n in range(len(parts))]) for way in (False, True)
    )
    assert plain.keys() == fast.keys()
    for key in ("image", "mask"):
        difference = np.abs(plain[key].numpy().astype(int) - fast[key].numpy())
        assert (difference > (1 if key == "image" else 0)).mean() < 1e-3, key
    np.testing.assert_allclose(plain["boxes"], fast["boxes"], atol=1e-4)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_flips_and_crops_blend_no_pixel(seed):
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    found = augment.compose(["mirror", "flip", {"crop": {"padding": 0, "size": [8, 9]}}])({"image": image}, seed)
    windows = [
        flipped[top : top + 8, left : left + 9].tobytes()
        for flipped in (image, image[:, ::-1], image[::-1], image[::-1, ::-1])
        for top in range(13)
        for left in range(22)
    ]
    assert found["image"].numpy().tobytes() in windows


def test_a_padded_crop_reaches_every_place_and_none_beyond():
    image = coordinates(12)
    step = augment.crop(padding=1)
    tops = set()
    for number in range(60):
        found = step({"image": image}, (0, number))["image"].numpy()
        expected = np.pad(image, [[1, 1], [1, 1], [0, 0]])
        place = [(y, x) for y in range(3) for x in range(3) if (expected[y : y + 12, x : x + 12] == found).all()]
        assert len(place) == 1
        tops.add(place[0])
    assert len(tops) == 9


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_a_resized_crop_keeps_to_its_area_and_aspect(seed):
    step = augment.resized_crop(area=(0.2, 0.5), aspect=(0.5, 2), size=(32, 32))
    place = step.place(step.draw(seed), tf.constant([300.0, 400]), tf.constant([32.0, 32]))
    width, height = place.matrix[0, 0].numpy() * 32, place.matrix[1, 1].numpy() * 32
    assert 0.199 <= width * height / (300 * 400) <= 0.501
    assert 0.499 <= width / height <= 2.01
    assert place.matrix[0, 2] >= width / 64 - 0.51
    assert place.matrix[0, 2] + place.matrix[0, 0] * 32 <= 400 + width / 64


def test_a_resized_crop_that_cannot_fit_is_the_whole_picture():
    step = augment.resized_crop(area=(1, 1), aspect=(3, 4))
    image = coordinates(20)
    np.testing.assert_array_equal(step({"image": image}, (1, 2))["image"], image)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_scale_jitter_scales_the_shorter_side_to_what_it_was_told(seed):
    step = augment.scale_jitter(shortest=(256, 480), size=(224, 224))
    matrix = step.place(step.draw(seed), tf.constant([100.0, 150]), tf.constant([224.0, 224])).matrix.numpy()
    assert matrix[0, 0] == pytest.approx(matrix[1, 1])  # the aspect stays
    assert 256 <= 100 / matrix[0, 0] <= 480.1


def test_neighbours_are_one_reading_of_the_picture():
    recipe = [
        "mirror",
        {"rotate": {}},
        {"resized_crop": {"size": [70, 70]}},
        "tint",
        "noise",
        {"affine": {"zoom": 0.1}},
    ]
    chain = augment.compose(recipe)._chain
    assert [[step.name for step in group] for group in chain.groups] == [
        ["mirror", "rotate", "resized_crop"],
        ["tint", "noise"],
        ["affine"],
    ]


def test_borders_of_two_kinds_are_two_readings():
    chain = augment.compose([{"rotate": {"fill": "wrap"}}, "mirror", {"shear": {"fill": "nearest"}}])._chain
    assert [len(group) for group in chain.groups] == [2, 1]


def test_rotating_there_and_back_in_one_reading_loses_nothing():
    """Two readings blur; one reading of the product of two matrices is exact."""
    there, back = (turn(0.4 * sign) for sign in (1, -1))
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    found = transform.Chain([there, back])({"image": image}, [(0, 0), (0, 0)])["image"].numpy()
    assert (np.abs(found.astype(int) - image) > 1).mean() < 0.03  # the very border may read beyond it


def turn(angle):
    """A rotation that is given instead of drawn."""

    def place(drawn, extent, size):
        still = {"shear": tf.zeros([]), "scale": 1.0, "move": tf.zeros([2])}
        return transform.Placement(about_centre(angle=tf.constant(angle), centre=(extent - 1) / 2, **still))

    return transform.Geometry("turn", lambda seed: tf.zeros([1]), place, fill="constant")


def test_a_mirror_exchanges_left_and_right_landmarks_and_two_do_not():
    landmarks = np.array([[0.3, 0.4, 1], [0.7, 0.4, 1], [0.5, 0.6, 1]], np.float32)
    eyes = augment.mirror(pairs=[[0, 1]])
    found = np.array([eyes({"image": coordinates(9), "landmarks": landmarks}, (0, n))["landmarks"] for n in range(20)])
    np.testing.assert_allclose(found, np.broadcast_to(landmarks, found.shape), atol=1e-6)  # a symmetric face stays
    nose = augment.mirror(pairs=[])
    found = np.array([nose({"image": coordinates(9), "landmarks": landmarks}, (0, n))["landmarks"] for n in range(20)])
    assert {round(float(face[0, 0]), 3) for face in found} == {0.3, 0.7}


def test_mirrors_do_not_guess_what_is_left_and_right():
    with pytest.raises(Fault, match=r"augment\.flip\.pairs must name the landmarks that change places"):
        augment.flip()({"image": coordinates(9), "landmarks": np.zeros((2, 3), np.float32)}, (0, 0))


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(Fault, match=r"mask must have the size of its image, \[9, 9\], got \[9, 8\]"):
        augment.flip()({"image": coordinates(9), "mask": np.zeros((9, 8), np.uint8)}, (0, 0))


def test_a_box_that_keeps_less_than_a_quarter_is_dropped_and_one_that_keeps_more_is_clipped():
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.05, 0.05, 0.2, 0.2], [0.5, 0.5, 0.6, 0.6]], np.float32)
    matrix = tf.constant([[1.0, 0, 20], [0, 1, 20], [0, 0, 1]])  # twenty pixels of a hundred cut at the top left
    cut = transform.Geometry("cut", lambda seed: tf.zeros([1]), lambda *_: transform.Placement(matrix), exact=True)
    found = cut({"image": np.zeros((100, 100, 1), np.uint8), "boxes": boxes}, (0, 0))["boxes"].numpy()
    np.testing.assert_allclose(found, [[0, 0, 0.3, 0.3], [0, 0, 0, 0], [0.3, 0.3, 0.4, 0.4]], atol=1e-6)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_an_elastic_warp_does_not_fold(seed):
    moved = MOVING["elastic"]({"image": coordinates()}, seed)["image"].numpy().astype(int)
    assert (np.diff(moved[..., 1], axis=1) >= -1).all()
    assert (np.diff(moved[..., 0], axis=0) >= -1).all()
    assert np.abs(moved - coordinates()).max() <= 3 * 0.06 * SIDE + 1


def test_a_picture_of_unknown_size_can_be_augmented_too():
    steps_ = augment.compose([{"resized_crop": {"size": [20, 30]}}, "mirror", {"rotate": {}}, "tint", "cutout"])
    spec = {"image": tf.TensorSpec((None, None, 3), tf.uint8), "boxes": tf.TensorSpec((None, 4))}
    graph = tf.function(steps_, input_signature=[spec, tf.TensorSpec((2,), tf.int32)])
    found = graph({"image": coordinates(50), "boxes": tf.constant([[0.1, 0.1, 0.9, 0.9]])}, (1, 2))
    assert found["image"].shape == (20, 30, 3)
    assert found["boxes"].shape == (1, 4)
