"""`cnn quiz`: exam questions about a network."""

from typing import Annotated

import typer

from pipelines.cli.commands import console_for

app = typer.Typer()


@app.command(rich_help_panel="Learn")
def quiz(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A builder, for example lenet5_modern or vgg16.")],
    questions: Annotated[int, typer.Option(min=1, help="Number of questions.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed: the same number gives the same questions.")] = 0,
    answers: Annotated[bool, typer.Option("--answers", help="Show the answers, and how to get there.")] = False,
) -> None:
    """Ask exam questions about the layers of a network: sizes, parameters, multiply-adds and receptive fields.

    Example: cnn quiz lenet5_modern --answers
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.analysis import quiz as exam

    exam.show_questions(name, console, count=questions, seed=seed, answers=answers)
