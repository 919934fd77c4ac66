"""Style transfer from a picture to a painting on the wall, and from photographs to a network behind HTTP."""

import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image

import pipelines
from cnn_keras.errors import Fault
from pipelines.data import run_files, video_io
from pipelines.engine import recipe as recipes
from pipelines.export.runtimes import FORMATS
from pipelines.serving.server import application
from pipelines.tasks import stylize
from pipelines.tasks.stylize import dataset, distances, extractor_choice
from pipelines.tasks.stylize import report as stylize_report
from pipelines.tasks.stylize.distances import Distances
from tests.advice import follow
from tests.conftest import cnn
from tests.converted import need
from tests.stored_weights import model_bytes, stored_bytes

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

LOSS = "{extractor: stacks.three_3x3, untrained: true, content_layers: {relu2: 1}, style_layers: {relu1: 1, relu3: 1}}"
PICTURE = f"""\
# A picture in stripes.
task: stylize
data: {{content: {{path: content.png}}, styles: [{{path: stripes.png}}], size: 48}}
train: {{steps: 4, preview: 2, loss: {LOSS}}}
"""
NETWORK = f"""\
# Two styles in one network.
task: stylize
data: {{content: {{path: photos}}, styles: [{{path: stripes.png}}, {{name: scream}}], size: 48, windows: 3, window: 32}}
augment: [mirror]
model: {{builder: stylize.transformer, width: 4, blocks: 1}}
train: {{method: network, epochs: 2, batch_size: 4, learning_rate: 1e-2, loss: {LOSS}}}
evaluate: {{compared: 1, steps: 2}}
"""
SIZES = ((48, 60), (33, 50), (64, 64))


@pytest.fixture(autouse=True, scope="module")
def alone():
    """No independent network: looking with one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor_choice, "independent", lambda extractor: None)
        yield


def write_pictures(folder):
    """Six photographs, a picture and a style, and recipes of both methods."""
    draw = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(6):
        pixels = np.kron(draw.integers(0, 256, (7, 8, 3)), np.ones((8, 8, 1))).astype("uint8")
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    Image.fromarray(pixels).save(folder / "content.png")
    stripes = np.zeros((60, 60, 3), "uint8")
    stripes[::4] = (255, 120, 0)
    Image.fromarray(stripes).save(folder / "stripes.png")
    (folder / "picture.yaml").write_text(PICTURE)
    (folder / "network.yaml").write_text(NETWORK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stylize")
    write_pictures(folder)
    return folder


@pytest.fixture(scope="module")
def hung(folder):
    assert cnn("run", folder / "picture.yaml", "--runs", folder / "runs") == 0
    return folder / "runs" / "stylize" / "picture"


@pytest.fixture(scope="module")
def network(folder):
    assert cnn("run", folder / "network.yaml", "--runs", folder / "runs") == 0
    return folder / "runs" / "stylize" / "network"


def png(height, width, value=90):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (value, 20, 200)).save(file, "PNG")
    return file.getvalue()


def test_a_painting_hangs_with_its_card_and_everything_people_look_at(hung):
    wall = hung / "export" / "picture" / "1"
    painting, content = dataset.load(wall / "content.png"), dataset.contents(hung / "prepare")[0].pixels
    assert painting.shape == content.shape == (42, 48, 3)
    assert np.abs(painting.astype(int) - content).mean() > 1
    for name in ("train/curves.png", "train/history.csv", "evaluate/strip.png", "prepare/contact_sheet.png"):
        assert (hung / name).is_file()
    assert len(list((hung / "train" / "previews").glob("*.png"))) == 4
    card = (wall / "card.md").read_text()
    assert "stacks.three_3x3 (random), own" in card
    report = json.loads((hung / "evaluate" / "report.json").read_text())
    assert report["style_fall"] > 0
    assert report["content_lead"] == report["judges"]["own"]["content_lead"]


def test_the_history_of_a_painting_has_a_row_for_each_recorded_step(folder, hung):
    rows = pipelines.load("stylize/picture", runs=folder / "runs").history
    assert [(row["picture"], row["step"]) for row in rows] == sorted({(row["picture"], row["step"]) for row in rows})
    assert rows[-1]["step"] == 8  # four at each of two scales
    assert {"content", "style"} <= rows[0].keys()


def test_nothing_is_painted_twice(folder, hung, capsys):
    assert cnn("run", folder / "picture.yaml", "--runs", folder / "runs", "--json") == 0
    out, err = capsys.readouterr()
    assert err.count("skipped") == 4
    assert json.loads(out)["pictures"] == str(hung / "export" / "picture" / "1")


def test_what_does_not_hold_is_a_gate(folder, hung, capsys):
    setting = ("--set", "evaluate.require={style_fall: 0.99}", "--runs", folder / "runs")
    assert cnn("export", folder / "picture.yaml", *setting) == Fault.GATE
    assert "style_fall must be at least 0.99" in capsys.readouterr().err


def test_a_painting_cannot_be_extended(folder, hung, capsys):
    assert cnn("train", folder / "picture.yaml", "--extend", 3, "--runs", folder / "runs") == Fault.INPUT
    assert "--extend requires" in capsys.readouterr().err


@pytest.mark.slow
def test_a_video_becomes_one(folder, tmp_path):
    frames = [np.full((36, 48, 3), 80 + 9 * number, "uint8") for number in range(3)]
    video_io.write(tmp_path / "a.mp4", frames, rate=8.0)
    setting = ("--set", f"data.content.path={tmp_path}/a.mp4", "--set", "name=clip", "--set", "train.scales=[1.0]")
    assert cnn("run", folder / "picture.yaml", *setting, "--runs", tmp_path / "runs") == 0
    written = tmp_path / "runs" / "stylize" / "clip" / "export" / "clip" / "1" / "painting.mp4"
    assert [frame.shape for frame in video_io.frames(written)] == [(36, 48, 3)] * 3
    assert video_io.facts(written).rate == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize(
    ("file", "setting", "told"),
    [
        ("picture", "model={builder: stylize.transformer}", "model and augment require train.method: network"),
        ("picture", "train.epochs=3", "train.epochs: unknown key"),
        ("picture", "train.method=net", "train"),
        ("network", "model=null", "model is required with train.method: network"),
        ("network", "data.styles=[{name: scream, weight: 2.0}]", "neither masks nor weights for a network"),
        ("network", "evaluate.require={accuracy: 0.5}", "evaluate.require"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, file, setting, told):
    with pytest.raises(Fault, match=told):
        recipes.load(str(folder / f"{file}.yaml"), [setting])


def test_a_network_must_be_one_that_paints_and_not_mix(folder):
    with pytest.raises(Fault, match=r"model\.builder must be"):
        stylize.check(recipes.load(str(folder / "network.yaml"), ["model={builder: lenet.lenet5_modern}"]))
    with pytest.raises(Fault, match="augment must not mix"):
        stylize.check(recipes.load(str(folder / "network.yaml"), ["augment=[mixup]"]))


def test_distances_become_a_fall_and_a_lead():
    found = Distances(style=1.0, style_before=4.0, content=0.5, content_of_style=2.0)
    assert (found.style_fall, found.content_lead) == (0.75, 0.75)
    report = distances.summary({"own": [found], "independent": [found._replace(style=2.0)]})
    assert report["style_fall"] == 0.5  # the independent one's
    assert stylize_report.failed_requirements({"style_fall": 0.6}, report) == [
        "evaluate.require: style_fall must be at least 0.6, got 0.500"
    ]


@pytest.mark.slow
def test_a_network_learns_and_leaves_what_people_look_at(network):
    for name in ("train/curves.png", "evaluate/strip.png", "prepare/contact_sheet.png"):
        assert (network / name).is_file()
    report = json.loads((network / "evaluate" / "report.json").read_text())
    assert set(report["terms"]) == {"network", "optimised"}
    assert "Terms of J beside pictures optimised for 2 steps" in (network / "export/network/1/card.md").read_text()
    assert stored_bytes(network / "export/network/1") == model_bytes(network / "train/model.keras")


@pytest.mark.slow
def test_a_killed_training_of_a_network_resumes_to_the_same_weights(folder, network, monkeypatch):
    from pipelines.engine import stages

    monkeypatch.setattr(stages.Run, "on_epoch", _kill)
    setting = ("--set", "name=killed", "--runs", folder / "runs")
    assert cnn("train", folder / "network.yaml", *setting) == 130
    monkeypatch.undo()
    assert cnn("train", folder / "network.yaml", *setting) == 0
    facts = [
        run_files.read_json(run / "train" / "manifest.json")["facts"] for run in (network, network.parent / "killed")
    ]
    assert facts[0]["digest"] == facts[1]["digest"]


def _kill(self, number, row):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_what_comes_next_is_accepted(folder, network, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    done = follow(folder / "network.yaml", folder / "runs", [folder / "photos"], capsys=capsys, monkeypatch=monkeypatch)
    assert done == ["serve", "predict", "dashboard"]


@pytest.mark.slow
@pytest.mark.slow
def test_a_network_of_one_style_paints_alike_in_other_formats(folder):
    need()
    recipe = folder / "one.yaml"
    recipe.write_text(NETWORK.replace(", {name: scream}", ""))
    assert cnn("run", recipe, "--runs", folder / "runs") == 0
    assert cnn("export", recipe, "--format", ",".join(FORMATS), "--runs", folder / "runs") == 0
    run = folder / "runs" / "stylize" / "one"
    pictures = len(dataset.contents(run / "prepare"))
    for name in FORMATS:
        described = json.loads((run / "formats" / f"{name}-float32" / "network.json").read_text())
        proof = described["proof"]
        assert (proof["metric"], proof["split"], proof["examples"]) == ("agreement", "test", pictures)
        assert proof["decisions"] == pictures * 32 * 32 * 3  # values of a painting
        assert (proof["value"], proof["original"], proof["changed"]) == (1, 1, 0)
        assert proof["difference"] < 0.1  # grey levels


def test_pictures_of_any_size_come_back_painted_over_http(network):
    with TestClient(application(network / "export" / "network")) as client:
        for size in SIZES:
            answer = client.post("/predict", content=png(*size), headers={"content-type": "image/png"})
            assert answer.headers["content-type"] == "image/png"
            painting = np.asarray(Image.open(io.BytesIO(answer.content)))
            assert painting.shape == (*size, 3)
        other = client.post("/predict?signature_name=scream", content=png(*size), headers={"content-type": "image/png"})
        assert other.content != answer.content
        blend = {"signature_name": "blend", "instances": [{"image_bytes": {"b64": _b64(png(*size))}, "style": [3, 0]}]}
        (mixed,) = client.post("/v1/models/network:predict", json=blend).json()["predictions"]
        assert mixed["b64"] == _b64(answer.content)
        small = client.post("/predict", content=png(12, 30), headers={"content-type": "image/png"})
        assert small.status_code == 400
        assert "at least 16 pixels" in small.json()["error"]


def _b64(data):
    import base64

    return base64.b64encode(data).decode()


@pytest.mark.slow
def test_predict_and_stylize_paint_with_the_network(folder, network, tmp_path, capsys):
    arguments = ("--runs", folder / "runs", "--pictures", tmp_path / "painted", "--json")
    assert cnn("predict", "stylize/network", folder / "photos", *arguments) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["painting"] for answer in answers] == [{"width": 64, "height": 56}] * 6
    assert len(list((tmp_path / "painted").glob("*.png"))) == 6
    output = tmp_path / "one.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cnn("stylize", folder / "content.png", "stylize/network", "-o", output, "--colour", "keep") == 0
        assert (
            cnn("stylize", folder / "photos", "stylize/network", "-o", tmp_path / "all", "--signature", "scream") == 0
        )
    assert dataset.load(output).shape == (56, 64, 3)
    assert len(list((tmp_path / "all").glob("*.png"))) == 6


def test_commands_for_other_tasks_say_so(folder, hung, capsys):
    runs = ("--runs", folder / "runs")
    for arguments, told in (
        (("serve", "stylize/picture", *runs), "MODEL must be"),
        (("compare", "stylize/picture", "classify/none", *runs), "RUNS must have a test split"),
        (("augment", folder / "network.yaml"), "RECIPE must be"),
    ):
        assert cnn(*arguments) == Fault.INPUT
        assert told in capsys.readouterr().err
