"""The registry of models: every export is a version, the newest is the candidate, the best one the champion.

A version carries its metrics, its requirement and the id of the event that registered it as tags. `client` is
an `mlflow.MlflowClient` throughout.
"""

from collections.abc import Callable
from typing import Any

from cnn_keras.errors import Fault
from pipelines.tracking.journal import Event
from pipelines.tracking.requirement import Requirement

CANDIDATE, CHAMPION = "candidate", "champion"
EVENT_TAG, REQUIREMENT_TAG, METRIC_TAG = "cnn.event", "requirement", "metric."


def register(client: Any, run: str, event: Event, log_model: Callable[[], Any]) -> None:
    """Make a version of what `log_model` logs, unless this event has made it before; move `candidate`."""
    name = event["name"]
    versions = client.search_model_versions(f"name = '{name}'")
    mine = next((known for known in versions if known.tags.get(EVENT_TAG) == event["id"]), None)
    if mine is None:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        tags = {METRIC_TAG + key: repr(value) for key, value in event["metrics"].items()}
        tags |= {REQUIREMENT_TAG: event["requirement"]} if event["requirement"] else {}
        tags |= {EVENT_TAG: event["id"]}
        model = log_model()
        location = model.artifact_location
        mine = client.create_model_version(name, location, run_id=run, model_id=model.model_id, tags=tags)
    if all(int(known.version) <= int(mine.version) for known in versions):
        client.set_registered_model_alias(name, CANDIDATE, mine.version)


def promote(client: Any, name: str, requirement: str | None) -> dict[str, Any]:
    """Move `champion` to the candidate of a registered model and return the figures.

    The requirement is the one given, or the one recorded with the candidate.

    Raises:
        Fault: no candidate, or no requirement (INPUT); the requirement does not hold, or the candidate does
            not beat the present champion in its metric (GATE).
    """
    models = client.search_registered_models(f"name = '{name}'")
    aliases = models[0].aliases if models else {}
    if CANDIDATE not in aliases:
        raise Fault(f"NAME must be a model with a candidate, got {name!r}; `cnn export` registers one")
    candidate = client.get_model_version(name, aliases[CANDIDATE])
    figure = requirement or candidate.tags.get(REQUIREMENT_TAG)
    if not figure:
        raise Fault(f"--require must be given: version {candidate.version} of {name} has no requirement recorded")
    champion = client.get_model_version(name, aliases[CHAMPION]) if CHAMPION in aliases else None
    figures = _judge(Requirement.parse(figure), candidate, champion)
    client.set_registered_model_alias(name, CHAMPION, candidate.version)
    return {"name": name, "champion": int(candidate.version), **figures}


def _judge(required: Requirement, candidate: Any, champion: Any) -> dict[str, Any]:
    """The figures of both versions, or a Fault that has them."""
    metric, figure = required.metric, required.figure(_metrics(candidate))
    if not required.holds(figure):
        raise Fault(f"version {candidate.version} must have {required}, got {figure:g}", code=Fault.GATE)
    figures = {"requirement": str(required), metric: figure}
    if champion is None or champion.version == candidate.version:
        return figures
    former = _metrics(champion).get(metric)
    if former is not None and not required.prefers(figure, former):
        raise Fault(
            f"version {candidate.version} must beat the champion, version {champion.version}, in {metric}: "
            f"got {figure:g} against {former:g}",
            code=Fault.GATE,
        )
    return figures | {"former champion": int(champion.version), f"former {metric}": former}


def _metrics(registered: Any) -> dict[str, float]:
    """The metrics recorded with a version."""
    tags = registered.tags.items()
    return {key.removeprefix(METRIC_TAG): float(value) for key, value in tags if key.startswith(METRIC_TAG)}
