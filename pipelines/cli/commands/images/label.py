"""`cnn label`: a model's own answers as annotations, and which pictures to label next."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cnn_keras.errors import Fault
from pipelines.cli.commands import RUNS, AsJson, Root, Target, console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Data")
def label(
    model: Target,
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="The folder of the files to label.")] = None,
    from_served: Annotated[
        Path | None,
        typer.Option(
            "--from-served", metavar="FOLDER", help="Instead: a folder that `cnn serve --keep` has written into."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Boxes: coco, yolo, labelme, csv or voc; masks: masks, coco or labelme; classes: folders or csv. The "
            "default is the first of these.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder to write, new or empty.")] = Path("labelled"),
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out objects, or whole files, of a lower score.")
    ] = 0.0,
    scores: Annotated[
        bool, typer.Option("--scores", help="Write scores to YOLO's lines too, as a sixth column.")
    ] = False,
    rank: Annotated[
        str | None,
        typer.Option(
            "--rank",
            metavar="uncertain|diverse",
            help="Order the files by how much is learnt from labelling them, in OUT-ranking.csv.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="With --rank: write only the first so many files.")] = None,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Write what a model says of the files of a folder as annotations with scores, to be corrected or trained on.

    Files that cannot be read are reported and left out; so are videos.

    Example: cnn label detect/folder-yolo photos/ --to labelme --out labelled --min-score 0.5

    Example: cnn label classify/folder-lenet5 --from-served served --out labelled
    """
    from pipelines.engine.startup import load_tensorflow

    if rank not in (None, "uncertain", "diverse"):
        raise Fault(f"--rank must be uncertain or diverse, got {rank!r}")
    if limit and not rank:
        raise Fault("--limit requires --rank, which says which files come first")
    if (folder is None) == (from_served is None):
        raise Fault("FOLDER or --from-served must name what is labelled, and not both")
    console = console_for(as_json)
    load_tensorflow(console)
    from cnn_keras.data.files import file_tree
    from pipelines.analysis.labelling import label_files, predicted_labels, ranking, served_pictures

    file_tree.check_new_folder(out)
    served, incomplete = served_pictures.read(from_served) if from_served else ([], {})
    place = Path(from_served or folder or "")
    to, answers = predicted_labels.ask(
        model, place, runs=runs, to=to, least=min_score, console=console, files=[each.file for each in served]
    )
    answers.problems.update(incomplete)
    for file, problem in answers.problems.items():
        console.print(f"[yellow]{escape_markup(str(file))}[/]  {escape_markup(problem)}", soft_wrap=True)
    rows = answers.rows
    if rank and rows:
        order = (
            ranking.by_uncertainty(rows)
            if rank == "uncertain"
            else ranking.by_diversity(rows, limit, reference=model, runs=runs, console=console)
        )
        rows = order.rows[:limit]
        table = out.with_name(f"{out.name}-ranking.csv")
        ranking.write(order, place, table)
        console.print(f"wrote {escape_markup(str(table))}")
    if not rows:
        raise Fault(f"--min-score must leave a file to write, got {min_score:g}, and none of {answers.unsure} has it")
    settings = label_files.write(to, rows, out, classes=answers.classes, scores=scores)
    objects = sum(len(row.item.objects) for row in rows)
    console.print(
        f"wrote {escape_markup(str(out))}: {len(rows):,} files{f', {objects:,} objects' if objects else ''} as {to}; "
        f"{len(answers.problems):,} could not be read, {answers.unsure:,} are below --min-score"
    )
    for line in label_files.lost(to, rows, scores=scores):
        console.print(line)
    if served:
        listed = out.with_name(f"{out.name}-served.csv")
        others = served_pictures.write(served, rows, listed)
        console.print(f"wrote {escape_markup(str(listed))}: {others:,} get another answer than when they were served")
    console.print(f"to train on it: cnn run RECIPE {escape_markup(settings)}", soft_wrap=True)
    also = settings.rpartition("--set ")[2].replace("data.path=", "data.also=", 1)
    console.print(
        f"to train on it beside the data of before: cnn run RECIPE --set name=NEW --set {also}",
        soft_wrap=True,
        markup=False,
    )
    if as_json:
        unread = {str(path): problem for path, problem in answers.problems.items()}
        facts = {"path": str(out), "format": to, "files": len(rows), "objects": objects, "unsure": answers.unsure}
        print(json.dumps({**facts, "problems": unread}, indent=1))
