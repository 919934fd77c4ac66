"""Which network judges: the best that is at hand, said with the reason, and never random weights in silence."""

import io

import pytest
from rich.console import Console

from cnn_keras.errors import Fault
from cnn_keras.weights import catalog
from pipelines.tasks.stylize import extractor_choice, feature_extractor
from pipelines.tasks.stylize.config import Loss

LITE = "efficientnet.efficientnet_lite0"


def at_hand(monkeypatch, *names):
    monkeypatch.setattr(catalog, "is_cached", lambda builder, kind="imagenet": builder in names)


@pytest.mark.parametrize(
    ("there", "builder", "weights", "said"),
    [
        (("vgg.vgg19", "vgg.vgg16", LITE), "vgg.vgg19", "imagenet", "the network of the paper"),
        (("vgg.vgg16", LITE), "vgg.vgg16", "edges", "vgg.vgg19 (imagenet) not available"),
        ((LITE,), LITE, "imagenet", "vgg.vgg19 (imagenet), vgg.vgg16 (edges) not available"),
    ],
)
def test_the_best_network_at_hand_is_chosen_and_it_says_why(monkeypatch, there, builder, weights, said):
    at_hand(monkeypatch, *there)
    found = extractor_choice.choose_extractor(Loss())
    assert (found.builder, found.weights) == (builder, weights)
    assert said in found.reason
    told = Console(record=True, width=200, file=io.StringIO())
    extractor_choice.say(found, told)
    assert f"{builder} ({weights}): " in told.export_text()


def test_without_any_it_refuses_instead_of_taking_random_weights(monkeypatch):
    at_hand(monkeypatch)
    with pytest.raises(Fault, match=r"neither vgg\.vgg19.*`make samples`"):
        extractor_choice.choose_extractor(Loss())


def test_random_weights_are_a_control_that_is_called_one(monkeypatch):
    at_hand(monkeypatch, "vgg.vgg16")
    found = extractor_choice.choose_extractor(Loss(untrained=True))
    assert found.weights == extractor_choice.RANDOM
    told = Console(record=True, width=200, file=io.StringIO())
    extractor_choice.say(found, told)
    assert "random weights" in told.export_text()


def test_a_named_extractor_needs_weights_that_there_are():
    with pytest.raises(Fault, match=r"weights must be a file for lenet\.lenet5"):
        extractor_choice.choose_extractor(Loss(extractor="lenet.lenet5"))
    with pytest.raises(Fault, match="must name a builder with weights edges"):
        extractor_choice.choose_extractor(Loss(weights="edges"))
    found = extractor_choice.choose_extractor(Loss(extractor="vgg.vgg16"))
    assert found.weights == "edges"


def test_layers_of_another_network_must_be_named():
    loss = Loss(extractor="stacks.one_7x7", untrained=True)
    with pytest.raises(Fault, match=r"content_layers and style_layers must be given for stacks\.one_7x7"):
        feature_extractor.check(loss)
    with pytest.raises(Fault, match="got relu7"):
        feature_extractor.check(
            loss.model_copy(update={"content_layers": {"relu7": 1.0}, "style_layers": {"relu1": 1.0}})
        )


def test_whoever_measures_is_of_another_family(monkeypatch):
    at_hand(monkeypatch, "vgg.vgg16", LITE)
    own = extractor_choice.choose_extractor(Loss())
    assert extractor_choice.independent(own).builder == LITE
    assert extractor_choice.independent(extractor_choice.independent(own)).builder == "vgg.vgg16"
    at_hand(monkeypatch, "vgg.vgg16", "vgg.vgg19")
    assert extractor_choice.independent(own) is None


def test_the_published_files_are_looked_for_without_loading_them(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert not catalog.is_cached("vgg.vgg19")
    place = catalog.cache_folder() / catalog.published("vgg.vgg19").headless.name
    place.parent.mkdir(parents=True)
    place.touch()
    assert catalog.is_cached("vgg.vgg19")
    assert not catalog.is_cached("lenet.lenet5")
