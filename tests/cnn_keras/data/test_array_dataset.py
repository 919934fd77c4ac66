"""Grids: framing keeps what fits, stretching keeps lines straight, cropping keeps the middle; batches repeat."""

from itertools import chain

import numpy as np
import pytest

from cnn_keras.data import array_dataset

RAMP = np.arange(10, dtype=np.float32)


@pytest.mark.parametrize("fit", array_dataset.FITS)
def test_what_has_the_size_already_is_left_as_it_is(fit):
    values = np.random.default_rng(0).normal(size=(2, 5, 6, 7, 1)).astype(np.float32)
    np.testing.assert_array_equal(array_dataset.resize(values, (5, 6, 7), fit=fit), values)


def test_a_stretched_line_stays_straight():
    longer = np.asarray(array_dataset.resize(RAMP[None, :, None], (20,)))[0, :, 0]
    np.testing.assert_allclose(longer[1:-1], np.arange(20)[1:-1] / 2 - 0.25, atol=1e-5)
    shorter = np.asarray(array_dataset.resize(RAMP[None, :, None], (5,)))[0, :, 0]
    np.testing.assert_allclose(shorter[1:-1], [2.5, 4.5, 6.5], atol=1e-5)


def test_shrinking_averages_what_would_otherwise_alias():
    wave = np.cos(np.pi * np.arange(64, dtype=np.float32))[None, :, None]  # +1, −1, +1, …
    assert np.abs(array_dataset.resize(wave, (16,))[0, 1:-1]).max() < 0.05


def test_each_axis_of_a_volume_is_stretched_by_itself():
    volume = np.arange(4, dtype=np.float32)[None, :, None, None, None] * np.ones((1, 4, 3, 5, 2), np.float32)
    framed = np.asarray(array_dataset.resize(volume, (8, 6, 5)))
    assert framed.shape == (1, 8, 6, 5, 2)
    np.testing.assert_allclose(
        framed[0, :, 2, 3, 1], np.asarray(array_dataset.resize(RAMP[None, :4, None], (8,)))[0, :, 0]
    )


def test_cropping_cuts_the_middle_out_and_fills_what_is_missing_with_zeros():
    np.testing.assert_array_equal(array_dataset.resize(RAMP[None, :, None], (4,), fit="crop")[0, :, 0], [3, 4, 5, 6])
    filled = array_dataset.resize(RAMP[None, 1:3, None], (5,), fit="crop")[0, :, 0]
    np.testing.assert_array_equal(filled, [0, 1, 2, 0, 0])


def test_an_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="stretch, crop"):
        array_dataset.resize(RAMP[None, :, None], (4,), fit="squeeze")


def split(count=10):
    values = np.arange(count, dtype=np.float32)[:, None, None] * np.ones((1, 4, 1), np.float32)
    return array_dataset.Split(values, np.arange(count), np.array([str(row) for row in range(count)]))


def seen(dataset):
    return [labels.tolist() for _, labels in dataset.as_numpy_iterator()]


def test_an_epoch_shows_every_example_once_and_its_order_depends_on_its_number_only():
    whole = seen(array_dataset.training(split(), epochs=range(3), batch_size=4, seed=1))
    assert [sorted(chain(*whole[start : start + 3])) for start in (0, 3, 6)] == [list(range(10))] * 3
    assert whole[:3] != whole[3:6]
    assert seen(array_dataset.training(split(), epochs=range(2, 3), batch_size=4, seed=1)) == whole[6:]
    assert seen(array_dataset.training(split(), epochs=range(3), batch_size=4, seed=2)) != whole


def test_augmented_batches_repeat_too_and_keep_their_labels():
    augment = array_dataset.augmentation([{"jitter": 0.1, "scale": 0.2}, {"shift": 0.3, "flip": (0,)}])
    runs = [
        list(
            array_dataset.training(
                split(), epochs=range(5, 6), batch_size=10, seed=1, augment=augment
            ).as_numpy_iterator()
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0][0][0], runs[1][0][0])
    values, labels = runs[0][0]
    np.testing.assert_allclose(values[:, 0, 0], labels, rtol=0.21)


def test_a_flip_turns_the_named_axis_round_and_no_other():
    grid = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    found = {np.asarray(array_dataset.augment(grid, [seed, 0], flip=(1,))).tobytes() for seed in range(20)}
    assert found == {grid.tobytes(), grid[:, ::-1].tobytes()}


def test_a_shift_holds_the_value_of_the_border():
    found = {tuple(np.asarray(array_dataset.augment(RAMP[:, None], [seed, 0], shift=0.2))[:, 0]) for seed in range(40)}
    assert (*RAMP[2:], 9, 9) in found
    assert (0, 0, *RAMP[:-2]) in found
    assert len(found) == 5  # two either way, and none


def test_a_masked_stretch_has_the_mean_and_the_rest_is_as_it_was():
    signal = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    lengths, starts = set(), set()
    for seed in range(60):
        found = np.asarray(array_dataset.augment(signal, [seed, 0], mask=0.2))
        changed = (found != signal).any(axis=-1)
        places = np.flatnonzero(changed)
        lengths.add(len(places))
        starts |= set(places[:1].tolist())
        np.testing.assert_allclose(found[changed], np.tile(signal.mean(axis=0), (len(places), 1)), atol=1e-6)
        assert len(places) == 0 or np.ptp(places) == len(places) - 1  # one stretch
        np.testing.assert_array_equal(found, array_dataset.augment(signal, [seed, 0], mask=0.2))
    assert lengths == set(range(11))  # up to a fifth of 50
    assert min(starts) < 5
    assert max(starts) > 40


def test_a_masked_block_of_a_volume_is_a_block():
    volume = np.random.default_rng(0).normal(size=(10, 12, 14, 1)).astype(np.float32)
    changed = np.asarray(array_dataset.augment(volume, [3, 0], mask=0.5))[..., 0] != volume[..., 0]
    sides = [np.ptp(places) + 1 for places in np.nonzero(changed)]
    assert changed.sum() == np.prod(sides)
    assert all(side <= length / 2 for side, length in zip(sides, changed.shape, strict=True))


def test_a_mask_changes_nothing_else_that_is_drawn():
    signal = np.random.default_rng(0).normal(size=(50, 1)).astype(np.float32)
    settings = {"jitter": 0.1, "scale": 0.2, "shift": 0.3}
    plain, masked = (np.asarray(array_dataset.augment(signal, [5, 0], **settings, mask=mask)) for mask in (0, 0.1))
    assert 0 < (plain != masked).sum() <= 5


def test_no_step_is_no_augmentation():
    assert array_dataset.augmentation([]) is None


def test_a_split_is_read_as_it_was_written(tmp_path):
    array_dataset.write(tmp_path, "train", split())
    for written, read in zip(split(), array_dataset.read(tmp_path, "train"), strict=True):
        np.testing.assert_array_equal(written, read)
