"""Fixtures, for the tests that name this file in `pytest_plugins`: one real tracking store for all of them."""

import pytest

from pipelines.tracking import tracker
from pipelines.tracking.store import create_store, sqlite_uri


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """The URI of one SQLite store for the session: making it takes ten seconds."""
    store = sqlite_uri(tmp_path_factory.mktemp("project") / "mlflow/store/mlflow.db")
    create_store(store)
    return store


@pytest.fixture
def store(database, monkeypatch):
    """A client of that store, which the environment names."""
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    with tracker.reachable(database) as client:
        yield client
