#!/usr/bin/env bash
# Versions: openvino 2026.4.1 (and the openvino-telemetry that it depends on).
#
# `import openvino` alone starts a process that reports to an analytics server.
#
# What happens: the import asks openvino_telemetry for consent, is given it by default, writes ~/intel and starts a process that
#   looks up the server's name. No model is read, and nothing of the converter is used.
# What one would expect: a report by the tools that convert models, if at all; not by the runtime in production.
# Who meets it: servers of models without a way out, or with a rule against one. Where the package openvino_telemetry is
#   missing, the runtime works without: uninstall it, or put None in sys.modules under its name before the import.
#
# The script refuses every connection, so nothing is reported. Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1
cd "$folder"
cat > watch.py <<'PYTHON'
import importlib.metadata
import os
import sys
import time

EVENTS = {"os.fork", "subprocess.Popen", "socket.getaddrinfo", "socket.connect", "socket.gethostbyname"}


def note(event, arguments):
    if event in EVENTS:
        with open("events", "a") as events:
            events.write(f"{event} {arguments[0] if event == 'socket.getaddrinfo' else ''}\n")
        if event.startswith("socket"):
            raise OSError("refused")


sys.addaudithook(note)
if sys.argv[1] == "without":
    sys.modules["openvino_telemetry"] = None
import openvino

print("openvino", openvino.__version__, "openvino-telemetry", importlib.metadata.version("openvino-telemetry"))
time.sleep(5)
os._exit(0)
PYTHON
for how in with without; do
    rm -rf events home; touch events; mkdir home
    HOME=$folder/home venv/bin/python watch.py "$how"
    echo "$how the package: $(sort -u events | tr '\n' ' '); in the home folder: $(ls home | tr '\n' ' ')"
    cp events "events-$how"
done
grep -q fork events-with && grep -q socket events-with && ! grep -q . events-without
