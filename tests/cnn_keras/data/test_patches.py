"""Patches of images of differing sizes: every place is as likely, a seed gives the same, rare classes are favoured."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.data import patches
from cnn_keras.data.transforms import augment
from cnn_keras.ops import resize
from cnn_keras.ops.sliding_window import Patches

SIZES = ((20, 31), (8, 50), (3, 5))
PATCH = Patches((8, 6), (4, 2))


def coordinates(number, size):
    """An image whose pixels are their own coordinates, of float32 (*size, 1 + axes)."""
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    return np.concatenate([np.full((*size, 1), number), grid], axis=-1).astype(np.float32)


def mask_of(size):
    mask = np.ones((*size, 1), np.uint8)
    mask[..., 0].ravel()[7] = 2  # a single pixel of a rare class
    return mask


@pytest.fixture(scope="module")
def held():
    return patches.store([(coordinates(number, size), mask_of(size)) for number, size in enumerate(SIZES)])


def drawn(held, count=400, **settings):
    settings = {"count": count, "epochs": range(1), "batch_size": 50, "seed": 3, **settings}
    batches = list(patches.training(held, PATCH, **settings))
    return {key: np.concatenate([batch[key] for batch in batches]) for key in ("image", "mask")}


def test_a_patch_is_a_window_of_one_image_and_of_its_mirror_image_beyond(held):
    images = drawn(held)["image"]
    assert images.shape == (400, 8, 6, 3)
    for image in images:
        number, size = int(image[0, 0, 0]), SIZES[int(image[0, 0, 0])]
        assert (image[..., 0] == number).all()
        for axis in (0, 1):
            line = image[:, 0, 1] if axis == 0 else image[0, :, 2]
            assert (np.abs(np.diff(line)) <= 1).all()
            assert line.min() >= 0
            assert line.max() < size[axis]


def test_what_is_answered_lies_inside_an_image_that_is_large_enough(held):
    images = drawn(held)["image"]
    middle = images[:, 2:6, 2:4]
    for image in middle[middle[:, 0, 0, 0] < 2]:
        assert (np.diff(image[:, 0, 1]) == 1).all()
        assert (np.diff(image[0, :, 2]) == 1).all()


def test_large_images_are_drawn_more_often(held):
    numbers = drawn(held)["image"][:, 0, 0, 0]
    shares = [(numbers == number).mean() for number in range(3)]
    pixels = np.array([height * width for height, width in SIZES])
    np.testing.assert_allclose(shares, pixels / pixels.sum(), atol=0.06)


def test_the_answers_reach_every_corner(held):
    middle = drawn(held, count=4000)["image"][:, 2:6, 2:4]
    seen = {tuple(pixel) for pixel in middle[middle[:, 0, 0, 0] == 0].reshape(-1, 3)[:, 1:].astype(int).tolist()}
    assert len(seen) == 20 * 31


def test_a_seed_gives_the_same_patches_and_another_epoch_others(held):
    first, again, later = drawn(held), drawn(held), drawn(held, epochs=range(1, 2))
    np.testing.assert_array_equal(first["image"], again["image"])
    assert (first["image"] != later["image"]).any()
    both = drawn(held, epochs=range(2))
    np.testing.assert_array_equal(both["image"], np.concatenate([first["image"], later["image"]]))


@pytest.mark.parametrize(("balance", "least", "most"), [(0.0, 0.0, 0.1), (1.0, 0.4, 0.6)])
def test_a_rare_class_is_favoured_as_far_as_the_balance_says(held, balance, least, most):
    answered = drawn(held, balance=balance)["mask"][:, 2:6, 2:4, 0]
    assert least <= (answered == 2).any(axis=(1, 2)).mean() <= most


def test_an_unknown_pixel_is_no_class():
    unknown = np.ones((6, 6, 1), np.uint8)
    unknown[:5] = 0
    found = patches.store([(coordinates(0, (6, 6)), unknown)])
    assert found.places.shape[0] == 1
    assert (found.places.numpy() >= 30).all()


def test_covering_patches_answer_for_every_pixel(held):
    batches = list(patches.grid_batches(held, PATCH, 16))
    seen = np.concatenate([batch["image"] for batch in batches])[:, 2:6, 2:4].reshape(-1, 3)
    assert len({tuple(pixel) for pixel in seen.astype(int).tolist()}) == sum(height * width for height, width in SIZES)
    assert int(patches.grid_batches(held, PATCH, 16).cardinality()) == len(batches)


def test_volumes_have_patches_too():
    sizes, patch = ((9, 5, 7), (4, 8, 6)), Patches((4, 4, 4), (4, 4, 4))
    found = patches.store([(coordinates(number, size), mask_of(size)) for number, size in enumerate(sizes)])
    (batch,) = patches.training(found, patch, count=30, epochs=range(1), batch_size=30, seed=0)
    assert batch["image"].shape == (30, 4, 4, 4, 4)
    for image in batch["image"].numpy():
        for axis in range(3):
            assert (np.diff(image[..., 1 + axis], axis=axis) == 1).all()
    assert sum(len(one["mask"]) for one in patches.grid_batches(found, patch, 4)) == 3 * 2 * 2 + 1 * 2 * 2


def test_augmentation_moves_mask_and_picture_alike():
    picture = np.arange(400, dtype=np.uint8).reshape(20, 20, 1) % 251
    found = patches.store([(picture, picture + 1)])
    moved = augment.compose(["mirror", {"affine": {"rotate": 20, "fill": "reflect"}}])
    settings = {"count": 20, "epochs": range(1), "batch_size": 20, "seed": 0, "augment": moved}
    (batch,) = patches.training(found, Patches((12, 12), (12, 12)), **settings)
    images, masks = (batch[key].numpy().astype(int) for key in ("image", "mask"))
    assert np.median(np.abs(images + 1 - masks)) <= 12  # the picture is blended, the mask is not
    assert set(np.unique(masks)) <= set(range(1, 252))


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_labels_are_framed_like_their_picture(fit):
    picture = np.zeros((30, 40, 1), np.uint8)
    picture[10:20, 10:30] = 200
    labels = np.where(picture > 100, 2, 1).astype(np.uint8)
    framed = resize.resize_image(tf.constant(picture), (60, 60), fit=fit).numpy()
    found = resize.resize_labels(tf.constant(labels), (60, 60), fit=fit).numpy()
    beyond = found == 0
    assert beyond.any() == (fit == "pad")
    assert not framed[beyond].any()
    np.testing.assert_array_equal((found == 2)[~beyond], (framed > 100)[~beyond])
