"""The card of an exported embedder: what it is, whom it saw, how often it errs, and what its threshold means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from pipelines.export import savedmodel
from pipelines.tasks.verify.report import interval_text, warnings_of

PICTURES = (
    "The signatures `embed` and `verify` take encoded JPEG or PNG; an EXIF orientation is not applied by the graph: "
    "send pictures upright, or through `cnn serve`."
)
ALIGNED = {
    "landmarks": "Faces are aligned by their eyes inside the graph; send pictures of one face each.",
    "opencv": "It was trained on faces aligned by OpenCV's detectors, as `cnn faces` does; align your images likewise.",
    "annotated": "It was trained on faces aligned by the eyes in a list; align your images in the same way.",
}


def write(
    path: Path,
    model: keras.Model,
    *,
    recipe: Any,
    data: Mapping[str, Any],
    report: Mapping[str, Any],
    agreement: Any,
) -> None:
    """Write the card as Markdown."""
    aligned = f" {ALIGNED[recipe.data.align.by]}" if recipe.data.align else ""
    metric_lines = [
        *_measured(report),
        f"The exported model differs from the trained one by at most {agreement['difference']:.1e} on "
        f"{agreement['images']} pictures.",
        "",
        "## Threshold",
        "",
        *_threshold(report),
    ]
    what = (
        f"`{recipe.model.builder}` on `{data['source']}`, loss `{recipe.train.loss}`: pictures to "
        f"{recipe.model.dimension} numbers of length 1, near each other for one person; nobody is in two splits."
    )
    savedmodel.write_card(
        path, model, recipe=recipe, data=data, what=what, metrics=metric_lines, takes=PICTURES + aligned
    )


def _measured(report: Mapping[str, Any]) -> list[str]:
    accepts = [
        f"| {far} | {row['tar']:.2%} | {interval_text(row['interval'], '.2%')} | {row['false_accepts']} |"
        for far, row in report["tar_at_far"].items()
    ]
    others = [f"| {name} | {row['auc']:.4f} | {row['eer']:.2%} |" for name, row in report.get("baselines", {}).items()]
    return [
        f"On {report['people']} people of the {report['split']} split, {report['pictures']:,} pictures, all "
        f"{sum(report['pairs'].values()):,} pairs: AUC **{report['auc']:.4f}** (95 % interval "
        f"{interval_text(report['auc_interval'], '.4f')}), equal error rate **{report['eer']:.2%}** "
        f"({interval_text(report['eer_interval'], '.2%')}); intervals by a bootstrap over people. Accuracy in "
        f"folds, {report['accuracy_pairs']:,} pairs {report['accuracy_folds']}: {report['accuracy']:.2%} "
        f"± {report['accuracy_standard_error']:.2%}. With one picture of each enrolled "
        f"the right person is nearest in {report['rank_1']:.2%}.",
        "",
        "| FAR | TAR | 95 % interval | false accepts allowed |",
        "|---|---|---|---|",
        *accepts,
        "",
        *(["| on the same pairs | AUC | equal error rate |", "|---|---|---|", *others, ""] if others else []),
    ]


def _threshold(report: Mapping[str, Any]) -> list[str]:
    calibration = report["calibration"]
    return [
        f"Two pictures are called the same at a distance of at most **{calibration['threshold']:.4f}**, calibrated to "
        f"a FAR of at most {report['far']:g} on {calibration['calibration_people']} people of the "
        f"{report['calibrated_on']} split; so many show a FAR of at most **{calibration['false_accept_bound']:.2g}**, "
        f"which is sure to {calibration['confidence']:.0%}, an upper bound over people. On the "
        f"{report['split']} people it accepts {calibration['false_accept_rate']:.2%} of the pairs of two people and "
        f"rejects {calibration['false_reject_rate']:.2%} of the pairs of one. Other cameras, light and people need a "
        "calibration of their own.",
        *(f"\n**Warning:** {warning}." for warning in warnings_of(report)),
    ]
