"""A run with further data knows the run whose data it has, keeps its split, and is compared with it."""

import shutil

import mlflow
import pytest

from pipelines.analysis import compare_runs
from pipelines.data import lineage
from pipelines.engine import stages
from pipelines.tracking.store import store_uri
from tests.conftest import cnn, write_digits

FEW = ("--set", "train.epochs=1", "--set", "evaluate.require={}")


@pytest.fixture(scope="module")
def grown(exported, tmp_path_factory):
    """The runs of `exported`, one that trains on more beside it, and one on more than that."""
    root = tmp_path_factory.mktemp("grown")
    shutil.copytree(exported.root, root, dirs_exist_ok=True)
    more = root / "more"
    write_digits(more, classes=4, each=40)  # the first 30 of each are those of the run
    write_digits(root / "six", classes=6, each=5)
    shutil.copytree(exported.run.parents[1], root / "runs", dirs_exist_ok=True)
    also = f"data.also={more}", f"data.also=[{more}, {root / 'six'}]"
    first = exported.photos  # where the run's own data is: its recipe must name the same
    for name, setting in zip(("grown", "grown-more"), also, strict=True):
        settings = ("--set", f"name={name}", "--set", setting, "--set", f"data.path={first}", *FEW)
        assert cnn("run", exported.recipe, "--runs", root / "runs", *settings) == 0
    return root / "runs"


def test_further_pictures_train_and_the_split_of_before_is_kept(grown):
    before, facts = (
        stages.finished_manifest(grown / "classify" / name, "prepare")["facts"] for name in ("small", "grown")
    )
    tested = before["splits"]["test"] + before["splits"]["validation"]
    assert facts["also"] == {"examples": 160 - tested, "left_out": tested}
    found = lineage.read(grown / "classify" / "grown")
    assert (found["run"], found["kept"], found["moved"]) == ("classify/small", 120, 0)
    assert [path.rpartition("/")[2] for path in found["also"]] == ["more"]


def test_of_several_runs_of_before_it_is_the_one_with_the_most_data(grown):
    found = lineage.read(grown / "classify" / "grown-more")
    assert (found["run"], found["moved"]) == ("classify/grown", 0)
    assert lineage.read(grown / "classify" / "small") is None


def test_mlflow_knows_where_the_data_comes_from(grown):
    client = mlflow.MlflowClient(store_uri())
    experiment = client.get_experiment_by_name("classify")
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'grown'")
    tags, found = run.data.tags, lineage.read(grown / "classify" / "grown")
    assert tags["cnn.before"] == "classify/small"
    assert tags["cnn.further_examples"] == str(found["examples"])
    assert client.get_run(tags["cnn.before_run"]).info.run_name == "small"
    assert run.data.params["data.also"].endswith('more"]')


def test_what_further_data_brings_is_told_with_an_interval(grown, capsys):
    names = ("classify/small", "classify/grown")
    found = compare_runs.compare(names, grown)
    assert found["same_test"]
    assert found["lineage"][0] is None
    (difference,) = found["differences"]
    low, high = difference["interval"]
    assert low <= difference["difference"] <= high
    accuracies = found["metrics"]["accuracy"]
    assert difference["difference"] == pytest.approx(accuracies[1] - accuracies[0])
    assert cnn("compare", *names, "--runs", grown) == 0
    shown = " ".join(capsys.readouterr().out.split())
    examples = found["lineage"][1]["examples"]
    assert f"classify/grown trains on the data of classify/small and {examples} further examples of more" in shown


def test_a_run_of_other_data_is_no_run_of_before(grown, exported, tmp_path, capsys):
    runs = tmp_path / "runs"
    shutil.copytree(grown / "classify" / "small", runs / "classify" / "small")
    settings = ("--set", "name=other", "--set", "data.test=0.3", "--set", f"data.path={exported.photos}")
    also = ("--set", f"data.also={grown.parent / 'six'}")
    assert cnn("prepare", exported.recipe, "--runs", runs, *settings, *also) == 0
    assert lineage.read(runs / "classify" / "other")["run"] is None
    assert "no run with the same data" in capsys.readouterr().out


def test_a_run_that_takes_the_place_of_the_one_before_says_so(grown, exported, tmp_path, capsys):
    runs = tmp_path / "runs"
    shutil.copytree(grown / "classify" / "small", runs / "classify" / "small")
    settings = ("--set", f"data.path={exported.photos}", "--set", f"data.also={grown.parent / 'six'}")
    assert cnn("prepare", exported.recipe, "--runs", runs, *settings) == 0
    found = lineage.read(runs / "classify" / "small")
    assert (found["run"], found["kept"], found["moved"]) == ("classify/small", 120, 0)
    assert "takes the place of classify/small" in " ".join(capsys.readouterr().out.split())


def test_examples_that_moved_are_counted(grown, exported, tmp_path, capsys):
    runs = tmp_path / "runs"
    shutil.copytree(grown / "classify" / "small", runs / "classify" / "small")
    split = runs / "classify" / "small" / "prepare" / "split.csv"
    validation = split.read_text().count(",validation,")
    split.write_text(split.read_text().replace(",validation,", ",test,"))
    settings = ("--set", "name=moved", "--set", f"data.path={exported.photos}")
    assert cnn("prepare", exported.recipe, "--runs", runs, *settings, "--set", f"data.also={grown.parent / 'six'}") == 0
    assert lineage.read(runs / "classify" / "moved")["moved"] == validation > 0
    assert "data has changed since" in " ".join(capsys.readouterr().out.split())
