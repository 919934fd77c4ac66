"""Every host works on its rows of a batch alone, and the batch is the one that a host alone would make."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.data import host_share

COUNT = 23


def batches(share, size, worked=None):
    """Pictures (batch, 2, 2) and labels (batch,) of the numbers from 1."""

    def work(numbers, size):
        def example(number):
            if worked is not None:
                tf.numpy_function(lambda number: worked.append(int(number)), [number], [])
            return {"picture": tf.fill((2, 2), number), "label": number}

        return numbers.map(example).batch(size)

    source = tf.data.Dataset.range(1, COUNT + 1)
    return list(host_share.batches(source, work, share=share, count=COUNT, batch_size=size).as_numpy_iterator())


@pytest.mark.parametrize("hosts", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [2, 5, 8, 13, 23])
def test_the_rows_of_a_host_are_those_of_the_whole_batch_and_the_others_are_zeros(hosts, size):
    whole = batches((0, 1), size)
    for host in range(hosts):
        shared = batches((host, hosts), size)
        assert len(shared) == len(whole)
        for one, all_ in zip(shared, whole, strict=True):
            rows = len(all_["label"])
            first, end = host * rows // hosts, max((host + 1) * rows // hosts, host * rows // hosts + 1)
            done = one["label"] != 0
            assert done[first:end].all()
            assert done.sum() <= -(-size // hosts)
            for key, values in all_.items():
                expected = np.where(done.reshape(-1, *[1] * (values.ndim - 1)), values, 0)
                np.testing.assert_array_equal(one[key], expected)


def test_no_work_is_done_on_the_rows_of_others():
    worked = []
    batches((1, 2), 8, worked)
    assert sorted(worked) == [5, 6, 7, 8, 13, 14, 15, 16, 20, 21, 22, 23]
