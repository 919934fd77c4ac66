"""Where the tracking store is, and the configuration of a shared one."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cnn_keras.errors import Fault
from pipelines.tracking.store import artifacts, create_store, database, public, sqlite_uri, store_uri


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_store_is_in_the_working_directory(project):
    assert database(store_uri()) == project / "mlflow/store/mlflow.db"
    assert artifacts(store_uri()) == project / "mlflow/store/artifacts"


def test_the_nearest_store_above_the_working_directory_is_used(project, monkeypatch):
    (project / "mlflow/store").mkdir(parents=True)
    (project / "notebooks/old").mkdir(parents=True)
    monkeypatch.chdir(project / "notebooks/old")
    assert database(store_uri()) == project / "mlflow/store/mlflow.db"


def test_the_folder_mlflow_alone_is_no_store(project, monkeypatch):
    (project / "mlflow").mkdir()
    (project / "notebooks").mkdir()
    monkeypatch.chdir(project / "notebooks")
    assert database(store_uri()) == project / "notebooks/mlflow/store/mlflow.db"


def test_a_relative_database_becomes_absolute(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///my runs.db")
    assert database(store_uri()) == project / "my runs.db"


def test_odd_paths_survive_the_uri(project):
    odd = project / "50% done, déjà vu/mlflow.db"
    assert database(sqlite_uri(odd)) == odd


@pytest.mark.parametrize("uri", ["http://mlflow:5000", "postgresql://db/mlflow", "databricks", "databricks://profile"])
def test_servers_and_other_databases_are_taken_as_they_are(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store_uri() == uri
    assert artifacts(uri) is None


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:mlruns", "file://{project}/mlruns", "{project}/mlruns"])
def test_an_old_file_store_is_refused_with_the_command_that_migrates_it(uri, project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(project=project))
    new = sqlite_uri(project / "mlflow.db")
    with pytest.raises(Fault) as refusal:
        store_uri()
    assert f"`mlflow migrate-filestore --source {project}/mlruns --target {new}`" in str(refusal.value)
    assert refusal.value.code == Fault.INPUT


def test_passwords_are_left_out_of_messages_and_bookmarks():
    assert public("http://anna:secret@mlflow:5000/x") == "http://mlflow:5000/x"
    assert public("postgresql://u:p%40ss@db:5432/mlflow") == "postgresql://db:5432/mlflow"
    assert public("sqlite:////home/a@b/mlflow.db") == "sqlite:////home/a@b/mlflow.db"


# --- The configuration of a shared server

CONFIGURATION = Path(__file__).parents[3] / "mlflow"


@pytest.fixture
def compose():
    return YAML(typ="safe").load((CONFIGURATION / "compose.yaml").read_text(encoding="utf-8"))


def test_the_configuration_folder_never_hides_the_package():
    assert not (CONFIGURATION / "__init__.py").exists()


def test_the_server_proxies_artifacts_and_names_its_hosts(compose):
    command = compose["services"]["mlflow"]["command"]
    assert "--serve-artifacts" in command
    assert any(option.startswith("--artifacts-destination=s3://") for option in command)
    assert any(option.startswith("--allowed-hosts=${ALLOWED_HOSTS") for option in command)
    assert compose["services"]["mlflow"]["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_every_service_that_stays_up_is_watched_and_waited_for(compose):
    services = compose["services"]
    staying = {name for name, service in services.items() if "restart" in service}
    assert staying == {"database", "objects", "mlflow"}
    assert all("healthcheck" in services[name] for name in staying)
    waited = {name: service["depends_on"] for name, service in services.items() if "depends_on" in service}
    assert set(waited["mlflow"]) == {"database", "bucket"}


def test_secrets_and_names_come_from_the_env_file_alone(compose):
    text = (CONFIGURATION / "compose.yaml").read_text(encoding="utf-8")
    example = (CONFIGURATION / "server.env.example").read_text(encoding="utf-8")
    offered = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)", text)) == set(offered)
    secrets = {name for name in offered if "PASSWORD" in name}
    assert secrets == {"DATABASE_PASSWORD", "OBJECTS_PASSWORD"}
    assert all(offered[name] == "" for name in secrets)
    environments = [service.get("environment", {}) for service in compose["services"].values()]
    assert all("${" in value for each in environments for key, value in each.items() if re.search("PASSWORD|KEY", key))
    assert compose["services"]["mlflow"]["ports"] == ["${BIND:-127.0.0.1}:${PORT:-5000}:5000"]


def test_what_a_killed_start_left_is_swept(project):
    store = project / "mlflow/store"
    (store / ".new-abc").mkdir(parents=True)
    (store / ".new-abc/mlflow.db").write_bytes(b"half")
    (store / "mlflow.db").write_bytes(b"whole")
    create_store(sqlite_uri(store / "mlflow.db"))
    assert sorted(path.name for path in store.iterdir() if path.suffix != ".lock") == ["mlflow.db"]
    assert (store / "mlflow.db").read_bytes() == b"whole"
