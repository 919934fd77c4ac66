"""Commands for exported models: serve, predict and promote."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cnn_keras.errors import Fault
from pipelines.cli.commands import RUNS, AsJson, On, Root, Target, cluster_at, console_for
from pipelines.cli.commands.images.faces import GALLERY, Detector, Embedder, Liveness, ready

app = typer.Typer()


@app.command(rich_help_panel="Models")
def serve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A recipe with an exported run, the folder of a model, or `faces`.")
    ],
    host: Annotated[str, typer.Option(help="Address to bind; the default is loopback.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8501,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another host name of this server.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="tensorflow, or openvino, onnx or litert for what `cnn export --format` has written.")
    ] = "tensorflow",
    precision: Annotated[
        str | None, typer.Option(help="Of a network for another engine; the default is the highest there is.")
    ] = None,
    versions: Annotated[
        int, typer.Option(min=1, help="Newest versions that are served at once; a new one is picked up.")
    ] = 1,
    workers: Annotated[
        int,
        typer.Option(min=1, help="Processes that share the port and the processors, each with a copy of the model."),
    ] = 1,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Keep some of the pictures that are served, and the answers, for labelling."
        ),
    ] = None,
    keep_share: Annotated[
        float, typer.Option(min=0, max=1, help="With --keep: the share of pictures, drawn at random.")
    ] = 0.01,
    keep_unsure: Annotated[
        bool, typer.Option("--keep-unsure", help="With --keep: those with unsure answers, too.")
    ] = False,
    keep_below: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="With --keep-unsure: the confidence below which an answer is unsure; the default is the threshold of "
            "the model's `evaluate.reject_error`, or 0.5.",
        ),
    ] = None,
    keep_limit: Annotated[
        float, typer.Option(min=0, metavar="MB", help="With --keep: megabytes in the folder; more is not kept.")
    ] = 1000,
    gallery: Annotated[str, typer.Option(envvar="CNN_GALLERY", help="For `faces`: see `cnn faces`.")] = GALLERY,
    embedder: Embedder = None,
    liveness: Liveness = "",
    detector: Detector = "",
    runs: Root = RUNS,
) -> None:
    """Serve an exported model over HTTP, with TensorFlow Serving's contract and a page to try it.

    Example: cnn serve classify/digits-lenet5 --port 8501

    `cnn serve faces` serves a gallery of faces. Clients need the key in the environment variable CNN_API_KEY; if it is
    not set, a key is generated and printed. Requests from pages of other sites or for unknown host names are refused.
    """
    from pipelines.engine.startup import load_tensorflow
    from pipelines.inference import exported_model
    from pipelines.serving import archive, server

    if keep is None and (keep_unsure or keep_below is not None):
        raise Fault("--keep-unsure and --keep-below require --keep, which names the folder")
    if keep_below is not None and not keep_unsure:
        raise Fault("--keep-below requires --keep-unsure")
    settings = None
    if keep:
        settings = archive.Settings(keep, keep_share, keep_unsure, keep_below, int(keep_limit * 1e6))
    console = console_for(False)
    say = partial(console.print, markup=False)
    bound: dict[str, Any] = {"host": host, "port": port, "names": allow_host or (), "say": say}
    if engine != "tensorflow" or precision:
        converted = exported_model.locate_converted(model, runs, engine, precision)
        server.serve(converted, engine=engine, versions=versions, workers=workers, keep=settings, **bound)
        return
    if model != "faces":
        folder = exported_model.locate(model, runs)
        server.serve(folder, versions=versions, workers=workers, keep=settings, **bound)
        return
    if keep:
        raise Fault("--keep requires a model; pictures of faces are not kept")
    if workers > 1:
        raise Fault(f"--workers of a gallery must be 1, got {workers}")
    load_tensorflow(console)
    open_gallery = partial(ready, gallery, console, runs, model=embedder, liveness=liveness, detector=detector)
    server.serve_faces(open_gallery, key=os.environ.get("CNN_API_KEY", ""), **bound)


@app.command(rich_help_panel="Models")
def predict(
    model: Target,
    images: Annotated[
        list[Path], typer.Argument(help="Images, videos, CSV or NIfTI files, depending on the model, or folders.")
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show.")] = 3,
    csv: Annotated[Path | None, typer.Option(help="Write the predictions to this CSV file.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Write each image with its prediction into this folder.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Write the masks of a segmentation model, PNG or NIfTI, into this folder.")
    ] = None,
    why: Annotated[
        Path | None, typer.Option(help="Draw what each answer is based on into this folder; MODEL must be a run.")
    ] = None,
    signature: Annotated[
        str, typer.Option(help="The style, for a stylization network with several.")
    ] = "serving_default",
    on: On = "",
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Predict with an exported model for images, signals or volumes. Files that cannot be read are reported.

    Example: cnn predict classify/digits-lenet5 photos/ --csv answers.csv
    """
    from pipelines.engine.startup import load_tensorflow
    from pipelines.inference import exported_model

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.inference import painting, predict, tables

    with cluster_at(on) as cluster:
        answers = predict.predict(
            exported_model.locate(model, runs),
            images,
            top=top,
            console=console,
            signature=signature,
            parallel_map=partial(cluster.map, chunk=1) if cluster else None,
        )
    tables.print_predictions(answers, console)
    if csv:
        predict.write_csv(answers, csv)
        console.print(f"wrote {csv}")
    if pictures:
        console.print(f"wrote {predict.draw(answers, pictures)} pictures to {pictures}")
    elif any(isinstance(answer, painting.Painting) for answer in answers):
        console.print("use --pictures FOLDER to save the paintings")
    if masks:
        console.print(f"wrote {predict.write_masks(answers, masks)} masks and their legend to {masks}")
    if why:
        from pipelines.analysis import why as explaining

        readable = [answer.path for answer in answers if answer.path and not answer.problem]
        count = explaining.draw(model, readable, why, runs=runs, console=console)
        console.print(f"wrote heat maps of {count} files to {why}")
    if as_json:
        print(json.dumps([answer.as_dict() for answer in answers], indent=1))
    if all(answer.problem for answer in answers):
        raise Fault("IMAGES must contain at least one readable image", code=Fault.DATA)


@app.command(rich_help_panel="Models")
def promote(
    name: Annotated[str, typer.Argument(help="The registered model, for example digits-lenet5.")],
    require: Annotated[str | None, typer.Option(help="A requirement, for example 'test_accuracy >= 0.98'.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make the candidate the champion if it meets the requirement and beats the present champion.

    Example: cnn promote digits-lenet5 --require 'test_accuracy >= 0.98'
    """
    from pipelines.tracking import tracker

    verdict = tracker.promote(name, requirement=require)
    if as_json:
        print(json.dumps(verdict, indent=1))
        return
    for key, value in verdict.items():
        console_for(False).print(f"{key}: {value}", soft_wrap=True)
