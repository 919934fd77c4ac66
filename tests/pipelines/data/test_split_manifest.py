"""The list of what went where: the same rows from either format, and the same digest."""

import hashlib

from pipelines.data import split_manifest

COLUMNS = ("id", "split", "sha256")
ROWS = [(f"Bär/{number},“x”\n.png", "train", number) for number in range(25)]


def test_many_rows_are_kept_in_parquet_and_read_as_those_of_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(split_manifest, "BATCH", 10)
    text, columns = tmp_path / "csv", tmp_path / "parquet"
    text.mkdir(), columns.mkdir()
    digests = [split_manifest.write(text, COLUMNS, iter(ROWS), count=25)]
    monkeypatch.setattr(split_manifest, "PARQUET", 24)
    digests.append(split_manifest.write(columns, COLUMNS, iter(ROWS), count=25))
    assert [path.name for path in (*text.iterdir(), *columns.iterdir())] == ["split.csv", "split.parquet"]
    assert [list(row.values()) for row in split_manifest.rows(text)] == [list(map(str, row)) for row in ROWS]
    assert list(split_manifest.rows(columns)) == list(split_manifest.rows(text))
    assert set(digests) == {f"sha256:{hashlib.sha256((text / 'split.csv').read_bytes()).hexdigest()}"}


def test_shards_of_another_list_are_removed(tmp_path):
    split_manifest.write(tmp_path, COLUMNS, ROWS, count=25)
    shard = tmp_path / "train-00000.tfrecord"
    shard.touch()
    split_manifest.write(tmp_path, COLUMNS, ROWS, count=25)
    assert shard.exists()
    split_manifest.write(tmp_path, COLUMNS, ROWS[1:], count=24)
    assert not shard.exists()


def test_no_rows_are_a_list_with_names(tmp_path):
    split_manifest.write(tmp_path, COLUMNS, [], count=0)
    assert (tmp_path / "split.csv").read_text() == "id,split,sha256\n"
    assert list(split_manifest.rows(tmp_path)) == []
