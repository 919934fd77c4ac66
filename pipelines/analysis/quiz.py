"""The layers of a network in the notation of the course, and exam questions about them, on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnn_keras import models
from cnn_keras.learn import notation
from pipelines.analysis.model_summary import arguments_of


def show_notation(name: str, console: Console, *, shape: str | None = None, classes: int | None = None) -> None:
    """A table of f, p, s and the sizes of every layer; arguments and errors as `model_summary.examine`."""
    name, arguments, _ = arguments_of(name, shape, classes)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("layer", "type"):
        table.add_column(column, overflow="fold")
    for column in ("f", "p", "s", "n_h × n_w × n_c", "parameters"):
        table.add_column(column, justify="right", no_wrap=True)
    for layer in notation.layers(models.build(name, **arguments)):
        window = (notation.once(layer.f), notation.padding(layer), notation.once(layer.s)) if layer.f else ("", "", "")
        count = f"{layer.parameters:,}" if layer.parameters else ""
        table.add_row(layer.name, layer.kind, *window, notation.shape(layer.after), count)
    console.print(f"[bold]{escape(name)}[/]  input {notation.shape(arguments['input_shape'])}", soft_wrap=True)
    console.print(table, soft_wrap=False)
    console.print("[dim]each side: ⌊(n + 2p − f)/s⌋ + 1; of a convolution (f · f · n_c before + 1) · n_c parameters[/]")


def show_questions(name: str, console: Console, *, count: int, seed: int, answers: bool) -> None:
    """So many questions about a network; with `answers` each with its answer and how one gets there."""
    name, arguments, _ = arguments_of(name, None, None)
    asked = notation.questions(models.build(name, **arguments), count, seed=seed)
    for number, question in enumerate(asked, 1):
        console.print(f"[bold]{number}.[/] {escape(question.text)}", soft_wrap=True, highlight=False)
        if answers:
            console.print(f"   {escape(question.answer)}", soft_wrap=True, highlight=False)
            console.print(f"   [dim]{escape(question.worked)}[/]", soft_wrap=True, highlight=False)
    if not answers:
        console.print(f"[dim]cnn quiz {name} --questions {count} --seed {seed} --answers shows the answers[/]")
