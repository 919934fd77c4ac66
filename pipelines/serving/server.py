"""The server: ready when the model is warm; told to stop, it answers what it has accepted.

It is made for one machine and trusted clients; on the open Internet put a proxy in front of it.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from cnn_keras.errors import Fault
from pipelines.serving import archive, memory
from pipelines.serving import workers as processes
from pipelines.serving.http.connection import Connection
from pipelines.serving.http.limits import Limits
from pipelines.serving.http.origin import Visitors, is_loopback
from pipelines.serving.routes import ModelEndpoints
from pipelines.serving.versions import Source

if TYPE_CHECKING:
    from pipelines.faces.encoder import Recogniser
    from pipelines.faces.gallery import Gallery
    from pipelines.serving.face_routes import FaceEndpoints

ON_THE_WIRE = 0.2  # seconds in which requests already sent over open connections are still read
TICKS = 10  # of uvicorn, which are a tenth of a second, between two looks at who takes too long
OTHER_FILES = 100  # open beside the connections
TURNS = 10  # of the event loop, at least, in that time


def application(
    model_folder: Path,
    *,
    limits: Limits | None = None,
    visitors: Visitors | None = None,
    engine: str = "tensorflow",
    versions: int = 1,
    say: Callable[[str], None] = lambda message: None,
    keep: archive.Settings | None = None,
) -> Starlette:
    """The warmed-up model under `model_folder` as an ASGI application.

    Args:
        model_folder: `<name>/<N>/`, or `<name>/` for its highest N; for another engine the folder of a network that
            `cnn export --format` has written.
        visitors: who may ask; None: anybody, because what stands in front knows.
        engine: tensorflow, or another one, with which TensorFlow is not imported.
        versions: that are served at once, the newest ones; one that appears later is picked up.
        say: hears of those.
        keep: which of the pictures that are served are kept; see `pipelines.serving.archive`.

    Raises:
        Fault: the folder holds no SavedModel, or no network of a classifier.
    """
    source = Source(model_folder, engine)
    return ModelEndpoints(source, limits or Limits(), visitors, versions=versions, say=say, keep=keep).application()


def serve(
    model_folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    names: Sequence[str] = (),
    limits: Limits | None = None,
    engine: str = "tensorflow",
    versions: int = 1,
    workers: int = 1,
    keep: archive.Settings | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the SavedModel under `model_folder` until SIGTERM or Ctrl-C, then answer what was accepted.

    Args:
        port: 0 chooses a free one.
        names: of this machine, beside `host`, that requests may be sent to.
        engine, versions, keep: as of `application`.
        workers: processes that share the port and the processors; see `pipelines.serving.workers`.
        say: hears the warning when others can reach `host`, and the address once the model is warm.

    Raises:
        Fault: the folder holds no SavedModel, or the address cannot be had.
    """
    limits = limits or Limits()
    with contextlib.closing(_bound(host, port)) as listener:
        if not is_loopback(host):
            say(f"warning: {host} lets other machines connect, without a password; 127.0.0.1 does not")
        if keep:
            archive.check(keep.folder)
            say(keep.described())
        load = partial(
            application,
            model_folder,
            limits=limits,
            visitors=Visitors(host, names),
            engine=engine,
            versions=versions,
            keep=keep,
        )
        if workers == 1:
            app = load(say=say)
            _run(app, listener, host, limits, say)
            return
        port = listener.getsockname()[1]
    with contextlib.closing(_bound(host, port, shared=True)):  # keeps the port while no worker has it
        work = partial(_serve_shared, load, host, port, limits)
        processes.run(workers, work, say)


def _serve_shared(
    load: Callable[[], Starlette], host: str, port: int, limits: Limits, say: Callable[[str], None]
) -> None:
    """What each of several workers does."""
    with contextlib.closing(_bound(host, port, shared=True)) as listener:
        _run(load(), listener, host, limits, say)


def serve_faces(
    ready: "Callable[[], tuple[Gallery, Recogniser]]",
    *,
    key: str = "",
    host: str = "127.0.0.1",
    port: int = 8501,
    names: Sequence[str] = (),
    limits: Limits | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve a gallery; see `pipelines.serving.face_routes`. `ready` opens it and loads its model; the rest is as of
    `serve`.

    Args:
        key: what clients must send. On loopback one is made up and told where it is empty.

    Raises:
        Fault: what `ready` raises; no key where there must be one, or the address cannot be had.
    """
    from pipelines.serving import face_routes  # start-up: SciPy, which a model's server can do without

    limits, key_given, key = limits or Limits(), key, face_routes.checked_key(key, loopback=is_loopback(host))
    with contextlib.closing(_bound(host, port)) as listener:
        gallery, recogniser = ready()
        with contextlib.closing(gallery):
            face_routes.warm(gallery, recogniser)
            endpoints = face_routes.FaceEndpoints(gallery, recogniser, limits, key=key, visitors=Visitors(host, names))
            if not key_given:
                say(f"clients must send the header Authorization: Bearer {key}")
                say("it changes at every start; set CNN_API_KEY in the environment for a permanent one")
            _run(endpoints.application(), listener, host, limits, say)


def _run(app: Starlette, listener: socket.socket, host: str, limits: Limits, say: Callable[[str], None]) -> None:
    """Answer on `listener` until told to stop."""
    endpoints = app.state.endpoints
    memory.keep()
    for name in ("uvicorn.error", "python_multipart"):  # what is wrong with a request is its client's business
        logging.getLogger(name).setLevel(logging.ERROR)
    gc.collect()
    gc.set_threshold(50_000, 20, 100)  # a large JSON body has a million lists, and none of them is a cycle
    gc.freeze()  # a full collection would walk TensorFlow's million objects, 0.2 s in which nobody is answered
    host_text, port = f"[{host}]" if ":" in host else host, listener.getsockname()[1]
    config = uvicorn.Config(
        app,
        http=partial(Connection, limits=_within_files(limits)),  # type: ignore[arg-type]
        timeout_keep_alive=int(limits.head_seconds) + 1,  # `Connection` is earlier
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(limits.read_seconds + limits.answer_seconds) + 1,
    )
    server = Server(config, endpoints, lambda: say(f"{endpoints.name} is ready at http://{host_text}:{port}"))
    with _surviving_sigterm(), contextlib.suppress(KeyboardInterrupt):
        try:
            server.run(sockets=[listener])
        except OSError as error:  # somebody else bound it in the meantime and listened first
            raise _unavailable(host, port, error) from error


class Server(uvicorn.Server):
    """uvicorn that says when it listens, and reads what is on the wire before it closes idle connections."""

    def __init__(
        self, config: uvicorn.Config, endpoints: "ModelEndpoints | FaceEndpoints", ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._endpoints = endpoints
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                connection.sweep(now)  # type: ignore[union-attr]
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._endpoints.draining = True  # from now on answers tell clients to reconnect, which leads elsewhere
        await _read_what_was_sent()  # closing the listener would cut off whom it has not let in yet
        for listening in self.servers:
            listening.close()
        await _read_what_was_sent()
        await super().shutdown(sockets=sockets)


async def _read_what_was_sent() -> None:
    """Turns of the event loop, not time alone: on a busy machine all of the time may pass in one of them."""
    for _ in range(TURNS):
        await asyncio.sleep(ON_THE_WIRE / TURNS)


def _within_files(limits: Limits) -> Limits:
    """As many connections as the process may open files."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files_needed = limits.connections + OTHER_FILES
    if files < files_needed:
        files = files_needed if most == resource.RLIM_INFINITY else min(files_needed, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return replace(limits, connections=min(limits.connections, files - OTHER_FILES))


def _bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound socket that does not listen yet: a taken port shows at once, nobody is let in cold.

    `shared` ones may be bound to one port together.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only of a socket that names its protocol does asyncio switch off Nagle's delay, 40 ms for each answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise _unavailable(host, port, error) from error
    return listener


def _unavailable(host: str, port: int, error: Exception) -> Fault:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return Fault(f"port must be free, got {port}, which another program uses; choose another, or 0 for any")
    if code == errno.EACCES or isinstance(error, OverflowError):
        return Fault(f"port must be 0 or between 1024 and 65535, got {port}: {error}")
    return Fault(f"host must be an address of this machine, got {host}: {error}; 127.0.0.1 always is")


@contextlib.contextmanager
def _surviving_sigterm() -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more at the end; that must not kill the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
