"""Networks in the notation of the course, and the questions about them."""

import re

import keras
import pytest

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile, notation
from tests.conftest import cnn


def test_lenet5_is_written_as_in_the_paper():
    layers = notation.layers(models.build("lenet.lenet5_modern"))
    written = [(layer.name, layer.kind, layer.f, layer.p, layer.s, layer.after) for layer in layers]
    assert written[:2] == [
        ("c1", "conv", (5, 5), (0, 0, 0, 0), (1, 1), (28, 28, 6)),
        ("s2", "pool", (2, 2), (0, 0, 0, 0), (2, 2), (14, 14, 6)),
    ]
    assert written[-1] == ("logits", "dense", (), (), (), (10,))
    assert [layer.parameters for layer in layers] == [156, 0, 2416, 0, 48120, 10164, 850]


@pytest.mark.parametrize("name", ["nin.nin_cifar", "resnet.resnet20"])
def test_padding_fits_the_formula_of_the_output_in_every_layer(name):
    for layer in (layer for layer in notation.layers(models.build(name)) if layer.f):
        for axis in range(2):
            room = layer.before[axis] + sum(layer.p[2 * axis : 2 * axis + 2])
            size = model_profile.output_size(room, layer.f[axis], stride=layer.s[axis])
            assert size == layer.after[axis], (name, layer)


@pytest.mark.parametrize("name", ["deepface.small", "lenet.lenet5_modern", "nin.nin_cifar", "resnet.resnet20"])
def test_worked_answers_are_what_python_makes_of_them(name):
    asked = notation.questions(models.build(name), 1000)
    assert len({question.text for question in asked}) == len(asked) > 15
    for question in asked:
        terms = question.worked.partition(", a weight")[0].replace("·", "*").replace("−", "-").replace(",", "")
        for left, right in re.findall(r"([^;=]+) = (\d+)", terms):
            assert eval(left.replace("⌊", "(").replace("⌋", ")").replace("/", "//"), {}) == int(right), question
        if "parameters" in question.text or "multiply-adds" in question.text:
            assert question.worked.partition(", a")[0].endswith(question.answer)


def test_a_seed_gives_the_same_questions():
    model = models.build("lenet.lenet5_modern")
    assert notation.questions(model, 5, seed=1) == notation.questions(model, 5, seed=1)
    assert notation.questions(model, 5, seed=1) != notation.questions(model, 5, seed=2)


def test_a_network_without_such_layers_is_refused():
    signals = keras.Sequential([keras.Input((14, 1)), keras.layers.Conv1D(16, 5)])
    with pytest.raises(Fault, match="must be a network of convolutions"):
        notation.questions(signals, 3)


def test_the_command_asks_and_answers(capsys):
    assert cnn("quiz", "lenet5_modern", "--questions", "3") == 0
    asked = capsys.readouterr().out
    assert "--answers shows" in asked
    assert cnn("quiz", "lenet5_modern", "--questions", "3", "--answers") == 0
    answered = capsys.readouterr().out
    for line in asked.splitlines()[:-1]:
        assert line in answered
    assert cnn("quiz", "lenet77") == 2


def test_the_table_of_notation_has_a_line_for_each_layer(capsys):
    assert cnn("models", "show", "lenet5_modern", "--notation") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["c1", "conv", "5", "0", "1", "28×28×6", "156"]
    assert len(lines) == 2 + 7 + 1
