"""Registered models: what is registered answers, and the champion is the best that met its requirement."""

import pytest

from cnn_keras.errors import Fault
from pipelines.tracking import registry
from pipelines.tracking.journal import Journal
from pipelines.tracking.tracker import promote, push
from tests.tracked import tell_a_model

pytest_plugins = ["tests.live_store"]


def test_a_model_is_registered_once_and_answers_like_the_saved_model(store, tmp_path):
    import mlflow
    import pandas

    tell_a_model(tmp_path, "answers", 0.99)
    Journal.last(tmp_path / "tracking").path.with_suffix(".delivered.json").unlink()
    push(tmp_path)
    (version,) = store.search_model_versions("name = 'answers'")
    assert store.get_model_version_by_alias("answers", "candidate").version == version.version
    assert {key: version.tags[key] for key in ("metric.test_accuracy", "requirement")} == {
        "metric.test_accuracy": "0.99",
        "requirement": "test_accuracy >= 0.98",
    }
    assert "metric.label" not in version.tags
    model = mlflow.pyfunc.load_model(version.source)
    assert model.metadata.signature.inputs.to_dict() == [
        {"name": "image_bytes", "type": "binary", "required": True},
    ]
    answers = model.predict(pandas.DataFrame({"image_bytes": [b"abc", b"abcd", b"ab"]}))
    assert answers["label"].tolist() == ["zero", "one", "two"]
    assert answers["class_id"].tolist() == [0, 1, 2]
    assert [pytest.approx(1.0, abs=1e-6)] * 3 == [sum(row) for row in answers["probabilities"]]


@pytest.fixture
def versions(store, request):
    """Registers versions of a model of the test's own, with an accuracy; the last one is the candidate."""
    name = request.node.name

    def register(*accuracies, requirement=None):
        for accuracy in accuracies:
            event = {"name": name, "id": str(accuracy), "requirement": requirement, "metrics": {"accuracy": accuracy}}
            run = store.create_run("0").info
            registry.register(store, run.run_id, event, lambda: store.create_logged_model(run.experiment_id))  # noqa: B023
        return name

    return register


def version_under(client, name, alias):
    """An integer from every store: the database gives it as such, the server as text."""
    return int(client.get_model_version_by_alias(name, alias).version)


def test_the_first_candidate_that_meets_the_requirement_becomes_champion(store, versions):
    name = versions(0.985)
    verdict = promote(name, requirement="accuracy >= 0.98")
    assert verdict == {"name": name, "champion": 1, "requirement": "accuracy >= 0.98", "accuracy": 0.985}
    assert version_under(store, name, "champion") == 1


def test_the_requirement_recorded_with_the_candidate_is_the_default(versions):
    name = versions(0.985, requirement="accuracy >= 0.99")
    with pytest.raises(Fault, match=r"version 1 must have accuracy >= 0\.99, got 0\.985") as refusal:
        promote(name)
    assert refusal.value.code == Fault.GATE
    assert promote(name, requirement="accuracy >= 0.9")["champion"] == 1


def test_a_better_candidate_replaces_the_champion(store, versions):
    promote(versions(0.98), requirement="accuracy > 0.9")
    name = versions(0.99)
    verdict = promote(name, requirement="accuracy > 0.9")
    assert (verdict["champion"], verdict["former champion"], verdict["former accuracy"]) == (2, 1, 0.98)
    assert version_under(store, name, "champion") == 2


def test_a_candidate_that_is_not_better_does_not_replace_the_champion(store, versions):
    promote(versions(0.99), requirement="accuracy > 0.9")
    name = versions(0.985)
    with pytest.raises(Fault, match=r"must beat the champion, version 1, in accuracy: got 0\.985 against 0\.99") as no:
        promote(name, requirement="accuracy > 0.9")
    assert no.value.code == Fault.GATE
    assert version_under(store, name, "champion") == 1


def test_promoting_the_champion_again_changes_nothing(versions):
    name = versions(0.99)
    first = promote(name, requirement="accuracy > 0.9")
    assert promote(name, requirement="accuracy > 0.9") == first


def test_an_old_event_told_late_does_not_move_the_candidate_back(store, versions):
    versions(0.97)
    name = versions(0.98)
    assert versions(0.97) == name
    assert len(store.search_model_versions(f"name = '{name}'")) == 2
    assert version_under(store, name, "candidate") == 2


def test_a_promotion_needs_a_model_a_metric_and_a_requirement(versions):
    with pytest.raises(Fault, match="NAME must be a model with a candidate, got 'nothing'"):
        promote("nothing", requirement="accuracy > 0.9")
    name = versions(0.99)
    with pytest.raises(Fault, match="--require must be given"):
        promote(name)
    with pytest.raises(Fault, match="recorded: accuracy"):
        promote(name, requirement="recall > 0.9")
