"""Functions that the threads of a graph call."""

import subprocess
import sys

import pytest

PROGRAM = """
import time
import tensorflow as tf
from cnn_keras.ops.numpy_function import numpy_function

def double(number):
    time.sleep(0.01)
    return 2 * number

numbers = tf.data.Dataset.range(10**9).map(lambda n: numpy_function(double, [n], tf.int64), num_parallel_calls=2)
iterator = iter(numbers.prefetch(200))
assert [next(iterator).numpy() for _ in range(3)] == [0, 2, 4]
raise KeyError
"""


@pytest.mark.slow
def test_a_process_ends_in_order_while_a_pipeline_is_calling():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 1, ended.stderr[-2000:]
    assert "KeyError" in ended.stderr
