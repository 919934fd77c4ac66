"""`cnn recipes`, `cnn show` and `cnn doctor`."""

import json
from typing import Annotated

import typer

from pipelines.cli.commands import AsJson, Overrides, RecipeName, console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Help")
def recipes(as_json: AsJson = False) -> None:
    """List the recipes that come with the package.

    Example: cnn recipes
    """
    from pipelines.engine import recipe as recipes

    headers = {name: recipes.header(name) for name in recipes.shipped()}
    if as_json:
        print(json.dumps(headers, indent=1))
        return
    for name, text in headers.items():
        console_for(False).print(f"[bold cyan]{name}[/]\n  {escape_markup(text.splitlines()[0])}", soft_wrap=True)


@app.command(rich_help_panel="Help")
def show(recipe: RecipeName, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print a recipe with all defaults and the meaning of each key; the output is itself a recipe.

    Example: cnn show classify/digits-lenet5 > mine.yaml
    """
    from pipelines.engine import recipe as recipes
    from pipelines.engine import recipe_keys

    loaded = recipes.load(recipe, overrides or ())
    text = "".join(f"# {line}".rstrip() + "\n" for line in recipes.header(recipe).splitlines())
    text += recipe_keys.commented_yaml(loaded)
    print(json.dumps(loaded.model_dump(mode="json"), indent=1) if as_json else text.rstrip())


@app.command(rich_help_panel="Help")
def doctor(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Require a GPU; train a few steps in each precision, with and without XLA.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check versions, devices (and why there is no GPU), the disk and the tracking store.

    Example: cnn doctor
    """
    from pipelines.engine.startup import load_tensorflow

    load_tensorflow(console_for(as_json))
    from pipelines.cli import doctor as doctors

    report = doctors.examine()
    if gpu:
        from pipelines.cli import training_check

        report["training"], failed = training_check.examine()
        missing = {"gpu": report["why_no_gpu"]} if "why_no_gpu" in report else {}
        report["failed"] |= missing | failed
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        doctors.show(report, console_for(False))
    if report["failed"]:
        raise typer.Exit(1)
