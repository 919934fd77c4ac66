"""What evaluate says about an embedder: how often it errs on people it never saw, at which threshold, against what."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from sklearn.decomposition import PCA

from cnn_keras.data import input_pipeline, pk_sampler
from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.metrics import verification
from pipelines.data import image_dataset, run_files, validation
from pipelines.engine import heat_maps, plugins, requirement
from pipelines.engine.baselines import shrink
from pipelines.engine.stages import Run
from pipelines.tasks.verify import dataset, embeddings, explanation, model, plots
from pipelines.tasks.verify.config import Evaluate
from pipelines.tasks.verify.embeddings import Embeddings

Array = np.ndarray[Any, np.dtype[Any]]

FARS = (0.1, 0.01, 0.001, 0.0001)
RANKS = (1, 5)
SHOTS = (1, 5)  # pictures of each identity in a few-shot question
FOLDS = 10
COMPONENTS = 128  # of the eigenfaces
FITTED = 2048  # pictures they are fitted on
# What an answer is given with: the threshold, what was measured on people never seen, and what is sure by how many.
RATES = ("threshold", "false_accept_rate", "false_reject_rate", "false_accept_bound", "calibration_people")


class Listed(NamedTuple):
    """The pairs of a list, such as LFW's: their distances, which show one person, and the fold of each."""

    distance: Array  # float32 (pairs,)
    same: Array  # bool (pairs,)
    fold: Array  # int (pairs,)
    absent: int = 0  # pairs of the list that lack a picture


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the model of the stage train on the test people; leave report, tables and pictures in `folder`."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    models = model.load_trained(run)
    calibrating, split = dataset.calibration_split(data), image_dataset.test_split(data)
    reference = embeddings.of_split(run, models, calibrating)
    split_embeddings = embeddings.of_split(run, models, split)
    pair_list = _listed(run, models, split) if recipe.data.pairs else None
    calibration = calibrate(reference, settings)
    # People who chose the epoch look a little better than others do.
    calibration["chose_nothing"] = calibrating == "calibration" or recipe.train.loss == "none"
    report = measure(run, split_embeddings, pair_list=pair_list, threshold=calibration["threshold"])
    report |= {"split": split, "calibrated_on": calibrating, "far": settings.far, "loss": recipe.train.loss}
    report["calibration"] |= calibration
    report["few_shot"] = few_shot(run, split_embeddings.distances, split_embeddings.labels)
    report |= (own := plugins.measure(settings.metrics, split_embeddings.pairs.distance, split_embeddings.pairs.same))
    if settings.baselines:
        run.console.print("          fitting baselines")
        report["baselines"] = baselines(run, split_embeddings)
    run_files.write_json(folder / "report.json", report)
    durable.write_text(folder / "roc.csv", _roc_csv(split_embeddings))
    plots.draw(split_embeddings, report, folder, worst=settings.worst)
    if settings.insight:
        heading = (
            "What makes pictures alike: Grad-CAM of their similarity; typical pairs of one person, the closest of two"
        )
        heat_maps.draw(explanation.strips(models, split_embeddings), folder / heat_maps.FILE, heading=heading)
    _say(run, report)
    if pair_list:
        absent_note = f", {pair_list.absent:,} others lack a picture" if pair_list.absent else ""
        run.console.print(
            f"          {len(pair_list.same):,} pairs of the list{absent_note}: accuracy {report['accuracy']:.2%} "
            f"± {report['accuracy_standard_error']:.2%}"
        )
    numbers = {**{key: report[key] for key in ("auc", "eer", "accuracy", "rank_1")}, **own}
    numbers |= {f"tar_at_far_{far}": row["tar"] for far, row in report["tar_at_far"].items()}
    if few := report["few_shot"]:
        numbers |= {key: few[key]["accuracy"] for key in few if key.endswith("_shot")}
    metrics = {f"test_{key}": value for key, value in numbers.items()}
    metrics |= {key: report["calibration"][key] for key in RATES}
    return {"metrics": metrics, "failed": failed_requirements(settings, {**report, "tar": _tar(report, settings.far)})}


def _listed(run: Run, models: tuple[keras.Model, keras.Model], split: str) -> Listed:
    """The pairs of the recipe's list, all that the split has pictures of, whatever `evaluate.pictures` says."""
    path = run.recipe.data.pairs.path
    pictures = input_pipeline.arrays(run.finished("prepare"), split, image_dataset.shape_of(run.recipe.data))
    row_of = {str(name).rpartition(".")[0]: row for row, name in enumerate(pictures.ids)}
    pair_list = pk_sampler.lfw_pairs(path)
    known = [pair for pair in pair_list if pair.left in row_of and pair.right in row_of]
    if len(known) < 2:
        raise Fault(f"{path} must name pictures of the {split} split, of its {len(pair_list)} pairs {len(known)} do so")
    sides = np.array([(row_of[pair.left], row_of[pair.right]) for pair in known]).reshape(-1, 2)
    needed, sides = np.unique(sides, return_inverse=True)
    vectors = embeddings.embed(run, models[0], pictures.images[needed], "the list of pairs")
    left, right = vectors[sides.reshape(-1, 2).T]
    distance = np.asarray(models[1]({"left": left, "right": right})).reshape(-1)
    folds, fold = np.unique([pair.fold for pair in known], return_inverse=True)
    if len(folds) == 1:  # as in pairsDevTest.txt
        fold = np.arange(len(known)) % min(FOLDS, len(known))
    return Listed(distance, np.array([pair.same for pair in known]), fold, len(pair_list) - len(known))


def measure(run: Run, embeddings: Embeddings, *, pair_list: Listed | None, threshold: float) -> dict[str, Any]:
    """All figures of one split, at the threshold too; intervals hold 95 % of a bootstrap over identities."""
    pairs, labels, seed = embeddings.pairs, embeddings.labels, run.recipe.seed
    rates = verification.rates(pairs.distance, pairs.same)
    spread = _spread(run, embeddings, threshold)
    others = int((~pairs.same).sum())
    folds = pair_list or _drawn(pairs, seed)
    accuracy = verification.fold_accuracy(folds.distance, folds.same, folds.fold)
    ranks = verification.cumulative_match_characteristic(embeddings.distances, labels)
    open_set_rates = verification.identification_rate(embeddings.distances, labels, FARS[:3], seed=seed)
    accepts, rejects = verification.rates_of(pairs.distance, pairs.same, threshold)
    return {
        "pictures": len(labels),
        "people": len(np.unique(labels)),
        "pairs": {"same": int(pairs.same.sum()), "other": others},
        "auc": verification.roc_auc(rates),
        "auc_interval": spread["auc"],
        "eer": verification.equal_error_rate(rates),
        "eer_interval": spread["eer"],
        "tar_at_far": {
            f"{far:g}": {
                "tar": verification.true_accept_rate(rates, far),
                "interval": spread[f"tar_at_far_{far:g}"],
                "false_accepts": int(far * others),  # with none allowed the figure says little
            }
            for far in FARS
        },
        "accuracy": float(accuracy.mean()),
        "accuracy_standard_error": float(accuracy.std(ddof=1) / len(accuracy) ** 0.5),
        "accuracy_pairs": len(folds.same),
        "accuracy_absent": folds.absent,
        "accuracy_folds": "of the list of pairs" if pair_list else "drawn, as many of two people as of one",
        **{f"rank_{rank}": float(ranks[min(rank, len(ranks)) - 1]) for rank in RANKS},
        "match_characteristic": ranks.tolist(),
        "identification_at_far": {f"{far:g}": float(rate) for far, rate in zip(FARS, open_set_rates, strict=False)},
        "distance": {
            kind: {"mean": float(distances.mean()), "deviation": float(distances.std())}
            for kind, distances in (("same", pairs.distance[pairs.same]), ("other", pairs.distance[~pairs.same]))
        },
        "calibration": {
            "false_accept_rate": accepts,
            "false_accept_interval": spread["accepts"],
            "false_reject_rate": rejects,
            "false_reject_interval": spread["rejects"],
        },
    }


def few_shot(run: Run, distances: Array, labels: Array) -> dict[str, Any] | None:
    """How often the right one of `evaluate.ways` identities is nearest, with one picture of each and with five.

    The identities of a question are of one group, such as an alphabet, where the source has groups; None where no
    group has so many.
    """
    data, ways, seed = run.facts("prepare"), run.recipe.evaluate.ways, run.recipe.seed
    group_of = data["groups"]
    names = [data["classes"][label] for label in labels]
    groups = [group_of[name] for name in names] if set(names) <= group_of.keys() else None
    row: dict[str, Any] = {"ways": ways, "groups": sorted(set(groups or []))}
    for shots in SHOTS:
        try:
            episodes = verification.n_way_accuracy(distances, labels, ways=ways, shots=shots, groups=groups, seed=seed)
        except Fault:  # too few identities with so many pictures
            continue
        row[f"{shots}_shot"] = {"accuracy": float(episodes.right.mean()), "interval": episodes.interval(seed=seed)}
    return row if "1_shot" in row else None


def _spread(run: Run, embeddings: Embeddings, threshold: float) -> dict[str, list[float]]:
    """The middle 95 % of each figure in a bootstrap over identities."""
    settings: Evaluate = run.recipe.evaluate
    draws = verification.bootstrap(
        embeddings.pairs, embeddings.labels, draws=settings.draws, seed=run.recipe.seed, also=[threshold]
    )
    rows = []
    with validation.progress(run.console) as bar:
        for rates in bar.track(draws, settings.draws, description="intervals over people"):
            accepts, rejects = verification.rates_at(rates, threshold)
            tars = {f"tar_at_far_{far:g}": verification.true_accept_rate(rates, far) for far in FARS}
            areas = {"auc": verification.roc_auc(rates), "eer": verification.equal_error_rate(rates)}
            rows.append({**areas, **tars, "accepts": accepts, "rejects": 1 - rejects})
    return {
        name: [float(value) for value in np.quantile([row[name] for row in rows], (0.025, 0.975))] for name in rows[0]
    }


def calibrate(reference: Embeddings, settings: Evaluate) -> dict[str, Any]:
    """The threshold whose FAR is at most the stated one, with confidence, for people like the reference's.

    `least_far` is the least rate that so many people can show; below it `bound`, what is sure of the threshold, is more
    than what was asked.
    """
    pairs, count = reference.pairs, len(np.unique(reference.labels))
    bounds = verification.false_accept_bounds(pairs, reference.labels)
    threshold = verification.threshold_for(bounds, settings.far)
    accepts, rejects = verification.rates_of(pairs.distance, pairs.same, threshold)
    least = min(1.0, max(verification.least_shown(count), float(bounds[0, 1])))
    return {
        "threshold": threshold,
        "false_accept_bound": max(settings.far, least),
        "confidence": verification.CONFIDENCE,
        "least_far": least,
        "calibration_false_accept_rate": accepts,
        "calibration_false_reject_rate": rejects,
        "calibration_people": count,
        "calibration_pairs": len(pairs.same),
        "false_accept_bounds": bounds.tolist(),
        "false_rejects": verification.false_reject_curve(pairs.distance[pairs.same]).tolist(),
    }


def baselines(run: Run, embeddings: Embeddings) -> dict[str, Any]:
    """What needs no network, on the same pairs: the pixels themselves, and eigenfaces fitted on the training people."""
    prepared, shape = run.finished("prepare"), image_dataset.shape_of(run.recipe.data)
    pixels = _flat(embeddings.pictures.images)
    train = _flat(input_pipeline.arrays(prepared, "train", shape, limit=FITTED).images)
    axes = _eigenfaces(train)
    vectors = {"raw pixels": pixels, f"eigenfaces ({len(axes)})": (pixels - train.mean(axis=0)) @ axes.T}
    report = {}
    for name, rows in vectors.items():
        distances = _squared(rows)
        pairs = verification.all_pairs(distances, embeddings.labels)
        rates = verification.rates(pairs.distance, pairs.same)
        figures = {"auc": verification.roc_auc(rates), "eer": verification.equal_error_rate(rates)}
        report[name] = {
            **figures,
            "tar_at_far_0.01": verification.true_accept_rate(rates, 0.01),
            "few_shot": few_shot(run, distances, embeddings.labels),
        }
    return report


def _flat(images: Array) -> Array:
    """Pixels, float32 in [0, 1], a row for each picture, large ones averaged down."""
    return shrink(images, 128).reshape(len(images), -1) / np.float32(255)


def _eigenfaces(rows: Array) -> Array:
    """The principal axes, float32 (components, numbers): Turk and Pentland, "Eigenfaces for recognition", 1991."""
    fitted = PCA(min(COMPONENTS, len(rows) - 1), svd_solver="randomized", random_state=0).fit(rows)
    return np.asarray(fitted.components_, np.float32)


def _squared(rows: Array) -> Array:
    lengths = (rows**2).sum(axis=1)
    distances: Array = np.maximum(lengths[:, None] + lengths[None, :] - 2 * rows @ rows.T, 0)
    return distances


def _drawn(pairs: verification.Pairs, seed: int) -> Listed:
    """All same pairs and as many others, drawn, in as many folds as LFW has: what stands for a list of pairs."""
    generator = np.random.default_rng(seed)
    same, other = np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)
    sampled = [generator.permutation(kind)[: min(len(same), len(other))] for kind in (same, other)]
    rows, fold = np.concatenate(sampled), np.concatenate([np.arange(len(kind)) % FOLDS for kind in sampled])
    return Listed(pairs.distance[rows], pairs.same[rows], fold)


def _tar(report: Mapping[str, Any], far: float) -> float:
    return float(report["tar_at_far"].get(f"{far:g}", {"tar": 0.0})["tar"])


def _roc_csv(embeddings: Embeddings) -> str:
    pairs = embeddings.pairs
    rates = verification.rates(pairs.distance, pairs.same)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["threshold", "far", "tar"])
    every = np.linspace(1, len(rates.far) - 1, min(len(rates.far) - 1, 2000)).astype(int)
    writer.writerows([f"{rates.threshold[k]:.6f}", f"{rates.far[k]:.6f}", f"{rates.tar[k]:.6f}"] for k in every)
    return out.getvalue()


def failed_requirements(settings: Evaluate, report: Mapping[str, Any]) -> list[str]:
    """The requirements of the recipe that the model does not meet."""
    failures = requirement.failed_requirements(settings, report)
    if settings.error_below is not None and not report["eer"] <= settings.error_below:
        failures.append(f"evaluate.error_below: the equal error rate must be at most {settings.error_below}, got "
                     f"{report['eer']:.4f}")  # fmt: skip
    return failures


def rates_of(report: Mapping[str, Any]) -> dict[str, float]:
    """The threshold, its error rates and what they rest on, which an answer is given with."""
    return {name: report["calibration"][name] for name in RATES}


def _say(run: Run, report: Mapping[str, Any]) -> None:
    say, calibration = run.console.print, report["calibration"]
    unseen = "unseen " if report["split"] == "test" else ""
    say(
        f"          {report['people']} {unseen}people, {report['pictures']:,} pictures: "
        f"AUC [bold]{report['auc']:.4f}[/] (95 % {interval_text(report['auc_interval'], '.4f')}), "
        f"equal error rate [bold]{report['eer']:.2%}[/] ({interval_text(report['eer_interval'], '.2%')})"
    )
    say(
        f"          threshold {calibration['threshold']:.4f} for a FAR of at most {report['far']:g}, by "
        f"{calibration['calibration_people']} people of the {report['calibrated_on']} split: here "
        f"{calibration['false_accept_rate']:.2%} false accepts, {calibration['false_reject_rate']:.2%} false rejects; "
        f"rank 1 {report['rank_1']:.2%}"
    )
    if few := report["few_shot"]:
        within = f" of one group ({', '.join(few['groups'])})" if few["groups"] else ""
        say(f"          the right one of {few['ways']} people{within} is nearest in {_few_shot_text(few)}")
    for warning in warnings_of(report):
        say(f"          [yellow]{warning}[/]")
    for name, row in report.get("baselines", {}).items():
        better = "  [yellow]better than the network[/]" if row["auc"] > report["auc"] else ""
        say(f"          [dim]{name:>20} AUC {row['auc']:.4f}, equal error rate {row['eer']:.2%}[/]{better}")
        if few := row["few_shot"]:
            say(f"          [dim]{'':>20} the right one of {few['ways']} in {_few_shot_text(few)}[/]")


def _few_shot_text(few: Mapping[str, Any]) -> str:
    rows = [(shots, few[f"{shots}_shot"]) for shots in SHOTS if f"{shots}_shot" in few]
    return ", ".join(
        f"{row['accuracy']:.2%} ({interval_text(row['interval'], '.2%')}) with {shots} of each" for shots, row in rows
    )


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """What is to be known before the threshold is trusted."""
    calibration, warnings = report["calibration"], []
    if calibration["least_far"] > report["far"]:
        warnings.append(
            f"{calibration['calibration_people']} people cannot show a FAR of {report['far']:g}, only one of at most "
            f"{calibration['least_far']:.2g}: the threshold is extrapolated, and a lower rate is not "
            "certain. Calibrate on more people (data.calibration), or raise evaluate.far"
        )
    if not calibration["chose_nothing"]:
        warnings.append(
            f"the threshold is calibrated on people of the {report['calibrated_on']} split, who chose the epoch or "
            "were learnt, there being too few for a calibration of their own: strangers may be accepted more often"
        )
    return warnings


def interval_text(interval: Sequence[float], form: str) -> str:
    """The two ends in words."""
    low, high = interval
    return f"{low:{form}} to {high:{form}}"
