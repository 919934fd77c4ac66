"""The wheel: what `make wheel` builds works in an empty environment, from any folder."""

import shutil
import site
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLEAN = {"PATH": "/usr/bin:/bin"}  # without PYTHONPATH


def test_every_package_is_packed():
    """Those that pyproject.toml names are those that there are."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = [
        file.parent.relative_to(ROOT)
        for name in ("cnn_keras", "pipelines")
        for file in ROOT.glob(f"{name}/**/__init__.py")
    ]
    assert sorted(settings["packages"]) == sorted(".".join(folder.parts) for folder in found)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment that has the wheel, and sees the packages of this one, but not its installation of cnn-keras."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("cnn_keras", "pipelines"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, source]
    subprocess.run([*pip, "--quiet", *build], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "--quiet", "install", "--no-deps", "--no-index", wheel], check=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()))  # afterwards: pip must not see them
    return folder / "venv" / "bin"


@pytest.mark.slow
@pytest.mark.parametrize("program", [["cnn"], ["python", "-m", "pipelines"]])
@pytest.mark.parametrize(
    ("arguments", "expected"), [(["show", "classify/digits-lenet5"], "lenet5_modern"), (["models", "list"], "resnet")]
)
def test_the_wheel_works_in_an_empty_environment(environment, tmp_path, program, arguments, expected):
    (tmp_path / "pipelines").mkdir()  # a folder of that name must not be taken for the package
    command = [environment / program[0], *program[1:], *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=CLEAN)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


@pytest.mark.slow
def test_both_packages_are_those_of_the_wheel(environment, tmp_path):
    (tmp_path / "pipelines").mkdir()
    code = "import pipelines, cnn_keras.errors as errors; print(pipelines.__file__, errors.__file__)"
    command = [environment / "python", "-c", code]
    files = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=CLEAN).stdout.split()
    assert all(Path(file).is_relative_to(environment.parent) for file in files)
