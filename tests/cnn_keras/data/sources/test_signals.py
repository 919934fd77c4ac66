"""Signals: what is read from text files, and the task from prepare to predict on signals that the test writes."""

import csv
import importlib.util
import json
import re
import warnings
import wave

import numpy as np
import pytest
import tensorflow as tf
from scipy.io import wavfile

import pipelines as door
from cnn_keras.data.sources import signals
from cnn_keras.errors import Fault, Unreadable
from pipelines.data import array_config, array_dataset
from pipelines.engine import recipe as recipes
from tests.advice import follow
from tests.conftest import WHOLE, cnn
from tests.stored_weights import model_bytes, stored_bytes

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

needs_sktime = pytest.mark.skipif(
    importlib.util.find_spec("sktime") is None, reason="needs the package sktime (make samples)"
)


@pytest.mark.parametrize(
    "text",
    [
        "left,force\n1,2\n3,4\n5,6\n",
        "1;2\n3;4\n5;6",
        "1,0;2,0\n3,0;4\n5;6,0\n",  # a decimal comma
        "1\t2\r\n3\t4\r\n5\t6\r\n",
        "# of the left hand\n\n1 2\n3  4  # odd\n5 6\n",
        '\ufeff"a","b"\n"1","2"\n3,4\n5,6\n',
    ],
)
def test_columns_are_read_whatever_parts_them(tmp_path, text):
    path = tmp_path / "signal.csv"
    path.write_text(text, newline="")
    values, notes = signals.read(path)
    np.testing.assert_array_equal(values, [[1, 2], [3, 4], [5, 6]])
    assert values.dtype == np.float32
    assert notes == []


def test_one_line_is_one_channel_and_said_to_be(tmp_path):
    (tmp_path / "signal.csv").write_text("1,2,3,4\n")
    values, notes = signals.read(tmp_path / "signal.csv")
    np.testing.assert_array_equal(values[:, 0], [1, 2, 3, 4])
    assert notes == ["one line, read as one channel"]


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"", "empty", "no line"),
        (b"\n# nothing\n", "empty", "no line"),
        (b"a,b\n", "empty", "line of names"),
        (b"\xff\xfe1,2", "undecodable", "UTF-8"),
        (b"1,2\n3\n", "undecodable", "line 2 must have 2 columns like the first, got 1"),
        (b"1,2\n3,x\n", "undecodable", "line 2 must hold finite numbers, at most 1e+15, got 'x'"),
        (b"1,2\n3,inf\n", "undecodable", "finite"),
        (b'1\nnan\n""\n', "undecodable", "half of its values at least, got 33%"),
        (b"time,date\n1,2\n", "empty", "only times"),
        (b"1e20,2\n3,4\n", "undecodable", "line 1 must hold finite numbers, at most 1e+15, got '1e20'"),
    ],
)
def test_a_file_of_no_use_says_why(tmp_path, data, kind, said):
    (tmp_path / "signal.csv").write_bytes(data)
    with pytest.raises(Unreadable, match=re.escape(said)) as error:
        signals.read(tmp_path / "signal.csv")
    assert error.value.kind == kind


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "BYTES_LIMIT", 3)
    (tmp_path / "signal.csv").write_text("1\n2\n")
    with pytest.raises(Unreadable, match="may have 3 bytes") as error:
        signals.read(tmp_path / "signal.csv")
    assert error.value.kind == "huge"


TS = "#A comment\n@problemName Two\n@timeStamps false\n@classLabel true up down\n@data\n"


def test_a_ts_file_has_channels_between_colons_and_its_label_last(tmp_path):
    (tmp_path / "Two_TRAIN.ts").write_text(TS + "1,2,3:4,5,6:up\n3,2,1:6,5,4:down\n")
    (tmp_path / "Two_TEST.ts").write_text(TS + "1,2,2.5:4,5,6:up\n")
    for place in (tmp_path, tmp_path / "Two_TRAIN.ts", tmp_path / "Two_TEST.ts"):
        items = signals.items("ts", path=place)
        assert sorted((item.id, item.label, item.split) for item in items) == [
            ("Two_TEST/00000", "up", "test"),
            ("Two_TRAIN/00000", "up", "train"),
            ("Two_TRAIN/00001", "down", "train"),
        ]
    items = {item.id: item for item in items}
    np.testing.assert_array_equal(items["Two_TRAIN/00000"].read()[0], [[1, 4], [2, 5], [3, 6]])


def test_lines_of_a_ts_file_that_are_of_no_use_are_items_that_say_so(tmp_path):
    (tmp_path / "odd.ts").write_text(TS + "1,x:up\n1,2:sideways\n1,2:1:up\n1,2:3,4:up\n")
    items = signals.items("ts", path=tmp_path / "odd.ts")
    assert [item.split for item in items] == [None] * 4
    kinds = []
    for item in items[:3]:
        with pytest.raises(Unreadable) as error:
            item.read()
        kinds.append(error.value.kind)
    assert kinds == ["undecodable", "without a class", "unsupported"]
    assert items[3].read()[0].shape == (2, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2,3:up\n", "@data"),
        ("@targetLabel true\n@data\n1,2:3\n", "@classLabel true"),
    ],
)
def test_a_ts_file_of_another_kind_is_a_fault(tmp_path, text, said):
    (tmp_path / "odd.ts").write_text(text)
    with pytest.raises(Fault, match=said) as fault:
        signals.items("ts", path=tmp_path / "odd.ts")
    assert fault.value.code == Fault.DATA


def test_a_source_says_what_it_needs(tmp_path, monkeypatch):
    with pytest.raises(Fault, match="must be folder, ts, wfdb or sktime:NAME, got 'wav'"):
        signals.items("wav")
    with pytest.raises(Fault, match=r"data\.path is required with source: ts"):
        signals.items("ts", path=None)
    with pytest.raises(Fault, match=r"must be a \.ts or \.tsv file, or a folder"):
        signals.items("ts", path=tmp_path)
    with pytest.raises(Fault, match=r"data\.path is required with source: folder"):
        array_config.files_digest(recipes.load("signals/folder-fcn").data)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Fault, match="needs the package sktime; `make samples`"):
        signals.items("sktime:GunPoint")


@needs_sktime
def test_the_sets_of_sktime_keep_their_official_halves():
    items = signals.items("sktime:BasicMotions")
    assert [sum(item.split == split for item in items) for split in ("train", "test")] == [40, 40]
    assert {item.label for item in items} == {"Standing", "Running", "Walking", "Badminton"}
    assert items[0].read()[0].shape == (100, 6)
    with pytest.raises(Fault, match=r"got 'Gunpoint'; did you mean GunPoint\?"):
        signals.items("sktime:Gunpoint")


RECIPE = """\
# Waves and steps.
task: signals
data: {source: folder, path: signals, length: 32, max_bad: 0.2}
augment: [{jitter: 0.01, shift: 0.02}]
model: {builder: conv1d.two_conv}
train: {epochs: 6, batch_size: 16, learning_rate: 1e-2}
evaluate: {require: {accuracy: 0.8}}
"""


def write_signals(root):
    """40 waves and 40 steps of differing lengths, with four files of no use and a copy, and their recipe."""
    generator = np.random.default_rng(0)
    for label in ("wave", "step"):
        (root / "signals" / label).mkdir(parents=True)
        for number in range(40):
            time = np.linspace(0, 4 * np.pi, 30 + number)
            shape = np.sin(time) if label == "wave" else np.sign(np.sin(time / 4 + 0.01))
            values = np.stack([5 * shape, 100 + shape], axis=1) + generator.normal(0, 0.05, (len(time), 2))
            np.savetxt(root / "signals" / label / f"{number:02d}.csv", values, delimiter=",", fmt="%.5f")
    wave = root / "signals" / "wave"
    (wave / "copy.csv").write_bytes((wave / "00.csv").read_bytes())
    (wave / "empty.csv").touch()
    (wave / "words.csv").write_text("a,b\nc,d\n")
    (wave / "three.csv").write_text("1,2,3\n4,5,6\n")
    (wave / "notes.doc").touch()
    (root / "waves.yaml").write_text(RECIPE)


@pytest.fixture(scope="module", params=WHOLE)
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("signals")
    write_signals(root)
    assert cnn("run", root / "waves.yaml", "--runs", root / "runs") == 0
    return root


@pytest.fixture(scope="module")
def run(root):
    return root / "runs" / "signals" / "waves"


def test_what_comes_next_is_accepted(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    done = follow(
        root / "waves.yaml", root / "runs", [root / "signals" / "step"], capsys=capsys, monkeypatch=monkeypatch
    )
    assert done == ["serve", "predict", "dashboard"]


def test_an_array_is_answered_as_its_file_is(root):
    file = root / "signals" / "wave" / "01.csv"
    values = np.loadtxt(file, delimiter=",")
    found = door.load("signals/waves", runs=root / "runs")
    whole, array, stacked = (found.predict(given)[0] for given in (file, values, values[None]))
    assert whole["path"] == str(file)
    assert array == stacked == {**whole, "path": None}
    assert found.draw(values)[0].size == found.draw(file)[0].size


FILES = {
    "prepare": ["signals.png", "class_balance.png", "split.csv", "problems.csv", "data.json", "train.npz"],
    "train": ["model.keras", "history.csv", "curves.png"],
    "evaluate": ["report.json", "predictions.csv", "confusion_matrix.png", "reliability.png", "worst.png"],
    "export": ["waves/1/saved_model.pb", "waves/1/card.md", "waves/1/assets.extra/tf_serving_warmup_requests"],
}


@pytest.mark.parametrize("stage", FILES)
def test_a_stage_leaves_its_files_and_a_manifest(run, stage):
    for name in [*FILES[stage], "manifest.json"]:
        assert (run / stage / name).stat().st_size > 0, name


def test_files_of_no_use_are_named_by_kind_and_path(run):
    with (run / "prepare" / "problems.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["id"], row["kind"], row["action"]) for row in rows} == {
        ("wave/empty.csv", "empty", "dropped"),
        ("wave/notes.doc", "not a signal", "skipped"),
        ("wave/three.csv", "unsupported", "dropped"),
        ("wave/words.csv", "undecodable", "dropped"),
        ("wave/copy.csv", "duplicate", "kept"),
    }
    reason = next(row["detail"] for row in rows if row["id"] == "wave/three.csv")
    assert reason == "it must have 2 channels like most, got 3"


def test_every_signal_is_in_one_split_and_copies_are_together(run):
    with (run / "prepare" / "split.csv").open() as file:
        splits = {row["id"]: row["split"] for row in csv.DictReader(file)}
    assert len(splits) == 81
    assert splits["wave/copy.csv"] == splits["wave/00.csv"]
    assert {splits[f"step/{number:02d}.csv"] for number in range(40)} == {"train", "validation", "test"}


def test_the_normalisation_is_that_of_the_training_split(run):
    data = json.loads((run / "prepare" / "data.json").read_text())
    with np.load(run / "prepare" / "train.npz") as file:
        values = file["values"].reshape(-1, 2).astype(np.float64)
    assert data["shape"] == [32, 2]
    np.testing.assert_allclose(data["normalization"]["mean"], values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(data["normalization"]["variance"], values.var(axis=0), rtol=1e-3)


def test_the_baselines_saw_every_number(run):
    report = json.loads((run / "evaluate" / "report.json").read_text())
    assert set(report["baselines"]["accuracy"]) == {"majority", "logistic regression", "nearest neighbour"}
    assert report["baselines"]["note"] == "fitted on the signals of the training split at 32, 8 bits a number"


def test_the_export_takes_signals_of_any_length_in_batches(run):
    loaded = tf.saved_model.load(str(run / "export" / "waves" / "1"))
    assert stored_bytes(run / "export" / "waves" / "1") == model_bytes(run / "train" / "model.keras")
    spec = loaded.signatures["serving_default"].structured_input_signature[1]["signal"]
    assert (spec.dtype, spec.shape.as_list()) == (tf.float32, [None, None, 2])
    with np.load(run / "prepare" / "test.npz") as file:
        values, labels = file["values"], file["labels"]
    answer = loaded.signatures["serving_default"](signal=tf.constant(values))
    assert np.mean(answer["class_id"].numpy() == labels) > 0.8
    longer = loaded.signatures["serving_ranked"](signal=tf.constant(np.repeat(values[:1], 2, axis=1)))
    assert longer["classes"][0, 0] == answer["label"][0]
    np.testing.assert_allclose(longer["scores"].numpy().sum(axis=1), 1, rtol=1e-5)


def test_the_server_answers_rows_of_numbers(run):
    from pipelines.serving.server import application

    with TestClient(application(run / "export" / "waves")) as client:
        row = [[5.0, 101.0]] * 45  # longer than the network's 32
        answer = client.post("/v1/models/waves:predict", json={"instances": [row, row]})
        assert answer.status_code == 200, answer.text
        assert [each["label"] for each in answer.json()["predictions"]] == ["step", "step"]
        wrong = client.post("/v1/models/waves:predict", json={"instances": [[[1.0], [2.0]]]})
        assert wrong.status_code == 400
        assert "signal must have shape [any, any, 2], got [1, 2, 1]" in wrong.json()["error"]


def test_predict_answers_for_files_and_names_what_it_cannot_read(root, tmp_path, capsys):
    place, drawn = root / "signals" / "wave", tmp_path / "drawn"
    files = [place / "01.csv", place / "words.csv", place / "three.csv", root / "signals" / "step" / "02.csv"]
    arguments = ["predict", "signals/waves", *files, "--pictures", drawn, "--json", "--runs", root / "runs"]
    assert cnn(*arguments) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["classes"][0]["label"] if answer["classes"] else None for answer in answers] == [
        "wave",
        None,
        None,
        "step",
    ]
    assert answers[2]["problem"] == "it must have 2 channels, got 3"
    assert sorted(path.name for path in drawn.iterdir()) == ["0000-01.png", "0003-02.png"]


def test_a_second_run_changes_nothing(root, capsys):
    assert cnn("run", root / "waves.yaml", "--runs", root / "runs") == 0
    assert capsys.readouterr().out.count("skipped: nothing it depends on changed") == 4


def test_a_training_that_was_interrupted_ends_with_the_same_weights(root, run, tmp_path, monkeypatch):
    from pipelines.engine.training import trainer

    said = trainer._line
    monkeypatch.setattr(
        trainer, "_line", lambda history, *rest, **more: _interrupt(history) or said(history, *rest, **more)
    )
    arguments = ["train", root / "waves.yaml", "--runs", tmp_path]
    assert cnn(*arguments) == 130
    monkeypatch.setattr(trainer, "_line", said)
    assert cnn(*arguments) == 0
    manifests = [
        json.loads((place / "train" / "manifest.json").read_text()) for place in (run, tmp_path / "signals/waves")
    ]
    assert manifests[1]["resumed"]
    assert manifests[0]["facts"]["digest"] == manifests[1]["facts"]["digest"]


def _interrupt(history):
    if len(history) == 3:
        raise KeyboardInterrupt


def test_a_signal_is_drawn_with_a_line_for_each_channel():
    signal = np.stack([np.linspace(0, 1, 50), np.linspace(1, 0, 50)], axis=1).astype(np.float32)
    colours = {tuple(pixel) for pixel in array_dataset.draw_array(signal).reshape(-1, 3).tolist()}
    assert {array_dataset.COLOURS[0], array_dataset.COLOURS[1]} <= colours
    assert array_dataset.draw_array(np.zeros((5, 1), np.float32)).shape == (200, 320, 3)


def test_missing_values_are_filled_in_along_time_and_said_to_be(tmp_path):
    (tmp_path / "signal.csv").write_text("nan,1\n2,\n4,3\nNA,4\n1,?\n")
    values, notes = signals.read(tmp_path / "signal.csv")
    np.testing.assert_array_equal(values, [[2, 1], [2, 2], [4, 3], [2.5, 4], [1, 4]])
    assert notes == ["missing values, filled in"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time,value\n0.00,1\n0.01,2\n", [[1], [2]]),
        ("2024-01-01 10:00:00,1\n2024-01-01 10:00:01,2\n", [[1], [2]]),
        ("Timestamp;a;b\n10:00:00;1,5;2\n10:00:01;2,5;3\n", [[1.5, 2], [2.5, 3]]),
        ('"Time (s)","x (m/s^2)"\n0.0,1\n0.01,2\n', [[1], [2]]),
        ("time,seconds_elapsed,z\n1698501144825531400,0.1,1\n1698501144835531400,0.2,2\n", [[1], [2]]),
        ("epoc (ms),timestamp (+0100),elapsed (s),x-axis (g)\n1,2,3,1\n2,3,4,2\n", [[1], [2]]),
        (",x\n0,1\n1,2\n", [[1], [2]]),
    ],
)
def test_a_column_of_times_is_left_out(tmp_path, text, expected):
    (tmp_path / "signal.csv").write_text(text)
    values, notes = signals.read(tmp_path / "signal.csv")
    np.testing.assert_array_equal(values, expected)
    assert notes == ["a column of times, left out"]


def test_a_separator_at_the_end_of_each_line_is_no_column(tmp_path):
    (tmp_path / "signal.csv").write_text("-0,5;\n2,25;\n")
    np.testing.assert_array_equal(signals.read(tmp_path / "signal.csv")[0], [[-0.5], [2.25]])


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.array([0, 16384, -32768], np.int16), [[0], [0.5], [-1]]),
        (np.array([128, 192, 0], np.uint8), [[0], [0.5], [-1]]),
        (np.array([0.25, -0.5], np.float32), [[0.25], [-0.5]]),
        (np.array([[2**30, -(2**31)]], np.int32), [[0.5, -1]]),  # one moment of two channels
    ],
)
def test_a_wav_file_is_read_from_minus_one_to_one(tmp_path, stored, expected):
    wavfile.write(tmp_path / "sound.wav", 8000, stored)
    values, notes = signals.read_with_note(tmp_path / "sound.wav")
    np.testing.assert_array_equal(values, expected)
    assert (values.dtype, notes) == (np.float32, [("sample rate", "8,000 Hz")])


def test_a_wav_file_without_its_header_is_named_in_words(tmp_path):
    (tmp_path / "signal.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    with pytest.raises(Unreadable, match="its header is cut off or broken"):
        signals.read(tmp_path / "signal.wav")


def test_a_wav_file_of_24_bits_is_read(tmp_path):
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 3, 16000, 0, "NONE", ""))
        file.writeframes((2**22).to_bytes(3, "little") + (-(2**23)).to_bytes(3, "little", signed=True))
    np.testing.assert_array_equal(signals.read(tmp_path / "sound.wav")[0], [[0.5], [-1]])


def test_a_ts_file_with_missing_values_short_signals_stamps_and_labels_written_otherwise(tmp_path):
    lines = ["1,?,3:up", "?,2,3:UP", "1,2,?:down", "(0,1),(1,2.5),(2,4):up", "1,2,3: down"]
    (tmp_path / "odd.ts").write_text(TS + "\n".join(lines))
    items = signals.items("ts", path=tmp_path / "odd.ts")
    assert [item.label for item in items] == ["up", "up", "down", "up", "down"]
    assert [item.read()[0][:, 0].tolist() for item in items] == [[1, 2, 3], [2, 2, 3], [1, 2], [1, 2.5, 4], [1, 2, 3]]
    (tmp_path / "number.ts").write_text(TS.replace("up down", "1 2") + "5:1.0\n6:2e0\n7:3\n")
    assert [item.label for item in signals.items("ts", path=tmp_path / "number.ts")] == ["1", "2", ""]


@pytest.mark.parametrize(
    ("suffix", "mark", "label"), [("tsv", "\t", "1"), ("txt", "  ", "1.0000000e+00"), ("txt", ",", "1")]
)
def test_the_plain_files_of_ucr_have_the_class_first(tmp_path, suffix, mark, label):
    for half in ("TRAIN", "TEST"):
        rows = [[label, "0.5", "1", "NaN"], ["-1", "2", "nan", "4"]]
        (tmp_path / f"Two_{half}.{suffix}").write_text("\n".join(map(mark.join, rows)) + "\n")
    for place in (tmp_path, tmp_path / f"Two_TEST.{suffix}"):
        items = signals.items("ts", path=place)
        assert [(item.label, item.split) for item in items[:2]] == [("1", items[0].split), ("-1", items[1].split)]
        assert {item.split for item in items} == {"train", "test"}
        assert [item.read()[0][:, 0].tolist() for item in items[:2]] == [[0.5, 1], [2, 3, 4]]
