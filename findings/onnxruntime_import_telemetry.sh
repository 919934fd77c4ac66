#!/usr/bin/env bash
# Versions: onnxruntime 1.32.0 (any since 1.29, on Linux and macOS).
#
# The switch that the Python package offers against telemetry is too late: what is to be kept back is stored by then.
#
# What happens: `import onnxruntime` alone creates an identifier of the device below the home folder and queues an event
#   that names the executable, the processor, the memory and the kind of container, to be sent to Microsoft;
#   `onnxruntime.disable_telemetry_events()` in the next line changes neither. Only the environment variable
#   ORT_DISABLE_TELEMETRY=1, set before the import, does.
# What one would expect: nothing before a session is made, and nothing after the switch is off – as with releases before
#   1.29, which reported on Windows alone.
# Who meets it: servers of models without a way out, or with a rule against one; read-only home folders.
#
# Run it where no connection can be made if nothing is to be reported. Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0
cd "$folder"
cat > ask.py <<'PYTHON'
import sys
import time

import onnxruntime

if sys.argv[1] == "switch":
    onnxruntime.disable_telemetry_events()
print("onnxruntime", onnxruntime.__version__)
time.sleep(2)
PYTHON
for how in import switch variable; do
    mkdir "$how"
    disabled=$([ "$how" = variable ] && echo 1 || true)
    # It keeps quiet where CI is set.
    env -u CI -u GITHUB_ACTIONS -u XDG_CACHE_HOME HOME="$folder/$how" ORT_DISABLE_TELEMETRY="$disabled" venv/bin/python ask.py "$how"
    echo "$how: $(find "$how" -type f | sed "s|^$how/||" | sort | tr '\n' ' ')"
done
[ -n "$(find import -name deviceid)" ] && [ -n "$(find switch -name deviceid)" ] && [ -z "$(find variable -type f)" ]
