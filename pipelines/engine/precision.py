"""Which half precision a CPU computes fast in. Without TensorFlow."""

from pathlib import Path
from typing import Any

UNITS = ("avx512_bf16", "amx_bf16")  # as /proc/cpuinfo calls what multiplies in bfloat16
ADVICE = (
    "train.precision: bfloat16 takes about 0.6 of the time of a step here, and more than float32 in networks of "
    "depthwise convolutions; `cnn bench train RECIPE` measures both"
)


def bfloat16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The units for bfloat16 of this CPU, by their names; none where it has none or the system does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return [unit for unit in UNITS if unit in flags]


def is_depthwise(network: Any) -> bool:
    """Whether a Keras model has convolutions of single channels or of groups, which are slower in bfloat16 on a CPU."""
    return any(
        "Depthwise" in type(layer).__name__ or getattr(layer, "groups", 1) > 1
        for layer in network._flatten_layers()
        if "Conv" in type(layer).__name__
    )
