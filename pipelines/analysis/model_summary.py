"""Tables of networks: the catalogue, and one network's anatomy beside the figures of the literature."""

import dataclasses
import inspect
import itertools
import math
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cnn_keras import models, plugins
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile, published_figures
from cnn_keras.learn.model_profile import Row
from pipelines.export.pretrained_model import resolve

# What a layer's name says of the block it is in: stage2_unit3_conv1_norm, inception4a_5x5_reduce, stem_relu.
BLOCK = re.compile(r"stage\d+_unit\d+|[^_]*")
WIDE = 110  # columns of a terminal that has room for a sentence about each network
LONG = 60  # layers; longer networks are shown block by block
QUANTITIES = {"parameters": "parameters", "trainable": "trainable", "multiply_adds": "multiply-adds"}


def catalogue(pattern: str = "*") -> list[dict[str, Any]]:
    """Of every builder whose name, with or without its family, fits the pattern: what it is, without building it.

    Raises:
        Fault: when none does.
    """
    rows = [
        {
            "name": name,
            "input_shape": inspect.signature(builder).parameters["input_shape"].default,
            **_first_figures(name),
            "about": next(iter((getattr(builder, "func", builder).__doc__ or "").splitlines()), ""),
            "origin": origin,
        }
        for name, (builder, origin) in _known().items()
        if fnmatch(name, pattern) or fnmatch(name.partition(".")[2], pattern)
    ]
    if not rows:
        raise Fault(f"PATTERN must fit a builder, such as 'resnet*', got {pattern!r}; see `cnn models list`")
    return rows


def _known() -> dict[str, tuple[Any, str | None]]:
    """Every builder by its name, with the package that it comes from where that is another one."""
    own = {name: (builder, None) for name, builder in models.catalogue().items()}
    entries = plugins.entry_points("builders").items()
    return own | {name: (plugins.load(entry.value), plugins.origin(entry)) for name, entry in entries}


def _first_figures(name: str) -> dict[str, str | None]:
    """The first figure, as printed, of parameters of either kind and of multiply-adds."""
    figures = [figure for figure in published_figures.figures(name) if not figure.differs]
    multiply_adds = [figure.printed for figure in figures if figure.quantity == "multiply_adds"]
    parameters = [figure.printed for figure in figures if figure.quantity != "multiply_adds"]
    return {"parameters": next(iter(parameters), None), "multiply_adds": next(iter(multiply_adds), None)}


def show_catalogue(rows: list[dict[str, Any]], console: Console) -> None:
    """One line per builder, cut off at the edge of the terminal."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("name", "input", "parameters", "mult-adds"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("parameters", "mult-adds") else "left")
    if any(row["origin"] for row in rows):
        table.add_column("from", no_wrap=True)
    wide = console.width >= WIDE
    if wide:
        table.add_column("about")
    for row in rows:
        about = [Text(row["about"], no_wrap=True, overflow="ellipsis")] if wide else []
        figures = (row["parameters"] or "–", row["multiply_adds"] or "–")
        origin = [row["origin"] or "cnn-keras"] if any(other["origin"] for other in rows) else []
        table.add_row(row["name"], times(row["input_shape"]), *figures, *origin, *about)
    console.print(table, soft_wrap=False)
    console.print("[dim]figures as the literature prints them; `cnn models show NAME` names it[/]")


def arguments_of(name: str, shape: str | None, classes: int | None) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A builder's whole name, the arguments that `examine` gives it, and its own defaults of these.

    Raises:
        Fault: when there is no such builder, or the shape is none.
    """
    name = resolve(name)
    parameters = models.signature(name).parameters
    default = {key: parameters[key].default for key in ("input_shape", "classes", "styles") if key in parameters}
    arguments = dict(default)
    if shape is not None:
        arguments["input_shape"] = sizes(shape, like=default["input_shape"])
    if classes is not None:
        arguments["classes"] = classes
    return name, arguments, default


def examine(name: str, *, shape: str | None = None, classes: int | None = None, batch: int = 1) -> dict[str, Any]:
    """Build a network and take it apart.

    Args:
        name: of the builder, without its family where only one has such a builder.
        shape: of the input, such as 224x224x3; the builder's own if None.
        classes: the builder's own number if None.
        batch: examples whose activations are counted.

    Returns:
        `name`; `input_shape`; `classes`, or `styles`; `batch`; `rows`, of `cnn_keras.learn.model_profile`; `totals`;
        `published`: each figure with `ours` and `agrees`, or None where the arguments are not those that the literature
        speaks of.

    Raises:
        Fault: when there is no such builder, or none for such an input.
    """
    name, arguments, default = arguments_of(name, shape, classes)
    rows = model_profile.rows(models.build(name, **arguments), batch=batch)
    totals = dataclasses.asdict(model_profile.totals(rows))
    compared = None
    if arguments == default:
        compared = [_compared(figure, totals[figure.quantity]) for figure in published_figures.figures(name)]
    return {"name": name, **arguments, "batch": batch, "rows": rows, "totals": totals, "published": compared}


def write_csv(network: dict[str, Any], path: Path) -> None:
    """Every layer of the network, a line each."""
    path.write_text(model_profile.as_csv(network["rows"]))


def plain(network: dict[str, Any]) -> dict[str, Any]:
    """The network as JSON knows it."""
    return {**network, "rows": [dataclasses.asdict(row) for row in network["rows"]]}


def _compared(figure: Any, ours: int) -> dict[str, Any]:
    return {**dataclasses.asdict(figure), "ours": ours, "agrees": published_figures.agrees(ours, figure.printed)}


def sizes(text: str, *, like: tuple[int, ...]) -> tuple[int, ...]:
    """224x224x3 as a shape, with as many axes as the builder's own.

    Raises:
        Fault: when it is none.
    """
    entries = re.split("[x×]", text)
    if len(entries) != len(like) or not all(entry.isdecimal() and int(entry) > 0 for entry in entries):
        raise Fault(f"--input must be sizes and channels such as {times(like, 'x')}, got {text!r}")
    return tuple(int(entry) for entry in entries)


def blocks(rows: Iterable[Row]) -> list[Row]:
    """Neighbours of one block as one row: sums of its counts; output and receptive field of its last layer."""
    merged = []
    for name, group in itertools.groupby(rows, key=lambda row: BLOCK.match(row.name)[0]):  # type: ignore[index]
        members = list(group)
        if len(members) > 1:
            counts = ("parameters", "trainable", "multiply_adds", "activation_bytes")
            sums = {count: sum(getattr(member, count) for member in members) for count in counts}
            members = [dataclasses.replace(members[-1], name=name, type=f"{len(members)} layers", **sums)]
        merged.extend(members)
    return merged


def show(network: dict[str, Any], console: Console, *, layers: bool = False) -> None:
    """The network's table, its totals and the literature's figures beside them."""
    answers = next(f"{network[key]} {key}" for key in ("classes", "styles") if key in network)
    about = f"input {times(network['input_shape'])}, {answers}"
    console.print(f"[bold]{network['name']}[/]  {about}", soft_wrap=True)
    rows = network["rows"]
    folded = not layers and len(rows) > LONG
    console.print(_layer_table(blocks(rows) if folded else rows), soft_wrap=False)
    if folded:
        console.print(f"[dim]{len(rows)} layers, block by block; --layers shows each[/]", soft_wrap=True)
    console.print()
    console.print(_totals_table(network), soft_wrap=False)
    console.print()
    _show_published(network["published"], console)


def _layer_table(rows: list[Row]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("\n\nlayer", overflow="fold")
    table.add_column("\n\ntype", overflow="fold", style="dim")
    narrow = ("multi-\nply-\nadds", "\nactiv-\nations", "recep-\ntive\nfield")
    for name in ("\n\noutput", "\n\nparameters", *narrow, "\n\njump"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            row.type,
            times(row.output_shape),
            f"{row.parameters:,}" if row.parameters else "",
            short(row.multiply_adds) if row.multiply_adds else "",
            f"{short(row.activation_bytes)}B",
            once(row.receptive_field),
            once(row.jump),
        )
    return table


def _totals_table(network: dict[str, Any]) -> Table:
    totals, batch = network["totals"], network["batch"]
    table = Table(box=None, show_header=False, pad_edge=False)
    for quantity, title in QUANTITIES.items():
        table.add_row(title, f"{totals[quantity]:,}")
    examples = "1 example" if batch == 1 else f"{batch} examples"
    table.add_row("activations", f"{short(totals['activation_bytes'])}B for {examples}")
    return table


def _show_published(figures: list[dict[str, Any]] | None, console: Console) -> None:
    if figures is None:
        console.print("published: only for the builder's own input and classes; leave out --input and --classes")
        return
    if not figures:
        console.print("published: –")
        return
    table = Table("", "", "ours", "published", "by", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[2:4]:
        column.justify, column.no_wrap = "right", True
    for figure in figures:
        mark = "[green]✓[/]" if figure["agrees"] else "[red]✗[/]"
        source = figure["source"] + (f" – {figure['differs']}" if figure["differs"] else "")
        table.add_row(mark, QUANTITIES[figure["quantity"]], f"{figure['ours']:,}", figure["printed"], source)
    console.print(table, soft_wrap=False)


def times(shape: Iterable[float | None], sign: str = "×") -> str:
    """(224, 224, 3) as 224×224×3; a size that is not known is a question mark."""
    return sign.join("?" if size is None else f"{size:g}" for size in shape)


def once(entries: tuple[float, ...]) -> str:
    """The value along all axes, where it is one; else each."""
    return times(entries[:1] if len(set(entries)) == 1 else entries)


def short(count: int) -> str:
    """A count to three digits, with k, M or G."""
    thousands = min(int(math.log10(max(count, 1))) // 3, 3)
    value = count / 1000**thousands
    digits = 0 if thousands == 0 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {('', 'k', 'M', 'G')[thousands]}"
