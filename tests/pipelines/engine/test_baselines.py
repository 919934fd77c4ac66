"""The lines to beat: known scores on digits, and bounds that hold on larger splits."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pipelines.engine.baselines import IMAGES, baselines, shrink, stratified_sample


@pytest.fixture(scope="module")
def digits():
    """1,437 training and 360 test digits, uint8 [N, 8, 8, 1], as (images, labels) twice."""
    data = load_digits()
    images = (data.images * (255 / 16)).astype(np.uint8)[..., None]
    rows = train_test_split(np.arange(1797), test_size=360, stratify=data.target, random_state=0)
    return [(images[split], data.target[split]) for split in rows]


def enlarged(images, side):
    return np.stack([np.asarray(Image.fromarray(image[..., 0]).resize((side, side))) for image in images])[..., None]


def test_digits_reach_the_published_scores(digits):
    (images, labels), test = digits
    found = baselines(images, labels, *test)
    assert found.accuracy["majority"] == pytest.approx(0.10, abs=0.01)
    assert found.accuracy["logistic regression"] == pytest.approx(0.9667, abs=0.01)
    assert found.accuracy["nearest neighbour"] == pytest.approx(0.9833, abs=0.01)
    assert found.note == "fitted on all 1,437 training images at 8x8 pixels"


def test_digits_at_32_pixels_are_fitted_without_a_warning(digits):
    (images, labels), (test_images, test_labels) = digits
    found = baselines(enlarged(images, 32), labels, enlarged(test_images, 32), test_labels)
    assert found.accuracy["logistic regression"] > 0.95
    assert found.accuracy["nearest neighbour"] > 0.97


def test_accuracies_are_those_of_the_predictions(digits):
    (images, labels), (test_images, test_labels) = digits
    found = baselines(images[:200], labels[:200], test_images[:50], test_labels[:50])
    assert list(found.accuracy) == list(found.predictions)
    for name, answers in found.predictions.items():
        assert answers.dtype == np.int64
        assert found.accuracy[name] == np.mean(answers == test_labels[:50])


def test_the_nearest_neighbour_knows_the_training_images(digits):
    images, labels = digits[0]
    assert baselines(images, labels, images, labels).accuracy["nearest neighbour"] == 1


def test_the_majority_is_the_commonest_training_class():
    images = np.zeros((5, 4, 4, 1), np.uint8)
    found = baselines(images, np.array([0, 2, 2, 2, 1]), images[:2], np.array([2, 0]))
    np.testing.assert_array_equal(found.predictions["majority"], [2, 2])
    assert found.accuracy["majority"] == 0.5


def test_large_colour_images_are_averaged_to_a_bounded_size():
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (12, 70, 50, 3), np.uint8), np.arange(12) % 2
    found = baselines(images, labels, images[:3], labels[:3])
    assert found.note == "fitted on all 12 training images at 18x18 pixels, averaged from 70x50 pixels"


def test_a_large_split_is_sampled_and_says_so():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, IMAGES + 500)
    images = (labels[:, None, None, None] * 80 + random.integers(0, 20, (len(labels), 2, 2, 1))).astype(np.uint8)
    found = baselines(images, labels, images[:100], labels[:100])
    assert found.accuracy["nearest neighbour"] == 1
    assert "a stratified sample of 10,000 of 10,500 training images" in found.note


def test_a_sample_keeps_the_shares_and_loses_no_class():
    labels = np.repeat([0, 1, 2], [9_000, 995, 5])
    rows = stratified_sample(labels, 100, seed=0)
    counts = np.bincount(labels[rows], minlength=3)
    assert counts[0] == pytest.approx(90, abs=1)
    assert counts[1] == pytest.approx(10, abs=1)
    assert counts[2] >= 1
    assert len(np.unique(rows)) == len(rows)
    np.testing.assert_array_equal(rows, stratified_sample(labels, 100, seed=0))
    assert set(rows) != set(stratified_sample(labels, 100, seed=1))
    np.testing.assert_array_equal(stratified_sample(labels[:7], 7, seed=0), np.arange(7))


def test_shrinking_averages_blocks_and_keeps_small_images():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(shrink(image, 2)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(shrink(image, 4), image)
    ragged = np.array([0, 10, 20, 30, 40], np.uint8).reshape(1, 1, 5, 1)
    np.testing.assert_array_equal(shrink(ragged, 2)[0, 0, :, 0], [5, 30])
    assert shrink(np.full((1, 500, 500, 3), 255, np.uint8), 18).max() == 255


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int), "test_images must be uint8"),
        (np.zeros((4, 8, 8, 1), np.float32), np.zeros(4, int), "got float32"),
        (np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, int), "not empty"),
        (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(3, int), r"test_labels must have shape \[4\]"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(digits, images, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        baselines(*digits[0], images, labels)
