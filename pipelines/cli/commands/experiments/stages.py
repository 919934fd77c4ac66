"""The four verbs of the pipeline, and `run`, which is all of them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnn_keras.errors import Fault
from pipelines.cli.commands import (
    RUNS,
    AsJson,
    Force,
    On,
    Overrides,
    RecipeName,
    Root,
    cluster_at,
    console_for,
    open_run,
)

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.engine.hosts.environment import Host
    from pipelines.engine.stages import Run
    from pipelines.export.runtimes import Target

app = typer.Typer()

EXTEND = (
    "Train a finished run for this many more epochs. Their learning rate: constant – the same; step – the last one; "
    "plateau – continued from the history; cosine – from learning_rate to zero again."
)
ON = (
    "New labelled data, as data.path of a recipe: folders of classes, a CSV file. It is measured beside the test split."
)
FORMATS = "Of savedmodel, litert, onnx and openvino; each is proved on the test split before it is written."
PRECISIONS = "Of float32, float16, int8 and, for openvino, bfloat16."
Only = Annotated[
    bool,
    typer.Option("--only", help="Keep the results of the stages before, even if something they depend on changed."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Train only a few steps, keep nothing, and report size, memory, speed and time."),
]
Hosts = Annotated[
    int,
    typer.Option("--hosts", min=0, help="How many hosts share the training: TF_CONFIG or SLURM says which, or --on."),
]
Local = Annotated[bool, typer.Option("--local", help="Start the hosts as processes on this machine, to try it.")]


@app.command(rich_help_panel="Pipeline")
def prepare(
    recipe: RecipeName,
    overrides: Overrides = None,
    force: Force = False,
    on: On = "",
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Validate and split the data, and write them as records.

    Example: cnn prepare classify/folder-lenet5 --set data.path=photos
    """
    _stages(recipe, "prepare", overrides, force=["prepare"] if force else [], on=on, as_json=as_json, runs=runs)


@app.command(rich_help_panel="Pipeline")
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    force: Force = False,
    only: Only = False,
    extend: Annotated[int, typer.Option(min=0, help=EXTEND)] = 0,
    dry_run: DryRun = False,
    hosts: Hosts = 0,
    local: Local = False,
    on: On = "",
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Train the network; an interrupted training is resumed exactly.

    Example: cnn train classify/digits-lenet5 --set train.epochs=5
    """
    if dry_run:
        return _dry_run(recipe, overrides, as_json=as_json, runs=runs)
    _stages(
        recipe,
        "train",
        overrides,
        force=["train"] if force else [],
        only=only,
        extend=extend,
        hosts=hosts,
        local=local,
        on=on,
        as_json=as_json,
        runs=runs,
    )


@app.command(rich_help_panel="Pipeline")
def evaluate(
    recipe: RecipeName,
    overrides: Overrides = None,
    on: Annotated[Path | None, typer.Option("--on", metavar="DATA", help=ON)] = None,
    force: Force = False,
    only: Only = False,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Evaluate the model on the test split, beside baselines; with --on, a trained run on new labelled data.

    Example: cnn evaluate classify/digits-lenet5 --on photos
    """
    if on:
        return _evaluate_on(recipe, on, overrides, force=force, as_json=as_json, runs=runs)
    _stages(recipe, "evaluate", overrides, force=["evaluate"] if force else [], only=only, as_json=as_json, runs=runs)


@app.command(rich_help_panel="Pipeline")
def export(
    recipe: RecipeName,
    overrides: Overrides = None,
    formats: Annotated[str, typer.Option("--format", metavar="FORMAT,…", help=FORMATS)] = "savedmodel",
    precisions: Annotated[str, typer.Option("--precision", metavar="PRECISION,…", help=PRECISIONS)] = "float32",
    force: Force = False,
    only: Only = False,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Write a new version of the SavedModel and register it as the candidate; with --format other formats beside it.

    Example: cnn export classify/digits-lenet5 --format onnx,litert
    """
    _stages(
        recipe,
        "export",
        overrides,
        force=["export"] if force else [],
        only=only,
        formats=formats.split(","),
        precisions=precisions.split(","),
        as_json=as_json,
        runs=runs,
    )


@app.command(rich_help_panel="Pipeline")
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    force: Force = False,
    dry_run: DryRun = False,
    hosts: Hosts = 0,
    local: Local = False,
    on: On = "",
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Prepare, train, evaluate and export; stages that are up to date are skipped.

    Example: cnn run classify/digits-lenet5
    """
    if dry_run:
        return _dry_run(recipe, overrides, as_json=as_json, runs=runs)
    forced = ["prepare", "train", "evaluate", "export"] if force else []
    _stages(recipe, "export", overrides, force=forced, hosts=hosts, local=local, on=on, as_json=as_json, runs=runs)


def _stages(
    reference: str,
    last: str,
    overrides: list[str] | None,
    *,
    force: list[str],
    as_json: bool,
    runs: Path,
    only: bool = False,
    extend: int = 0,
    hosts: int = 0,
    local: bool = False,
    formats: Sequence[str] = (),
    precisions: Sequence[str] = (),
    on: str = "",
) -> None:
    """Load the recipe, run its stages up to `last`, close the tracking, and suggest the next commands."""
    from pipelines.engine import stages
    from pipelines.engine.hosts import environment
    from pipelines.export import runtimes

    console, host = console_for(as_json), environment.host()
    if on and (host or local or (hosts and only)):
        raise Fault("--on must not be combined with --local, TF_CONFIG or SLURM, nor with --hosts and --only together")
    if host is None and local and hosts > 1:
        raise typer.Exit(_start_locally(hosts, console, as_json=as_json))
    if not on:
        environment.check_number(hosts, host)
    try:
        if host:
            return _share(host, reference, last, overrides, console=console, runs=runs, force=force, extend=extend)
        run = open_run(reference, overrides, console, runs, trains=False)
        if wanted := runtimes.targets(formats, precisions):
            runtimes.check(run.task, run.recipe)
        with cluster_at(on) as cluster:
            if cluster:
                run.parallel_map = cluster.map
            if cluster and hosts and last != "prepare":
                from pipelines.engine.cluster import training

                options: dict[str, Any] = {"force": force, "extend": extend, "runs": runs}
                recipe: dict[str, Any] = {"reference": reference, "overrides": overrides or ()}
                training.run_stages(cluster, run, last, hosts, **recipe, **options)
                force, extend = [], 0
            with stages.tracked(run):
                facts = stages.run_stages(run, last, force=force, only=only, extend=extend)
                if wanted:
                    facts["formats"] = _convert(run, wanted)
    except KeyboardInterrupt:
        console.print("\ninterrupted; the state after the last whole epoch is saved. Run the same command to resume.")
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(facts, indent=1))
    elif last == "export":
        _print_next(f"{run.recipe.task}/{run.recipe.name}", facts, console, run.where)


def _evaluate_on(
    reference: str, data: Path, overrides: list[str] | None, *, force: bool, as_json: bool, runs: Path
) -> None:
    """Measure a trained run on new data beside its test split."""
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.engine.experiments import new_data

    comparison = new_data.measure(reference, data, overrides or (), console=console, runs=runs, force=force)
    if as_json:
        print(json.dumps(comparison, indent=1))
    else:
        new_data.show(comparison, console)


def _convert(run: "Run", wanted: "list[Target]") -> list[dict[str, Any]]:
    """Write the trained network in other formats."""
    from pipelines.engine.startup import load_tensorflow

    load_tensorflow(run.console)
    from pipelines.engine import formats

    return formats.export(run, wanted)


def _start_locally(count: int, console: "Console", *, as_json: bool) -> int:
    """Run this command in several processes; return its exit code."""
    from pipelines.engine.hosts import local

    if as_json:
        raise Fault("--json must not be combined with --local, which prints the lines of several processes")
    return local.run(count, local.without_options(sys.argv[1:]), console)


def _share(
    host: "Host", reference: str, last: str, overrides: list[str] | None, *, console: "Console", **options: Any
) -> None:
    """Do this host's part of the stages."""
    from pipelines.engine import recipe as recipes
    from pipelines.engine import startup

    recipe = recipes.load(reference, overrides or ())
    startup.load_tensorflow(console)
    from pipelines.engine.hosts import shared_run

    shared_run.run_stages(host, recipe, last, console=console, **options)


def _dry_run(reference: str, overrides: list[str] | None, *, as_json: bool, runs: Path) -> None:
    """Estimate the cost of the training; runs only prepare, if necessary."""
    console = console_for(as_json)
    run = open_run(reference, overrides, console, runs)
    from pipelines.engine.experiments import dry_run

    figures = dry_run.measure(run)
    if as_json:
        print(json.dumps(figures, indent=1))
    else:
        dry_run.show(figures, console)


def _print_next(name: str, facts: dict[str, Any], console: "Console", where: str) -> None:
    import shutil

    if "pictures" in facts:
        console.print(
            f"\n[bold green]done[/]  {facts['name']} version {facts['version']} written to {facts['pictures']}"
        )
        return
    ask = {f"cnn predict {name} FILES{where}": "predictions for your own files"}
    if name.startswith("verify/"):
        ask = {
            f"cnn predict {name} FILES{where}": "embeddings of your own files",
            f"cnn faces enrol PEOPLE --model {name}{where}": "a gallery of your own people, for `cnn faces identify`",
        }
    if facts.get("inputs"):
        ask = {}  # files hold pictures alone
    commands = {
        f"cnn serve {name}{where}": "an HTTP server with a page to try it",
        **ask,
        "cnn dashboard": "all runs, with curves and pictures",
    }
    width = max(map(len, commands))
    console.print(f"\n[bold green]done[/]  {facts['name']} version {facts['version']} is ready. Next:")
    for command, purpose in commands.items():
        console.print(f"  {command:<{width}}  [dim]{purpose}[/]")
    if shutil.which("cnn") is None:
        console.print("  [dim](first run: source .venv/bin/activate; or use .venv/bin/cnn)[/]")
