"""`cnn models list` and `cnn models show`."""

import csv
import functools
import io
import json

import pytest
from rich.console import Console

from cnn_keras.errors import Fault
from cnn_keras.learn.model_profile import Row
from pipelines.analysis import model_summary
from tests.conftest import cnn


@pytest.fixture
def told(capsys, monkeypatch):
    """What the command prints in a terminal of so many columns."""

    def tell(*arguments, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        code = cnn("models", *arguments)
        out, err = capsys.readouterr()
        assert code == 0, err
        return out.splitlines()

    return tell


network = functools.cache(model_summary.examine)  # building the classics takes seconds


def table(name, columns=80, **options):
    """The lines of `cnn models show NAME` in a terminal of so many columns."""
    console = Console(file=io.StringIO(), width=columns, soft_wrap=True, highlight=False)
    model_summary.show(network(name), console, **options)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("name", "ticks"), [("vgg16", ["138 M", "15.47 G"]), ("googlenet", ["7.0 M", "1.5 G"]), ("resnet50", ["3.8 G"])]
)
def test_the_table_of_a_classic_ends_with_ticks_for_the_paper(name, ticks):
    ticked = [line for line in table(name, columns=160) if line.startswith("✓")]
    for figure in ticks:
        assert any(f" {figure} " in line for line in ticked)


@pytest.mark.parametrize(
    ("name", "printed", "reason"),
    [
        ("alexnet.alexnet", "61,100,840", "alexnet_one_tower"),
        ("googlenet", "6,624,904", "3×3 convolutions for 5×5"),
        ("resnet50", "25,636,712", "its convolutions have biases"),
        ("resnet50", "4.09 G", "v1.5"),
    ],
)
def test_another_network_under_the_same_name_has_a_cross_and_the_reason(name, printed, reason):
    (line,) = [line for line in table(name, columns=160) if printed in line and line.startswith("✗")]
    assert reason in line


@pytest.mark.parametrize("name", ["vgg16", "googlenet", "resnet50"])
def test_a_table_fits_a_terminal_of_80_columns(name):
    lines = table(name)
    assert max(map(len, lines)) <= 80
    assert len(lines) < 70


def test_a_row_tells_shape_parameters_multiply_adds_memory_receptive_field_and_jump():
    (line,) = [line for line in table("vgg16") if line.startswith("conv5_3 ")]
    assert line.split() == ["conv5_3", "Conv2D", "14×14×512", "2,359,808", "462", "M", "401", "kB", "196", "16"]


def test_a_long_network_is_shown_block_by_block_or_whole():
    blocks = table("googlenet")
    assert any(line.startswith("inception3a 14 layers ") for line in blocks)
    assert not any(line.startswith("inception3a_1x1") for line in blocks)
    assert any(line.startswith("inception3a_1x1 ") for line in table("googlenet", columns=160, layers=True))


def row(name, count, size):
    return Row(name, "Conv2D", (size, size, 8), count, count, 10 * count, 4 * size, (size,), (1,), (0,), (2,))


def test_a_block_sums_its_layers_and_ends_where_its_last_one_does():
    rows = [row("stem", 1, 9), row("stage1_unit1_conv1", 2, 8), row("stage1_unit1_conv2", 3, 7), row("stage1", 4, 6)]
    stem, block, stage = model_summary.blocks(rows)
    assert (stem, stage) == (rows[0], rows[3])
    assert block == Row("stage1_unit1", "2 layers", (7, 7, 8), 5, 5, 50, 60, (7,), (1,), (0,), (2,))


def test_other_inputs_are_counted_but_not_compared(told):
    lines = told("show", "lenet5_modern", "--input", "40x48x3", "--classes", "7", "--batch", "4")
    assert lines[0] == "lenet.lenet5_modern  input 40×48×3, 7 classes"
    assert any(line.startswith("activations") and line.rstrip().endswith("for 4 examples") for line in lines)
    assert lines[-1].startswith("published: only for the builder's own input")


def test_a_network_without_published_figures_says_so(told):
    assert told("show", "introductory.two_conv")[-1] == "published: –"


def test_the_layers_are_written_as_csv_and_json(tmp_path, told):
    path = tmp_path / "lenet5.csv"
    told("show", "lenet5", "--csv", path)
    lines = list(csv.DictReader(path.read_text().splitlines()))
    taken_apart = json.loads("\n".join(told("show", "lenet5", "--json")))
    assert [line["name"] for line in lines] == [row["name"] for row in taken_apart["rows"]]
    assert sum(int(line["parameters"]) for line in lines) == taken_apart["totals"]["parameters"] == 60_000
    assert [(figure["printed"], figure["agrees"]) for figure in taken_apart["published"]] == [("60,000", True)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "two_conv"], "conv1d.two_conv or conv3d.two_conv or introductory.two_conv"),
        (["show", "vgg17"], "did you mean"),
        (["show", "vgg16", "--input", "224x224"], "such as 224x224x3, got '224x224'"),
        (["show", "vgg16", "--input", "0x224x3"], "such as 224x224x3"),
        (["show", "vgg16", "--input", "16x16x3"], "at least 32"),
        (["list", "zzz*"], "must fit a builder"),
    ],
)
def test_a_mistake_is_explained(arguments, message, capsys):
    assert cnn("models", *arguments) == Fault.INPUT
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_list_has_one_line_for_each_builder_that_fits_and_builds_none(told, monkeypatch):
    def build(*_arguments, **_options):
        raise AssertionError("list must not build")

    monkeypatch.setattr("cnn_keras.models.build", build)
    monkeypatch.setattr("keras.Model.__init__", build)
    header, *lines, _ = told("list", "vgg*")
    assert header.split()[:2] == ["name", "input"]
    assert [line.split()[0] for line in lines] == ["vgg.vgg11", "vgg.vgg13", "vgg.vgg16", "vgg.vgg19"]
    assert "224×224×3" in lines[2]
    assert "138 M" in lines[2]
    names = [builder["name"] for builder in json.loads("\n".join(told("list", "resnet1[05]*", "--json")))]
    assert "resnet.resnet152" in names
    assert "resnet.resnet18" not in names


def test_counts_are_written_to_three_digits():
    assert [model_summary.short(count) for count in (0, 999, 1000, 86_704_128, 138_357_544, 15_470_264_320)] == [
        "0 ",
        "999 ",
        "1.00 k",
        "86.7 M",
        "138 M",
        "15.5 G",
    ]
