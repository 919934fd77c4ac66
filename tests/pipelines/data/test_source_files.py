"""The digest of the files that a source is made of."""

from pipelines.data.source_files import files_digest


def test_what_runs_write_beside_the_data_does_not_change_their_digest(tmp_path):
    (tmp_path / "annotations.json").write_text("{}")
    before = files_digest(tmp_path)
    for name in ("runs/detect/small/.lock", "runs/detect/small/train/curves.png", "mlflow/store/mlflow.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    assert files_digest(tmp_path) == before
    (tmp_path / "photo.png").write_bytes(b"1")
    assert files_digest(tmp_path) != before


def test_a_lock_in_the_folder_of_the_data_hides_nothing(tmp_path):
    (tmp_path / ".lock").touch()
    before = files_digest(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"1")
    assert files_digest(tmp_path) != before
