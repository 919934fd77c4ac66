"""An exported SavedModel as an MLflow "python function": a table of inputs in, a table of outputs out.

MLflow copies this file beside the SavedModel and imports it wherever the model is loaded - by
`mlflow.pyfunc.load_model` or `mlflow models serve` - so it stands alone: it imports nothing of this project.
"""

from pathlib import Path
from typing import Any

SIGNATURE = "serving_default"


class SavedModel:
    """The `serving_default` signature of the SavedModel in a folder."""

    def __init__(self, folder: str | Path) -> None:
        import tensorflow as tf  # start-up

        self._constant = tf.constant
        self._model = tf.saved_model.load(str(folder))
        self._function = self._model.signatures[SIGNATURE]

    def predict(self, model_input: Any) -> Any:
        """Answer a pandas.DataFrame with one row per example and one column per input of the signature.

        Returns a pandas.DataFrame with the same rows and one column per output, by name: scalars for outputs
        of shape [N], nested lists for [N, ...]; strings are str, except in columns named `..._bytes`.
        """
        import pandas  # where the model is loaded; training does without

        specs = self._function.structured_input_signature[1]
        feeds = {name: self._constant(model_input[name].tolist(), spec.dtype) for name, spec in specs.items()}
        answers = self._function(**feeds)
        columns = {name: _plain(name, answers[name].numpy()) for name in sorted(answers)}
        return pandas.DataFrame(columns, index=model_input.index)


def signature(folder: str | Path) -> dict[str, dict[str, tuple[str, int]]]:
    """The inputs and outputs of a SavedModel: name → (dtype, rank), read from its file without loading it.

    {"inputs": {"image_bytes": ("string", 1)}, "outputs": {"class_id": ("int64", 1), ...}}
    """
    import tensorflow as tf  # start-up
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as Message  # start-up

    message = Message.FromString((Path(folder) / "saved_model.pb").read_bytes())
    served = message.meta_graphs[0].signature_def[SIGNATURE]
    return {
        side: {
            name: (tf.dtypes.as_dtype(tensor.dtype).name, len(tensor.tensor_shape.dim))
            for name, tensor in sorted(getattr(served, side).items())
        }
        for side in ("inputs", "outputs")
    }


def _plain(name: str, values: Any) -> list[Any]:
    """A batch of answers as plain Python values."""
    if values.dtype == object and not name.endswith("_bytes"):
        return [row.decode() if isinstance(row, bytes) else [word.decode() for word in row] for row in values]
    plain: list[Any] = values.tolist()
    return plain


def _load_pyfunc(folder: str) -> SavedModel:
    """The name under which MLflow looks for the loader."""
    return SavedModel(folder)
