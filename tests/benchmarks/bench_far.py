"""How often is a claimed false-accept rate exceeded by people that the threshold was not calibrated on?

    python tests/benchmarks/bench_far.py

The ORL faces by their pixels, and made-up people, are parted 200 times into those who calibrate and all others.
"before" takes the rate of the calibrating pairs for that of everybody; "now" takes the upper bound over people. For
both the share of repartitions in which the others' rate is above the claim, which should be a tenth at most, and the
mean of that rate as a multiple of the claim, which should not be far below one, because strict thresholds reject more
who are known. "shown" is whether so many people can show such a rate at all; where not, every answer says so. Rows with
a gallery are of strangers taken for anybody among twenty.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.metrics import verification
from tests import populations

FARS = (0.1, 0.01, 0.001)
RULES = (populations.point_estimate, populations.upper_bound)


def main():
    made_up = populations.synthetic(96, 5, seed=0)
    rows = [("ORL", populations.orl(), people, 0) for people in (3, 5, 10, 20)]
    rows += [("made up", made_up, people, 0) for people in (3, 5, 12, 24, 48)]
    rows += [("made up, gallery", made_up, people, 20) for people in (12, 24, 48)]
    print(f"{'':<18}{'calibrated on':>14}{'claim':>8}{'shown':>7}{'before':>22}{'now':>22}")
    for name, faces, people, gallery in rows:
        found = populations.held_out(*faces, calibrating=people, fars=FARS, rules=RULES, gallery=gallery)
        for column, far in enumerate(FARS):
            shown = "yes" if verification.least_shown(people) * max(1, gallery) <= far else "no"
            told = [f"{(rule > far).mean():>13.1%}, {rule.mean() / far:5.2f} ×" for rule in found[:, column]]
            print(f"{name:<18}{people:>7} people{far:>8g}{shown:>7}{''.join(told)}", flush=True)


if __name__ == "__main__":
    main()
