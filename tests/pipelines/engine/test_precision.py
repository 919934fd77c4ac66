"""What a CPU says of bfloat16, and which networks are slower in it."""

import pytest

from cnn_keras import models
from pipelines.engine import precision


@pytest.mark.parametrize(
    ("flags", "units"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile", ["avx512_bf16", "amx_bf16"]),
        ("flags\t\t: fpu avx512f", []),
        ("Features\t: fp asimd", []),
    ],
)
def test_the_units_are_read_from_what_linux_says_of_the_cpu(flags, units, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{flags}\nbugs\t: none\n")
    assert precision.bfloat16_units(cpuinfo) == units


def test_a_system_that_does_not_tell_has_none(tmp_path):
    assert precision.bfloat16_units(tmp_path / "cpuinfo") == []


@pytest.mark.parametrize(
    ("builder", "depthwise"), [("mobilenet.mobilenet_v2", True), ("resnet.resnet20", False), ("lenet.lenet5", False)]
)
def test_networks_of_depthwise_convolutions_are_known(builder, depthwise):
    assert precision.is_depthwise(models.build(builder)) == depthwise
