#!/usr/bin/env bash
# Versions: tensorflow 2.21.0 (tensorflow-cpu), numpy 2.4.0.
#
# A tf.function that is called with a MirroredVariable reads the variable of its first call, whichever it is given later.
#
# What happens: a tf.function takes variables as arguments. With plain variables of one shape it is traced once and reads
#   the variable of each call. With variables that MirroredStrategy made, it is traced once too – and every further call
#   reads the variable that it was traced with: no error, no second trace, another variable's value.
# What one would expect: the value of the argument, as with plain variables, or a trace for each variable.
# Who meets it: whoever keeps one function for several models under a strategy – to average moving statistics, to sum or
#   digest weights, to copy one network into another –, in a process that trains more than one: an ensemble, a search,
#   cross-validation. The first model is right, and all others silently get its values. Have the function close over the
#   variables, one function for each model.
#
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0 numpy==2.4.0
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tensorflow as tf

print("tensorflow", tf.__version__)
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def values(create):
    """What one function reads of a variable of 1 and then of one of 2, and how often it was traced."""
    read = tf.function(lambda variables: [tf.identity(each) for each in variables], autograph=False)
    one, two = create(1.0), create(2.0)
    first, second = (float(read([each])[0]) for each in (one, two))
    return first, second, read.experimental_get_tracing_count()


def mirrored(value):
    with strategy.scope():
        return tf.Variable(value)


plain, shared = values(tf.Variable), values(mirrored)
print("plain variables of 1 and 2 are read as", *plain[:2], "with traces:", plain[2])
print("mirrored variables of 1 and 2 are read as", *shared[:2], "with traces:", shared[2])
raise SystemExit(0 if plain == (1.0, 2.0, 1) and shared == (1.0, 1.0, 1) else 1)
PYTHON
