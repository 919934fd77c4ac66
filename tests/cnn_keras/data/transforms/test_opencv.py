"""Pictures by OpenCV, a batch at a time, against the graph and against exact arithmetic."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates
from tensorflow.python.framework import config

from cnn_keras.data.transforms import augment, opencv, transform, warp
from tests.cnn_keras.data.transforms.test_augment import COLOURS, FITTED
from tests.cnn_keras.data.transforms.test_geometric import EYES, MOVING

HEIGHT, WIDTH = 70, 90
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
SEEDS = np.random.default_rng(1).integers(0, 2**31, (6, 2)).astype(np.int32)
RECIPES = {
    "mirror": [{"mirror": {"pairs": EYES}}, {"flip": {"pairs": EYES}}],
    "crop": [{"crop": {"padding": 8, "fill": "reflect"}}, {"crop": {"padding": 0, "size": [60, 70]}}],
    "resized_crop": [{"resized_crop": {"size": [64, 100]}}],
    "scale_jitter": [{"scale_jitter": {"shortest": [90, 120], "size": [66, 80]}}],
    **{
        f"affine, {fill}": [{"affine": {"rotate": 30, "shift": 0.1, "zoom": 0.3, "shear": 10, "fill": fill}}]
        for fill in warp.FILLS
    },
    "elastic": [{"elastic": {"fill": "nearest"}}, {"rotate": {"fill": "nearest"}}],
    "brighten": [{"brighten": {"brightness": 0.2, "contrast": 0.5}}],
    "saturate": [{"saturate": {"saturation": 0.5, "hue": 40}}],
    "tint": ["tint"],
    "pca_colour": ["pca_colour"],
    "grey": [{"grey": {"chance": 0.5}}],
    "colours": [
        {"brighten": {"brightness": 0.05, "contrast": 0.2}},
        {"saturate": {"saturation": 0.5}},
        {"brighten": {"contrast": 0.3}},
        {"tint": {"shift": 0.02}},
    ],
    "all": [
        {"resized_crop": {"size": [64, 80]}},
        {"mirror": {"pairs": EYES}},
        {"rotate": {"fill": "wrap"}},
        {"brighten": {"contrast": 0.3}},
        {"shear": {"fill": "constant"}},
        {"saturate": {"hue": 20}},
    ],
}


def smooth():
    """A picture whose neighbours differ by a few levels, as a photograph's do."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([127 + 120 * np.sin(x / 9 + k) * np.cos(y / 7) for k in range(3)], axis=-1).astype(np.uint8)


def example():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return {
        "image": smooth(),
        "mask": ((x // 6 + 3 * (y // 6)) % 256).astype(np.uint8),
        "boxes": np.array([[0.2, 0.3, 0.6, 0.7], [0, 0, 0, 0]], np.float32),
        "landmarks": np.array([[0.3, 0.4, 1], [0.6, 0.5, 1]], np.float32),
        "label": 3,
    }


def batches(steps, given, *, size=6, threads=None, seeds=SEEDS):
    data = tf.data.Dataset.from_tensor_slices(seeds).map(lambda seed: (given, seed))
    found = augment.augmented_batches(data, lambda *read: read, steps, size)
    options = tf.data.Options()
    options.deterministic = True
    if threads:
        options.threading.private_threadpool_size = threads
    return list(found.with_options(options).as_numpy_iterator())


@pytest.fixture
def deterministic():
    before = config.is_op_determinism_enabled()
    config.enable_op_determinism()
    yield
    (config.enable_op_determinism if before else config.disable_op_determinism)()


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_by_opencv_is_the_examples_of_the_graph(name):
    steps = augment.compose(RECIPES[name], fitted={"pca_colour": FITTED})
    given = example()
    assert steps.takes_batches({key: tf.TensorSpec.from_tensor(tf.constant(value)) for key, value in given.items()})
    (found,) = batches(steps, given)
    for row, seed in enumerate(SEEDS):
        one = {key: np.asarray(value) for key, value in steps(given, seed).items()}
        difference = np.abs(found["image"][row].astype(int) - one["image"])
        if name == "resized_crop":  # a window is cut out: its sides mix with nothing beyond it
            difference = difference[1:-1, 1:-1]
        assert difference.max() <= 9  # at the edge that some borders make
        assert (difference > 2).mean() < 0.01
        assert (found["mask"][row] != one["mask"]).mean() < 2e-3
        np.testing.assert_allclose(found["boxes"][row], one["boxes"], atol=1e-4)
        np.testing.assert_allclose(found["landmarks"][row], one["landmarks"], atol=1e-4)
        assert found["label"][row] == one["label"]


def test_every_augmentation_of_geometry_and_every_linear_colour_is_tried_here():
    linear = {name for name, step in COLOURS.items() if step.matrix}
    tried = " ".join(map(str, RECIPES.values()))
    assert [name for name in (MOVING.keys() & augment.catalogue().keys()) | linear if name not in tried] == [
        "rand_augment"  # which also colours, as no matrix can
    ]


@pytest.mark.parametrize("fill", ["constant", "nearest", "reflect"])
def test_a_warp_is_the_exact_one_but_for_a_sixty_fourth_of_what_neighbours_differ_by(fill):
    matrix = np.array([[0.83, 0.21, -4.3], [-0.17, 0.91, 9.6], [0, 0, 1]], np.float32)
    y, x = np.mgrid[:60, :80]
    places = [line[0] * x + line[1] * y + line[2] for line in matrix.astype(float)[[1, 0]]]
    mode = {"constant": "grid-constant", "nearest": "nearest", "reflect": "reflect"}[fill]
    for image, most, mean in ((NOISE, 255 * 2 * (1 / 64 + 1 / 1024) + 1, 1.5), (smooth(), 1.2, 0.35)):
        exact = [map_coordinates(image[..., k].astype(float), places, order=1, mode=mode) for k in range(3)]
        difference = np.abs(opencv.Warp(matrix[None], size=(60, 80), fill=fill)(image, 0) - np.stack(exact, axis=-1))
        if fill != "constant" or image is NOISE:  # which has an edge of its own
            assert difference.max() <= most
        assert difference.mean() <= mean


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_flips_whole_pixels_and_pictures_that_stay_are_exact(channels):
    image = np.random.default_rng(2).integers(0, 256, (9, 14, channels), np.uint8)
    still = opencv.Warp(np.eye(3, dtype=np.float32)[None], size=(9, 14), fill="constant")(image, 0)
    np.testing.assert_array_equal(still, image)
    turned = opencv.Warp(np.array([[[-1, 0, 13], [0, 1, 2], [0, 0, 1.0]]]), size=(5, 14), fill="constant")(image, 0)
    np.testing.assert_array_equal(turned, image[2:7, ::-1])


@pytest.mark.parametrize("flip", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("window", [(3, 5, 70, 40), (10, 0, 31, 57)])  # left, top, width, height
def test_a_window_of_whole_pixels_is_cut_out_and_scaled(window, flip):
    left, top, width, height = window
    size, image = (48, 64), NOISE
    step = np.array([width / size[1], height / size[0]])
    start = np.array([left, top]) + (step - 1) / 2
    end = start + step * (np.array(size[::-1]) - 1)
    matrix = np.eye(3, dtype=np.float32)
    for axis, turned in enumerate(flip):
        matrix[axis, axis], matrix[axis, 2] = turned * step[axis], (start if turned > 0 else end)[axis]
    cut = image[top : top + height, left : left + width].astype(float)
    places = [np.clip((np.arange(side) + 0.5) * one - 0.5, 0, None) for side, one in zip(size, step[::-1], strict=True)]
    grid = np.meshgrid(*places, indexing="ij")
    exact = np.stack([map_coordinates(cut[..., k], grid, order=1, mode="nearest") for k in range(3)], axis=-1)
    exact = exact[:: flip[1], :: flip[0]]
    out = opencv.aligned((*size, 3))
    found = opencv.Warp(matrix[None], size=size, fill="constant")(image, 0, out)
    assert np.shares_memory(found, out)
    assert np.abs(found - exact).max() <= 1  # in eleven bits, where a warp has five


def test_a_window_that_reaches_beyond_the_picture_is_warped():
    matrix = np.array([[[1.0, 0, -3], [0, 1, 2], [0, 0, 1]]], np.float32)
    found = opencv.Warp(matrix, size=NOISE.shape[:2], fill="constant")(NOISE, 0)
    np.testing.assert_array_equal(found[:-2, 3:], NOISE[2:, :-3])
    assert not found[:, :3].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_mixed_as_by_exact_arithmetic_but_for_the_rounding(channels):
    image, rng = NOISE[..., :channels], np.random.default_rng(3)
    matrix = rng.normal(0, 0.4, (channels, 2 * channels + 1)).astype(np.float32)
    matrix[:, -1] *= 60
    pixels = image.reshape(-1, channels).astype(float)
    given = np.concatenate([pixels, np.tile(pixels.mean(axis=0), (len(pixels), 1)), np.ones((len(pixels), 1))], axis=1)
    exact = np.clip(given @ matrix.T.astype(float), 0, 255).reshape(image.shape)
    assert np.abs(opencv.Recolour(matrix[None])(image, 0) - exact).max() <= 0.5 + channels * 255 / 2048 + 0.01
    still = np.eye(channels, 2 * channels + 1, dtype=np.float32)
    np.testing.assert_array_equal(opencv.Recolour(still[None])(image, 0), image)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_results_are_written_where_they_are_wanted(channels):
    image = np.random.default_rng(2).integers(0, 256, (9, 14, channels), np.uint8)
    matrix = np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]], np.float32)

    def warped(out):
        return opencv.Warp(matrix[None], size=(7, 8), fill="wrap")(image, 0, out)

    def recoloured(out):
        return opencv.Recolour(0.7 * np.eye(channels, 2 * channels + 1)[None])(image, 0, out)

    for out, result in ((np.zeros((7, 8, channels), np.uint8), warped), (np.zeros_like(image), recoloured)):
        given = result(out)
        np.testing.assert_array_equal(given, out)
        np.testing.assert_array_equal(given, result(None))
        assert out.any()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_colours_are_mixed_in_place_as_elsewhere(channels):
    image, rng = np.random.default_rng(2).integers(0, 256, (37, 41, channels), np.uint8), np.random.default_rng(3)
    recolour = opencv.Recolour(rng.normal(0.3, 0.4, (1, channels, 2 * channels + 1)).astype(np.float32))
    elsewhere = recolour(image, 0)
    assert (elsewhere != image).any()
    recolour(image, 0, image)
    np.testing.assert_array_equal(image, elsewhere)


def test_a_mask_that_nothing_moves_stays_as_it_is():
    (batch,) = batches(augment.compose(["tint"]), example())
    assert (batch["image"] != example()["image"]).any()
    for mask in batch["mask"]:
        np.testing.assert_array_equal(mask, example()["mask"])


def test_fields_weigh_their_nodes_as_in_the_graph():
    for side, count in ((70, 6), (33, 9)):
        right = warp._weights(tf.range(float(side)), side, count)
        np.testing.assert_allclose(opencv._splines(side, count), right, atol=1e-5)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("threads", [2, 8])
def test_threads_and_batch_sizes_change_nothing(threads):
    steps = augment.compose(RECIPES["all"])
    seeds = np.random.default_rng(4).integers(0, 2**31, (40, 2)).astype(np.int32)
    alone, many = (
        batches(steps, example(), size=size, threads=number, seeds=seeds) for size, number in ((40, 1), (8, threads))
    )
    assert [len(batch["image"]) for batch in many] == [8] * 5
    for key, values in alone[0].items():
        np.testing.assert_array_equal(values, np.concatenate([batch[key] for batch in many]), err_msg=key)


@pytest.mark.parametrize(
    ("recipe", "image"),
    [
        (["mirror"], tf.TensorSpec((28, 28, 1), tf.uint8)),  # small pictures are as they ever were
        (["mirror"], tf.TensorSpec((None, None, 3), tf.uint8)),
        (["mirror"], tf.TensorSpec((90, 90, 3), tf.float32)),
        (["mirror"], tf.TensorSpec((90, 90, 7), tf.uint8)),
        (["mirror", "noise"], tf.TensorSpec((90, 90, 3), tf.uint8)),
        (["rand_augment"], tf.TensorSpec((90, 90, 3), tf.uint8)),
    ],
)
def test_what_opencv_does_not_do_stays_in_the_graph(recipe, image):
    assert not augment.compose(recipe).takes_batches({"image": image})


def test_geometry_of_ones_own_that_takes_the_numbers_of_one_example_is_given_one_at_a_time():
    def place(draws, extent, size):
        return transform.Placement(tf.linalg.diag(tf.stack([1.0 + draws[0], 1.0, 1.0])))

    own = transform.Geometry("own", transform.uniform(1), place, fill="constant")
    steps = augment.Composed([own])
    assert not steps.takes_batches({"image": tf.TensorSpec((90, 90, 3), tf.uint8)})
    (batch,) = batches(steps, {"image": smooth()})
    for image, seed in zip(batch["image"], SEEDS, strict=True):
        np.testing.assert_array_equal(image, steps({"image": smooth()}, seed)["image"])


def test_masks_of_many_classes_stay_in_the_graph():
    spec = {"image": tf.TensorSpec((90, 90, 3), tf.uint8), "mask": tf.TensorSpec((90, 90), tf.int32)}
    assert not augment.compose(["mirror"]).takes_batches(spec)
