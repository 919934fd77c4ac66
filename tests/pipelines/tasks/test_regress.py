"""Regression: answers in the user's units, the report by hand, intervals that hold, four verbs in a row."""

import csv
import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from cnn_keras.losses import mixture_density
from pipelines.engine import recipe as recipes
from pipelines.serving.server import application
from pipelines.tasks import regress
from pipelines.tasks.regress import config, report
from pipelines.tasks.regress import model as regress_model
from tests.advice import follow
from tests.conftest import WHOLE, cnn
from tests.converted import assert_converted
from tests.stored_weights import model_bytes, stored_bytes

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

RECIPE = """\
# How tall is a bar, and where does it stand?
task: regress
data: {source: csv, path: bars.csv, values: {height: cm, place: ""}, size: [28, 28], channels: 1}
augment: [{brighten: {brightness: 0.1}}]
model: {builder: introductory.two_conv}
head: {kind: gaussian}
train: {epochs: 20, batch_size: 16, clip_norm: 1.0}
evaluate: {worst: 4, beat: [training mean, training median]}
"""
FACTS = {
    "names": ["height", "place"],
    "units": ["cm", ""],
    "values": {"train": {"height": {"mean": 100.0, "deviation": 20.0}, "place": {"mean": 0.0, "deviation": 2.0}}},
}


def write_bars(root, count=150):
    """Noisy pictures of a bright bar, its height in centimetres and its place in a table, and a recipe for them."""
    generator = np.random.default_rng(0)
    (root / "images").mkdir()
    rows = ["path,height,place,remark"]
    for number in range(count):
        height, place = int(generator.integers(4, 28)), int(generator.integers(2, 26))
        picture = generator.integers(0, 60, (28, 28), dtype=np.uint8)
        picture[28 - height :, place - 2 : place + 2] = 220
        (root / "images" / f"{number:03d}.png").write_bytes(encode_png(picture[..., None]))
        rows.append(f"images/{number:03d}.png,{10 * height},{place - 14},x")
    (root / "bars.csv").write_text("\n".join(rows) + "\n")
    (root / "bars.yaml").write_text(RECIPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("regress")
    write_bars(root)
    return root


@pytest.fixture(scope="module", params=WHOLE)
def run(folder):
    assert cnn("run", folder / "bars.yaml", "--runs", folder / "runs") == 0
    return folder / "runs" / "regress" / "bars"


def reader(kind="squared", margins=(1.0, 2.0)):
    return regress_model.Regressor(keras.Sequential(), config.Head(kind=kind, components=2), FACTS, margins)


def test_answers_are_in_the_users_units_and_intervals_are_margins_of_deviations():
    said = reader().read(tf.constant([[0.5, -1.0]]))
    np.testing.assert_allclose(said["values"], [[110, -2]])
    np.testing.assert_allclose(said["low"], [[90, -6]])
    np.testing.assert_allclose(said["high"], [[130, 2]])


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_a_distribution_is_read_number_by_number(kind):
    components = 1 if kind == "gaussian" else 2
    y = tf.random.stateless_normal((5, 2 * 3 * components), (0, 1))
    number, deviation = regress_model.decode(y, reader(kind).head, 2)
    for place in range(2):
        mixture = mixture_density.decode(y[:, 3 * components * place : 3 * components * (place + 1)])
        np.testing.assert_allclose(number[:, place], mixture_density.mean(mixture), rtol=1e-5, atol=1e-6)
        generator = np.random.default_rng(0)
        chosen = [
            generator.choice(components, 40_000, p=weights / weights.sum()) for weights in mixture.weights.numpy()
        ]
        drawn = [
            generator.normal(mixture.means.numpy()[row][picks], mixture.scales.numpy()[row][picks])
            for row, picks in enumerate(chosen)
        ]
        np.testing.assert_allclose(deviation[:, place], np.std(drawn, axis=1), rtol=0.03)


def test_losses_are_of_standardised_numbers():
    truth, y = tf.constant([[120.0, 2.0], [100.0, 0.0]]), tf.constant([[0.0, 0.0], [3.0, 0.5]])
    loss = {
        kind: regress_model.objective(config.Head(kind=kind), FACTS)["loss"](truth, y) for kind in ("squared", "huber")
    }
    np.testing.assert_allclose(loss["squared"], [1, (9 + 0.25) / 2])
    np.testing.assert_allclose(loss["huber"], [0.5, (2.5 + 0.125) / 2])
    gaussian = regress_model.objective(config.Head(kind="gaussian"), FACTS)["loss"]
    wide = tf.constant([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    expected = mixture_density.negative_log_likelihood(wide[:, :3], tf.constant([1.0]))
    np.testing.assert_allclose(gaussian(truth[:1], wide), expected)


def test_the_error_that_training_shows_is_in_the_unit_of_the_only_number():
    one = {"names": ["height"], "values": FACTS["values"]}
    (metric,) = regress_model.objective(config.Head(kind="squared"), one)["metrics"]
    metric.update_state(tf.constant([[120.0], [100.0]]), tf.constant([[0.5], [0.0]]))
    assert float(metric.result()) == pytest.approx(5)
    (metric,) = regress_model.objective(config.Head(kind="squared"), FACTS)["metrics"]
    metric.update_state(tf.constant([[120.0, 0.0]]), tf.constant([[0.5, 0.0]]))
    assert float(metric.result()) == pytest.approx(0.25)


def test_the_report_by_hand():
    truth = np.array([[100.0, 0], [120, 2], [90, 0], [110, -2]])
    said = truth + np.array([[0, 0], [10, 0], [0, 1], [-10, 1]])
    answers = {"values": said, "low": said - 5, "high": said + 5}
    found = report.measure(truth, answers, np.array([20.0, 2.0]), reader())
    height, place = found["values"]
    assert (height["mae"], height["coverage"], height["width"], height["bias"]) == (5, 0.5, 10, 0)
    assert (place["mae"], place["coverage"], place["unit"]) == (0.5, 1, "")
    assert found["mae"] == pytest.approx((5 / 20 + 0.5 / 2) / 2)
    assert found["coverage"] == 0.75


def test_what_does_not_fit_is_refused_before_data_is_read(tmp_path):
    write_bars(tmp_path, count=1)
    for setting in ("augment=[mixup]", "model.builder=lenet.lenet6", "head.interval=1.5", "data.source=folder"):
        with pytest.raises(Fault):
            regress.check(recipes.load(str(tmp_path / "bars.yaml"), [setting]))
    with pytest.raises(Fault, match=r"head\.kind"):
        recipes.load(str(tmp_path / "bars.yaml"), ["train.loss=keras.losses:mean_absolute_error"])


@pytest.mark.parametrize(
    ("rows", "told"), [(range(12), "at least 9"), ([0] * 40, "must differ")], ids=["few images", "one number"]
)
@pytest.mark.slow
def test_too_few_images_or_numbers_are_refused(rows, told, tmp_path, capsys):
    write_bars(tmp_path, count=len(rows))
    head, *lines = (tmp_path / "bars.csv").read_text().splitlines()
    numbered = [line.replace(line.split(",")[1], str(row), 1) for row, line in zip(rows, lines, strict=True)]
    (tmp_path / "bars.csv").write_text("\n".join([head, *(numbered if "differ" in told else lines)]))
    command = ("run", tmp_path / "bars.yaml", "--set", "data.values={height: cm}", "--set", "train.epochs=1")
    assert cnn(*command, "--runs", tmp_path / "runs") == Fault.DATA
    assert told in " ".join(capsys.readouterr().err.split())


def test_four_verbs_leave_what_they_promise(run):
    facts = json.loads((run / "prepare" / "data.json").read_text())
    assert facts["splits"] == {"train": 90, "validation": 30, "test": 30}
    assert (facts["names"], facts["units"]) == (["height", "place"], ["cm", ""])
    for name in ("prepare/contact_sheet", "prepare/values", "train/augmented", "evaluate/scatter", "evaluate/worst"):
        assert (run / f"{name}.png").is_file()
    measured = json.loads((run / "evaluate" / "report.json").read_text())
    assert set(measured["baselines"]) == {"training mean", "training median", "nearest image"}
    assert measured["mae"] < 0.6 * measured["baselines"]["training mean"]["mae"]
    card = (run / "export" / "bars" / "1" / "card.md").read_text()
    assert "nearest image" in card


def test_the_exported_graph_answers_as_evaluate_did(run, folder):
    served = tf.saved_model.load(str(run / "export" / "bars" / "1")).signatures["serving_default"]
    assert stored_bytes(run / "export" / "bars" / "1") == model_bytes(run / "train" / "model.keras")
    with (run / "evaluate" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    said = served(image_bytes=tf.constant([(folder / row["id"]).read_bytes() for row in rows]))
    for place, name in enumerate(("height", "place")):
        for key, column in (("values", name), ("low", f"{name} low"), ("high", f"{name} high")):
            np.testing.assert_allclose(said[key][:, place], [float(row[column]) for row in rows], rtol=1e-3, atol=1e-2)
    assert said["names"].numpy()[0].tolist() == [b"height", b"place"]


def test_the_server_tells_numbers_with_names_and_units(run, folder):
    image = (folder / "images" / "001.png").read_bytes()
    with TestClient(application(run / "export" / "bars")) as client:
        answer = client.post("/v1/models/bars:predict", content=image, headers={"Content-Type": "image/png"})
        assert answer.status_code == 200
        (said,) = answer.json()["predictions"]
    assert (said["names"], said["units"]) == (["height", "place"], ["cm", ""])
    assert all(low < value < high for low, value, high in zip(said["low"], said["values"], said["high"], strict=True))
    assert said["interval"] == pytest.approx(0.9)


def test_predict_tells_draws_explains_and_writes_the_numbers(run, folder, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    images = (folder / "images" / "001.png", tmp_path / "broken.png")
    options = ("--csv", tmp_path / "out.csv", "--pictures", tmp_path / "drawn", "--why", tmp_path / "why")
    assert cnn("predict", folder / "bars.yaml", *images, *options, "--runs", run.parents[1]) in (0, 1)
    assert "height" in capsys.readouterr().out
    with (tmp_path / "out.csv").open() as file:
        first, second = csv.DictReader(file)
    assert float(first["height low"]) < float(first["height"]) < float(first["height high"])
    assert (second["height"], bool(second["problem"])) == ("", True)
    assert len(list((tmp_path / "drawn").iterdir())) == len(list((tmp_path / "why").iterdir())) == 1


def test_other_formats_answer_the_same(folder, run):
    assert_converted(folder / "bars.yaml", run, metric="mae", difference=1e-2)  # of centimetres up to 280


def test_what_comes_next_is_accepted(folder, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = sorted((folder / "images").glob("*.png"))[:3]
    done = follow(folder / "bars.yaml", folder / "runs", images, capsys=capsys, monkeypatch=monkeypatch)
    assert done == ["serve", "predict", "dashboard"]
