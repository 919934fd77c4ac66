"""What a benchmark measured, in a file that the documentation's page of benchmarks is generated from.

The page has a table for each `docs/measurements/NAME.json`, which `tests/benchmarks/bench_NAME.py --json FILE` writes.
"""

import json


def write(path, rows, *, by):
    """Write rows, one JSON object each, in the place of those that the file has of the same subjects.

    Rows of other subjects stay, so that each can be measured by a command of its own; `by` is the key of the subject.
    """
    kept = json.loads(path.read_text()) if path.is_file() else []
    measured = {row[by] for row in rows}
    subjects = dict.fromkeys(row[by] for row in [*kept, *rows])
    together = [*(row for row in kept if row[by] not in measured), *rows]
    ordered = [row for subject in subjects for row in together if row[by] == subject]
    path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
