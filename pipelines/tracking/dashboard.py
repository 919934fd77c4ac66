"""MLflow's own pages on the tracking store of this folder."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO

import psutil

from cnn_keras.errors import Fault
from pipelines.tracking.store import ENVIRONMENT, artifacts, create_store, database, public, store_uri

PATIENCE = 120  # seconds until the server must answer
PAGE = "/#/experiments?workflowType=machine_learning"  # else MLflow opens its pages for language models


def dashboard(
    host: str = "127.0.0.1",
    port: int = 5000,
    *,
    say: Callable[[str], object] = print,
) -> None:
    """Start MLflow's server on the store, tell `say` its address once it answers, and stay until Ctrl-C.

    With `port` 0 any free port is taken. The server answers requests that call it localhost, `host` or - bound to
    0.0.0.0 - the machine's name and addresses; others, such as a proxy's, go in `MLFLOW_SERVER_ALLOWED_HOSTS` and
    `MLFLOW_SERVER_CORS_ALLOWED_ORIGINS`. When the store is a server already, its address is all there is to say.

    Raises:
        Fault: the port is taken, or the server does not start.
    """
    store = store_uri()
    if store.startswith(("http://", "https://")):
        say(f"MLFLOW_TRACKING_URI names a server; open {public(store)}")
        return
    port = _free(host, port)
    if (path := database(store)) and not path.exists():
        say(f"creating the tracking store {path}: about ten seconds, once")
    create_store(store)
    with tempfile.TemporaryFile("w+") as output:
        # A session of its own, so that Ctrl-C reaches it once, through this process.
        server = subprocess.Popen(
            _command(store, host, port),
            env=_environment(store, host, port),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)  # end like Ctrl-C, server and all
        try:
            address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
            _wait(server, f"{address}/health", output)
            say(f"MLflow shows {public(store)} at {address}{PAGE}; Ctrl-C stops it")
            server.wait()
            raise Fault(f"the dashboard has stopped unexpectedly: {_tail(output)}")
        except KeyboardInterrupt:
            say("the dashboard is closed")
        finally:
            _end(server)
            signal.signal(signal.SIGTERM, terminated)


def _command(store: str, host: str, port: int) -> list[str]:
    # -P: the working directory may hold anything named mlflow
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--workers", "1", "--serve-artifacts"]
    folder = artifacts(store)
    return [*command, "--artifacts-destination", str(folder)] if folder else command


def _environment(store: str, host: str, port: int) -> dict[str, str]:
    """What the server reads there. The store too: its address may hold a password, and command lines are public."""
    names = _names(host)
    environment = ENVIRONMENT | {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*names, *(f"{name}:*" for name in names)]),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{name}:{port}" for name in names),
    }
    own = {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return environment | os.environ | own


def _names(host: str) -> list[str]:
    """What the machine is called by those who may reach a server bound to `host`."""
    names = {"localhost", "127.0.0.1", host}
    if host == "0.0.0.0":
        addresses = (address for interface in psutil.net_if_addrs().values() for address in interface)
        names |= {address.address for address in addresses if address.family == socket.AF_INET}
        names.add(socket.gethostname())
    return sorted(names)


def _free(host: str, port: int) -> int:
    """The port itself, or any free one for 0; a Fault when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Fault(
                f"--host and --port must be free to bind, got {host}:{port} ({error}); give another port"
            ) from None
        return int(probe.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", address: str, output: IO[str]) -> None:
    """Until the server answers its health check."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise Fault(f"the dashboard did not start within {PATIENCE} s: {_tail(output)}")


def _tail(output: IO[str]) -> str:
    output.seek(0)
    return output.read().strip()[-500:]


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
