"""Mixing the examples of a batch: what becomes of pictures becomes of labels and boxes."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from cnn_keras.data.transforms import augment, mixing
from cnn_keras.errors import Fault
from tests.cnn_keras.data.transforms.test_augment import SEEDS

COUNT = 6
LEVELS = np.arange(COUNT) * 40 + 10  # every picture is even, so that its levels say whose it is


def batch(side=20):
    images = np.broadcast_to(LEVELS[:, None, None, None], (COUNT, side, side + 4, 3)).astype(np.uint8)
    return {"image": images, "label": np.eye(COUNT, dtype=np.float32)}


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_labels_are_mixed_as_the_pictures_are(name, seed):
    found = getattr(augment, name)(alpha=1.0)(batch(), seed)
    image, label = found["image"].numpy(), found["label"].numpy()
    assert image.dtype == np.uint8
    np.testing.assert_allclose(label.sum(axis=1), 1, atol=1e-6)
    assert ((label > 0).sum(axis=1) <= 2).all()
    np.testing.assert_allclose(image.mean(axis=(1, 2, 3)), label @ LEVELS, atol=0.51)


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_cutmix_replaces_one_window_and_blends_nothing(seed):
    for number, image in enumerate(augment.cutmix()(batch(), seed)["image"].numpy()):
        assert set(np.unique(image)) <= set(LEVELS)
        rows, columns = np.nonzero(image[..., 0] != LEVELS[number])
        if len(rows):
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert len(set(image[rows, columns, 0])) == 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_example_is_a_partner_once_and_never_its_own(number):
    for seed in range(10):
        partners = mixing._partners(batch(), (0, seed), number).numpy()
        assert sorted(partners) == list(range(COUNT))
        assert (partners != np.arange(COUNT)).all()


def test_an_alpha_of_zero_mixes_nothing():
    for step in (augment.mixup(alpha=0), augment.cutmix(alpha=0)):
        found = step(batch(), (1, 2))
        np.testing.assert_array_equal(found["image"], batch()["image"])
        np.testing.assert_array_equal(found["label"], batch()["label"])


def test_small_alphas_mix_without_ever_dividing_by_nothing():
    shares = np.concatenate([mixing._shares(batch(), (0, n), 0.01).numpy() for n in range(50)])
    assert np.isfinite(shares).all()
    assert ((shares >= 0) & (shares <= 1)).all()


def test_shares_are_from_a_beta_distribution():
    many = {"image": tf.zeros([4000, 1, 1, 1])}
    shares = mixing._shares(many, (0, 1), 0.5).numpy()
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / 8, abs=0.01)


def marked(size=40):
    """Black pictures with one bright rectangle each, and its box; a second row of boxes is padding."""
    image = np.zeros((COUNT, size, size, 3), np.uint8)
    boxes = np.zeros((COUNT, 2, 4), np.float32)
    for number in range(COUNT):
        left, top = 8 + number, 14 - number
        image[number, top : top + 12, left : left + 16] = LEVELS[number]
        boxes[number, 0] = np.array([left, top, left + 16, top + 12]) / size
    return {"image": image, "boxes": boxes, "classes": np.arange(COUNT)[:, None].repeat(2, axis=1)}


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_the_boxes_of_a_mosaic_are_around_their_pixels(seed):
    found = augment.mosaic()(marked(), seed)
    image, boxes, classes = (found[key].numpy() for key in ("image", "boxes", "classes"))
    assert boxes.shape == (COUNT, 8, 4)
    assert classes.shape == (COUNT, 8)
    assert not boxes[:, 1::2].any()
    assert ((boxes >= 0) & (boxes <= 1)).all()
    for number in range(COUNT):
        for box, kind in zip(boxes[number], classes[number], strict=True):
            if not box.any():
                continue
            rows, columns = np.nonzero(image[number, ..., 0] == LEVELS[kind])
            around = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 40
            np.testing.assert_allclose(around, box, atol=1.5 / 40)


def test_a_mosaic_shows_four_different_pictures():
    found = augment.mosaic(scale=(1, 1))({"image": batch()["image"]}, (0, 1))["image"].numpy()
    assert all(len(np.unique(picture)) == 4 for picture in found)


def test_mixing_refuses_what_it_cannot_mix():
    with pytest.raises(Fault, match=r"augment\.cutmix must be able to mix .* cannot mix mask; it knows image, label"):
        augment.cutmix()(batch() | {"mask": np.zeros(3)}, (0, 0))


def test_a_recipe_mixes_after_all_else():
    steps = augment.compose(["mirror", "mixup", "cutmix"])
    assert steps.mixes
    found = steps.mix(batch(), (1, 2))
    assert ((found["label"].numpy() > 0).sum(axis=1) > 2).any()  # mixed twice, with seeds of their own
    np.testing.assert_array_equal(steps({"image": batch()["image"][0]}, (1, 2))["image"], batch()["image"][0])
    assert not augment.compose(["mirror"]).mixes
