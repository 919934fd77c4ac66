"""The mask that Label Studio's brush paints, as its JSON holds it: the bytes of an RGBA picture, packed in runs.

The format of thi.ng/rle-pack, in bits, the highest first: 32 for how many numbers there are, 5 for the bits of one less
one, four times 4 for the bits that lengths may have, less one; then runs: a bit that says whether one number is
repeated, two that choose the bits of its length, the length less one, and the number – or as many numbers.
"""

from typing import Any

import numpy as np


def decode(packed: Any, size: tuple[int, int]) -> np.ndarray:
    """What is painted in a picture of this size: a bool array (height, width), where its alpha is not zero.

    Args:
        packed: whole numbers from 0 to 255.

    Raises:
        TypeError, ValueError: they are none, end too early, or are of a picture of another size.
    """
    data = bytes(packed)
    bits = f"{int.from_bytes(data):0{8 * len(data)}b}" if data else ""
    place = 0

    def number(width: int) -> int:
        nonlocal place
        place += width
        if place > len(bits):
            raise ValueError("run lengths that end within a run")
        return int(bits[place - width : place], 2)

    total, word = number(32), number(5) + 1
    lengths = [number(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1]:
        raise ValueError(f"run lengths of {total:,} numbers, not of the four of each of {size[0]}×{size[1]} pixels")
    values, counts, done = [], [], 0
    while done < total:
        repeated = number(1)
        count = number(lengths[number(2)]) + 1
        values += [number(word) for _ in range(1 if repeated else count)]
        counts += [count] if repeated else [1] * count
        done += count
    return np.repeat(np.array(values), counts)[:total].reshape(*size, 4)[..., 3] > 0
