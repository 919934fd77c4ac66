"""Steering: the network and its crop, angles in a mirror, the report by hand, the closed loop, four verbs in a row."""

import base64
import contextlib
import csv
import io
import json
import shutil
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import driving as drives
from cnn_keras.data.sources.synthetic import simulator
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault, Unreadable
from cnn_keras.losses import mixture_density
from pipelines.engine import recipe as recipes
from pipelines.plots import annotate
from pipelines.serving.server import application
from pipelines.tasks import steer
from pipelines.tasks.steer import closed_loop, config, dataset, forks, predictions
from pipelines.tasks.steer import model as steer_model
from pipelines.tasks.steer import report as steer_report
from pipelines.tasks.steer.predictions import Predictions
from tests.advice import follow
from tests.cnn_keras.data.sources.test_driving import write_tub
from tests.conftest import WHOLE, cnn
from tests.converted import assert_converted
from tests.stored_weights import model_bytes, stored_bytes

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

RECIPE = """\
# A short drive.
task: steer
data: {source: tub, path: tub, size: [70, 64], gap: 1}
augment: [mirror]
model: {builder: pilotnet.pilotnet, crop: [4, 2]}
head: {components: 2}
train: {epochs: 3, batch_size: 16, learning_rate: 3e-3}
evaluate: {shown: 4, beat: [mean angle]}
"""


def write_drive(root):
    """A tub of 60 noisy pictures of three sizes whose brighter side is where the wheel turns, and a recipe for it."""
    generator = np.random.default_rng(0)
    angles = np.clip(np.cumsum(generator.normal(0, 0.25, 60)) % 1.6 - 0.8, -1, 1).tolist()
    write_tub(root / "tub", angles, deleted=[5])
    for number, angle in enumerate(angles):
        height, width = ((60, 80), (48, 64), (90, 61))[number % 3]
        side = np.linspace(-1, 1, width)[None, :, None]
        pixels = 120 + 100 * np.clip(angle * side, -1, 1) + generator.normal(0, 8, (height, width, 3))
        path = root / "tub" / "images" / f"{number}_cam_image_array_.jpg"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=95)
    (root / "short.yaml").write_text(RECIPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("steer")
    write_drive(root)
    return root


@pytest.fixture(scope="module", params=WHOLE)
def run(folder):
    assert cnn("run", folder / "short.yaml", "--runs", folder / "runs") == 0
    return folder / "runs" / "steer" / "short"


def test_other_formats_steer_the_same(folder, run):
    assert_converted(folder / "short.yaml", run, metric="mae")


def test_what_comes_next_is_accepted(folder, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    done = follow(
        folder / "short.yaml",
        folder / "runs",
        sorted((folder / "tub" / "images").glob("*.jpg"))[:3],
        capsys=capsys,
        monkeypatch=monkeypatch,
    )
    assert done == ["serve", "predict", "dashboard"]


def test_the_model_takes_whole_pictures_and_sees_what_the_crop_leaves():
    recipe = recipes.load("steer/road-pilotnet")
    model = steer_model.assemble(recipe)
    assert model.input_shape == (None, 110, 200, 3)
    assert model.get_layer("pilotnet").input_shape == (None, 66, 200, 3)
    assert model.get_layer("pilotnet").count_params() - 9 * 11 + 11 == 252_219  # nine outputs instead of one
    pixels = np.zeros((2, 110, 200, 3), np.uint8)
    pixels[1, :44] = 255
    same = model(pixels).numpy()
    np.testing.assert_array_equal(same[0], same[1])
    pixels[1, 44] = 255
    assert (model(pixels).numpy()[0] != model(pixels).numpy()[1]).any()


def test_any_network_of_the_catalogue_can_steer():
    recipe = recipes.load("steer/road-pilotnet", ["model={builder: resnet.resnet20}", "head={kind: regression}"])
    steer.check(recipe)
    assert steer_model.assemble(recipe).output_shape == (None, 1)


def test_a_mirror_turns_the_wheel_and_nothing_else_does():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    example = {"image": image, "angle": np.float32(0.3)}
    for seed in range(8):
        found = augment.mirror()(example, (seed, 0))
        turned = bool((found["image"].numpy() == image[:, ::-1]).all())
        assert float(found["angle"]) == pytest.approx(-0.3 if turned else 0.3)
    kept = augment.compose([{"affine": {"rotate": 10, "shift": 0.2}}, {"brighten": {"brightness": 0.2}}])(
        example, tf.constant([1, 2])
    )
    assert float(kept["angle"]) == pytest.approx(0.3)


def test_a_mirror_turns_the_route_with_the_road_and_a_shift_of_the_camera_leaves_it():
    image, route = np.zeros((8, 8, 3), np.uint8), np.zeros((4, 4, 1), np.float32)
    image[:, :2], route[:, 0] = 200, 1
    mirror, shift = augment.mirror(), augment.compose([{"affine": {"shift": 0.3}}])
    for seed in range(8):
        found = mirror({"image": image, "angle": np.float32(-0.3), "route": route}, (seed, 0))
        is_turned = float(found["angle"]) > 0
        np.testing.assert_array_equal(found["image"], image[:, ::-1] if is_turned else image)
        np.testing.assert_array_equal(found["route"], route[:, ::-1] if is_turned else route)
        kept = shift({"image": image, "angle": np.float32(-0.3), "route": route}, tf.constant([seed, 2]))
        np.testing.assert_array_equal(kept["route"], route)


def test_in_a_batch_each_route_is_turned_with_its_own_frame():
    generator, mirror = np.random.default_rng(0), augment.compose(["mirror"])
    rows = {
        "image": generator.integers(0, 256, (8, 72, 80, 3), np.uint8),
        "angle": generator.uniform(-1, 1, 8).astype(np.float32),
        "route": generator.random((8, 4, 4, 1), np.float32),
    }
    seeds = tf.random.experimental.stateless_split((1, 2), 8)
    stream = tf.data.Dataset.from_tensor_slices((rows, seeds))
    batch = next(iter(augment.augmented_batches(stream, lambda *drawn: drawn, mirror, 8)))
    for row, seed in enumerate(seeds):
        single = mirror({key: values[row] for key, values in rows.items()}, seed)
        for key in rows:
            np.testing.assert_array_equal(batch[key][row], single[key])
    assert 0 < np.sum(batch["angle"] != rows["angle"]) < 8


def test_a_network_with_a_map_sees_it():
    recipe = recipes.load("steer/road-map")
    model = steer_model.assemble(recipe)
    assert {tensor.name: tensor.shape[1:] for tensor in model.inputs} == {
        "image": (92, 160, 3),
        "route": (*simulator.MAP, 1),
    }
    seen = {"image": np.zeros((2, 92, 160, 3), np.uint8), "route": np.zeros((2, *simulator.MAP, 1), np.float32)}
    seen["route"][1, :, 10:12] = 1
    first, second = model(seen).numpy()
    assert (first != second).any()
    with pytest.raises(Fault, match="requires a builder that takes route_shape"):
        steer.check(recipes.load("steer/road-map", ["model={builder: resnet.resnet20}"]))


class Knowing:
    """A wheel in the hands of one who knows the roads; its cars are moved as those of the loop."""

    def __init__(self, known, tracks, starts):
        self.known, self.tracks = known, tracks
        self.cars = [simulator.start(track, along) for track, along in zip(tracks, starts, strict=True)]

    def __call__(self, views, routes):
        angles = [simulator.pure_pursuit(track, car) for track, car in zip(self.known, self.cars, strict=True)]
        moved = zip(self.tracks, self.cars, angles, strict=True)
        self.cars = [simulator.step(track, car, angle) for track, car, angle in moved]
        return np.array(angles)


def test_a_fork_is_taken_rightly_by_who_knows_the_route_and_half_the_time_by_who_keeps_left():
    tracks = forks.roads(0, 3)
    others = [track.forks[0].other for track in tracks]
    lefts = [track for left in tracks[::2] for track in (left, left)]
    starts = [track.forks[0].along - forks.BEFORE for track in tracks]
    assert forks.taken(Knowing(tracks, tracks, starts), tracks).tolist() == [True] * 6
    assert forks.taken(Knowing(others, tracks, starts), tracks).tolist() == [False] * 6
    assert forks.taken(Knowing(lefts, tracks, starts), tracks).tolist() == [True, False] * 3
    for left, right in zip(tracks[::2], tracks[1::2], strict=True):
        shots = forks.frames(left), forks.frames(right)
        assert min(map(len, shots)) > 5
        assert shots[0][-1].angle < shots[1][-1].angle  # −1 is full left


def test_the_error_that_training_shows_is_that_of_the_median():
    told = steer_model.objective({"angle": steer_model.Scale(0.5)})
    y = tf.constant([[0.4], [-1.0]])
    told["metrics"][0].update_state(tf.constant([0.0, 0.0]), y)
    assert float(told["metrics"][0].result()) == pytest.approx((0.2 + 0.5) / 2, abs=1e-4)
    expected = mixture_density.negative_log_likelihood(y, tf.constant([0.1, 0.1]), unit=0.5)
    np.testing.assert_allclose(told["loss"](tf.constant([[0.1], [0.1]]), y), expected)


def test_two_controls_are_learnt_side_by_side():
    told = steer_model.objective({"angle": steer_model.Scale(0.5), "throttle": steer_model.Scale(2.0, centre=0.5)})
    truth, y = tf.constant([[0.1, 1.0], [0.2, -2.0]]), tf.constant([[0.4, 0.25], [-1.0, -1.0]])
    parts = [(0, 0.5, 0.0), (1, 2.0, 0.5)]
    expected = sum(
        mixture_density.negative_log_likelihood(y[:, place, None], truth[:, place] - centre, unit=unit)
        for place, unit, centre in parts
    )
    np.testing.assert_allclose(told["loss"](truth, y), expected, rtol=1e-6)
    for metric, error in zip(told["metrics"], [(0.1 + 0.7) / 2, (0.0 + 0.5) / 2], strict=True):
        metric.update_state(truth, y)
        assert float(metric.result()) == pytest.approx(error, abs=1e-4)
    assert [metric.name for metric in told["metrics"]] == ["mae", "throttle_mae"]


def answers(truth, angle, *, half=0.2, drives=None):
    truth, angle = np.array(truth, float), np.array(angle, float)
    below = np.where(np.abs(truth - angle) <= half, 0.5, 0.99)
    ids = [str(row) for row in range(len(truth))]
    told = drives or ["a"] * len(truth)
    return Predictions(ids, told, truth, angle, angle - half, angle + half, below, np.zeros(len(truth)))


def test_the_report_by_hand():
    report = steer_report.measure(answers([0.0, 0.1, 0.4, -1.0], [0.1, 0.1, 0.0, -1.0]), 0.8)
    assert report["mae"] == pytest.approx(0.125)
    assert report["rmse"] == pytest.approx(np.sqrt((0.01 + 0.16) / 4))
    assert report["coverage"] == 0.75
    assert report["width"] == pytest.approx(0.4)
    assert {row["coverage"] for row in report["calibration"]} == {0.75}


def test_the_interval_of_a_mean_is_wider_where_neighbours_are_alike():
    noise = np.random.default_rng(0).normal(size=500)
    slow = np.repeat(noise[:20], 25)
    apart, alike = (np.diff(predictions.bootstrap_interval(values))[0] for values in (noise, slow))
    assert alike > 3 * apart
    low, high = predictions.bootstrap_interval(noise)
    assert low < noise.mean() < high
    assert (high - low) / 2 == pytest.approx(1.96 / np.sqrt(500), rel=0.3)


def test_the_last_true_angle_is_not_taken_over_from_another_drive(run, folder, monkeypatch):
    opened = type("Opened", (), {})()
    opened.facts = lambda stage: {"angles": {"train": {"mean": 0.0, "deviation": 0.5}}}
    opened.recipe = recipes.load("steer/road-pilotnet")
    monkeypatch.setattr(steer_report.nearest_image, "answers", lambda *batches, **crop: np.zeros(4))
    monkeypatch.setattr(steer_report.dataset, "examples", lambda run, split: tf.data.Dataset.range(1))
    found = steer_report.baselines(opened, answers([0.1, 0.2, 0.9, 0.7], [0] * 4, drives=["a", "a", "b", "b"]), "test")
    assert found["last true angle"]["mae"] == pytest.approx((0.1 + 0.2) / 2)
    assert found["mean angle"]["mae"] == pytest.approx(0.475)


def test_requirements_hold_in_both_directions():
    settings = config.Evaluate(require={"coverage": 0.7}, at_most={"mae": 0.1, "coverage": 0.9}, beat=("mean angle",))
    report = {"mae": 0.05, "coverage": 0.8, "baselines": {"mean angle": {"mae": 0.2}}}
    assert steer_report.failed_requirements(settings, report) == []
    assert len(steer_report.failed_requirements(settings, {**report, "mae": 0.3})) == 2
    assert "at most 0.9" in steer_report.failed_requirements(settings, {**report, "coverage": 0.95})[0]
    assert "at least 0.7" in steer_report.failed_requirements(settings, {**report, "coverage": 0.5})[0]
    wanting = config.Evaluate(require={"lane_steps": 500})
    assert "got nothing" in steer_report.failed_requirements(wanting, report)[0]


def test_the_loop_is_driven_until_the_lane_is_left():
    tracks = closed_loop.roads(0, 2, 60)
    cars = {number: simulator.start(track) for number, track in enumerate(tracks)}

    def knowing(views, routes):
        assert views.shape == (2, *simulator.SIZE, 3)
        assert routes.shape == (2, *simulator.MAP, 1)
        angles = [simulator.pure_pursuit(track, cars[number]) for number, track in enumerate(tracks)]
        for number, track in enumerate(tracks):
            cars[number] = simulator.step(track, cars[number], angles[number])
        return np.array(angles)

    for one in closed_loop.drive(knowing, tracks, 60):
        assert (one.steps, one.distance, one.left) == (60, 60.0, False)
    for one in closed_loop.drive(lambda views, routes: np.full(2, -1.0), tracks, 60):
        assert one.left
        assert one.steps < 10
        assert abs(one.offsets[-1]) > simulator.ROOM >= abs(one.offsets[-2])


def test_roads_of_the_loop_are_none_of_the_recordings():
    recorded = {shot.read.args[0].track.seed for shot in drives.frames("road", drives=3, frames=2, seed=1)}
    assert recorded.isdisjoint(track.seed for track in closed_loop.roads(1, 3, 10))


def test_lines_lean_to_the_side_of_the_angle():
    image = np.full((60, 80, 3), 90, np.uint8)
    drawn = annotate.draw_steering(image, angle=0.5).astype(int)
    orange = np.argwhere((drawn[..., 0] > 180) & (drawn[..., 2] < 40))
    assert orange[orange[:, 0].argmin(), 1] > drawn.shape[1] / 2 + 10
    left = annotate.draw_steering(image, truth=-0.5, interval=(-0.7, -0.2))
    white = np.argwhere((left > 250).all(axis=-1))
    assert white[white[:, 0].argmin(), 1] < left.shape[1] / 2 - 10


def test_four_verbs_leave_what_they_promise(run):
    facts = json.loads((run / "prepare" / "data.json").read_text())
    assert facts["problems"] == {"deleted frame": 1}
    assert facts["splits"] == {"train": 39, "validation": 6, "test": 12}
    with (run / "prepare" / "split.csv").open() as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert splits == ["train"] * 39 + ["gap"] + ["validation"] * 6 + ["gap"] + ["test"] * 12
    for name in ("strip", "worst", "angles", "calibration", "saliency"):
        assert (run / "evaluate" / f"{name}.png").is_file()
    report = json.loads((run / "evaluate" / "report.json").read_text())
    assert set(report["baselines"]) == {"mean angle", "nearest image", "last true angle"}
    assert report["mae"] < report["baselines"]["mean angle"]["mae"]
    card = (run / "export" / "short" / "1" / "card.md").read_text()
    assert "last true angle" in card
    train = json.loads((run / "train" / "manifest.json").read_text())["facts"]
    assert train["scales"]["angle"]["unit"] == pytest.approx(facts["angles"]["train"]["rms"])


def test_the_exported_graph_answers_as_evaluate_did(run, folder):
    serve = tf.saved_model.load(str(run / "export" / "short" / "1")).signatures["serving_default"]
    assert stored_bytes(run / "export" / "short" / "1") == model_bytes(run / "train" / "model.keras")
    with (run / "evaluate" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    said = serve(image_bytes=tf.constant([(folder / "tub" / "images" / row["id"]).read_bytes() for row in rows]))
    for name in ("angle", "low", "high"):
        np.testing.assert_allclose(said[name], [float(row[name]) for row in rows], atol=1e-3)
    assert said["weights"].shape == (len(rows), 2)
    np.testing.assert_allclose(tf.reduce_sum(said["weights"], axis=-1), 1, rtol=1e-5)
    assert (said["low"].numpy() < said["angle"].numpy()).all()


def test_the_server_tells_the_angle_and_its_interval(run, folder):
    image = (folder / "tub" / "images" / "51_cam_image_array_.jpg").read_bytes()
    with TestClient(application(run / "export" / "short")) as client:
        answer = client.post("/v1/models/short:predict", content=image, headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 200
        (said,) = answer.json()["predictions"]
    assert said["low"] < said["angle"] < said["high"]
    assert said["interval"] == pytest.approx(0.8)
    assert len(said["weights"]) == len(said["means"]) == len(said["scales"]) == 2


def test_predict_tells_draws_and_writes_the_angle(run, folder, capsys):
    images = [folder / "tub" / "images" / f"{row}_cam_image_array_.jpg" for row in (50, 51)]
    (folder / "broken.jpg").write_bytes(b"no picture")
    arguments = ("--csv", folder / "out.csv", "--pictures", folder / "drawn", "--json", "--runs", folder / "runs")
    assert cnn("predict", folder / "short.yaml", *images, folder / "broken.jpg", *arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told[0]["low"] < told[0]["angle"] < told[0]["high"]
    assert told[2]["problem"]
    with (folder / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "angle", "low", "high", "problem"]
    assert float(rows[1]["angle"]) == pytest.approx(told[1]["angle"], abs=1e-4)
    assert rows[2]["angle"] == ""
    assert len(list((folder / "drawn").glob("*.png"))) == 2


@pytest.fixture(scope="module", params=WHOLE)
def throttled(tmp_path_factory):
    """A run that has learnt the throttle, the larger the brighter the frame is; it turns to where that is brighter."""
    root = tmp_path_factory.mktemp("throttled")
    generator, side = np.random.default_rng(0), np.linspace(-1, 1, 64)[None, :, None]
    angles, throttles = generator.uniform(-1, 1, 90), generator.uniform(0.1, 0.9, 90)
    write_tub(root / "tub", angles.tolist(), more={drives.THROTTLE: throttles.tolist()})
    for number, (angle, throttle) in enumerate(zip(angles, throttles, strict=True)):
        pixels = 100 * throttle + 80 + 70 * angle * side + generator.normal(0, 4, (48, 64, 3))
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        image.save(root / "tub" / "images" / f"{number}_cam_image_array_.jpg", quality=95)
    text = RECIPE.replace("gap: 1", "gap: 1, throttle: true").replace("[mean angle]", "[mean angle, mean throttle]")
    (root / "both.yaml").write_text(text.replace("epochs: 3", "epochs: 30"))
    assert cnn("run", root / "both.yaml", "--runs", root / "runs") == 0
    return root / "runs" / "steer" / "both"


def test_the_throttle_is_learnt_beside_the_angle(throttled):
    report = json.loads((throttled / "evaluate" / "report.json").read_text())
    assert set(report["throttle"]["baselines"]) == {"mean throttle", "nearest image", "last true throttle"}
    assert report["throttle_mae"] == report["throttle"]["mae"] < report["throttle"]["baselines"]["mean throttle"]["mae"]
    low, high = report["throttle"]["mae_interval"]
    assert low - 1e-6 <= report["throttle_mae"] <= high + 1e-6  # of one block of frames the interval has no width
    for name in ("throttles", "throttle_calibration"):
        assert (throttled / "evaluate" / f"{name}.png").is_file()
    with (throttled / "evaluate" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    folder = throttled.parents[2] / "tub" / "images"
    serve = tf.saved_model.load(str(throttled / "export" / "both" / "1")).signatures["serving_default"]
    said = serve(image_bytes=tf.constant([(folder / row["id"]).read_bytes() for row in rows]))
    for name in ("angle", "low", "high", "throttle", "throttle_low", "throttle_high"):
        np.testing.assert_allclose(said[name], [float(row[name]) for row in rows], atol=1e-3)
    assert "mean throttle" in (throttled / "export" / "both" / "1" / "card.md").read_text()


def test_predict_tells_the_throttle_too(throttled, tmp_path, capsys):
    image, runs = throttled.parents[2] / "tub" / "images" / "80_cam_image_array_.jpg", throttled.parents[1]
    recipe = throttled.parents[2] / "both.yaml"
    assert cnn("predict", recipe, image, "--csv", tmp_path / "out.csv", "--json", "--runs", runs) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["throttle_low"] < told["throttle"] < told["throttle_high"]
    with (tmp_path / "out.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["throttle"]) == pytest.approx(told["throttle"], abs=1e-5)


def test_other_formats_say_the_throttle_and_a_donkey_car_finds_its_names(throttled):
    recipe, runs = throttled.parents[2] / "both.yaml", throttled.parents[1]
    assert_converted(recipe, throttled, metric="mae")
    own = ("--set", "export.donkeycar=true", "--format", "litert", "--runs", runs)
    assert cnn("export", recipe, *own) == 0
    from ai_edge_litert.interpreter import Interpreter  # optional

    interpreter = Interpreter(model_path=str(throttled / "formats" / "litert-float32" / "network.tflite"))
    names = interpreter.get_signature_list()["serving_default"]  # what donkeycar's TfLite does
    assert names == {"inputs": ["img_in"], "outputs": ["n_outputs0", "n_outputs1"]}
    assert any(row["name"] == "serving_default_img_in:0" for row in interpreter.get_input_details())
    run_signature = interpreter.get_signature_runner()
    with (throttled / "evaluate" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        pixels = np.asarray(Image.open(throttled.parents[2] / "tub" / "images" / row["id"]))
        outputs = run_signature(img_in=(pixels[None].astype(np.float64) / 255).astype(np.float32))
        said = [outputs[name][0][0] for name in names["outputs"]]
        np.testing.assert_allclose(said, [float(row["angle"]), float(row["throttle"])], atol=5e-3)


@pytest.fixture(scope="module", params=WHOLE)
def routed(tmp_path_factory):
    """A run of a network with a map, of two short drives."""
    root = tmp_path_factory.mktemp("routed")
    changes = ("train.epochs=1", "train.batch_size=16", "data.road={drives: 2, frames: 60, forks: true}", "data.gap=1")
    gates = ("evaluate.beat=[]", "evaluate.require={}", "evaluate.loop={roads: 1, steps: 5, forks: 2}")
    settings = [part for change in (*changes, *gates) for part in ("--set", change)]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert cnn("run", "steer/road-map", *settings, "--runs", root) == 0
    assert "cnn serve steer/road-map" in said.getvalue()
    assert "cnn predict" not in said.getvalue()
    return root / "steer" / "road-map"


def test_the_exported_network_takes_the_map_beside_the_picture(routed, capsys):
    report = json.loads((routed / "evaluate" / "report.json").read_text())
    assert report["forks"]["of"] == 4
    assert report["forks_taken"] == report["forks"]["right"] / 4
    assert report["fork_mae"] != report["forks"]["blank"]["mae"]
    assert (routed / "evaluate" / "forks.png").is_file()
    assert "forks taken rightly" in (routed / "export" / "road-map" / "1" / "card.md").read_text()
    shot = forks.frames(forks.roads(0, 1)[0])[0]
    picture, route = encode_png(shot()), shot.route()
    serve = tf.saved_model.load(str(routed / "export" / "road-map" / "1")).signatures["serving_default"]
    expected = float(serve(image_bytes=tf.constant([picture]), route=tf.constant(route[None]))["angle"][0])
    with TestClient(application(routed / "export" / "road-map")) as client:
        instance = {"image_bytes": {"b64": base64.b64encode(picture).decode()}, "route": route.tolist()}
        answer = client.post("/v1/models/road-map:predict", json={"instances": [instance]})
        assert answer.status_code == 200
        assert answer.json()["predictions"][0]["angle"] == pytest.approx(expected, abs=1e-5)
        alone = client.post("/v1/models/road-map:predict", content=picture, headers={"Content-Type": "image/png"})
        assert alone.status_code == 400
    (routed / "frame.png").write_bytes(picture)
    for command, told in (
        (("predict", "steer/road-map", routed / "frame.png"), "requires a map of the route"),
        (("export", "steer/road-map", "--format", "onnx"), "second input"),
    ):
        assert cnn(*command, "--runs", routed.parents[1]) == Fault.INPUT
        assert told in capsys.readouterr().err


def test_a_throttle_must_have_been_recorded(folder, tmp_path):
    with pytest.raises(Fault, match=r"data\.throttle requires user/throttle"):
        dataset.drives(config.Data(source="tub", path=folder / "tub", throttle=True), 0)
    tub = write_tub(tmp_path / "tub", [0.1, 0.2], more={drives.THROTTLE: [0.5, None]})
    first, second = dataset.drives(config.Data(source="tub", path=tub, throttle=True), 0)
    assert first.throttle == 0.5
    with pytest.raises(Unreadable, match="no throttle"):
        second.read()


def test_samples_carry_angles_to_the_sheet_of_augmentations(folder):
    recipe = recipes.load(str(folder / "short.yaml"))
    found = steer.samples(recipe, 4)
    assert len(found) == 4
    assert {tuple(one["image"].shape) for one in found} == {(70, 64, 3)}
    assert cnn("augment", folder / "short.yaml", "-o", folder / "augmented.png") == 0


def test_a_copy_of_a_picture_is_not_tested_on(folder):
    frame = drives.Frame("a", bytes, 0.0, "")
    usable = [(frame._replace(id=str(row)), "same" if row in (3, 9) else str(row)) for row in range(10)]
    data = config.Data(source="tub", validation=0.1, test=0.2, gap=0)
    kept, problems = dataset._divided(usable, data)
    assert [one.split for one in kept] == ["train"] * 7 + ["validation", "test", None]
    assert [(problem.kind, problem.id) for problem in problems] == [("duplicate across splits", "9")]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("head.kind=spline", "head.kind"),
        ("export.donkeycar=true", "requires data.throttle"),
        ("evaluate.beat=[mean throttle]", "requires data.throttle"),
        ("data={source: road, throttle: true}", "requires source: tub or csv"),
        ("data.route=true", r"data\.route requires source: road"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, setting, told):
    with pytest.raises(Fault, match=told):
        recipes.load(str(folder / "short.yaml"), [setting])


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("augment=[mixup]", "must not mix"),
        ("augment=[flip]", "must not list flip"),
        ("model.crop=[40, 30]", "model.crop must"),
        ("model.crop=[30, 0]", "at least 61"),
    ],
)
def test_what_cannot_steer_is_refused_before_any_data_is_read(folder, setting, told):
    with pytest.raises(Fault, match=told):
        steer.check(recipes.load(str(folder / "short.yaml"), [setting]))


def test_a_drive_straight_ahead_teaches_nothing():
    with pytest.raises(Fault, match="must differ from straight ahead"):
        steer_model.scale({"angles": {"train": {"rms": 0.0}}})


def test_a_steady_throttle_can_be_learnt():
    found = steer_model.scale({"throttles": {"train": {"mean": 0.3, "deviation": 0.0, "rms": 0.3}}}, "throttle")
    assert found == steer_model.Scale(steer_model.STEADY, centre=0.3)
    assert found.read(tf.zeros((2, 1))).means.numpy() == pytest.approx(np.full((2, 1), 0.3))


def test_a_road_is_not_for_other_sources():
    with pytest.raises(Fault, match=r"data\.road .*source: road"):
        dataset.drives(config.Data(source="tub", road=config.Road()), 0)
    with pytest.raises(Fault, match=r"data\.path is required with source: tub"):
        config.files_digest(config.Data(source="tub"))


@pytest.mark.parametrize(
    "command",
    [
        ("slide", "steer/short", "tub/images/1_cam_image_array_.jpg"),
        ("insight", "steer/short"),
        ("bench", "input", "short.yaml"),
    ],
)
def test_what_is_for_classifiers_says_so(run, folder, capsys, monkeypatch, command):
    monkeypatch.chdir(folder)
    shutil.copytree(run, run.with_name("again"), dirs_exist_ok=True)
    runs = () if command[0] == "bench" else ("--runs", "runs")
    assert cnn(*command, *runs) == Fault.INPUT
    assert "must be" in capsys.readouterr().err
