"""`cnn faces`: a gallery of people, and who is on a photograph."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnn_keras.fault import Fault
from pipelines.commands import RUNS, AsJson, Root, console_for, escaped

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.faces import Answer
    from pipelines.gallery import Gallery
    from pipelines.recogniser import Recogniser

app = typer.Typer()
faces = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="A gallery of people: who is this?")
app.add_typer(faces, name="faces", rich_help_panel="Models")

Location = Annotated[
    str,
    typer.Option("--gallery", envvar="CNN_GALLERY", help="The gallery: a file, or postgresql://user@host/database."),
]
Photos = Annotated[list[Path], typer.Argument(metavar="PHOTOS", help="Photographs of one face each.")]
Far = Annotated[float | None, typer.Option(help="Rate of strangers taken for somebody; the export's if not given.")]
GALLERY = "faces.db"


@faces.command(rich_help_panel="Gallery")
def enrol(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTOS", help="A folder of people's folders, or files.")],
    name: Annotated[str | None, typer.Option(help="Whose photographs they are, where no folder says so.")] = None,
    model: Annotated[str | None, typer.Option(help="The embedder of a new gallery: a recipe or folder.")] = None,
    liveness: Annotated[str, typer.Option(help="A classifier with a class `live`, to be asked too.")] = "",
    anew: Annotated[bool, typer.Option("--anew", help="Replace all embeddings, for another model.")] = False,
    gallery: Location = GALLERY,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Add people by their photographs; one of each is enough, and nothing is trained.

    Example: cnn faces enrol people/ --model verify/orl-triplet
    """
    from pipelines import faces as recognising

    console = console_for(as_json)
    chosen = list(recognising.photographs(photos, name))
    opened, recogniser = ready(gallery, console, runs, model=model, liveness=liveness, anew=anew)
    read = [(person, file.read_bytes(), str(file)) for person, file in chosen]
    added, problems = recognising.enrol(opened, recogniser, read, anew=anew)
    for file, problem in problems:
        console.print(f"[yellow]{escaped(file)}[/]: {escaped(problem)}")
    known = len(chosen) - len(problems) - added
    again = f", {known} were there already" if known else ""
    people = len({person for person, _ in chosen})
    console.print(f"{added} of {len(chosen)} photographs of {people} people enrolled in {escaped(gallery)}{again}")
    if as_json:
        print(json.dumps({"enrolled": added, "known": known, "problems": dict(problems)}, indent=1))


@faces.command(rich_help_panel="Gallery")
def verify(
    name: Annotated[str, typer.Argument(help="Who it is said to be.")],
    photos: Photos,
    far: Far = None,
    gallery: Location = GALLERY,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Is it who it is said to be? Exits with 4 where a photograph is not.

    Example: cnn faces verify ada photo.jpg --far 0.001
    """
    from pipelines import faces as recognising

    console = console_for(as_json)
    opened, recogniser = ready(gallery, console, runs)
    answers = recognising.verify(opened, recogniser, name, [file.read_bytes() for file in _files(photos)], far)
    _show(photos, answers, console, as_json)
    if any(answer.name is None for answer in answers):
        raise Fault(f"NAME must be who is on the photographs, got others than {name}", code=Fault.GATE)


@faces.command(rich_help_panel="Gallery")
def identify(
    photos: Photos, far: Far = None, gallery: Location = GALLERY, as_json: AsJson = False, runs: Root = RUNS
) -> None:
    """Who is it, of everybody enrolled, if anybody?

    Example: cnn faces identify photo.jpg
    """
    from pipelines import faces as recognising

    console = console_for(as_json)
    opened, recogniser = ready(gallery, console, runs)
    answers = recognising.identify(opened, recogniser, [file.read_bytes() for file in _files(photos)], far)
    _show(photos, answers, console, as_json)


@faces.command("list", rich_help_panel="Gallery")
def list_people(gallery: Location = GALLERY, as_json: AsJson = False) -> None:
    """Everybody who is enrolled.

    Example: cnn faces list
    """
    from rich.table import Table

    people = _opened(gallery).people()
    if as_json:
        print(json.dumps([person._asdict() for person in people], indent=1))
        return
    table = Table("name", "photos", "since", box=None, header_style="bold")
    for person in people:
        table.add_row(escaped(person.name), str(person.photos), person.since)
    console_for(False).print(table)


@faces.command(rich_help_panel="Gallery")
def forget(
    name: Annotated[str, typer.Argument(help="Who is to be forgotten.")],
    gallery: Location = GALLERY,
    as_json: AsJson = False,
) -> None:
    """Delete a person; nothing of the embeddings is left in the gallery.

    Example: cnn faces forget ada
    """
    count = _opened(gallery).forget(name)
    console_for(as_json).print(f"{escaped(name)} is forgotten: {count} embeddings deleted from {escaped(gallery)}")
    if as_json:
        print(json.dumps({"name": name, "forgotten": count}))


@faces.command(rich_help_panel="Gallery")
def export(
    output: Annotated[Path, typer.Argument(metavar="FILE", help="Lines of JSON, one for each photograph.")],
    name: Annotated[str | None, typer.Option(help="This person alone.")] = None,
    gallery: Location = GALLERY,
) -> None:
    """Write down what the gallery knows: names, photographs' names, dates, embeddings and their model.

    Example: cnn faces export ada.jsonl --name ada
    """
    from pipelines.gallery import nobody

    opened = _opened(gallery)
    settings = opened.settings()
    lines = [
        json.dumps(
            {
                "name": row.name,
                "photo": row.source,
                "since": row.since,
                "model": settings.model if settings else None,
                "embedding": [float(f"{number:.9g}") for number in row.vector],
            }
        )
        for row in opened.enrolled(name)
    ]
    if name is not None and not lines:
        raise nobody(name, gallery)
    partial = output.with_name(f".{output.name}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    partial.replace(output)
    console_for(False).print(f"{len(lines)} embeddings written to {escaped(str(output))}")


def _opened(location: str) -> "Gallery":
    """A gallery that is there."""
    from pipelines import gallery

    if not location.startswith(gallery.POSTGRES) and not Path(location).is_file():
        raise Fault(f"--gallery must be a gallery that is there, got {location}; `cnn faces enrol` makes one")
    return gallery.opened(location)


def ready(
    location: str, console: "Console", runs: Path, *, model: str | None = None, liveness: str = "", anew: bool = False
) -> "tuple[Gallery, Recogniser]":
    """The gallery and its embedder; `model` is for one that has none yet, or, `anew`, another."""
    from pipelines import gallery
    from pipelines.recogniser import Recogniser
    from pipelines.startup import load_tensorflow

    opened = gallery.opened(location) if model else _opened(location)
    stored = opened.settings()
    if stored is None and model is None:
        raise Fault(f"--model is required with a new gallery, {location}; for example --model verify/orl-triplet")
    load_tensorflow(console)
    if stored is None or anew:
        return opened, Recogniser(model or str(stored and stored.reference), runs, liveness=liveness)
    if liveness:
        raise Fault(f"--liveness must be given when a gallery is made or --anew, got {location}, which is there")
    wanted = Recogniser(
        model or stored.reference, runs, model=None if model else stored.model, liveness=stored.liveness
    )
    return opened, wanted


def _files(photos: list[Path]) -> list[Path]:
    if missing := [photo for photo in photos if not photo.is_file()]:
        raise Fault(f"PHOTOS must be files, found none at {missing[0]}")
    return photos


def _show(photos: list[Path], answers: "list[Answer]", console: "Console", as_json: bool) -> None:
    """A line for each photograph, and by which threshold."""
    from rich.table import Table

    if as_json:
        rows = [{"path": str(file), **answer.as_dict()} for file, answer in zip(photos, answers, strict=True)]
        print(json.dumps(rows, indent=1))
        return
    table = Table("photograph", "answer", "distance", box=None, header_style="bold")
    for file, answer in zip(photos, answers, strict=True):
        if answer.problem:
            table.add_row(escaped(str(file)), f"[red]{escaped(answer.problem)}[/]")
            continue
        said = f"[bold]{escaped(answer.name)}[/]" if answer.name else "not recognised"
        told = f"{said}, {answer.alive:.0%} alive" if answer.alive is not None else said
        table.add_row(escaped(str(file)), told, "" if answer.distance is None else f"{answer.distance:.3f}")
    console.print(table)
    if threshold := answers[0].threshold:
        console.print(f"[dim]{threshold}[/]" if threshold.measured else f"[yellow]{threshold}[/]")
