"""The promises to a user, kept from the outside: killed and resumed, a messy folder, no network, a Makefile."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_digits

CNN = [sys.executable, "-c", "from pipelines.cli.main import main; main()"]
OFFLINE = [
    sys.executable,
    "-c",
    "import socket\n"
    "connect = socket.socket.connect\n"
    "def local(self, address):\n"
    "    if self.family != socket.AF_UNIX and address[0] not in ('127.0.0.1', '::1', 'localhost'):\n"
    "        raise OSError(f'the network is blocked: {address}')\n"
    "    return connect(self, address)\n"
    "socket.socket.connect = local\n"
    "from pipelines.cli.main import main; main()",
]
SMALL = ["--set", "train.epochs=6", "--set", "evaluate.require={}", "--set", "evaluate.beat=[]"]


def manifest(root, stage, name="digits-lenet5"):
    return json.loads((root / "runs" / "classify" / name / stage / "manifest.json").read_text())


def rows(path):
    with path.open() as file:
        timings = ("seconds", "images_per_second", "input_share")
        return [{key: value for key, value in row.items() if key not in timings} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_training_killed_with_sigkill_in_epoch_3_ends_with_the_same_weights(tmp_path):
    command = ["train", "classify/digits-lenet5", *SMALL]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for root in (whole, killed):
        root.mkdir()
    subprocess.run([*CNN, *command], cwd=whole, check=True, capture_output=True)

    process = subprocess.Popen([*CNN, *command], cwd=killed, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:  # the line of epoch 2 is printed when epoch 3 begins
        if "  2/6 " in line:
            time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    resumed = subprocess.run([*CNN, *command], cwd=killed, check=True, capture_output=True, text=True).stdout

    assert "resumed after epoch 2" in resumed
    assert manifest(killed, "train")["digest"] == manifest(whole, "train")["digest"]
    path = Path("runs/classify/digits-lenet5/train/history.csv")
    assert rows(killed / path) == rows(whole / path)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def bad_files():
    """Twelve files of eight kinds: four that are of no use, four that are not what they seem."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))
    deep = Image.fromarray((np.arange(900).reshape(30, 30) * 70).astype(np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "undecodable": {"text.jpg": b"no image at all", "torn.png": encoded(image, "PNG")[:200]},
        "empty": {"empty.png": b"", "empty.jpg": b""},
        "huge": {"bomb.png": encoded(Image.new("1", (9000, 9000)), "PNG")},
        "unsupported": {"scan.avif": encoded(image, "AVIF")},
        "animated": {"film.gif": encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)])},
        "exif-rotated": {
            "turned.jpg": encoded(image, "JPEG", exif=turned),
            "turned2.jpg": encoded(image.rotate(180), "JPEG", exif=turned),
        },
        "cmyk": {"print.jpg": encoded(image.rotate(90).convert("CMYK"), "JPEG")},
        "16-bit": {"deep.png": encoded(deep, "PNG"), "deep2.png": encoded(deep.rotate(90), "PNG")},
    }


@pytest.mark.slow
def test_a_folder_with_twelve_bad_files_is_reported_trained_evaluated_and_exported(tmp_path):
    write_digits(tmp_path / "photos", classes=3, each=100)
    bad = bad_files()
    assert (sum(map(len, bad.values())), len(bad)) == (12, 8)
    for files in bad.values():
        for name, data in files.items():
            (tmp_path / "photos" / "0" / name).write_bytes(data)
    command = ["run", "classify/folder-lenet5", "--set", "data.path=photos", "--set", "train.epochs=8"]
    done = subprocess.run([*CNN, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "classify" / "folder-lenet5"
    with (run / "prepare" / "problems.csv").open() as file:
        problems = {(row["kind"], row["id"]) for row in csv.DictReader(file)}
    for kind, files in bad.items():
        assert f"{len(files)} {kind}" in done.stdout
        for name in files:
            assert (kind, f"0/{name}") in problems
    assert manifest(tmp_path, "prepare", "folder-lenet5")["facts"]["splits"]["train"] > 200
    assert (run / "export" / "folder-lenet5" / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_the_quick_start_needs_no_network(tmp_path):
    command = [*OFFLINE, "run", "classify/digits-lenet5", *SMALL]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tracking events" not in done.stdout
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.stdout.count("skipped: nothing it depends on changed") == 4


def test_a_bare_make_lists_every_target():
    root = Path(__file__).parents[3]
    listed = subprocess.run(["make"], cwd=root, capture_output=True, text=True, check=True).stdout
    stages = ("prepare", "train", "evaluate", "export", "run")
    for target in ("setup", "demo", *stages, "serve", "predict", "dashboard", "test", "slow", "bench", "lint", "clean"):
        assert f"make {target} " in listed


def test_make_without_python_3_11_says_how_to_get_it(tmp_path):
    root = Path(__file__).parents[3]
    for name in ("Makefile", "requirements.lock", "requirements-uv.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    environment = os.environ | {"PYTHON": ""}
    done = subprocess.run(["make", "setup", "PYTHON="], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Python 3.11" in done.stdout
    assert "apt-get install" in done.stdout


def test_whatever_make_installs_is_pinned_and_hashed():
    root = Path(__file__).parents[3]
    installs = [line for line in (root / "Makefile").read_text().splitlines() if re.search(r"pip install", line)]
    assert installs
    for line in installs:
        assert "--require-hashes " in line or "--no-deps --no-build-isolation --editable ." in line, line
    for name in re.findall(r"-r (\S+)", "\n".join(installs)):
        pins = re.findall(r"^(?! |#)(.+)$", (root / name).read_text(), re.MULTILINE)
        assert pins
        assert all("==" in pin for pin in pins)
