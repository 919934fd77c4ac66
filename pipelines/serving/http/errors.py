"""Refusals: what a client did that cannot be answered, as an HTTP status and one clear sentence."""

import sys

from cnn_keras.data.files.image_file import reason

LONGEST = 300  # characters; a model's error may quote the whole request back

# TensorFlow's error codes (https://grpc.io/docs/guides/status-codes) as TensorFlow Serving maps them to HTTP.
STATUS_OF_CODE = {
    1: 499,  # cancelled
    3: 400,  # invalid argument
    4: 504,  # deadline exceeded
    5: 404,  # not found
    6: 409,  # already exists
    7: 403,  # permission denied
    8: 429,  # resource exhausted
    9: 400,  # failed precondition
    10: 409,  # aborted
    11: 400,  # out of range
    12: 501,  # unimplemented
    14: 503,  # unavailable
    16: 401,  # unauthenticated
}


class Refusal(Exception):
    """A request that gets `status` and the JSON body `{"error": message}`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message if len(message) <= LONGEST else message[: LONGEST - 1] + "…"


def of_row(row: int, rows: int, message: str) -> str:
    """Name the row at fault, unless it is the only one."""
    return message if rows == 1 else f"row {row}: {message}"


def from_tensorflow(error: Exception) -> Refusal | None:
    """What TensorFlow raised, as the client should hear it: one line, no trace. None: it is not TensorFlow's.

    An error that quotes raw bytes of the request surfaces as a UnicodeDecodeError which carries the message.
    """
    if "tensorflow" not in sys.modules:  # another engine
        return None
    from tensorflow.errors import OpError  # start-up: TensorFlow is loaded with the model

    if isinstance(error, UnicodeDecodeError):
        return Refusal(400, reason(error))
    if isinstance(error, OpError):
        return Refusal(STATUS_OF_CODE.get(error.error_code, 500), reason(error))
    return None
