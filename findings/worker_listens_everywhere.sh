#!/usr/bin/env bash
# Versions: tensorflow 2.21.0 (tensorflow-cpu). Linux.
#
# A TensorFlow server whose address is 127.0.0.1 listens on every interface of the machine.
#
# What happens: tf.distribute.Server, and MultiWorkerMirroredStrategy, which starts one, take from the cluster's address
#   of their own task the port alone, and listen on all addresses, without authentication.
# What one would expect: that a task whose address is 127.0.0.1 can be reached from this machine alone.
# Who meets it: whoever tries several workers on one machine, or trains on machines that others can reach. A network of
#   its own for the workers, or a firewall, keeps others out.
#
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import socket
from pathlib import Path

import tensorflow as tf

print("tensorflow", tf.__version__)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = tf.distribute.Server({"worker": [f"127.0.0.1:{port}"]}, job_name="worker", task_index=0)
rows = [line.split() for table in ("tcp", "tcp6") for line in Path("/proc/net", table).read_text().splitlines()[1:]]
listening = [row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]
print(f"asked for 127.0.0.1:{port}, listens on", listening)
raise SystemExit(0 if listening and not any(int(address, 16) for address in listening) else 1)
PYTHON
