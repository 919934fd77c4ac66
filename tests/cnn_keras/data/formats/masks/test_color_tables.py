"""Legends: what files beside masks say of their numbers and colours."""

import json

import pytest

from cnn_keras.data.formats.masks import color_tables
from cnn_keras.data.formats.masks.color_tables import COLOURED
from cnn_keras.errors import Fault

CAR, ROAD = COLOURED + 0x400080, COLOURED + 0x804080


@pytest.mark.parametrize(
    ("name", "text", "names", "ignored"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:128,64,128::\ncar:64,0,128::\n",
         {ROAD: "road", CAR: "car", 0: "road", 1: "car"}, ()),
        ("label_colors.txt", "0 0 0\tVoid\n64 0 128\t\tCar\n", {CAR: "Car", 1: "Car"}, (0,)),
        ("class_dict.csv", "name,r,g,b\nAnimal farm,64,0,128\n", {CAR: "Animal farm", 0: "Animal farm"}, ()),
        ("label_colors.txt", "64 0 128 Car\n0 0 0 ground\n", {CAR: "Car", 0: "ground"}, ()),  # black is no line 0
        ("_classes.csv", "Pixel Value, Class\n0, background\n7, bolt\n", {0: "background", 7: "bolt"}, ()),
        ("classes.txt", "\ufeffsky\n\n__ignore__\ntree house\n", {0: "sky", 1: "tree house"}, ()),
        ("classes.txt", "0: sky\n2: tree\n", {0: "sky", 2: "tree"}, ()),
        ("labels.txt", '# ITK-SnAP\n0 0 0 0 0 0 0 "Clear Label"\n3 255 0 0 1 1 1 "left lung"\n',
         {0: "background", 3: "left lung"}, ()),
        ("obj_class_to_machine_color.json", '{"car": [1, 1, 1], "bus": [2, 2, 2]}',
         {0: "background", 1: "car", 2: "bus"}, ()),
        ("dataset.json", '{"labels": {"background": 0, "bright": 1, "ignore": 2}}',
         {0: "background", 1: "bright"}, (2,)),
        ("dataset.json", '{"labels": {"0": "background", "1": "bright"}}', {0: "background", 1: "bright"}, ()),
    ],
)  # fmt: skip
def test_a_legend_is_read(tmp_path, name, text, names, ignored):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert color_tables.read_legend(tmp_path) == (names, ignored)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("classes.txt", "Käfer".encode("latin-1"), "UTF-8, got byte 0xe4"),
        ("labelmap.txt", b"road\n", "must name colours"),
        ("_classes.csv", b"road\n", "must name the pixels' values"),
        ("dataset.json", b'{"labels": {"tumour": [1, 2]}}', "got regions"),
        ("dataset.json", b'{"labels": ["a"]}', "labels by their numbers"),
        ("dataset.json", b'{"labels": {"a": "b"}}', "labels by their numbers"),
        ("dataset.json", b"[" * 100_000, "nested too deeply"),
        ("dataset.json", b'{"labels": {"a": ' + b"9" * 5000 + b"}}", "must be JSON"),
        ("obj_class_to_machine_color.json", b'{"car": [1e999, 0, 0]}', "classes and their colours"),
    ],
)
def test_a_legend_that_is_none_is_a_fault(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Fault, match=said) as fault:
        color_tables.read_legend(tmp_path)
    assert fault.value.code == Fault.DATA


def test_the_legend_of_roboflow_lies_in_the_folders_of_the_splits(tmp_path):
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, bolt\n")
    assert color_tables.read_legend(tmp_path).names == {0: "background", 1: "bolt"}
    assert color_tables.read_legend(tmp_path / "valid" / "nowhere") == ({}, ())


def test_colours_are_numbers_that_no_class_has():
    assert color_tables.color_number(7, 7, 7) == 7
    assert color_tables.parse_color("#400080") == color_tables.color_number(64, 0, 128) == CAR
    assert (color_tables.format_number(CAR), color_tables.format_number(7)) == ("#400080", "7")
    assert len(color_tables.camvid().names) == 31
    assert json.dumps(color_tables.cityscapes(training=True).names[13]) == '"car"'
    assert 26 in color_tables.cityscapes(training=False).names
    assert 0 in color_tables.cityscapes(training=False).ignored
