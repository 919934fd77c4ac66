"""WFDB records against samples that the test packs itself, as the format's description has them."""

import numpy as np
import pytest

from cnn_keras.data.files import wfdb_record
from cnn_keras.data.sources import signals
from cnn_keras.errors import Unreadable

pytest.importorskip("wfdb", reason="needs the package wfdb (make samples)")

LIMIT = 10**6


def write_212(folder, samples, *, name="100", gain=200, baseline=1024, rate=360):
    """Two channels, integers of 12 bits: three bytes hold a sample of each."""
    first, second = (samples[:, channel] & 0xFFF for channel in (0, 1))
    packed = np.stack([first & 0xFF, (first >> 8) | ((second >> 8) << 4), second & 0xFF], axis=1).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.dat").write_bytes(packed.tobytes())
    lines = [f"{name} 2 {rate} {len(samples)}"]
    lines += [f"{name}.dat 212 {gain}({baseline})/mV 11 {baseline} 0 0 0 {lead}" for lead in ("MLII", "V5")]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    return folder / f"{name}.hea"


def drawn(length=50, seed=0):
    return np.random.default_rng(seed).integers(-2000, 2000, (length, 2))


def test_records_of_format_212_are_read_in_millivolts(tmp_path):
    values, rate = wfdb_record.read(write_212(tmp_path, drawn()), limit=LIMIT)
    assert (values.dtype, rate) == (np.float32, 360)
    np.testing.assert_allclose(values, (drawn() - 1024) / 200, rtol=1e-6)


def test_records_of_format_16_are_read_and_missing_samples_are_filled_in(tmp_path):
    stored = np.arange(20, dtype="<i2")
    stored[7] = -(2**15)  # what the format has for a missing sample
    (tmp_path / "a.dat").write_bytes(stored.tobytes())
    (tmp_path / "a.hea").write_text("a 1 500 20\na.dat 16 10 16 0 0 0 0 I\n")
    values, notes = signals.read_with_note(tmp_path / "a.hea")
    np.testing.assert_allclose(values[:, 0], np.arange(20) / 10, rtol=1e-6)
    assert notes == [("sample rate", "500 Hz"), "missing values, filled in"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "no WFDB record"),
        ("a 1 360 20\n", "no WFDB record|no signal"),
        ("a 0 360 20\n", "no signal"),
        ("a 1 360 20\n../other.dat 16 200 16 0 0 0 0 I\n", "no WFDB record"),  # another folder
        ("a 1 360 900000000\na.dat 16 200 16 0 0 0 0 I\n", "may have 1,000,000 samples, this one has 900,000,000"),
        ("a 1 360 900\na.dat 16 200 16 0 0 0 0 I\n", "no WFDB record"),  # longer than its file
        ("a/2 1 360 40\nb 20\nc 20\n", "several segments"),
        ("a 1 360 20\na.dat 999 200 16 0 0 0 0 I\n", "no WFDB record"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, header, reason):
    (tmp_path / "a.dat").write_bytes(bytes(40))
    (tmp_path / "a.hea").write_text(header)
    with pytest.raises(Unreadable, match=reason):
        wfdb_record.read(tmp_path / "a.hea", limit=LIMIT)


def test_a_record_without_its_samples_cannot_be_read(tmp_path):
    header = write_212(tmp_path, drawn())
    header.with_suffix(".dat").unlink()
    with pytest.raises(OSError, match=r"100\.dat"):
        wfdb_record.read(header, limit=LIMIT)


def test_broken_headers_are_unreadable_and_nothing_else(tmp_path):
    header = write_212(tmp_path, drawn())
    text, generator = bytearray(header.read_bytes()), np.random.default_rng(0)
    for _ in range(150):
        broken = text.copy()
        for place in generator.integers(0, len(text), 3):
            broken[place] = generator.integers(32, 127)
        header.write_bytes(broken)
        try:
            values, _ = wfdb_record.read(header, limit=LIMIT)
        except (Unreadable, OSError):
            continue
        assert values.dtype == np.float32


def test_a_folder_of_records_has_a_signal_for_each_header(tmp_path):
    for label in ("calm", "wild"):
        for number in range(2):
            write_212(tmp_path / label, drawn(seed=number), name=str(number))
            (tmp_path / label / f"{number}.atr").write_bytes(b"annotations")
    (tmp_path / "wild" / "notes.md").write_text("of no record")
    found = signals.folder(tmp_path)
    usable = [item for item in found if item.label]
    assert [item.id for item in usable] == ["calm/0.hea", "calm/1.hea", "wild/0.hea", "wild/1.hea"]
    assert [item.id for item in found if not item.label] == ["wild/notes.md"]
    np.testing.assert_allclose(usable[1].read()[0], (drawn(seed=1) - 1024) / 200, rtol=1e-6)


def write_annotations(path, marks):
    """A file of pairs of bytes as the format has them: six bits of a kind above ten of the samples since the last."""
    words, last = [], 0
    for place, kind in marks:
        words.append((kind << 10) | (place - last))
        last = place
    path.write_bytes(np.array([*words, 0], "<u2").tobytes())


def test_beats_are_stretches_around_their_annotations_and_other_marks_are_none(tmp_path):
    samples = drawn(900)
    for name in ("100", "101"):
        write_212(tmp_path, samples, name=name)
    marks = [(30, 1), (400, 5), (500, 28), (600, 1), (890, 8)]  # N, V, a rhythm, N, A near the end
    write_annotations(tmp_path / "100.atr", marks)
    assert wfdb_record.beats(tmp_path / "100.hea", limit=LIMIT) == [(30, "N"), (400, "V"), (600, "N"), (890, "A")]
    found = signals.items("wfdb", path=tmp_path, window=0.25)
    assert [(item.id, item.label, item.group) for item in found] == [
        ("100@30", "N", "100"), ("100@400", "V", "100"), ("100@600", "N", "100"), ("100@890", "A", "100"),
        ("101", "", "101"),
    ]  # fmt: skip
    values, notes = found[1].read()
    np.testing.assert_allclose(values, (samples[400 - 45 : 400 + 45] - 1024) / 200, rtol=1e-6)
    assert notes == [("sample rate", "360 Hz")]
    for item, reason in ((found[0], "not within"), (found[3], "not within"), (found[4], "101.atr")):
        with pytest.raises(Unreadable, match=reason):
            item.read()
    (tmp_path / "101.atr").write_bytes(b"")
    assert [item.label for item in signals.items("wfdb", path=tmp_path)][-1] in ("", "A")
