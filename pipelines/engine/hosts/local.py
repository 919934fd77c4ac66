"""Several hosts on this machine, to try out what a cluster would do: a process for each, connected by loopback."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.text import Text

from cnn_keras.errors import Fault
from pipelines.engine.hosts import environment
from pipelines.engine.hosts.environment import Host

LOOPBACK = "127.0.0.1"
PATIENCE = 8  # seconds in which all must end when one has failed, or on Ctrl-C: their state is on the disk


def run(count: int, arguments: Sequence[str], console: Console) -> int:
    """Run a command of `cnn` in so many processes, their lines behind `host 1 │`; return its exit code.

    That is 0 where all of them end well, else the code of the first that does not. One that dies takes the others with
    it, as does Ctrl-C.
    """
    addresses = _addresses(count)
    processes = [_start(Host(addresses, index), arguments) for index in range(count)]
    readers = [
        threading.Thread(target=_show, args=(process, f"host {number} │ ", console), daemon=True)
        for number, process in enumerate(processes, 1)
    ]
    for reader in readers:
        reader.start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = _first_failure(processes)
    except KeyboardInterrupt:
        for process in processes:
            process.send_signal(signal.SIGINT)
        code = 130
    _end(processes)
    for reader in readers:
        reader.join()
    return code


def without_options(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command but for `--hosts N` and `--local`."""
    left, given = [], iter(arguments)
    for argument in given:
        if argument == "--hosts":
            next(given, None)
        elif argument != "--local" and not argument.startswith("--hosts="):
            left.append(argument)
    return left


def _addresses(count: int) -> tuple[str, ...]:
    """Of ports that nobody uses now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return tuple(f"{LOOPBACK}:{each.getsockname()[1]}" for each in sockets)


def _start(host: Host, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """In a session of its own, so that Ctrl-C reaches it once."""
    variables = {**os.environ, "TF_CONFIG": environment.tf_config(host), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines", *arguments],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _show(process: "subprocess.Popen[str]", prefix: str, console: Console) -> None:
    for line in process.stdout or ():
        console.print(Text(prefix, style="dim").append(line.rstrip("\n"), style="not dim"))


def _first_failure(processes: Sequence["subprocess.Popen[str]"]) -> int:
    """Wait until all have ended, or one has failed; 0, or its exit code."""
    running = list(processes)
    while running:
        for process in list(running):
            try:
                code = process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            running.remove(process)
            if code:
                return code if code > 0 else Fault.HOST  # ended by a signal
    return 0


def _end(processes: Sequence["subprocess.Popen[str]"]) -> None:
    """Give those that are left time to end by themselves, then end them."""
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(timeout=max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
