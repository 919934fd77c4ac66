"""Builders are found by the files they live in, and arguments are checked without building."""

import subprocess
import sys
from pathlib import Path

import pytest

import cnn_keras
from cnn_keras import models
from cnn_keras.errors import Fault


def test_importing_the_catalogue_imports_no_tensorflow_in_the_application():
    code = "import sys, pipelines, cnn_keras.models; sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    root = Path(cnn_keras.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.slow
def test_a_saved_model_loads_after_nothing_but_an_import_of_the_library(tmp_path):
    from cnn_keras.models import lenet, yolo

    for number, network in enumerate((lenet.lenet5(), yolo.yolo_small(input_shape=(64, 64, 3), classes=2))):
        network.save(tmp_path / f"{number}.keras")
    load = "import sys, cnn_keras, keras; [keras.models.load_model(path) for path in sys.argv[1:]]"
    root = Path(cnn_keras.__file__).parents[1]
    paths = [str(path) for path in tmp_path.glob("*.keras")]
    assert subprocess.run([sys.executable, "-c", load, *paths], cwd=root, check=False).returncode == 0


def test_whatever_registers_with_keras_is_listed():
    root = Path(cnn_keras.__file__).parent
    found = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in root.rglob("*.py")
        if "\n@register" in (text := path.read_text()) or "\n@keras.saving.register" in text
    }
    assert found == set(cnn_keras.REGISTERING)


def test_a_builder_is_named_by_its_file_and_its_function():
    from cnn_keras.models import lenet

    assert models.catalogue()["lenet.lenet5"] is lenet.lenet5


def test_helpers_of_a_family_are_not_in_the_catalogue():
    helpers = {"resnet.residual_network", "resnet.basic", "resnet.late", "vgg.very_deep_network", "vgg.require_size"}
    assert not helpers & set(models.catalogue())
    assert not any("._" in name for name in models.catalogue())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("lenet.lenet", "lenet.lenet5"), ("lenet5", "lenet.lenet5"), ("resnet50", "resnet.resnet50")],
)
def test_an_unknown_builder_is_refused_with_the_nearest_names(name, nearest):
    with pytest.raises(Fault, match=f"must be a builder.*got '{name}'; did you mean {nearest}"):
        models.build(name)


def test_a_single_word_means_the_one_builder_of_this_name():
    assert models.whole_name("resnet20") == "resnet.resnet20"
    with pytest.raises(
        Fault, match=r"which family's builder it is, got 'two_conv': conv1d.two_conv or conv3d.two_conv"
    ):
        models.whole_name("two_conv")
    with pytest.raises(Fault, match=r"got 'lenet'; did you mean lenet.lenet5"):
        models.whole_name("lenet")


def test_a_name_like_no_other_is_refused_with_the_families():
    with pytest.raises(Fault, match=r"got 'zzzzzzzz'; the families are alexnet, .*lenet, .*vgg"):
        models.signature("zzzzzzzz")


def test_an_unknown_argument_is_refused_with_the_signature_and_the_nearest_argument():
    with pytest.raises(Fault, match=r"poling must be an argument of .*dropout=0\.0.*\).*; did you mean pooling\?"):
        models.check("lenet.lenet5_modern", input_shape=(32, 32, 1), classes=10, poling="max")


def test_a_missing_argument_is_refused_by_its_name(monkeypatch):
    def network(*, input_shape, classes=10):
        raise AssertionError("check must not build")

    monkeypatch.setattr(models, "catalogue", lambda: {"family.network": network})
    with pytest.raises(Fault, match=r"input_shape must be given to family\.network\(\*, input_shape"):
        models.check("family.network", classes=3)


def test_arguments_that_fit_are_accepted_without_building(monkeypatch):
    def network(*, input_shape, classes=10):
        raise AssertionError("check must not build")

    monkeypatch.setattr(models, "catalogue", lambda: {"family.network": network})
    models.check("family.network", input_shape=(28, 28, 1))


def test_a_bare_name_is_compared_with_names_without_their_families():
    with pytest.raises(Fault, match=r"did you mean .*resnet\.resnet20"):
        models.signature("resnet21")
