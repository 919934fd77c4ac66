"""`cnn faces`: a gallery of people, and recognition of faces in photographs."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnn_keras.data.files import durable, input_file
from cnn_keras.errors import Fault
from pipelines.cli.commands import RUNS, AsJson, Root, console_for, escape_markup

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.faces.encoder import Recogniser
    from pipelines.faces.gallery import Gallery
    from pipelines.faces.service import Answer

app = typer.Typer()
faces = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="A gallery of people, to recognise faces.")
app.add_typer(faces, name="faces", rich_help_panel="Models")

Location = Annotated[
    str,
    typer.Option("--gallery", envvar="CNN_GALLERY", help="The gallery: a file, or postgresql://user@host/database."),
]
Photos = Annotated[list[Path], typer.Argument(metavar="PHOTOS", help="Photographs of faces.")]
Far = Annotated[float | None, typer.Option(help="False-accept rate; the default is the exported model's.")]
Embedder = Annotated[
    str | None, typer.Option("--model", help="The gallery's embedder (a recipe or folder), if it has been moved.")
]
Liveness = Annotated[str, typer.Option(help="A classifier with a class `live`, as a liveness check.")]
Detector = Annotated[
    str,
    typer.Option(
        "--detector",
        help="What finds the faces: `opencv`, `ssd` (face-api/faces, which `cnn import-weights face-api` writes), "
        "`blazeface` (human-faces/blazeface, by `cnn import-weights human-faces`), or a recipe or folder. A gallery "
        "keeps the one that it was created with; without any, each photograph is one face.",
    ),
]
GALLERY = "faces.db"


@faces.command(rich_help_panel="Gallery")
def enrol(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTOS", help="A folder with one sub-folder per person, or files.")
    ],
    name: Annotated[str | None, typer.Option(help="The person, if PHOTOS are files.")] = None,
    model: Annotated[str | None, typer.Option(help="The embedder of a new gallery: a recipe or folder.")] = None,
    liveness: Liveness = "",
    detector: Detector = "",
    several: Annotated[
        str, typer.Option(help="Of a photograph with several faces enrol `largest` or `all`; `error` enrols none.")
    ] = "error",
    anew: Annotated[bool, typer.Option("--anew", help="Replace all embeddings, to change the model.")] = False,
    gallery: Location = GALLERY,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Add people by their photographs; one of each is enough, and nothing is trained.

    Each file that is not enrolled is reported with the reason: it is not a readable image, it shows no face (if the
    model aligns faces or with --detector) or several, or two people are named for it. Exits with 3 if no file was
    enrolled.

    Example: cnn faces enrol people/ --model verify/orl-faceapi --detector ssd
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.data import validation
    from pipelines.faces import service as face_service

    people_photos = face_service.photographs(photos, name)
    open_gallery, recogniser = ready(
        gallery, console, runs, model=model, liveness=liveness, detector=detector, anew=anew, new=True
    )
    with validation.progress(console) as bar:
        photographs = bar.track(people_photos, description="enrolling")
        added, known, problems = face_service.enrol(open_gallery, recogniser, photographs, anew=anew, several=several)
    for kind, group in validation.group_by_kind(problems).items():
        console.print(f"[yellow]{len(group)} {escape_markup(kind)}[/], not enrolled:")
        for problem in group:
            console.print(f"  {escape_markup(problem.id)}  [dim]{escape_markup(problem.detail)}[/]")
    again = f", {known} were enrolled already" if known else ""
    people = len({person for person, _, _ in people_photos if person})
    counted = f"{added}{' faces' if several == 'all' else ''} of {len(people_photos)} files of {people} people"
    console.print(f"{counted} enrolled in {escape_markup(gallery)}{again}")
    if as_json:
        reasons = {problem.id: f"{problem.kind}: {problem.detail}" for problem in problems}
        print(json.dumps({"enrolled": added, "known": known, "problems": reasons}, indent=1))
    if not added and not known:
        raise Fault("PHOTOS must contain a photograph that can be enrolled, found none", code=Fault.DATA)


@faces.command(rich_help_panel="Gallery")
def verify(
    name: Annotated[str, typer.Argument(help="The claimed identity, or with --model a photograph of the person.")],
    photos: Photos,
    far: Far = None,
    model: Embedder = None,
    liveness: Liveness = "",
    detector: Detector = "",
    gallery: Location = GALLERY,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Check whether photographs show the person NAME. Exits with 4 if one does not.

    With --model, NAME may be a photograph instead: then no gallery is needed. In a photograph of several people one of
    them must be NAME.

    Example: cnn faces verify ada photo.jpg --far 0.001
    """
    console = console_for(as_json)
    if model and input_file.is_regular(Path(name)):
        recogniser = encoder_of(model, console, runs, liveness=liveness, detector_name=detector)
        from pipelines.faces import service as face_service  # after TensorFlow, which `encoder_of` loads

        answers = face_service.compare(recogniser, _contents([Path(name)])[0], name, _contents(photos), far)
    else:
        open_gallery, recogniser = ready(gallery, console, runs, model=model, liveness=liveness, detector=detector)
        from pipelines.faces import service as face_service  # after TensorFlow, which `ready` loads

        answers = face_service.verify(open_gallery, recogniser, name, _contents(photos), far)
    _show(photos, answers, console, as_json)
    if any(answer.name is None for answer in answers):
        raise Fault(f"the photographs must show {name}, but at least one does not", code=Fault.GATE)


@faces.command(rich_help_panel="Gallery")
def identify(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTOS", help="Photographs, videos, or folders of them.")],
    far: Far = None,
    model: Embedder = None,
    liveness: Liveness = "",
    detector: Detector = "",
    draw: Annotated[
        Path | None, typer.Option(help="Write each photograph, with a box and a name on each face, into this folder.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the answers to this CSV file, a row for each face.")] = None,
    gallery: Location = GALLERY,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Find who of the enrolled people is in each photograph, or in each frame of a video, if anybody.

    A rejection tells the nearest person. Files that cannot be read are reported; exits with 3 if none can.

    Example: cnn faces identify photos/ --draw answers
    """
    console = console_for(as_json)
    open_gallery, recogniser = ready(gallery, console, runs, model=model, liveness=liveness, detector=detector)
    from pipelines.faces.identification import Identifier, as_rows  # after TensorFlow, which `ready` loads
    from pipelines.inference import predict, tables

    identifier = Identifier(open_gallery, recogniser, far)
    threshold = recogniser.threshold(far, open_gallery.count())
    files = list(predict.files_of(photos, identifier.input, identifier.suffixes, argument="PHOTOS"))
    answers = identifier.predict(files, console)
    if as_json:
        print(json.dumps(as_rows(answers), indent=1))
    tables.print_predictions(answers, console)
    console.print(f"[dim]{threshold}[/]" if threshold.measured else f"[yellow]{threshold}[/]")
    if csv:
        predict.write_csv(answers, csv)
        console.print(f"wrote {escape_markup(str(csv))}")
    if draw:
        console.print(f"wrote {predict.draw(answers, draw)} pictures to {escape_markup(str(draw))}")
    if all(answer.problem for answer in answers):
        raise Fault("PHOTOS must contain a photograph that can be read, found none", code=Fault.DATA)


@faces.command("list", rich_help_panel="Gallery")
def list_people(gallery: Location = GALLERY, as_json: AsJson = False) -> None:
    """List the enrolled people.

    Example: cnn faces list
    """
    from rich.table import Table

    people = _opened(gallery).people()
    if as_json:
        print(json.dumps([person._asdict() for person in people], indent=1))
        return
    table = Table("name", "photos", "since", box=None, header_style="bold")
    for person in people:
        table.add_row(escape_markup(person.name), str(person.photos), person.since)
    console_for(False).print(table)


@faces.command(rich_help_panel="Gallery")
def forget(
    name: Annotated[str, typer.Argument(help="The person to delete.")],
    gallery: Location = GALLERY,
    as_json: AsJson = False,
) -> None:
    """Delete a person and all of their embeddings.

    Example: cnn faces forget ada
    """
    count = _opened(gallery).forget(name)
    console_for(as_json).print(f"deleted {escape_markup(name)}: {count} embeddings from {escape_markup(gallery)}")
    if as_json:
        print(json.dumps({"name": name, "forgotten": count}))


@faces.command(rich_help_panel="Gallery")
def export(
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write: JSON lines, one per photograph.")],
    name: Annotated[str | None, typer.Option(help="Only this person.")] = None,
    gallery: Location = GALLERY,
) -> None:
    """Export the gallery: names, file names of photographs, dates, embeddings and their model.

    Example: cnn faces export ada.jsonl --name ada
    """
    from pipelines.faces.gallery import nobody

    open_gallery = _opened(gallery)
    settings = open_gallery.settings()
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
        for row in open_gallery.enrolled(name)
    ]
    if name is not None and not lines:
        raise nobody(name, gallery)
    with durable.atomic_write(output) as temporary:
        private = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(private, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    console_for(False).print(f"{len(lines)} embeddings written to {escape_markup(str(output))}")


def _opened(location: str) -> "Gallery":
    """An existing gallery."""
    from pipelines.faces import store

    if not location.startswith(store.POSTGRES) and not Path(location).is_file():
        raise Fault(
            f"--gallery must be an existing gallery, got {location}; `cnn faces enrol` with --model creates one"
        )
    return store.open_gallery(location)


def ready(
    location: str,
    console: "Console",
    runs: Path,
    *,
    model: str | None = None,
    liveness: str = "",
    detector: str = "",
    anew: bool = False,
    new: bool = False,
) -> "tuple[Gallery, Recogniser]":
    """The gallery and its embedder, with its liveness classifier if it has one.

    `model`, `liveness` and `detector` override what the gallery has stored. With `new` the gallery may be created, with
    `anew` its models may change.
    """
    from pipelines.faces import store

    open_gallery = store.open_gallery(location) if model and new else _opened(location)
    stored = open_gallery.settings()
    if stored is None and model is None:
        raise Fault(f"--model is required for the new gallery {location}; for example --model verify/orl-triplet")
    if stored and liveness and not stored.liveness and not anew:
        raise Fault(f"--liveness requires a new gallery or --anew, but {location} exists")
    if stored:
        model = model or store.moved_model(stored.reference, location, "--model")
        if stored.liveness and not liveness:
            liveness = store.moved_model(stored.liveness, location, "--liveness")
        if stored.detector and not detector:
            detector = store.moved_model(stored.detector, location, "--detector")
    known: dict[str, str] = (
        {} if stored is None or anew else {"model": stored.model, "liveness_model": stored.liveness_model}
    )
    return open_gallery, encoder_of(str(model), console, runs, liveness=liveness, detector_name=detector, **known)


def encoder_of(reference: str, console: "Console", runs: Path, **settings: str) -> "Recogniser":
    """The embedder of a recipe or folder; `settings` are those of `Recogniser`."""
    from pipelines.engine.startup import load_tensorflow

    load_tensorflow(console)
    from pipelines.faces.encoder import Recogniser

    encoder = Recogniser(reference, runs, **settings)
    if "false_accept_bounds" not in encoder.facts:
        console.print(
            f"[yellow]{escape_markup(str(encoder.folder))} was exported by an older version: its false-accept rates "
            "are point estimates, which are exceeded about half of the time; `cnn run` its recipe again[/]"
        )
    return encoder


def _contents(photos: list[Path]) -> list[bytes]:
    if missing := [photo for photo in photos if not input_file.is_regular(photo)]:
        raise Fault(f"PHOTOS must be files, got {missing[0]}")
    return [input_file.read_bytes(photo) for photo in photos]


def _show(photos: list[Path], answers: "list[Answer]", console: "Console", as_json: bool) -> None:
    """One line per photograph, and the thresholds: one is stricter for a photograph of several faces."""
    from rich.table import Table

    if as_json:
        rows = [{"path": str(file), **answer.as_dict()} for file, answer in zip(photos, answers, strict=True)]
        print(json.dumps(rows, indent=1))
        return
    table = Table("photograph", "answer", "distance", "threshold", box=None, header_style="bold")
    for file, answer in zip(photos, answers, strict=True):
        if answer.problem:
            table.add_row(escape_markup(str(file)), f"[red]{escape_markup(answer.problem)}[/]")
            continue
        name = f"[bold]{escape_markup(answer.name)}[/]" if answer.name else "not recognised"
        answer_text = f"{name}, {answer.alive:.0%} alive" if answer.alive is not None else name
        limit = answer.threshold.distance if answer.threshold else None
        numbers = ("" if number is None else f"{number:.3f}" for number in (answer.distance, limit))
        table.add_row(escape_markup(str(file)), answer_text, *numbers)
    console.print(table)
    for threshold in dict.fromkeys(answer.threshold for answer in answers if answer.threshold):
        console.print(f"[dim]{threshold}[/]" if threshold.measured else f"[yellow]{threshold}[/]")
