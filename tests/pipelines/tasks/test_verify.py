"""The verify task: figures against a trusted library, and four verbs in a row on a handful of pictures."""

import io
import itertools
import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from sklearn.metrics import roc_auc_score, roc_curve

from cnn_keras.data import input_pipeline
from cnn_keras.data.sources.item import Item
from cnn_keras.errors import Fault
from cnn_keras.metrics import verification
from pipelines.data import run_files
from pipelines.engine import recipe as recipes
from pipelines.inference.embedding import FACTS
from pipelines.tasks import verify
from pipelines.tasks.verify import dataset, embeddings
from pipelines.tasks.verify import model as verify_model
from pipelines.tasks.verify import report as verify_report
from pipelines.tasks.verify.config import Data
from tests import populations
from tests.conftest import cnn
from tests.stored_weights import model_bytes, stored_bytes

pytest_plugins = ["tests.small_people"]

FILES = {
    "prepare": ["contact_sheet.png", "split.csv", "problems.csv", "data.json"],
    "train": ["model.keras", "matcher.keras", "history.csv", "curves.png", "augmented.png"],
    "evaluate": ["report.json", "roc.csv", "roc.png", "ranks.png", "distances.png", "hardest.png", "map.png"],
    "export": [
        "small/1/saved_model.pb",
        "small/1/card.md",
        "small/1/assets.extra/verification.json",
        "small/1/assets.extra/tf_serving_warmup_requests",
    ],
}


def random_pairs(seed=0, people=6, each=5, apart=1.0):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), each)
    rows = generator.normal(size=(people, 4))[labels] * apart + generator.normal(size=(len(labels), 4))
    distances = np.square(rows[:, None] - rows[None]).sum(axis=-1)
    return labels, distances


def test_area_and_curve_are_those_of_scikit_learn():
    labels, distances = random_pairs()
    pairs = verification.all_pairs(distances, labels)
    found = verification.rates(pairs.distance, pairs.same)
    assert verification.roc_auc(found) == pytest.approx(roc_auc_score(pairs.same, -pairs.distance))
    far, tar, _ = roc_curve(pairs.same, -pairs.distance, drop_intermediate=False)
    np.testing.assert_allclose(found.far, far)
    np.testing.assert_allclose(found.tar, tar)


def test_rates_at_a_threshold_are_those_counted_by_hand():
    distance, same = np.array([0.1, 0.2, 0.2, 0.4, 0.5, 0.9]), np.array([1, 1, 0, 1, 0, 0], bool)
    found = verification.rates(distance, same)
    np.testing.assert_allclose(found.far, [0, 0, 1 / 3, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(found.tar, [0, 1 / 3, 2 / 3, 1, 1, 1])
    assert verification.true_accept_rate(found, 0.0) == pytest.approx(1 / 3)
    assert verification.true_accept_rate(found, 0.5) == 1
    assert verification.rates_of(distance, same, 0.4) == pytest.approx((1 / 3, 0))
    assert verification.equal_error_rate(found) == pytest.approx(1 / 3)


def test_a_threshold_keeps_its_rate_on_the_pairs_it_was_calibrated_on():
    labels, distances = random_pairs(1, people=9)
    pairs = verification.all_pairs(distances, labels)
    found = verification.rates(pairs.distance, pairs.same)
    for far in (0.2, 0.05, 0.01, 0.0):
        threshold = found.threshold[found.far <= far][-1]
        accepts, rejects = verification.rates_of(pairs.distance, pairs.same, threshold)
        assert accepts <= far
        assert 1 - rejects == pytest.approx(verification.true_accept_rate(found, far))


def test_without_either_kind_of_pairs_there_are_no_rates():
    with pytest.raises(ValueError, match="pairs of one person and pairs of two"):
        verification.rates(np.array([0.1, 0.2]), np.array([True, True]))


def test_a_bootstrap_over_identities_is_wider_than_its_pairs_suggest_and_holds_the_figure():
    labels, distances = random_pairs(2, people=8, apart=1.5)
    pairs = verification.all_pairs(distances, labels)
    draws = [verification.roc_auc(found) for found in verification.bootstrap(pairs, labels, draws=200, seed=0)]
    own = verification.roc_auc(verification.rates(pairs.distance, pairs.same))
    assert np.quantile(draws, 0.02) < own < np.quantile(draws, 0.98)
    assert np.std(draws) > 0.005


def drawn_slowly(pairs, labels, *, draws, seed, at):
    """(area, equal error, FAR and TAR at a threshold) of each draw, every pair repeated as often as its people are."""
    people, generator = len(np.unique(labels)), np.random.default_rng(seed)
    for times in generator.multinomial(people, np.full(people, 1 / people), size=draws):
        own, other = times[labels[pairs.left]], times[labels[pairs.right]]
        rows = np.repeat(np.arange(len(pairs.same)), np.where(pairs.same, own, own * other))
        distance, same = pairs.distance[rows], pairs.same[rows]
        found, accepted = verification.rates(distance, same), distance <= at
        figures = (
            verification.roc_auc(found),
            verification.equal_error_rate(found),
            verification.true_accept_rate(found, 0.1),
        )
        yield [*figures, accepted[~same].mean(), accepted[same].mean()]


@pytest.mark.parametrize("points", [4096, 100])
def test_draws_are_those_of_pairs_repeated_as_often_as_their_people_were_drawn(monkeypatch, points):
    """Exactly where every distance is a threshold, and nearly where they are thinned; however few are held at once."""
    labels, distances = random_pairs(3, people=6, each=5, apart=2.0)
    pairs, at = verification.all_pairs(np.round(distances, 1), labels), 7.77
    monkeypatch.setattr(verification, "POINTS", points)
    monkeypatch.setattr(verification, "CELLS", 100)
    slow = np.array(list(drawn_slowly(pairs, labels, draws=40, seed=1, at=at)))
    fast = []
    for found in verification.bootstrap(pairs, labels, draws=40, seed=1, also=[at]):
        figures = (
            verification.roc_auc(found),
            verification.equal_error_rate(found),
            verification.true_accept_rate(found, 0.1),
        )
        fast.append([*figures, *verification.rates_at(found, at)])
    assert len(np.unique(pairs.distance)) > 100
    tolerance = 1e-9 if points == 4096 else [0.003, 0.01, 0.05, 1e-9, 1e-9]
    assert (np.abs(np.array(fast) - slow) <= tolerance).all()


@pytest.mark.parametrize(
    ("source", "calibrating", "fars"),
    [("orl", 10, (0.1, 0.05, 0.01)), ("orl", 20, (0.1, 0.05, 0.01))]
    + [("synthetic", count, (0.1, 0.01, 0.001)) for count in (6, 24, 48)],
)
def test_a_claimed_rate_is_exceeded_in_a_tenth_of_repartitions_at_most(source, calibrating, fars):
    """Also where so few people cannot show it and the threshold is drawn on; pairs alone are too low half the time."""
    people = populations.orl() if source == "orl" else populations.synthetic(96, 5, seed=0)
    rules = (populations.point_estimate, populations.upper_bound)
    before, now = populations.held_out(*people, calibrating=calibrating, fars=fars, rules=rules)
    exceeded = (now > np.array(fars)[:, None]).mean(axis=1)
    assert exceeded.max() <= 0.1
    assert (before > np.array(fars)[:, None]).mean(axis=1).max() > 0.4


def test_a_stranger_is_taken_for_anybody_of_a_gallery_no_more_often_than_was_claimed():
    people, rules = populations.synthetic(96, 5, seed=1), (populations.upper_bound,)
    found = populations.held_out(*people, calibrating=48, fars=(0.1,), rules=rules, gallery=20)
    assert (found > 0.1).mean() <= 0.1
    assert found.mean() > 0.02


def test_a_bound_is_that_of_leaving_out_one_person_after_the_other():
    labels, distances = random_pairs(5, people=7, each=4)
    pairs = verification.all_pairs(distances, labels)
    table = verification.false_accept_bounds(pairs, labels)
    assert (np.diff(table, axis=0) > 0).all()
    for threshold, bound in table[[len(table) // 2, -2]]:
        accepted = pairs.distance <= threshold
        rates = []
        for person in range(7):
            others = ~pairs.same & (labels[pairs.left] != person) & (labels[pairs.right] != person)
            rates.append(accepted[others].mean())
        far = accepted[~pairs.same].mean()
        error = np.sqrt(6 / 7 * np.square(np.array(rates) - np.mean(rates)).sum())
        student = 1.9432  # the 95 % quantile of Student's t with six degrees of freedom
        assert bound == pytest.approx(min(far * np.exp(student * error / far), 1), rel=1e-3)


def test_two_people_show_nothing_and_more_show_less_than_they_have_pairs_of():
    assert verification.least_shown(2) == pytest.approx(0.95)
    assert verification.least_shown(25) == pytest.approx(3 / 300, rel=0.01)
    labels, distances = random_pairs(6, people=2, each=10)
    table = verification.false_accept_bounds(verification.all_pairs(distances, labels), labels)
    measured = distances[labels == 0][:, labels == 1]
    assert verification.threshold_for(table, 0.1) < measured.min()


def test_one_distance_of_all_strangers_lets_none_of_them_in():
    pairs = verification.all_pairs(1 - np.eye(6), np.repeat([0, 1, 2], 2))
    table = verification.false_accept_bounds(pairs, np.repeat([0, 1, 2], 2))
    assert verification.threshold_for(table, 0.1) == 0


def test_accuracy_in_folds_takes_the_threshold_of_the_other_folds():
    distance = np.array([0.1, 0.9, 0.2, 0.8, 0.6, 0.7])
    same = np.array([1, 0, 1, 0, 1, 0], bool)
    folds = np.array([0, 0, 1, 1, 2, 2])
    # Without fold 2 the threshold stands between 0.2 and 0.8, at 0.5, where 0.6 is rejected.
    np.testing.assert_allclose(verification.fold_accuracy(distance, same, folds), [1, 1, 0.5])


def test_ranks_are_those_of_a_loop_over_enrolments():
    labels, distances = random_pairs(4, people=5, each=3)
    ranks = []
    for enrolment in range(3):
        gallery = np.arange(5) * 3 + enrolment
        for probe in np.setdiff1d(np.arange(15), gallery):
            order = gallery[np.argsort(distances[probe, gallery])]
            ranks.append(list(labels[order]).index(labels[probe]))
    expected = [np.mean(np.array(ranks) <= rank) for rank in range(5)]
    np.testing.assert_allclose(verification.cumulative_match_characteristic(distances, labels), expected)


def exact_share(labels, distances, ways):
    """The expectation of `n_way_accuracy` with one picture of each: a sum over all choices, by elementary symmetric
    polynomials of how likely each other identity's picture is farther than the own one."""
    terms = []
    for probe, own in itertools.permutations(range(len(labels)), 2):
        if labels[probe] == labels[own]:
            others = np.unique(labels[labels != labels[probe]])
            farther = [np.mean(distances[probe, labels == other] > distances[probe, own]) for other in others]
            polynomial = np.array([1.0])
            for share in farther:
                polynomial = np.convolve(polynomial, [1, share])
            terms.append(polynomial[ways - 1] / math.comb(len(others), ways - 1))
    return np.mean(terms)


@pytest.mark.parametrize("ways", [2, 5])
def test_the_accuracy_among_several_is_the_expectation_over_all_choices(ways):
    labels, distances = random_pairs(3, people=7, each=4)
    episodes = verification.n_way_accuracy(distances, labels, ways=ways, episodes=4000)
    low, high = episodes.interval()
    assert episodes.right.mean() == pytest.approx(exact_share(labels, distances, ways), abs=0.025)
    assert low < episodes.right.mean() < high
    assert set(episodes.identity) == set(range(7))


def test_questions_stay_within_a_group_and_more_pictures_help():
    labels, distances = random_pairs(5, people=12, each=6, apart=2.0)
    groups = np.where(labels < 6, "latin", "greek")
    distances = distances + np.where(groups[:, None] != groups[None], -100.0, 0.0)  # another group is always nearer
    one, five = (
        verification.n_way_accuracy(distances, labels, ways=6, shots=shots, groups=groups).right.mean()
        for shots in (1, 5)
    )
    assert 0.5 < one < five
    with pytest.raises(Fault, match="ways"):
        verification.n_way_accuracy(distances, labels, ways=7, groups=groups)


def test_people_of_the_named_groups_are_tested_and_only_they():
    usable = [(Item(f"{group}/{person}/{n}", f"{group} {person}", bytes, group=group), f"{group}{person}{n}")
              for group in ("greek", "latin", "runes") for person in range(8) for n in range(2)]  # fmt: skip
    data = Data(source="omniglot", size=(4, 4), test_groups=("runes",))
    splits = dataset.splits_of(usable, data, 0)
    assert {item.group for (item, _), split in zip(usable, splits, strict=True) if split == "test"} == {"runes"}
    assert all((split == "test") == (item.group == "runes") for (item, _), split in zip(usable, splits, strict=True))
    assert set(splits) == {"train", "validation", "calibration", "test"}
    with pytest.raises(Fault, match="greek, latin, runes"):
        dataset.splits_of(usable, data.model_copy(update={"test_groups": ("elvish",)}), 0)


def test_strangers_pass_and_people_are_named_when_everybody_is_far_from_everybody_else():
    labels = np.repeat(np.arange(6), 3)
    distances = (labels[:, None] != labels[None]).astype(float)
    np.testing.assert_array_equal(verification.identification_rate(distances, labels, (0.1, 0.01)), [1, 1])
    np.testing.assert_array_equal(verification.identification_rate(1 - distances, labels, (0.01,)), [0])


def test_few_people_with_many_pictures_are_all_compared_and_of_many_people_some():
    few = np.repeat([4, 7, 9], 500)
    chosen = embeddings._of_people(few, 1000, seed=0)
    assert [int((few[chosen] == person).sum()) for person in (4, 7, 9)] == [333, 333, 333]
    many = np.repeat(np.arange(400), np.arange(400) % 40 + 1)
    chosen = embeddings._of_people(many, 1000, seed=0)
    counts = np.bincount(many[chosen], minlength=400)
    assert 950 < len(chosen) == counts.sum() <= 1000
    assert (counts[counts > 0] == np.minimum(np.arange(400) % 40 + 1, 20)[counts > 0]).all()
    assert len(embeddings._of_people(np.repeat([0, 1], 50), 10, seed=0)) == 10
    np.testing.assert_array_equal(embeddings._of_people(many, len(many), seed=0), np.arange(len(many)))


@pytest.mark.parametrize("head", ["2\t3", "6"])
def test_every_pair_of_a_list_is_measured_however_few_pictures_are_compared(tmp_path, monkeypatch, head):
    """Each picture is one number, a person's times ten and its own, and an embedding the same."""
    names = [f"p{person}/p{person}_{number:04d}.png" for person in range(4) for number in (1, 2, 3, 4)]
    values = np.array([10 * person + number for person in range(4) for number in (1, 2, 3, 4)], np.float32)
    kept = input_pipeline.Arrays(values[:, None], np.repeat(np.arange(4), 4), np.array(names))
    one = ["p0 1 2", "p1 3 1", "p9 1 2"]  # of p9 there is no picture
    two = ["p0 1 p1 1", "p2 4 p3 1", "p3 2 p1 4"]
    (tmp_path / "pairs.txt").write_text("\n".join([head, *one, *two, *one[:2], "p2 1 2", *two]))
    monkeypatch.setattr(input_pipeline, "arrays", lambda *given: kept)
    monkeypatch.setattr(verify_report.image_dataset, "shape_of", lambda data: None)
    pairs = SimpleNamespace(path=tmp_path / "pairs.txt")
    recipe = SimpleNamespace(data=SimpleNamespace(pairs=pairs), evaluate=SimpleNamespace(pictures=10))
    run = SimpleNamespace(recipe=recipe, finished=lambda stage: None, console=Console(file=io.StringIO()))
    same = keras.Sequential([keras.Input((1,)), keras.layers.Identity()])
    models = (same, lambda given: (given["left"] - given["right"]) ** 2)
    found = verify_report._listed(run, models, "test")
    np.testing.assert_array_equal(found.distance, [1, 4, 100, 49, 324, 1, 4, 1, 100, 49, 324])
    np.testing.assert_array_equal(found.same, [True] * 2 + [False] * 3 + [True] * 3 + [False] * 3)
    np.testing.assert_array_equal(found.fold, [0] * 5 + [1] * 6 if head == "2\t3" else [*range(10), 0])
    assert found.absent == 1
    assert verification.fold_accuracy(found.distance, found.same, found.fold).mean() == 1
    kept.ids[:] = [f"other/{name}" for name in names]
    with pytest.raises(Fault, match="must name pictures of the test split, of its 12 pairs 0 do so"):
        verify_report._listed(run, models, "test")


@pytest.fixture
def run(faces):
    return faces / "runs" / "verify" / "small"


@pytest.mark.parametrize("stage", FILES)
def test_a_stage_leaves_its_files_and_a_manifest(run, stage):
    for name in [*FILES[stage], "manifest.json"]:
        assert (run / stage / name).stat().st_size > 0, name


def test_a_second_run_changes_nothing(faces, capsys):
    assert cnn("run", faces / "small.yaml", "--runs", faces / "runs") == 0
    assert capsys.readouterr().out.count("skipped: nothing it depends on changed") == 4


def test_the_commands_that_a_finished_run_advises_work(faces, tmp_path, capsys):
    assert cnn("run", faces / "small.yaml", "--runs", faces / "runs") == 0
    advice = [line.split("  ")[1].split()[1:] for line in capsys.readouterr().out.splitlines() if "  cnn " in line]
    given = {"FILES": next((faces / "people").rglob("*.png")), "PEOPLE": faces / "people"}
    predict, enrol = ([given.get(word, word) for word in words] for words in advice if words[0] in ("predict", "faces"))
    assert cnn(*predict) == 0
    assert cnn(*enrol, "--gallery", tmp_path / "faces.db") == 0
    assert "72 of 72 files of 12 people enrolled" in capsys.readouterr().out


def test_the_report_holds_every_figure_with_its_interval(run):
    report = json.loads((run / "evaluate" / "report.json").read_text())
    assert report["people"] == 3
    assert report["pairs"] == {"same": 45, "other": 108}
    assert set(report["tar_at_far"]) == {"0.1", "0.01", "0.001", "0.0001"}
    for name in ("auc", "eer"):
        low, high = report[f"{name}_interval"]
        assert 0 <= low <= high <= 1
    assert set(report["baselines"]) == {"raw pixels", "eigenfaces (23)"}
    calibration = report["calibration"]
    assert calibration["calibration_false_accept_rate"] <= 0.1
    assert (report["calibrated_on"], calibration["calibration_people"]) == ("calibration", 3)
    # Of three people there are three pairs: with none of them accepted 1 − 0.05^(1/3) is to be feared.
    assert calibration["false_accept_bound"] == calibration["least_far"] >= 0.63
    low, high = calibration["false_accept_interval"]
    assert low <= calibration["false_accept_rate"] <= high
    assert report["match_characteristic"][-1] == 1


def test_the_exported_model_verifies_pairs_with_its_calibrated_threshold(faces, run):
    exported = tf.saved_model.load(str(run / "export" / "small" / "1")).signatures
    models = [run / "train" / f"{name}.keras" for name in ("model", "matcher")]
    assert stored_bytes(run / "export" / "small" / "1") == model_bytes(*models)
    files = sorted((faces / "people").glob("p*/*.png"))
    data = tf.constant([file.read_bytes() for file in files[:8]])
    embedding = exported["embed"](image_bytes=data)["embedding"].numpy()
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(exported["serving_default"](image_bytes=data)["embedding"], embedding)
    answer = {
        name: value.numpy()
        for name, value in exported["verify"](left_image_bytes=data, right_image_bytes=data[::-1]).items()
    }
    facts = run_files.read_json(run / "export" / "small" / "1" / FACTS)
    np.testing.assert_allclose(answer["distance"], np.square(embedding - embedding[::-1]).sum(axis=1), atol=1e-5)
    np.testing.assert_array_equal(answer["same"], answer["distance"] <= np.float32(facts["threshold"]))
    assert set(answer) == {"distance", "same", *verify_report.RATES}
    for name in verify_report.RATES:
        np.testing.assert_allclose(answer[name], [facts[name]] * 8, rtol=1e-6)
    assert facts["far"] == 0.1
    assert facts["weights"] == run_files.read_json(run / "train" / "manifest.json")["facts"]["digest"]
    match = exported["match"](left=tf.constant(embedding), right=tf.constant(embedding[::-1]))
    np.testing.assert_allclose(match["distance"], answer["distance"], atol=1e-5)


def test_the_server_answers_about_pairs(faces, run):
    import base64

    from pipelines.serving.http.limits import Limits
    from pipelines.serving.model import Model
    from pipelines.serving.rest import protocol

    model = Model(run / "export" / "small")
    file = base64.b64encode(next((faces / "people").glob("p0/*.png")).read_bytes()).decode()
    pair = {"left_image_bytes": {"b64": file}, "right_image_bytes": {"b64": file}}
    body = json.dumps({"signature_name": "verify", "instances": [pair]}).encode()
    call = protocol.predict(model, body, Limits())
    (answer,) = call.answer(model("verify", call.job.tensors()))["predictions"]
    assert answer["same"] is True
    assert answer["distance"] == pytest.approx(0, abs=1e-6)


def test_the_card_says_what_the_threshold_means(run):
    card = (run / "export" / "small" / "1" / "card.md").read_text()
    calibrated = "calibrated to a FAR of at most 0.1 on 3 people of the calibration split"
    for part in ("equal error rate", calibrated, "raw pixels", "3 people cannot show a FAR of 0.1"):
        assert part in card


def test_a_threshold_by_people_who_chose_the_epoch_or_are_too_few_says_so():
    calibration = {"calibration_people": 40, "least_far": 0.004, "chose_nothing": True}
    report = {"far": 0.01, "calibrated_on": "calibration", "calibration": calibration}
    assert verify_report.warnings_of(report) == []
    (few,) = verify_report.warnings_of({**report, "far": 0.001})
    assert few.startswith("40 people cannot show a FAR of 0.001, only one of at most 0.004")
    (chose,) = verify_report.warnings_of(
        {**report, "calibrated_on": "validation", "calibration": {**calibration, "chose_nothing": False}}
    )
    assert "people of the validation split, who chose the epoch" in chose


def settled(**train):
    return recipes.validate(
        {
            "task": "verify",
            "name": "x",
            "data": {"source": "orl", "size": [24, 20], "channels": 1},
            "model": {"builder": "facenet.small", "filters": 4, "depths": [1, 1], "dimension": 8},
            "train": train,
        },
        folder=None,
    )


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "siamese", "arcface", "prototypical"])
def test_every_loss_trains_every_weight_and_validates_strangers(loss):
    keras.utils.set_random_seed(0)
    recipe = settled(loss=loss, batch_size=12, each=3)
    network = verify_model.assemble(recipe, {"normalization": {"axis": None, "mean": 128.0, "variance": 2500.0}})
    model = verify_model.trainable(network, recipe.train, 4)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    images = np.random.default_rng(0).integers(0, 255, (12, 24, 20, 1)).astype("uint8")
    before = [weight.numpy() for weight in model.trainable_variables]
    logs = model.train_on_batch(images, np.repeat(np.arange(4), 3), return_dict=True)
    assert set(logs) >= {"loss", "active", "positive", "negative", "spread", "auc"}
    still = [
        weight.path
        for weight, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(weight.numpy(), old)
    ]
    assert still == []
    assert np.isfinite(model.test_on_batch(images, np.repeat([7, 9, 11, 13], 3), return_dict=True)["loss"])


def test_a_batch_that_is_no_multiple_of_the_pictures_of_each_is_refused():
    with pytest.raises(
        Fault, match=r"train: batch_size must be a multiple of each \(4\), of two people or more, got 30"
    ):
        settled(batch_size=30, each=4)


def test_mixed_pictures_are_refused_because_they_show_nobody():
    recipe = settled()
    mixed = recipe.model_copy(update={"augment": ("mixup",)})
    with pytest.raises(Fault, match="augment must not mix"):
        verify.check(mixed)


@pytest.mark.slow
def test_a_forced_collapse_is_explained_and_stops_the_training(faces, tmp_path, capsys):
    """The hardest triplets from the first step and a high rate: everything falls on one point."""
    arguments = ["--set", "name=collapsed", "--set", "train.mining=hard", "--set", "train.learning_rate=0.03"]
    arguments += ["--set", "train.epochs=12", "--set", "train.optimizer=adam", "--set", "seed=2"]
    code = cnn("train", faces / "small.yaml", *arguments, "--runs", tmp_path)
    said = capsys.readouterr().err
    assert code == Fault.DIVERGED
    assert "all pictures get nearly the same embedding" in said
    assert "train.mining: semi-hard or random" in said
