"""The command line: `cnn VERB RECIPE --set KEY=VALUE`.

Exit codes: 0 done, 2 something of the user's to fix, 3 the data, 4 a requirement did not hold, 5 training diverged,
130 interrupted. Imports here are cheap; TensorFlow, Keras and MLflow load inside the verbs that need them.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cnn_keras.fault import Fault

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Train, track, export and serve convolutional networks.\n\nStart with: cnn run classify/digits-lenet5",
)
networks = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="The networks, and what they are made of.")
app.add_typer(networks, name="models", rich_help_panel="Learn")

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe or a .yaml file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: train.epochs=5. Repeatable."),
]
Force = Annotated[bool, typer.Option("--force", help="Run it even if nothing changed; start training afresh.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON; everything else goes to stderr.")]
Root = Annotated[Path, typer.Option("--runs", help="The folder that holds the runs.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run such as classify/digits-lenet5, or its recipe.")]
Target = Annotated[str, typer.Argument(metavar="MODEL", help="A recipe whose run was exported, or a model's folder.")]
RUNS = Path("runs")


def main() -> NoReturn:
    """Run a command; turn what the user can fix into one message and an exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # our own limit says it better
    try:
        app()
    except Fault as fault:
        from rich.console import Console

        Console(stderr=True).print(f"[bold red]error[/] {_escaped(str(fault))}", soft_wrap=True, highlight=False)
        sys.exit(fault.code)
    sys.exit(0)


@app.command(rich_help_panel="Pipeline")
def prepare(
    recipe: RecipeName,
    overrides: Overrides = None,
    force: Force = False,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Validate, split and record the images.

    Example: cnn prepare classify/folder-lenet5 --set data.path=photos
    """
    _stages(recipe, "prepare", overrides, force=["prepare"] if force else [], as_json=as_json, runs=runs)


@app.command(rich_help_panel="Pipeline")
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    force: Force = False,
    extend: Annotated[int, typer.Option(min=0, help="Train a finished run for so many epochs more.")] = 0,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Find the weights; an interrupted training is resumed exactly.

    Example: cnn train classify/digits-lenet5 --set train.epochs=5
    """
    _stages(
        recipe,
        "train",
        overrides,
        force=["train"] if force else [],
        extend=extend,
        as_json=as_json,
        runs=runs,
    )


@app.command(rich_help_panel="Pipeline")
def evaluate(
    recipe: RecipeName,
    overrides: Overrides = None,
    force: Force = False,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Measure the model on the test split, beside baselines.

    Example: cnn evaluate classify/digits-lenet5 --json
    """
    _stages(recipe, "evaluate", overrides, force=["evaluate"] if force else [], as_json=as_json, runs=runs)


@app.command(rich_help_panel="Pipeline")
def export(
    recipe: RecipeName,
    overrides: Overrides = None,
    force: Force = False,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Write a new version of the SavedModel and register it as candidate.

    Example: cnn export classify/digits-lenet5
    """
    _stages(recipe, "export", overrides, force=["export"] if force else [], as_json=as_json, runs=runs)


@app.command(rich_help_panel="Pipeline")
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    force: Force = False,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Prepare, train, evaluate and export; what has not changed is skipped.

    Example: cnn run classify/digits-lenet5
    """
    forced = ["prepare", "train", "evaluate", "export"] if force else []
    _stages(recipe, "export", overrides, force=forced, as_json=as_json, runs=runs)


@app.command(rich_help_panel="Models")
def serve(
    model: Target,
    host: Annotated[str, typer.Option(help="Address to bind; loopback unless you say otherwise.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8501,
    runs: Root = RUNS,
) -> None:
    """Serve an exported model over HTTP, with TensorFlow Serving's contract and a page to try it.

    Example: cnn serve classify/digits-lenet5 --port 8501
    """
    from pipelines import savedmodel
    from pipelines.serving import app as serving

    serving.serve(savedmodel.locate(model, runs), host=host, port=port, say=_console(False).print)


@app.command(rich_help_panel="Models")
def predict(
    model: Target,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    csv: Annotated[Path | None, typer.Option(help="Write the answers to this CSV file.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Write each picture with its answer into this folder.")] = None,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Ask an exported model about images.

    Example: cnn predict classify/digits-lenet5 photos/ --csv answers.csv
    """
    from pipelines import predict as predicting
    from pipelines import savedmodel
    from pipelines.startup import load_tensorflow

    console = _console(as_json)
    load_tensorflow(console)
    answers = predicting.predict(savedmodel.locate(model, runs), images, top=top, console=console)
    if csv:
        predicting.write_csv(answers, csv)
        console.print(f"wrote {csv}")
    if pictures:
        console.print(f"wrote {predicting.draw(answers, pictures)} pictures to {pictures}")
    if as_json:
        print(json.dumps([answer.as_dict() for answer in answers], indent=1))
    if all(answer.problem for answer in answers):
        raise Fault("IMAGES must hold at least one readable image", code=Fault.DATA)


@app.command(rich_help_panel="Models")
def promote(
    name: Annotated[str, typer.Argument(help="The registered model, for example digits-lenet5.")],
    require: Annotated[str | None, typer.Option(help="What must hold, for example 'test_accuracy >= 0.98'.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make the candidate champion if it meets the requirement and beats the present champion.

    Example: cnn promote digits-lenet5 --require 'test_accuracy >= 0.98'
    """
    from pipelines import tracking

    verdict = tracking.promote(name, requirement=require)
    _result(verdict, as_json=as_json)


@app.command(rich_help_panel="Tracking")
def dashboard(
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 5000,
) -> None:
    """Open MLflow on the runs of this folder; Ctrl-C ends it.

    Example: cnn dashboard --port 5000
    """
    from pipelines import tracking

    console = _console(False)
    tracking.dashboard(host=host, port=port, say=console.print)


@app.command(rich_help_panel="Tracking")
def push(run: RunName, runs: Root = RUNS) -> None:
    """Deliver to MLflow what a dead or slow tracking server has missed.

    Example: cnn push classify/digits-lenet5
    """
    from pipelines import stages, tracking

    delivered, pending = tracking.push(stages.run_folder(run, runs))
    _console(False).print(f"{delivered} events delivered, {pending} pending")


@app.command(rich_help_panel="Learn")
def edges(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    kind: Annotated[str, typer.Option("--filter", help="simple (1 0 −1), sobel or scharr.")] = "sobel",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The PNG file to write; else <stem>-edges.png, here.")
    ] = None,
) -> None:
    """Draw what fixed edge filters see in an image: vertical, horizontal, and the magnitude of both.

    Example: cnn edges photo.jpg
    """
    from pipelines import edges as seeing
    from pipelines.startup import load_tensorflow

    console = _console(False)
    load_tensorflow(console)
    console.print(f"wrote {_escaped(str(seeing.edges(image, kind=kind, output=output)))}")


@networks.command("list")
def list_models(
    pattern: Annotated[str, typer.Argument(help="Names with wildcards, for example 'resnet*'.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the networks that recipes can name as builders, with the literature's figures.

    Example: cnn models list 'resnet*'
    """
    from pipelines import model_table
    from pipelines.startup import load_tensorflow

    console = _console(as_json)
    load_tensorflow(console)
    found = model_table.catalogue(pattern)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        model_table.show_catalogue(found, console)


@networks.command("show")
def show_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A builder, for example vgg16 or vgg.vgg16.")],
    shape: Annotated[str | None, typer.Option("--input", metavar="HxWxC", help="Another size of input.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Another number of classes.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples whose activations are counted.")] = 1,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer of a long network, not its blocks.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every layer to this CSV file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take a network apart: sizes, parameters, multiply-adds, memory, receptive fields; ours against the paper's.

    Example: cnn models show vgg16
    """
    from pipelines import model_table
    from pipelines.startup import load_tensorflow

    console = _console(as_json)
    load_tensorflow(console)
    network = model_table.examine(name, shape=shape, classes=classes, batch=batch)
    if csv:
        model_table.write_csv(network, csv)
        console.print(f"wrote {_escaped(str(csv))}")
    if as_json:
        print(json.dumps(model_table.plain(network), indent=1))
    else:
        model_table.show(network, console, layers=layers)


@app.command(rich_help_panel="Help")
def recipes(as_json: AsJson = False) -> None:
    """List the recipes that come with the package.

    Example: cnn recipes
    """
    from pipelines import recipe as recipes

    found = {name: recipes.header(name) for name in recipes.shipped()}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, text in found.items():
        _console(False).print(f"[bold cyan]{name}[/]\n  {_escaped(text.splitlines()[0])}", soft_wrap=True)


@app.command(rich_help_panel="Help")
def show(recipe: RecipeName, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print a recipe with every default spelled out; the output is itself a recipe.

    Example: cnn show classify/digits-lenet5 > mine.yaml
    """
    from pipelines import recipe as recipes

    loaded = recipes.load(recipe, overrides or ())
    text = "".join(f"# {line}".rstrip() + "\n" for line in recipes.header(recipe).splitlines()) + recipes.dump(loaded)
    print(json.dumps(loaded.model_dump(mode="json"), indent=1) if as_json else text.rstrip())


@app.command(rich_help_panel="Help")
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which devices there are and why not a GPU, and whether the disk and the store answer.

    Example: cnn doctor
    """
    from pipelines import doctor as doctors
    from pipelines.startup import load_tensorflow

    load_tensorflow(_console(as_json))
    report = doctors.examine()
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        doctors.show(report, _console(False))
    if report["failed"]:
        raise typer.Exit(1)


def _stages(
    reference: str,
    last: str,
    overrides: list[str] | None,
    *,
    force: list[str],
    as_json: bool,
    runs: Path,
    extend: int = 0,
) -> None:
    """Load the recipe, run its stages as far as `last`, close the tracking, show what comes next."""
    from pipelines import recipe as recipes

    recipe = recipes.load(reference, overrides or ())
    from pipelines import stages

    console = _console(as_json)
    opened = stages.Run(recipe, console, runs)
    name = f"{recipe.task}/{recipe.name}"
    console.print(f"[bold]{name}[/]  [dim]{opened.folder}[/]")
    status = "FAILED"
    try:
        facts = stages.run_stages(opened, last, force=force, extend=extend)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        console.print("\ninterrupted; the state after the last whole epoch is saved. To resume, run the same command.")
        raise typer.Exit(130) from None
    finally:
        if pending := opened.tracker.finish(status):
            console.print(f"{pending} tracking events wait in {opened.folder}; `cnn push {name}` delivers them")
    if as_json:
        print(json.dumps(facts, indent=1))
    elif last == "export":
        _say_next(name, facts, console)


def _say_next(name: str, facts: dict[str, Any], console: "Console") -> None:
    import shutil

    commands = {
        f"cnn serve {name}": "an HTTP server and a page to drop images on",
        f"cnn predict {name} FILES": "answers for your own images",
        "cnn dashboard": "every run, with its curves and pictures",
    }
    width = max(map(len, commands))
    console.print(f"\n[bold green]done[/]  {facts['name']} version {facts['version']} is ready. Next:")
    for command, purpose in commands.items():
        console.print(f"  {command:<{width}}  [dim]{purpose}[/]")
    if shutil.which("cnn") is None:
        console.print("  [dim](first: source .venv/bin/activate, or type .venv/bin/cnn)[/]")


def _result(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        for key, value in result.items():
            _console(False).print(f"{key}: {value}", soft_wrap=True)


def _console(as_json: bool) -> "Console":
    """Where people are spoken to; what the pipeline logs is shown there too."""
    import logging

    from rich.console import Console

    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    handler = logging.StreamHandler(console.file)
    handler.setFormatter(logging.Formatter("          %(message)s"))
    log = logging.getLogger("pipelines")
    log.handlers, log.level, log.propagate = [handler], logging.INFO, False
    return console


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
