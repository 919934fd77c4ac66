"""Pictures of architectures: what they show of a network, and that every network of the catalogue can be drawn."""

import functools
import inspect
import itertools

import keras
import matplotlib.image
import pytest
from keras import layers

from cnn_keras import models
from cnn_keras.errors import Fault
from pipelines.analysis.diagram import layout, model_diagram
from pipelines.plots.image_grid import text_width
from tests.cnn_keras.models.test_models import TABLE
from tests.conftest import cnn


@functools.cache
def row(name, **arguments):
    return layout.boxes(layout.parts(models.build(name, **arguments)))


def boxes_of(outputs, inputs):
    return layout.boxes(layout.parts(keras.Model(inputs, outputs)))


def size_of(path):
    height, width, _ = matplotlib.image.imread(path, format="png").shape
    return width, height


QUICK = [pytest.param(name, marks=() if figures.quick else pytest.mark.slow) for name, figures in TABLE.items()]


@pytest.mark.parametrize("name", QUICK)
def test_every_network_can_be_drawn_on_a_page(name, tmp_path):
    taken = inspect.signature(models.catalogue()[name]).parameters
    wanted = {"input_shape": (32, 32, 3), "classes": 5, **TABLE[name].small}
    arguments = {argument: value for argument, value in wanted.items() if argument in taken}
    drawn = model_diagram.draw(row.__wrapped__(name, **arguments), tmp_path / "network.png", heading=name)
    width, height = size_of(drawn)
    assert 600 <= width <= 4000  # a long network whose units do not repeat is wider than a page
    assert 350 <= height <= 2000


def test_a_short_network_is_a_box_for_each_layer_that_works():
    told = [(box.kind, box.text, box.shape) for box in row("lenet.lenet5_modern", batch_norm=True, dropout=0.5)]
    assert told == [
        ("input", "image", (32, 32, 1)),
        ("convolution", "5×5 conv", (28, 28, 6)),
        ("pooling", "2×2 max /2", (14, 14, 6)),
        ("convolution", "5×5 conv", (10, 10, 16)),
        ("pooling", "2×2 max /2", (5, 5, 16)),
        ("convolution", "5×5 conv", (1, 1, 120)),
        ("dense", "dense", (84,)),
        ("dense", "dense", (10,)),
    ]


def test_each_box_of_a_chain_reads_the_one_before():
    for before, after in itertools.pairwise(row("lenet.lenet5")):
        assert after.inputs == (before.name,)


def test_groups_strides_and_response_normalisation_are_written():
    told = [box.text for box in row("alexnet.alexnet", input_shape=(67, 67, 3), hidden=8)]
    assert told[1:5] == ["11×11 conv /4", "LRN", "3×3 max /2", "5×5 conv, 2 groups"]


def test_blocks_of_a_residual_network_are_lettered_by_kind_and_say_what_their_shortcut_is():
    told = [(box.letter, box.shortcut) for box in row("resnet.resnet20")[2:-2]]
    identity, changed = ("A", "identity"), ("B", "changed")
    assert told == [identity] * 3 + [changed, identity, identity] * 2


def test_a_plain_network_has_no_shortcuts_and_a_scaled_shortcut_is_not_the_identity():
    assert {box.shortcut for box in row("resnet.plain20")} == {""}
    assert {box.shortcut for box in row("shortcuts.constant_scaling", depth=8)[2:-2]} == {"changed"}


def test_equal_neighbours_of_a_very_long_network_are_one_box_with_their_count():
    told = [(box.name, box.letter, box.count, box.shape) for box in row("resnet.resnet56")[2:-2]]
    assert told == [
        ("stage1_unit1", "A", 9, (32, 32, 16)),
        ("stage2_unit1", "B", 1, (16, 16, 32)),
        ("stage2_unit2", "A", 8, (16, 16, 32)),
        ("stage3_unit1", "B", 1, (8, 8, 64)),
        ("stage3_unit2", "A", 8, (8, 8, 64)),
    ]
    assert [box.inputs[0] for box in row("resnet.resnet56")[3:]] == [box.name for box in row("resnet.resnet56")[2:-1]]


def test_an_inception_module_is_a_block_of_four_branches_from_what_it_reads_to_their_concatenation():
    (block,) = {box.letter: box for box in reversed(row("googlenet.googlenet")) if box.letter}.values()
    readers = [part.text for part in block.inside if part.inputs == ("",)]
    assert sorted(readers) == ["1×1 conv", "1×1 conv", "1×1 conv", "3×3 max"]
    assert block.inside[-1].text == "concat"
    assert len(block.inside[-1].inputs) == 4
    assert block.inputs == ("pool2",)


def test_branches_are_drawn_in_the_order_of_their_concatenation():
    diagram = model_diagram.BlockDiagram(next(box for box in row("googlenet.googlenet") if box.letter))
    assert [diagram.lanes[source] for source in diagram.box.inside[-1].inputs] == [0, 1, 2, 3]


def test_a_way_over_other_blocks_is_kept():
    image = keras.Input((16, 16, 1), name="image")
    down = layers.Conv2D(4, 3, padding="same", name="down_conv")(image)
    x = layers.Conv2D(8, 3, padding="same", name="bottom_conv")(layers.MaxPooling2D(name="down_pool")(down))
    up = layers.Conv2DTranspose(4, 2, strides=2, name="up_conv")(x)
    joined = layers.Concatenate(name="up_concat")([down, up])
    told = {box.name: box for box in boxes_of(layers.Conv2D(2, 1, name="logits")(joined), image)}
    assert told["up_concat"].inputs == ("down_conv", "up_conv")
    assert (told["up_conv"].kind, told["up_conv"].text) == ("up-sampling", "2×2 up-conv /2")
    assert not any(box.letter for box in told.values())


def test_a_shared_network_is_one_box_that_reads_both_inputs(tmp_path):
    embed = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3)], name="embed")
    inputs = [keras.Input((8, 8, 1), name=name) for name in ("first", "second")]
    verdict = layers.Dense(1, name="verdict")(layers.Subtract()([embed(image) for image in inputs]))
    told = boxes_of(verdict, inputs)
    assert [(box.name, box.inputs) for box in told] == [
        ("first", ()),
        ("second", ()),
        ("embed", ("first", "second")),
        ("verdict", ("embed",)),
    ]
    assert model_diagram.draw(told, tmp_path / "twins.png").is_file()


@pytest.mark.parametrize("name", ["googlenet.googlenet", "conv3d.c3d"])
def test_sizes_under_the_row_never_overlap(name):
    arguments = {"hidden": 4} if name == "conv3d.c3d" else {}
    levels = model_diagram._levels(model_diagram._slabs(row(name, **arguments)))
    for level in {level for *_, level in levels}:
        here = [(text, (left + right) / 2) for text, left, right, at in levels if at == level]
        for (text, middle), (following, after) in itertools.pairwise(here):
            assert middle + text_width(text, 7) / 2 < after - text_width(following, 7) / 2


def test_the_command_writes_the_picture(tmp_path, capsys):
    path = tmp_path / "pictures" / "lenet5.png"
    assert cnn("models", "show", "lenet5", "--picture", path) == 0
    assert f"wrote {path}" in capsys.readouterr().out.replace("\n", "")
    assert size_of(path) > (600, 350)


def test_another_kind_of_picture_is_refused(tmp_path, capsys):
    assert cnn("models", "show", "lenet5", "--picture", tmp_path / "lenet5.svg") == Fault.INPUT
    assert "must be a file whose name ends in .png" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
