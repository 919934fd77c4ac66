"""`cnn augment`: the augmented images that training will see."""

from pathlib import Path
from typing import Annotated

import typer

from cnn_keras.errors import Fault
from pipelines.cli.commands import Overrides, RecipeName, console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Learn")
def augment(
    recipe: RecipeName,
    overrides: Overrides = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every available augmentation, not only the recipe's.")
    ] = False,
    marks: Annotated[
        bool, typer.Option("--marks", help="Add a box, landmarks and a mask to each image, to show how they move.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The PNG file to write; the default is NAME-augmented.png.")
    ] = None,
) -> None:
    """Draw a recipe's augmentations, one row each, on its images with their boxes and masks.

    Example: cnn augment classify/digits-lenet5 --all
    """
    from pipelines.engine import recipe as recipes
    from pipelines.engine.startup import load_tensorflow

    loaded = recipes.load(recipe, overrides or ())
    path = output or Path(f"{loaded.name}-augmented.png")
    if path.suffix.lower() != ".png":
        raise Fault(f"--output must end in .png, got {path}")
    console = console_for(False)
    load_tensorflow(console)
    from pipelines.analysis import augmentation_preview

    try:
        console.print(f"wrote {escape_markup(str(augmentation_preview.sheet(loaded, path, every=every, marks=marks)))}")
    except OSError as error:
        raise Fault(f"--output must be a file that can be written, got {path}: {error.strerror}") from error
