"""Faithfulness: of a score that is a sum over places, no order is better than that of what each place gives."""

import numpy as np
import pytest

from cnn_keras.metrics.heat_maps import deletion_insertion

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(6, 8))
IMAGE = RANDOM.uniform(size=(6, 8, 1))


def weighed(images):
    return (images[..., 0] * WEIGHTS).sum(axis=(1, 2))


def test_by_hand():
    found = deletion_insertion(
        lambda images: images[:, :, 0].sum(axis=1), np.array([[1.0], [4.0]]), np.array([0, 1]), steps=2, removed=0
    )
    np.testing.assert_allclose(found.deleted, [5, 1, 0])
    np.testing.assert_allclose(found.inserted, [0, 4, 5])
    assert (found.deletion, found.insertion) == (pytest.approx(1.75), pytest.approx(3.25))


def test_the_true_contributions_beat_every_random_map_at_each_step():
    true = deletion_insertion(weighed, IMAGE, WEIGHTS * IMAGE[..., 0], removed=0)
    for seed in range(20):
        drawn = deletion_insertion(weighed, IMAGE, np.random.default_rng(seed).random((6, 8)), removed=0)
        assert (true.deleted <= drawn.deleted + 1e-9).all()
        assert (true.inserted >= drawn.inserted - 1e-9).all()
        assert true.deletion < drawn.deletion
        assert true.insertion > drawn.insertion


def test_what_is_deleted_and_what_is_inserted_are_the_whole_of_a_sum():
    found = deletion_insertion(weighed, IMAGE, WEIGHTS, removed=0)
    np.testing.assert_allclose(found.deleted + found.inserted, weighed(IMAGE[None])[0])


def test_a_blur_takes_the_places_of_images_signals_and_volumes():
    for sizes in ((12,), (12, 9), (6, 6, 6)):
        image = RANDOM.integers(0, 256, (*sizes, 2), dtype=np.uint8)
        seen = []

        def score(images, seen=seen):
            seen.append(images)
            return images.reshape(len(images), -1).std(axis=1)

        found = deletion_insertion(score, image, RANDOM.random(sizes), steps=4)
        assert seen[0].dtype == np.uint8
        assert np.array_equal(seen[0][0], image)
        assert np.array_equal(seen[1][-1], image)
        assert found.deleted[-1] < found.deleted[0]


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match="heat"):
        deletion_insertion(weighed, IMAGE, np.zeros((8, 6)))
