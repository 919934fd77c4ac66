"""Functions in NumPy, called by the threads of a graph.

A thread that waits for the interpreter while that is finalized is ended by it, and with it the process, by SIGABRT. So
what is called here is refused from the moment on when the process begins to exit, and the exit waits for what is still
running: a pipeline that nobody reads from any more fills its buffers with refusals and comes to rest.
"""

import atexit
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

REST, PATIENCE = 0.05, 5.0  # seconds without a call after which nothing calls any more, and the most to wait for it


class _Calls:
    """Calls since the start, those that run now, and whether more are refused."""

    begun = running = 0
    refused = False


def numpy_function(
    function: Callable[..., Any], inputs: Sequence[tf.Tensor], dtypes: tf.DType | Sequence[tf.DType]
) -> Any:
    """`tf.numpy_function` of a function without state, which can be running when the process exits.

    Without state means that tf.data calls it for several elements at once, even where the order must be
    deterministic; the function must give the same for the same inputs.
    """

    def call(*values: Any) -> Any:
        _Calls.begun += 1
        if _Calls.refused:
            raise RuntimeError("the process exits")
        _Calls.running += 1
        try:
            return function(*values)
        finally:
            _Calls.running -= 1

    return tf.numpy_function(call, inputs, dtypes, stateful=False)


@atexit.register
def _refuse() -> None:
    _Calls.refused, deadline, before = True, time.monotonic() + PATIENCE, -1
    while (_Calls.running or _Calls.begun != before) and time.monotonic() < deadline:
        before = _Calls.begun
        time.sleep(REST if before else 0)
