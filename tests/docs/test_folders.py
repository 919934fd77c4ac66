"""docs/examples/folders.py writes public data as the recipes for folders of one's own read them."""

import importlib.util
import re

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data.sources import segmentation, signals
from cnn_keras.data.sources.classification import folder as class_folders
from pipelines.engine import recipe as recipes
from tests.docs.documents import ROOT

SCRIPT = ROOT / "docs" / "examples" / "folders.py"


@pytest.fixture(scope="module")
def folders():
    spec = importlib.util.spec_from_file_location("folders", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kind_is_named_in_the_header_of_the_recipe_that_was_measured_on_it(folders):
    headers = "\n".join(recipes.header(name) for name in recipes.shipped())
    named = set(re.findall(r"docs/examples/folders\.py\s(\w+)", headers))
    assert named == set(folders.KINDS)


def test_signals_are_those_of_the_archive(folders, tmp_path):
    folders.main(["signals", str(tmp_path / "signals")])
    written = [item.read()[0] for item in signals.folder(tmp_path / "signals")]
    published = [item.read()[0] for item in signals.sktime("GunPoint")]
    assert len(written) == len(published) == 200
    assert sorted(float(values.sum()) for values in written) == pytest.approx(
        sorted(float(values.sum()) for values in published), abs=1e-3
    )


def test_nuclei_are_pictures_and_masks_of_one_size_and_leave_nothing_out(folders, tmp_path):
    folders.main(["nuclei", str(tmp_path / "nuclei")])
    items = segmentation.load("folder", path=tmp_path / "nuclei").items
    nuclei = sum(int((item.mask((128, 128)).values == 1).sum()) for item in items)
    _, mask = folders.nuclei_sample.pixels()
    assert (len(items), nuclei) == (16, int((mask > 0).sum()))


def test_scans_share_no_voxel(folders, tmp_path):
    folders.main(["scans", str(tmp_path / "scans")])
    items = segmentation.load("folder", axes=3, path=tmp_path / "scans").items
    assert len(items) == 15
    volume, _ = items[0].read()
    assert volume.shape == (197, 77, 37, 1)
    assert set(np.unique(items[7].mask(volume.shape[:3]).values)) == {0, 1, 2}


def test_people_have_ten_photographs_each(folders, tmp_path):
    folders.main(["people", str(tmp_path / "people")])
    labels = [item.label for item in class_folders(tmp_path / "people")]
    assert {labels.count(person) for person in labels} == {10}
    assert len(set(labels)) == 40


def test_a_person_s_attempts_are_of_one_group_and_every_face_is_attacked(folders, tmp_path, monkeypatch):
    some = folders.classification.orl()[:4]
    monkeypatch.setattr(folders.classification, "orl", lambda: some)
    folders.main(["attempts", str(tmp_path / "attempts")])
    items = class_folders(tmp_path / "attempts", r"^(?:live|spoof)/([^_]+)_")
    assert {(item.label, item.group) for item in items} == {("live", "s1"), ("spoof", "s1")}
    live, attack = (np.asarray(Image.open(tmp_path / "attempts" / kind / "s1_1.jpg")) for kind in ("live", "spoof"))
    assert live.shape == attack.shape == (448, 368, 3)
    assert stripes(attack) > 2 * stripes(live)


def stripes(image):
    """How much a channel differs, column by column, from the mean of its neighbours: a screen repeats every third."""
    columns = image.mean(axis=0)
    return np.abs(columns[1:-1] - (columns[:-2] + columns[1:-1] + columns[2:]) / 3).mean()


@pytest.mark.parametrize("arguments", [[], ["digits"], ["cats", "x"], ["people", "full"]])
def test_what_cannot_be_written_is_refused(folders, arguments, tmp_path, monkeypatch):
    (tmp_path / "full" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"usage: python docs/examples/folders.py|FOLDER must be new or empty"):
        folders.main(arguments)
