"""Licences of weights that were brought in, kept beside them."""

from pathlib import Path

from cnn_keras.data.files import durable


def write(folder: Path, notice: str, licence: str) -> str:
    """Write `LICENSE`, the notice and below it the package's licence; return a sentence that names both.

    Args:
        notice: where the weights are from.
        licence: the package's text, empty where it has none.
    """
    file = folder / "LICENSE"
    durable.write_text(file, notice + licence)
    lines = [line.strip() for line in licence.splitlines() if line.strip()]
    owner = next((line for line in lines if line.startswith("Copyright")), "")
    return f"{file}: {', '.join(filter(None, [*lines[:1], owner])) or 'no licence in the package'}"
