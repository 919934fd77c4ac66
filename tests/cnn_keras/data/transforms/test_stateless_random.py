"""A batch's random numbers are those that TensorFlow draws one seed at a time."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.data.transforms import stateless_random as draws

SEEDS = np.random.default_rng(0).integers(-(2**31), 2**31, (5, 2)).astype(np.int32)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_batch_is_drawn_as_one_seed_at_a_time(compiled):
    kinds = [draws.Uniform(1), draws.Uniform(22, -1.0, 3.0), draws.Normal(3), draws.Normal(6)]
    drawn = tf.function(draws.batch, jit_compile=compiled)(tf.constant(SEEDS), (0, 3, 4, 7), kinds)
    for number, kind, values in zip([0, 3, 4, 7], kinds, drawn, strict=True):
        assert values.dtype == np.float32
        assert values.shape == (5, kind.count)
        for seed, row in zip(SEEDS, values, strict=True):
            right = kind(tf.random.experimental.stateless_fold_in(tf.constant(seed), number)).numpy()
            if isinstance(kind, draws.Uniform):
                np.testing.assert_array_equal(row, right)
            else:
                np.testing.assert_allclose(row, right, rtol=1e-5, atol=1e-6)
