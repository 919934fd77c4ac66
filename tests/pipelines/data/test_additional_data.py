"""Further data of a recipe: it trains, and what validates and tests stays what it was."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data.sources.item import Item
from pipelines.data import additional_data, run_files, source_files, split_manifest
from pipelines.data.additional_data import ALSO
from pipelines.engine import recipe as recipes
from tests import tiny_tasks
from tests.conftest import cnn, write_digits

TASKS = ("classify", "signals", "volumes", "localize", "detect", "segment", "regress", "verify")


def written(task, folder):
    folder.mkdir()
    return tiny_tasks.write(task, folder)


def prepared(recipe, name, *settings):
    """The rows of split.csv and the facts of a run with this name."""
    runs = recipe.parent / "runs"
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert cnn("prepare", recipe, "--runs", runs, "--set", f"name={name}", *arguments) == 0
    folder = runs / recipes.load(str(recipe)).task / name / "prepare"
    return list(split_manifest.rows(folder)), run_files.read_json(folder / run_files.MANIFEST)["facts"]


def places(rows):
    return sorted((row["id"], row["split"]) for row in rows if not row["id"].startswith("also-"))


@pytest.mark.parametrize("task", TASKS)
def test_copies_of_what_validates_or_tests_are_left_out_and_the_others_train(task, tmp_path):
    recipe = written(task, tmp_path / "own")
    shutil.copytree(tmp_path / "own", tmp_path / "further")
    own = recipes.load(str(recipe)).data.path
    before, facts = prepared(recipe, "before")
    also = tmp_path / "further" / own.relative_to(tmp_path / "own")
    after, found = prepared(recipe, "after", f"data.also={also}")
    assert places(after) == places(before)
    further = [row for row in after if row["id"].startswith("also-1/")]
    trained = {row["sha256"] for row in before if row["split"] == "train"}
    assert {row["split"] for row in further} == {"train"}
    assert {row["sha256"] for row in further} == trained
    assert found["splits"] == {**facts["splits"], "train": facts["splits"]["train"] + len(further)}
    assert found["also"] == {"examples": len(further), "left_out": len(before) - facts["splits"]["train"]}
    assert found["classes"] == facts["classes"] if "classes" in facts else True
    assert "also" not in facts


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    return tiny_tasks.write("classify", folder)


def test_several_folders_bring_new_pictures_and_a_new_class(photos, capsys):
    for number, classes in ((1, (0, 1)), (2, (3, 7))):
        for name in classes:
            (photos.parent / f"new-{number}" / str(name)).mkdir(parents=True)
            for row in range(4):
                noise = np.random.default_rng([number, name, row]).integers(0, 255, (24, 24), np.uint8)
                Image.fromarray(noise).save(photos.parent / f"new-{number}" / str(name) / f"{row}.png")
    before, facts = prepared(photos, "before")
    paths = f"[{photos.parent / 'new-1'}, {photos.parent / 'new-2'}]"
    after, found = prepared(photos, "after", f"data.also={paths}")
    assert places(after) == places(before)
    assert found["splits"] == {**facts["splits"], "train": facts["splits"]["train"] + 16}
    assert found["classes"] == ["0", "1", "2", "3", "7"]
    assert [row["label"] for row in after if row["id"].startswith("also-2/")].count("7") == 4
    assert "16 further images train" in capsys.readouterr().out


def test_what_changes_in_a_further_folder_is_prepared_again(photos, capsys):
    write_digits(photos.parent / "changing", classes=2, each=3)
    prepared(photos, "changing", f"data.also={photos.parent / 'changing'}")
    prepared(photos, "changing", f"data.also={photos.parent / 'changing'}")
    assert "skipped" in capsys.readouterr().out
    (photos.parent / "changing" / "1" / "02.png").unlink()
    assert prepared(photos, "changing", f"data.also={photos.parent / 'changing'}")[1]["also"]["examples"] <= 5
    assert "changed: files" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_an_error(photos, capsys):
    assert cnn("prepare", photos, "--runs", photos.parent / "runs", "--set", "data.also=nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_source_that_reads_no_path_takes_a_folder_of_classes(photos):
    further = photos.parent / "new"
    write_digits(further, classes=2, each=3)
    name = "classify/digits-lenet5"
    data = recipes.load(name, [f"data.also={further}"]).data
    (section,) = source_files.sections_of_further_data(data)
    assert (section.source, section.path, section.also) == ("folder", further, ())


def test_a_group_and_a_person_are_not_trained_on_where_they_are_tested():
    def item(name, group=None, split=ALSO, label=""):
        return Item(name, label, bytes, split, group)

    items = [
        item("tested", "anna", None, "a"),
        item("learnt", "bert", None, "b"),
        item("of the tested group", "anna", label="c"),
        item("of the learnt group", "bert", label="c"),
        item("a copy of a copy", "carl", label="d"),
        item("a copy of the tested", "carl", label="d"),
        item("new", "dora", label="a"),
    ]
    digests = ["1", "2", "3", "4", "5", "1", "6"]

    def splits(**options):
        found = additional_data.splits(
            items, digests, lambda rows: ["test", "train"], keys=lambda items, digests: digests, **options
        )
        return dict(zip((item.id for item in items), found, strict=True))

    expected = {
        "tested": "test",
        "learnt": "train",
        "of the tested group": None,
        "of the learnt group": "train",
        "a copy of a copy": None,
        "a copy of the tested": None,
        "new": "train",
    }
    assert splits() == expected
    assert splits(by_label=True) == {**expected, "of the learnt group": None, "new": None}


def test_masks_of_other_numbers_are_joined_by_the_names_of_the_classes(tmp_path):
    recipe = written("segment", tmp_path / "own")
    source, further = tmp_path / "own" / "source", tmp_path / "further"
    _, facts = prepared(recipe, "before")
    table = np.array([2, 0, 1] + [255] * 253, np.uint8)  # ground, square and disc in another order
    shutil.copytree(source, further)
    for path in further.rglob("masks/*.png"):
        with Image.open(path) as image:
            Image.fromarray(table[np.asarray(image)]).save(path)
    for path in further.rglob("images/*.png"):
        with Image.open(path) as image:
            Image.fromarray(255 - np.asarray(image)).save(path)  # no copies
    (further / "classes.txt").write_text("square\ndisc\nground\n")
    after, found = prepared(recipe, "after", f"data.also={further}")
    assert found["classes"] == facts["classes"]
    count = len([row for row in after if row["id"].startswith("also-1/")])
    assert count == len(after) / 2
    total = {name: sum(pixels[name] for pixels in facts["pixels"].values()) for name in facts["classes"]}
    grown = {name: found["pixels"]["train"][name] - facts["pixels"]["train"][name] for name in facts["classes"]}
    assert grown == total


def test_annotations_with_another_class_and_order_are_joined_by_name(tmp_path):
    recipe = written("detect", tmp_path / "own")
    _, facts = prepared(recipe, "before")
    rows = list(csv.DictReader((tmp_path / "own" / "boxes.csv").read_text().splitlines()))
    further = tmp_path / "further"
    shutil.copytree(tmp_path / "own", further, ignore=shutil.ignore_patterns("runs"))
    for path in further.rglob("*.png"):
        with Image.open(path) as image:
            Image.fromarray(255 - np.asarray(image)).save(path)
    with (further / "boxes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([{**row, "label": "new"} if row is rows[0] else row for row in reversed(rows)])
    _, found = prepared(recipe, "after", f"data.also={further / 'boxes.csv'}")
    assert sorted(found["classes"]) == sorted([*facts["classes"], "new"])
    assert sum(found["class_boxes"]["train"].values()) == sum(
        sum(counts.values()) for counts in facts["class_boxes"].values()
    ) + sum(facts["class_boxes"]["train"].values())
    assert found["class_boxes"]["train"]["new"] == 1


def test_the_settings_of_a_recipe_may_name_one_path_or_several(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = {"task": "classify", "name": "a", "data": {"source": "folder", "path": "photos"}}
    document |= {"model": {"builder": "lenet.lenet5"}}
    for also, expected in (("new", ["new"]), (["new", "newer"], ["new", "newer"]), ([], [])):
        (tmp_path / "recipes").mkdir(exist_ok=True)
        (tmp_path / "recipes" / "a.yaml").write_text(
            json.dumps({**document, "data": {**document["data"], "also": also}})
        )
        recipe = recipes.load("recipes/a.yaml")
        assert [*recipe.data.also] == [tmp_path / "recipes" / name for name in expected]
        changed = recipes.load("recipes/a.yaml", [f"data.also={json.dumps(also)}"])
        assert [*changed.data.also] == [tmp_path / name for name in expected]


def test_facts_say_nothing_without_further_data():
    run = SimpleNamespace(console=None, recipe=None)
    assert additional_data.facts(run, [Item("a", "a", bytes)], ["train"]) == {}
