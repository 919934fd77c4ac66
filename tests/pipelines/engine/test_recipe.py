"""Recipes: every shipped one loads and builds; every mistake is named, all at once, with what was meant."""

import importlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from cnn_keras.errors import Fault
from pipelines.analysis.claims import claim
from pipelines.data import image_config, yaml_file
from pipelines.data.schema import flatten
from pipelines.engine import recipe as recipes
from tests.conftest import cnn

DIGITS = "classify/digits-lenet5"


def shipped(name):
    return recipes.load(name, ["data.path=."] if "/folder-" in name else [])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name.startswith("classify/") else pytest.mark.slow) for name in recipes.shipped()],
)
def test_a_shipped_recipe_loads_and_its_builder_takes_its_arguments(name):
    recipe = shipped(name)
    assert recipe.name == name.partition("/")[2]
    importlib.import_module(f"pipelines.tasks.{recipe.task}").check(recipe)


@pytest.mark.parametrize("name", recipes.shipped())
def test_a_shipped_recipe_says_what_it_is_and_how_to_run_it(name):
    header = recipes.header(name)
    assert f"Run: cnn run {name}" in header
    assert "Published" in header or "/folder-" in name


@pytest.mark.parametrize("name", recipes.shipped())
def test_the_resolved_recipe_is_itself_a_recipe(name, tmp_path):
    recipe = shipped(name)
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml_file.dump(recipe))
    assert recipes.load(str(path)) == recipe


def test_the_last_part_of_a_builders_name_is_enough():
    assert recipes.load(DIGITS, ["model.builder=resnet20"]).model.builder == "resnet.resnet20"
    with pytest.raises(Fault, match=r"model.builder: .*conv1d.two_conv or conv3d.two_conv or introductory.two_conv"):
        recipes.load(DIGITS, ["model.builder=two_conv"])


def test_every_error_is_named_at_once_with_the_nearest_key():
    with pytest.raises(Fault) as fault:
        recipes.load(DIGITS, ["train.epoch=3", "train.batch_size=0", "seed=yes", "modle={}"])
    lines = str(fault.value).splitlines()
    assert "train.epoch: unknown key; did you mean epochs?" in lines
    assert "modle: unknown key; did you mean model?" in lines
    assert any(line.startswith("train.batch_size: must be greater than or equal to 1, got 0") for line in lines)
    assert any(line.startswith("seed: must be") and "'yes'" in line for line in lines)
    assert fault.value.code == Fault.INPUT


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.learning_rate=1e-4", ("train", "learning_rate"), 1e-4),
        ("train.patience=null", ("train", "patience"), None),
        ("data.size=[40, 48]", ("data", "size"), (40, 48)),
        ("name=no", ("name",), "no"),  # YAML 1.2: not a boolean
    ],
)
def test_a_setting_of_the_command_line_is_read_as_yaml(override, key, value):
    found = recipes.load(DIGITS, [override])
    for part in key:
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train..epochs=3", "seed.deeper=1"])
def test_a_malformed_setting_is_refused(override):
    with pytest.raises(Fault, match="--set"):
        recipes.load(DIGITS, [override])


def test_a_key_given_twice_is_an_error(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("task: classify\nseed: 1\nseed: 2\n")
    with pytest.raises(Fault, match="duplicate key"):
        recipes.load(str(path))


def test_a_path_is_relative_to_the_recipe_and_in_a_setting_to_the_working_directory(tmp_path, monkeypatch):
    text = recipes.locate("classify/folder-lenet5").read_text().replace("path: null", "path: photos")
    (tmp_path / "recipes").mkdir()
    path = tmp_path / "recipes" / "mine.yaml"
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    assert recipes.load(str(path)).data.path == tmp_path / "recipes" / "photos"
    assert recipes.load(str(path), ["data.path=photos"]).data.path == tmp_path / "photos"


def test_an_unknown_recipe_is_answered_with_the_nearest_names():
    for wrong in ("classify/digit-lenet5", "digits-lenet", "clasify/digits-lenet5", "classify/digits_lenet5.yaml"):
        with pytest.raises(Fault, match="did you mean classify/digits-lenet5"):
            recipes.load(wrong)
    with pytest.raises(Fault, match="did you mean verify/orl-"):
        recipes.load("verify/orl")


@pytest.mark.parametrize("wrong", ["classify/other", "detect/", "x", "steer/../../etc/passwd"])
def test_the_task_alone_is_no_likeness(wrong):
    with pytest.raises(Fault, match="`cnn recipes` lists them"):
        recipes.load(wrong)


def test_a_source_that_needs_a_path_says_so():
    recipe = recipes.load("classify/folder-lenet5")  # can be shown
    with pytest.raises(Fault, match=r"data.path is required with source: folder.*--set data.path"):
        image_config.files_digest(recipe.data)


@pytest.mark.parametrize(
    "settings",
    [
        ["train.schedule=step"],
        ["train.milestones=[3]"],
        ["train.warmup_epochs=60"],
        ["train.schedule=plateau", "train.warmup_epochs=1"],
    ],
)
def test_a_half_given_schedule_is_refused(settings):
    with pytest.raises(Fault, match="train:"):
        recipes.load(DIGITS, settings)


def test_a_wrong_builder_argument_is_named_before_any_data_is_read():
    recipe = recipes.load(DIGITS, ["model.droput=0.5"])
    from pipelines.tasks import classify

    with pytest.raises(Fault, match="dropout"):
        classify.check(recipe)


@pytest.mark.parametrize("setting", ["model.dropout=lots", "data.size=[20, 20]", "model.pooling=mean"])
def test_a_network_that_cannot_be_built_is_a_fault_before_any_data_is_read(setting):
    from pipelines.tasks import classify

    with pytest.raises(Fault):
        classify.check(recipes.load(DIGITS, [setting]))


def test_flatten_joins_keys_with_dots():
    assert flatten({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}


def test_no_shipped_recipe_is_longer_than_a_page():
    for name in recipes.shipped():
        assert len(Path(recipes.locate(name)).read_text().splitlines()) <= 40


def test_paths_in_set_are_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = recipes.load(DIGITS, ["model.weights=my.keras"]).model.weights
    assert weights == str(tmp_path / "my.keras")
    data = recipes.load(DIGITS, ["data={source: folder, path: photos, size: [32, 32]}"]).data
    assert data.path == tmp_path / "photos"
    assert recipes.load("classify/folder-transfer", ["model.weights=imagenet"]).model.weights == "imagenet"


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join(['*' + chr(97 + level)] * 8)}]\n" for level in range(9)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "at most 20,000 values, with all references followed"),
        ("a: " + "[" * 5000, "at most 50 levels deep"),
        ("a: " + "{a: " * 5000, "at most 50 levels deep"),
        ("a: &a [*a]", r"\*a must refer to "),
        ("seed: " + "9" * 5000, "5000 digits"),
        ("seed: 0x" + "f" * 5000, "4300 digits"),
        ("task: classify\nseed: " + "9" * 400, "seed: must be less than 2147483648, got 9{60}…"),
        ("? [1, 2]\n: 3", "keys must be str"),
        ("? {a: b}\n: 3", "unhashable"),
        ("2026-01-01: 3", "keys must be str"),
        ("a: 2026-13-45", "month must be in"),
        ("a: !!int ''", "must be YAML"),
        ("a: !!python/object/apply:os.system ['true']", "constructor for the tag"),
        ("a: b\n---\nc: d", "single document"),
        ("task: classify\nname: " + "a" * 300, "name: must have at most 200 characters"),
        ('task: classify\nname: "a\\0b"', "name: must match"),
        ("task: classify\ntrain: {learning_rate: .inf}", "train.learning_rate: must be a finite number"),
        ("task: classify\ndata: {source: folder, path: ~nobody-at-all/x}", "home directory"),
        ("# " + "x" * 2**18, "must have at most 262,144 bytes"),
        ("", "a mapping of sections, got null"),
        ("task: classify\nmodel:\n", "model: must be a section of keys, got null"),
        ("task: classify\ntrain: {epochs: , batch_size: 1.5, ema: x}", "epochs: must be a whole number, got null$"),
        ("task: classify\ndata: {size: true}", "data.size: must be a list, got true"),
        ("a: [\n", "but found '<stream end>' at line 2, column 1"),
    ],
)
def test_a_recipe_beyond_bounds_is_named_with_its_file(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(Fault, match=said) as fault:
        recipes.load(str(path))
    assert fault.value.code == Fault.INPUT


def test_a_recipe_in_another_encoding_is_named_with_the_way_to_mend_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes("task: classify # gemälde".encode("latin-1"))
    with pytest.raises(Fault, match=r"mine\.yaml must be text in UTF-8, got byte 0xe4.*iconv") as fault:
        recipes.load(str(path))
    assert fault.value.code == Fault.INPUT
    path.write_bytes((recipes.SHIPPED / f"{DIGITS}.yaml").read_text().encode("utf-16"))
    assert recipes.load(str(path)).task == "classify"


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "nul", "long name", "long path"])
def test_what_is_no_file_is_no_recipe(tmp_path, kind):
    path = tmp_path / "mine.yaml"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
    reference = {"nul": "a\0b.yaml", "long name": "x" * 300 + ".yaml", "long path": "x/" * 3000 + "a.yaml"}
    for load in (recipes.load, claim.load):
        with pytest.raises(Fault, match=r"must be a shipped .* or a \.yaml file, found no file") as fault:
            load(reference.get(kind, str(path)))
        assert fault.value.code == Fault.INPUT
        assert len(str(fault.value)) < 400


@given(strategies.data())
@settings(max_examples=150, deadline=None)
def test_a_recipe_that_somebody_broke_ends_in_a_message(tmp_path_factory, data):
    """Bytes of a shipped recipe, changed, cut or put in at random places: shown or refused, without a traceback."""
    content = bytearray((recipes.SHIPPED / f"{DIGITS}.yaml").read_bytes())
    pieces = [b"*a ", b"&a ", b"[", b"{", b"? ", b": ", b"- ", b"\t", b"\0", b"\xff", b"!!int ", b"'", b"9" * 5000]
    for _ in range(data.draw(strategies.integers(1, 6))):
        place = data.draw(strategies.integers(0, len(content)))
        width = data.draw(strategies.integers(0, 8))
        content[place : place + width] = data.draw(strategies.sampled_from(pieces) | strategies.binary(max_size=8))
    path = tmp_path_factory.mktemp("broken") / "mine.yaml"
    path.write_bytes(content)
    assert cnn("show", path) in (0, Fault.INPUT)


def test_null_removes_an_argument_of_the_builder_and_is_the_value_of_a_setting():
    assert "dropout" in recipes.load(DIGITS).model.arguments
    changed = recipes.load(DIGITS, ["model.dropout=null", "model.weights=null", "train.patience=null"])
    assert changed.model.arguments == {}
    assert changed.model.weights is None
    assert changed.train.patience is None


ONE_OF_EACH = {name.partition("/")[0]: name for name in reversed(recipes.shipped())} | {
    "classify": DIGITS,  # of one class, as ensembles are
    "stylize": "stylize/feedforward-starry_night",
}
CLASSIFIERS = {"classify", "signals", "volumes"}
SWITCHED_ON = {
    "label_smoothing": "0.1",
    "focal_gamma": "2.0",
    "class_weights": "balanced",
    "ensemble": "3",
    "transfer": "{mode: full}",
}


@pytest.mark.parametrize("key", SWITCHED_ON)
@pytest.mark.parametrize("task", ONE_OF_EACH)
def test_what_only_classifiers_take_is_an_unknown_key_of_other_tasks(task, key):
    given = [f"train.{key}={SWITCHED_ON[key]}", "model.weights=imagenet", "augment=[]"]
    if task in CLASSIFIERS or (task, key) == ("detect", "transfer"):
        assert getattr(recipes.load(ONE_OF_EACH[task], given).train, key)
    else:
        with pytest.raises(Fault, match=f"train.{key}: unknown key"):
            recipes.load(ONE_OF_EACH[task], given)


@pytest.mark.parametrize("task", sorted(set(ONE_OF_EACH) - CLASSIFIERS))
def test_what_earlier_versions_wrote_down_as_switched_off_may_stay(task):
    given = [f"train.{key}={'null' if off is None else off}" for key, off in recipes.FORMER.items()]
    assert recipes.load(ONE_OF_EACH[task], given) == recipes.load(ONE_OF_EACH[task])


@pytest.mark.parametrize("task", sorted(set(ONE_OF_EACH) - CLASSIFIERS))
def test_only_classifiers_have_an_accuracy_to_monitor(task):
    with pytest.raises(Fault, match=r"train\.monitor: must be"):
        recipes.load(ONE_OF_EACH[task], ["train.monitor=val_accuracy"])


@pytest.mark.parametrize(
    ("name", "half"), [("classify/digits-lenet5", "float16"), ("stylize/astronaut-starry_night", "bfloat16")]
)
def test_mixed_precision_of_earlier_versions_is_read_as_a_precision_and_told(name, half, caplog):
    assert recipes.load(name, ["train.mixed_precision=false"]).train.precision == "float32"
    assert not caplog.text
    assert recipes.load(name, ["train.mixed_precision=true"]).train.precision == half
    assert f"train.precision: {half}" in caplog.text
    with pytest.raises(Fault, match="mixed_precision is now"):
        recipes.load(name, ["train.mixed_precision=true", "train.precision=bfloat16"])
