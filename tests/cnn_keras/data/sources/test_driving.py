"""Recorded drives: Donkey's tubs, tables, roads; what cannot be used says why; splits are blocks of time."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data import split
from cnn_keras.data.sources import driving
from cnn_keras.errors import Fault, Unreadable


def write_tub(
    folder,
    angles,
    *,
    deleted=(),
    modes=None,
    inputs=("cam/image_array", "user/angle", "user/mode"),
    extra=(),
    more=None,
):
    """A tub of version 2, as Donkey writes it: five lines in the manifest, a record a line in two catalogs."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for index, angle in enumerate(angles):
        name = f"{index}_cam_image_array_.jpg"
        pixels = np.random.default_rng(index).integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
        record = {"_index": index, "_session_id": "a", "_timestamp_ms": 50 * index, "cam/image_array": name}
        record |= {key: values[index] for key, values in (more or {}).items()}
        lines.append(json.dumps({**record, "user/angle": angle, "user/mode": (modes or {}).get(index, "user")}))
    lines += list(extra)
    half = len(lines) // 2
    (folder / "catalog_0.catalog").write_text("\n".join(lines[:half]) + "\n")
    (folder / "catalog_1.catalog").write_text("\n".join(lines[half:]) + "\n")
    last = {"paths": ["catalog_0.catalog", "catalog_1.catalog"], "current_index": len(lines), "max_len": half}
    manifest = [list(inputs), ["image_array", "float", "str"], {}, {"created_at": 0.0}]
    told = [*manifest, {**last, "deleted_indexes": list(deleted)}]
    (folder / "manifest.json").write_text("\n".join(map(json.dumps, told)) + "\n")
    return folder


def refusal(frame):
    with pytest.raises(Unreadable) as refused:
        frame.read()
    return refused.value.kind


def test_a_tub_is_read_in_the_order_of_its_catalogs(tmp_path):
    angles = [0.1, -0.2, 0.3, -1.0, 1.0]
    found = driving.frames("tub", path=write_tub(tmp_path / "tub", angles))
    assert [frame.angle for frame in found] == angles
    assert found[3].id == "3_cam_image_array_.jpg"
    assert found[3].read() == (tmp_path / "tub" / "images" / "3_cam_image_array_.jpg").read_bytes()
    assert {frame.drive for frame in found} == {""}


def test_the_throttle_is_read_where_it_is_a_number(tmp_path):
    folder = write_tub(tmp_path / "tub", [0.1, 0.2, 0.3], more={driving.THROTTLE: [0.5, -0.25, "fast"]})
    assert [frame.throttle for frame in driving.frames("tub", path=folder)] == [0.5, -0.25, None]
    (tmp_path / "drive.csv").write_text("path,angle,throttle\na.jpg,0,0.75\nb.jpg,0,\n")
    assert [frame.throttle for frame in driving.frames("csv", path=tmp_path / "drive.csv")] == [0.75, None]


def test_what_a_tub_marks_as_no_example_says_why(tmp_path):
    broken = ['{"_index": 6, "cam/image_array"', json.dumps({"_index": 7, "cam/image_array": "x.jpg"})]
    folder = write_tub(
        tmp_path / "tub", [0.0, 0.1, float("nan"), 0.3], deleted=[1], modes={3: "local_pilot"}, extra=broken
    )
    found = driving.frames("tub", path=folder)
    kinds = ["deleted frame", "broken annotation", "not driven by hand", "broken annotation", "broken annotation"]
    assert [refusal(frame) for frame in found[1:]] == kinds
    assert found[0].read()


def test_a_catalog_or_a_picture_that_is_missing_is_a_frame_that_cannot_be_read(tmp_path):
    folder = write_tub(tmp_path / "tub", [0.0, 0.1, 0.2, 0.3])
    (folder / "catalog_1.catalog").unlink()
    (folder / "images" / "0_cam_image_array_.jpg").unlink()
    found = driving.frames("tub", path=folder)
    assert len(found) == 3
    assert refusal(found[2]) == "unreadable"
    with pytest.raises(FileNotFoundError):
        found[0].read()


def test_a_folder_of_tubs_holds_a_drive_each(tmp_path):
    write_tub(tmp_path / "monday", [0.1, 0.2])
    write_tub(tmp_path / "tuesday", [0.3, 0.4])
    found = driving.frames("tub", path=tmp_path)
    assert [frame.drive for frame in found] == ["monday/", "monday/", "tuesday/", "tuesday/"]
    assert len({frame.id for frame in found}) == 4


def test_what_is_no_tub_is_refused(tmp_path):
    with pytest.raises(Fault, match=r"tub's manifest\.json"):
        driving.frames("tub", path=tmp_path)
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(Fault, match="version 1"):
        driving.frames("tub", path=tmp_path)
    (tmp_path / "manifest.json").write_text("{}\n")
    with pytest.raises(Fault, match="five lines of JSON"):
        driving.frames("tub", path=tmp_path)
    with pytest.raises(Fault, match="must record cam/image_array"):
        driving.frames("tub", path=write_tub(tmp_path / "imu", [0.0], inputs=("imu/acl_x", "user/angle")))


def write_table(path, rows, columns=("path", "angle", "time", "drive")):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_table_is_ordered_by_time_within_its_drives_and_scaled_to_full_lock(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    rows = [
        {"path": "b.png", "angle": "10", "time": "2", "drive": "x"},
        {"path": "c.png", "angle": "-20", "time": "9", "drive": "y"},
        {"path": "a.png", "angle": "5", "time": "1.5", "drive": "x"},
        {"path": "d.png", "angle": "left", "time": "3", "drive": "x"},
    ]
    found = driving.frames("csv", path=write_table(tmp_path / "table.csv", rows), full=20.0)
    assert [(frame.id, frame.angle) for frame in found] == [
        ("a.png", 0.25),
        ("b.png", 0.5),
        ("d.png", 0.0),
        ("c.png", -1.0),
    ]
    assert found[0].read() == b"a"
    assert refusal(found[2]) == "broken annotation"
    turned = driving.frames("csv", path=tmp_path / "table.csv", full=-20.0)
    assert turned[0].angle == -0.25


def test_a_table_without_its_columns_is_refused(tmp_path):
    with pytest.raises(Fault, match="columns path and angle, got path, steering"):
        driving.frames("csv", path=write_table(tmp_path / "t.csv", [], ("path", "steering")))
    with pytest.raises(Fault, match="first row looks like data: put a row with names"):
        driving.frames("csv", path=write_table(tmp_path / "t.csv", [], ("a.jpg", "-0.25", "30.1")))
    with pytest.raises(Fault, match=r"data\.full"):
        driving.frames("csv", path=tmp_path / "t.csv", full=0.0)


def test_an_unknown_source_and_a_setting_of_another_are_refused(tmp_path):
    with pytest.raises(Fault, match="road, tub, csv"):
        driving.frames("udacity")
    with pytest.raises(Fault, match=r"data\.full does not go with source: tub"):
        driving.frames("tub", path=tmp_path, full=1.0)


def test_drawn_drives_have_roads_of_their_own():
    found = driving.frames("road", drives=2, frames=3, seed=5)
    assert [frame.id for frame in found] == ["00/00000", "00/00001", "00/00002", "01/00000", "01/00001", "01/00002"]
    assert found[0].read() != found[3].read()
    assert found[1].read() == driving.frames("road", drives=2, frames=3, seed=5)[1].read()


def test_a_frame_of_a_drawn_road_knows_its_route():
    frame = driving.frames("road", drives=1, frames=1, forks=True)[0]
    assert frame.shot.track.forks
    assert frame.shot.angle == frame.angle


def test_splits_are_blocks_of_time_with_gaps_between_them():
    recording = ["a"] * 20 + ["b"] * 10
    found = split.by_time(recording, fractions={"validation": 0.1, "test": 0.2}, gap=2)
    first = ["train"] * 10 + [None] * 2 + ["validation"] * 2 + [None] * 2 + ["test"] * 4
    second = ["train"] * 3 + [None] * 2 + ["validation"] + [None] * 2 + ["test"] * 2
    assert found == first + second
    assert split.by_time(["a"] * 3, fractions={"validation": 0.0, "test": 0.0}, gap=9) == ["train"] * 3


def test_a_drive_too_short_for_its_splits_is_refused():
    with pytest.raises(Fault, match=r"more than 22 frames.*got 12 in a.*data\.gap"):
        split.by_time(["a"] * 12, fractions={"validation": 0.1, "test": 0.1}, gap=10)


def test_every_wrong_record_is_one_frame_and_the_rest_is_read(tmp_path):
    name = {"_index": 9, "cam/image_array": "x.jpg", "user/mode": "user"}
    odd = [
        "[1, 2]",
        "[" * 5000,
        json.dumps({**name, "user/angle": 10**400}),
        json.dumps(name)[:-1] + ', "user/angle": ' + "9" * 5000 + "}",
        json.dumps({**name, "user/angle": [0.1]}),
        json.dumps({**name, "user/angle": 0.1, "cam/image_array": "n" * 300}),
        json.dumps({**name, "user/angle": 0.1, "cam/image_array": "a\0b.jpg"}),
    ]
    found = driving.frames("tub", path=write_tub(tmp_path / "tub", [0.0, 0.1], extra=odd))
    assert len(found) == 9
    assert [refusal(frame) for frame in found[2:7]] == ["broken annotation"] * 5
    for frame in found[7:]:
        with pytest.raises(OSError, match=r"too long|null"):
            frame.read()
    assert found[1].read()


@pytest.mark.parametrize("last", ['{"paths": 7}', '["paths"]', '{"paths": [], "deleted_indexes": ["a"]}', "[" * 5000])
def test_a_broken_manifest_is_a_fault(tmp_path, last):
    folder = write_tub(tmp_path / "tub", [0.0])
    lines = (folder / "manifest.json").read_text().splitlines()
    (folder / "manifest.json").write_text("\n".join([*lines[:4], last]))
    with pytest.raises(Fault, match="five lines of JSON") as fault:
        driving.frames("tub", path=folder)
    assert fault.value.code == Fault.DATA
    (folder / "manifest.json").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(Fault, match="must be text"):
        driving.frames("tub", path=folder)
