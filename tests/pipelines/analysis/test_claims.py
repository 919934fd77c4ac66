"""Claims: every shipped one is whole; variants are trained once, judged, and told to MLflow below their claim."""

import csv
import json

import pytest
from PIL import Image
from scipy import stats

from cnn_keras import models
from cnn_keras.errors import Fault
from pipelines.analysis.claims import claim as claims_claim
from pipelines.analysis.claims import report, runner
from pipelines.analysis.claims.claim import Choice, Expectation
from pipelines.analysis.claims.runner import Row
from pipelines.engine import recipe as recipes
from pipelines.tracking.journal import Journal
from tests.conftest import cnn, write_digits
from tests.tracked import artifacts_of, run_of

pytest_plugins = ["tests.live_store"]
pytestmark = pytest.mark.usefixtures("store")  # made before any test waits for it

BASE = """\
# A few digits, one epoch.
task: classify
data: {source: folder, path: photos, size: [28, 28], channels: 1}
model: {builder: lenet.lenet5_modern}
train: {epochs: 1, batch_size: 16, optimizer: sgd, learning_rate: 0.01}
evaluate: {baselines: false, require: {accuracy: 1.0}}
"""
CLAIM = """\
# Nobody's.
claim: Two rates are two rates
base: base.yaml
stage: evaluate
variants:
  relu: {model.activation: relu}
  tanh: {model.activation: tanh}
sweep:
  train.learning_rate: [0.01, 1e30]
reach: {error: 1.0}
choose: {lowest: learning_rate}
show: [epochs, error, test_accuracy]
plot:
  - curves: error
  - {sweep: error, log: x}
expect:
  - equal: [learning_rate of relu, learning_rate of tanh]
  - at_most: [error of relu, 1]
"""


@pytest.fixture
def rates(tmp_path):
    """A claim of four small runs, one of which diverges."""
    write_digits(tmp_path / "photos", classes=2, each=12)
    (tmp_path / "base.yaml").write_text(BASE)
    path = tmp_path / "rates.yaml"
    path.write_text(CLAIM)
    return path


def trained(name, variant=None, **values):
    return Row(name, variant or name, values)


@pytest.mark.parametrize("name", claims_claim.shipped())
def test_a_shipped_claim_says_what_was_published_what_we_measured_and_how_to_run_it(name):
    header = recipes.header(str(claims_claim.locate(name)))
    assert f"Run: cnn claim {name}" in header
    assert "Published" in header
    assert "Measured" in header


@pytest.mark.parametrize("name", claims_claim.shipped())
def test_the_networks_of_a_shipped_claim_take_their_arguments(name):
    claim = claims_claim.load(name)
    for network in claim.networks.values():
        models.check(network.builder, **network.arguments)
    for _, recipe, _ in runner.planned_runs(claim, ()) if claim.variants else ():
        models.check(recipe.model.builder, **{"input_shape": (), "classes": 0, **recipe.model.arguments})


def test_claims_are_not_among_the_recipes_that_can_be_run():
    assert claims_claim.shipped()
    assert not any(name.startswith("claims/") for name in recipes.shipped())


def test_three_small_layers_see_as_far_as_a_large_one(tmp_path, capsys):
    assert cnn("claim", "three-3x3", "--json", "--runs", tmp_path) == 0
    found = json.loads(capsys.readouterr().out)
    values = {row["name"]: row["values"] for row in found["rows"]}
    assert found["holds"] is True
    assert values["three-3x3"]["receptive_field"] == values["one-7x7"]["receptive_field"] == 7
    assert values["three-3x3"]["parameters"] * 49 == values["one-7x7"]["parameters"] * 27


def test_both_ways_to_slide_a_network_are_asked_with_the_same_weights(tmp_path, capsys):
    path = tmp_path / "slide.yaml"
    path.write_text(
        "claim: Both ways differ by the same\n"
        "networks:\n"
        "  naive: {builder: resnet.resnet20, windows: naive, picture: [32, 40]}\n"
        "  at-once: {builder: resnet.resnet20, windows: convolutional, picture: [32, 40]}\n"
        "show: [difference]\n"
        "expect:\n"
        "  - equal: [difference of naive, difference of at-once]\n"
    )
    assert cnn("claim", path, "--json", "--runs", tmp_path) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0]["values"]["difference"] > 0  # of other weights it would be another


@pytest.mark.slow
def test_a_bottleneck_saves_nine_tenths_of_a_branch(tmp_path):
    assert cnn("claim", "bottleneck", "--runs", tmp_path) == 0


@pytest.mark.slow
def test_a_claim_is_trained_judged_and_told_once(rates, store, tmp_path, capsys):
    folder = tmp_path / "claims" / "rates"
    assert cnn("claim", rates, "--runs", tmp_path) == 0
    said = capsys.readouterr().out
    assert "relu-0.01  run 1 of 4" in said
    assert "✓ learning_rate of relu = learning_rate of tanh  0.01 = 0.01" in said
    assert "diverged" in said

    found = json.loads((folder / "verdict.json").read_text())
    assert [(row["name"], row["chosen"], row["diverged"]) for row in found["rows"]] == [
        ("relu-0.01", True, False),
        ("relu-1e30", False, True),
        ("tanh-0.01", True, False),
        ("tanh-1e30", False, False),  # saturated, not diverged
    ]
    values = found["rows"][0]["values"]
    assert values["epochs"] == 1
    assert values["error"] == pytest.approx(1 - values["accuracy"])
    assert values["test_error"] == pytest.approx(1 - values["test_accuracy"])
    with (folder / "figures.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in found["rows"]]
    with Image.open(folder / "plot.png") as picture:
        assert min(picture.size) > 500

    parent, child = run_of(store, folder), run_of(store, folder / "classify" / "tanh-0.01")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["cnn.claim"] == parent.data.tags["cnn.claim"] == "rates"
    assert store.get_experiment(child.info.experiment_id).name == "claims"
    assert parent.info.status == "FINISHED"
    assert run_of(store, folder / "classify" / "relu-1e30").info.status == "FAILED"
    assert parent.data.metrics["error/relu-0.01"] == pytest.approx(values["error"])
    assert "| relu ★ | 0.01 | 1 |" in parent.data.tags["mlflow.note.content"]
    assert {"figures.csv", "plot.png", "verdict.json"} <= set(artifacts_of(store, parent))

    told = Journal.last(folder / "tracking").path.read_bytes()
    assert cnn("claim", rates, "--runs", tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("train  skipped: nothing it depends on changed") == 3
    assert said.count("train  skipped: it diverged") == 1
    assert Journal.last(folder / "tracking").path.read_bytes() == told


@pytest.mark.slow
def test_a_claim_that_does_not_hold_exits_4_after_its_table(rates, tmp_path, capsys):
    rates.write_text(CLAIM.replace("[0.01, 1e30]", "[0.01]").replace("[error of relu, 1]", "[epochs of relu, 0]"))
    assert cnn("claim", rates, "--runs", tmp_path) == Fault.GATE
    said = capsys.readouterr()
    assert "✗ epochs of relu ≤ 0  1 ≤ 0" in said.out
    assert "✓ learning_rate of relu" in said.out
    assert "does not hold" in said.out
    assert "must hold" in said.err
    assert claims_claim.last("rates", tmp_path)["holds"] is False


def test_an_interrupted_claim_says_how_to_go_on_and_its_runs_are_ended(rates, store, tmp_path, monkeypatch, capsys):
    def interrupted(run, *_, **__):
        run.tracker.metrics({"loss": 1.0})
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.engine.stages.run_stages", interrupted)
    assert cnn("claim", rates, "--runs", tmp_path) == 130
    assert "same command" in capsys.readouterr().out
    folder = tmp_path / "claims" / "rates"
    assert run_of(store, folder).info.status == "KILLED"
    assert run_of(store, folder / "classify" / "relu-0.01").info.status == "KILLED"


@pytest.mark.slow
def test_what_one_variant_has_prepared_serves_the_others(rates, tmp_path, capsys):
    rates.write_text(CLAIM.replace("[0.01, 1e30]", "[0.01]"))
    assert cnn("claim", rates, "--runs", tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("prepare  has not been run") == 1
    assert said.count("prepare  skipped") == 1


def test_the_claims_are_listed_with_their_state(tmp_path, capsys):
    assert cnn("claim", "three-3x3", "--runs", tmp_path) == 0
    capsys.readouterr()
    assert cnn("claim", "--json", "--runs", tmp_path) == 0
    states = {last["name"]: last["holds"] for last in json.loads(capsys.readouterr().out)}
    assert sorted(states) == claims_claim.shipped()
    assert states["three-3x3"] is True
    assert states["degradation"] is None


@pytest.fixture
def two_claims(rates, monkeypatch):
    """Only two claims are shipped: one that counts, and one whose photographs are missing."""
    (rates.parent / "three-3x3.yaml").write_text(claims_claim.locate("three-3x3").read_text())
    rates.write_text(CLAIM)
    (rates.parent / "base.yaml").write_text(BASE.replace("photos", "nowhere"))
    monkeypatch.setattr(claims_claim, "shipped", lambda: ["rates", "three-3x3"])
    monkeypatch.setattr(claims_claim, "SHIPPED", rates.parent)
    return rates.parent


def test_all_claims_are_tested_one_after_another_and_one_that_cannot_be_is_told(two_claims, capsys):
    assert cnn("claim", "--all", "--json", "--runs", two_claims) == Fault.GATE
    said = capsys.readouterr()
    untested, counted = json.loads(said.out)
    assert (untested["name"], untested["holds"], untested["minutes"]) == ("rates", None, 0)
    assert "nowhere" in untested["trouble"]
    assert (counted["name"], counted["holds"], counted["expected"], counted["trouble"]) == ("three-3x3", True, True, "")
    assert counted["measured"].startswith("both see 7×7 pixels; 110,592 weights against 200,704")
    assert "verdict of its header, which these have not: rates (not tested)" in said.err


def test_a_claim_that_cannot_be_tested_again_keeps_its_verdict_and_one_known_to_fail_may(two_claims, capsys):
    folder = two_claims / "claims" / "rates"
    folder.mkdir(parents=True)
    row = {"name": "relu", "values": {"seconds": 90.0}}
    (folder / "verdict.json").write_text(json.dumps({"name": "rates", "claim": "", "holds": False, "rows": [row]}))
    assert cnn("claim", "--all", "--runs", two_claims) == Fault.GATE
    assert "rates (does not hold)" in capsys.readouterr().err
    (two_claims / "rates.yaml").write_text(CLAIM.replace("base:", "holds: false\nbase:"))
    assert cnn("claim", "--all", "--runs", two_claims) == 0
    assert " 1.5 " in capsys.readouterr().out


def test_all_claims_are_tested_as_they_are(tmp_path, capsys):
    assert cnn("claim", "--all", "--set", "train.epochs=1", "--runs", tmp_path) == Fault.INPUT
    assert "--all requires neither NAME nor --set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statement", "first", "second", "holds"),
    [
        ({"greater": ("a of x", "a of y")}, 2, 1, True),
        ({"greater": ("a of x", "a of y")}, 1, 1, False),
        ({"greater": ("a of x", "a of y"), "times": 3, "by": 1}, 7, 2, False),
        ({"greater": ("a of x", "a of y"), "times": 3, "by": 1}, 7.1, 2, True),
        ({"greater": ("a of x", "a of y")}, float("inf"), 3, True),  # never is later than ever
        ({"at_most": ("a of x", "a of y"), "by": 0.5}, 1.5, 1, True),
        ({"at_most": ("a of x", "a of y")}, 1.5, 1, False),
        ({"equal": ("a of x", 3.0)}, 3, 3, True),
        ({"equal": ("a of x", 3.0), "by": 0.1}, 3.2, 3, False),
    ],
)
def test_a_statement_compares_two_terms(statement, first, second, holds):
    assert Expectation(**statement).holds(first, second) is holds


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({"lowest": "epochs"}, "x-0.1"),
        ({"highest": "rate"}, "x-1"),
        ({"highest": "rate", "where": {"error": 0.1}}, "x-0.1"),
        ({"lowest": "epochs", "where": {"error": 0.001}}, None),
    ],
)
def test_the_run_that_stands_for_its_variant_is_chosen(choice, chosen):
    claim = claims_claim.load("relu-tanh").model_copy(update={"choose": Choice(**choice), "variants": {"x": {}}})
    rows = [
        trained("x-0.01", "x", rate=0.01, epochs=9, error=0.02),
        trained("x-0.1", "x", rate=0.1, epochs=3, error=0.01),
        trained("x-1", "x", rate=1, epochs=float("inf"), error=0.9),
        Row("x-10", "x", {"rate": 10}, diverged=True),
    ]
    report.choose(claim, rows)
    assert [row.name for row in rows if row.chosen] == ([chosen] if chosen else [])


def test_a_statement_about_what_nothing_stands_for_does_not_hold():
    claim = claims_claim.load("degradation")
    rows = [trained(name, error=0.0) for name in ("plain-20", "resnet-20", "resnet-56")]
    rows.append(Row("plain-56", "plain-56", {}, diverged=True))
    found = report.judge(claim, rows)
    assert found["holds"] is False
    assert found["expect"][0]["figures"].startswith("nothing > 0")
    assert [check["holds"] for check in found["expect"]] == [False, True, False]


def seeds(variant, *accuracies):
    return [trained(f"{variant}-{seed}", variant, accuracy=accuracy) for seed, accuracy in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("second", "holds"), [((0.80, 0.81, 0.84), True), ((0.80, 0.99, 0.84), False), ((0.97, 0.99, 0.98), False)]
)
def test_of_several_seeds_the_interval_of_the_difference_decides(rates, second, holds):
    rates.write_text(
        CLAIM.partition("sweep:")[0]
        + "seeds: 3\nshow: [accuracy]\nexpect:\n  - greater: [accuracy of relu, accuracy of tanh]\n"
    )
    claim = claims_claim.load(str(rates))
    rows = [*seeds("relu", 0.96, 0.98, 1.0), *seeds("tanh", *second)]
    (check,) = report.judge(claim, rows)["expect"]
    assert check["holds"] is holds
    differences = [first - other for first, other in zip((0.96, 0.98, 1.0), second, strict=True)]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert report.difference_interval((0.96, 0.98, 1.0), second) == pytest.approx(tuple(expected))
    assert f"over 3 seeds {expected.low:.4g} to {expected.high:.4g}" in check["figures"]
    assert [line[:2] for line in report.table(claim, runner_rows(claim, rows))[1:3]] == [["relu", "0"], ["relu", "1"]]
    rows[1].diverged = True
    assert report.judge(claim, rows)["expect"][0]["figures"].startswith("nothing >")


def runner_rows(claim, rows):
    """The rows with the seed that the runner gives each."""
    runs = runner.planned_runs(claim, ())
    return [Row(row.name, row.variant, row.values | swept) for row, (_, _, swept) in zip(rows, runs, strict=True)]


def test_each_variant_is_trained_with_each_seed(rates):
    rates.write_text(
        CLAIM.replace("sweep:\n  train.learning_rate: [0.01, 1e30]\n", "seeds: 2\n").replace(
            "choose: {lowest: learning_rate}\n", ""
        )
    )
    claim = claims_claim.load(str(rates))
    assert [(recipe.name, recipe.seed) for _, recipe, _ in runner.planned_runs(claim, ())] == [
        ("relu-0", 0),
        ("relu-1", 1),
        ("tanh-0", 0),
        ("tanh-1", 1),
    ]


def test_a_quantity_that_was_not_measured_is_named():
    claim = claims_claim.load("degradation")
    rows = [trained(name, err=0.0) for name in claim.variants]
    with pytest.raises(Fault, match=r"'error' must be a quantity of plain-56, .* did you mean err?"):
        report.judge(claim, rows)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("error of relu", "error of relo", "error of relo.*variants: relu"),
        ("choose: {lowest: learning_rate}\n", "", "sweep and choose"),
        ("{lowest: learning_rate}", "{highest: a, lowest: b}", "lowest or highest, one of the two"),
        ("sweep:\n", "seeds: 2\nsweep:\n", "seeds requires variants without a sweep"),
        ("at_most:", "atmost:", "atmost: unknown key; did you mean at_most"),
        ("base: base.yaml\n", "", "variants of a base, or networks"),
        ("- curves: error", "- curves: error\n    bars: error", "one of the three"),
    ],
)
def test_a_mistake_in_a_claim_is_named_before_anything_runs(rates, old, new, message):
    rates.write_text(CLAIM.replace(old, new))
    with pytest.raises(Fault, match=message):
        claims_claim.load(str(rates))


def test_a_counting_claim_takes_no_settings_and_needs_layers_that_are_there(tmp_path, capsys):
    assert cnn("claim", "three-3x3", "--set", "train.epochs=1", "--runs", tmp_path) == Fault.INPUT
    assert "--set requires" in capsys.readouterr().err
    path = tmp_path / "none.yaml"
    path.write_text(claims_claim.locate("three-3x3").read_text().replace("conv*", "dense*"))
    assert cnn("claim", path, "--runs", tmp_path) == Fault.INPUT
    assert "must fit a layer's name, got 'dense*'; there are image, conv1" in capsys.readouterr().err


def test_an_unknown_claim_is_answered_with_the_nearest_names():
    with pytest.raises(Fault, match="did you mean degradation"):
        claims_claim.load("degradatoin")


@pytest.mark.parametrize(
    ("value", "written"),
    [(110592.0, "110,592"), (0.03124, "0.03124"), (0.0, "0"), (1.0, "1"), (1e30, "1e+30"), (float("inf"), "never")],
)
def test_a_number_is_written_for_people(value, written):
    assert report.number(value) == written
