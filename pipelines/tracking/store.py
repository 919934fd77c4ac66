"""Where tracking is kept: `MLFLOW_TRACKING_URI`, or a SQLite database of the project's own.

The project's store is `mlflow/store/mlflow.db` in the nearest folder, from the working directory upwards,
that has a `mlflow/store/`; if none has, it is made in the working directory. The artifacts of a local store
lie beside its database, under an absolute path, so that every viewer on the machine finds them from wherever
it is started.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from filelock import FileLock

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault

log = logging.getLogger(__name__)

NEW = ".new-"  # how a folder begins in which a database is being made
# What MLflow reads from the environment; whatever the user has set there comes first.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


def store_uri() -> str:
    """The store's URI; the path of a local database is made absolute.

    Raises:
        Fault: `MLFLOW_TRACKING_URI` names an old file store (`mlruns`), which MLflow 3 refuses; the message
            has the command that migrates it.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        here = Path.cwd()
        home = next((folder for folder in (here, *here.parents) if (folder / "mlflow/store").is_dir()), here)
        return sqlite_uri(home / "mlflow/store/mlflow.db")
    if path := database(uri):
        return sqlite_uri(path)
    if urlsplit(uri).scheme in ("", "file") and uri not in ("databricks", "databricks-uc", "uc"):
        old = Path(unquote(urlsplit(uri).path)).absolute()
        new = sqlite_uri(old.parent / "mlflow.db")
        raise Fault(
            f"MLFLOW_TRACKING_URI must be a database or a server, got the old file store {uri!r}; migrate it "
            f"with `mlflow migrate-filestore --source {old} --target {new}` and set MLFLOW_TRACKING_URI={new}"
        )
    return uri


def create_store(store: str) -> None:
    """Make the database of a local store unless it exists: ten seconds of migrations, once.

    Another process makes it, which leaves this one its interpreter, and in a folder aside, so that a kill leaves
    no half-made database behind.
    """
    path = database(store)
    if path is None or (path.exists() and not any(path.parent.glob(f"{NEW}*"))):
        return
    durable.mkdir(path.parent)
    with FileLock(f"{path}.lock"):
        for left in path.parent.glob(f"{NEW}*"):  # by a start that was killed
            shutil.rmtree(left, ignore_errors=True)
        if not path.exists():
            _create(path)


def _create(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=NEW) as temporary:
        log.info("creating the tracking store %s: about ten seconds, once", path)
        fresh = Path(temporary) / path.name
        # -P: the working directory may hold anything named mlflow. A new session: Ctrl-C is not meant for it.
        command = [sys.executable, "-P", "-m", "mlflow", "db", "upgrade", sqlite_uri(fresh)]
        result = subprocess.run(
            command, env=ENVIRONMENT | os.environ, capture_output=True, text=True, start_new_session=True
        )
        if result.returncode:
            raise OSError(f"{path} could not be created: {result.stderr.strip()[-300:]}")
        durable.sync(fresh)
        durable.rename(fresh, path)


def artifacts(store: str) -> Path | None:
    """The folder of a local store's artifacts; None for a server, which has its own."""
    path = database(store)
    return path.parent / "artifacts" if path else None


def database(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other."""
    return Path(unquote(uri.removeprefix("sqlite:///"))) if uri.startswith("sqlite:///") else None


def sqlite_uri(path: Path) -> str:
    """MLflow's address of a SQLite file."""
    return f"sqlite:///{quote(str(path.absolute()))}"


def public(store: str) -> str:
    """The URI without a user's name and password, for messages and bookmarks."""
    return re.sub(r"//[^/@]*@", "//", store)
