"""`cnn embed`: embeddings as a table."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from cnn_keras.errors import Fault
from pipelines.cli.commands import RUNS, AsJson, Root, console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Models")
def embed(
    model: Annotated[str, typer.Argument(help="An embedder: a recipe of the task verify, or an exported folder.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    to: Annotated[Path, typer.Option(help="The file to write: .csv or .parquet.")] = Path("embeddings.csv"),
    detector: Annotated[
        str,
        typer.Option(
            "--detector",
            help="What finds the faces, as of `cnn faces`: `opencv`, `ssd`, `blazeface`, a recipe or a folder; without "
            "any, each image is one face.",
        ),
    ] = "",
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Write the embeddings of images to a table. Faces are aligned first where the model asks for it.

    With --detector the table has a row for each face, with its box. What cannot be read or shows no face has a row with
    the problem instead. Exits with 3 if there is no embedding.

    Example: cnn embed verify/orl-triplet photos/ --to photos.parquet
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.data import validation
    from pipelines.faces import embedding_file
    from pipelines.faces.encoder import Recogniser
    from pipelines.inference import predict

    embedding_file.check_suffix(to)
    files = list(predict.files_of(images, "image", tuple(IMAGE_SUFFIXES)))
    recogniser = Recogniser(model, runs, detector_name=detector)
    with validation.progress(console) as bar:
        rows = embedding_file.embed(recogniser, bar.track(files, description="embedding"))
        count, problems = embedding_file.write(rows, to, recogniser.facts["dimension"], boxes=bool(detector))
    for row in problems:
        console.print(f"[yellow]{escape_markup(str(row.path))}[/]  {escape_markup(row.problem)}")
    console.print(f"wrote {count} embeddings of {len(files)} files to {escape_markup(str(to))}")
    if as_json:
        unread = {str(row.path): row.problem for row in problems}
        print(json.dumps({"path": str(to), "embeddings": count, "problems": unread}, indent=1))
    if not count:
        raise Fault("IMAGES must contain an image that can be embedded, found none", code=Fault.DATA)
