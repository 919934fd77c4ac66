"""Random numbers of augmentations: functions of a seed, one at a time in a graph or for a whole batch in NumPy.

TensorFlow has no operation that draws by many seeds at once. `batch` computes the same numbers, those of Philox 4x32-10
(Salmon et al., 2011), which TensorFlow's stateless operations take.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

FACTORS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)  # of Philox
WEYL = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
SCRAMBLED = np.array([0x3EC8F720, 0x02461E29], np.uint64)  # the key by which TensorFlow makes a key of a seed
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """`count` numbers, even in [low, high): of a seed, int32 (2,), float32 (count,)."""

    count: int
    low: float = 0.0
    high: float = 1.0

    def __call__(self, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform((self.count,), seed, self.low, self.high)

    def of_bits(self, bits: np.ndarray) -> np.ndarray:
        """Of random bits, uint32 (…, at least count), what a graph makes of them."""
        return _fractions(bits[..., : self.count]) * np.float32(self.high - self.low) + np.float32(self.low)


@dataclasses.dataclass(frozen=True)
class Normal:
    """`count` numbers of the standard normal distribution: of a seed, int32 (2,), float32 (count,)."""

    count: int

    def __call__(self, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal((self.count,), seed)

    def of_bits(self, bits: np.ndarray) -> np.ndarray:
        """Of random bits, uint32 (…, at least count, even), what a graph makes of them (Box and Muller, 1958)."""
        even, odd = _fractions(bits[..., ::2]), _fractions(bits[..., 1::2])
        radius = np.sqrt(np.float32(-2) * np.log(np.maximum(even, np.float32(1e-7))))
        angle = np.float32(2 * np.pi) * odd
        pairs = np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=-1)
        return pairs.reshape(*bits.shape[:-1], -1)[..., : self.count]


Draw = Uniform | Normal


def batch(seeds: np.ndarray, numbers: Sequence[int], draws: Sequence[Draw]) -> list[np.ndarray]:
    """What each of `draws` gives for each of `seeds`, folded in its number first.

    Args:
        seeds: int32 (N, 2).
        numbers: of `tf.random.experimental.stateless_fold_in`, one for each draw.

    Returns:
        float32 (N, count) for each draw; normal ones to within the rounding of a logarithm.
    """
    first = _blocks(*_scrambled(seeds), np.zeros(1, np.uint64))[0].astype(np.uint32).view(np.int32)  # of every number
    folded = np.stack([np.tile(first, (len(numbers), 1)), np.tile(np.array(numbers)[:, None], len(seeds))], axis=-1)
    key, counter = _scrambled(folded)
    most = max(-(-draw.count // 4) for draw in draws)
    blocks = _blocks(key[..., None], counter[..., None], np.arange(most, dtype=np.uint64))
    bits = np.stack(list(blocks), axis=-1).reshape(len(numbers), len(seeds), -1).astype(np.uint32)
    return [draw.of_bits(row) for draw, row in zip(draws, bits, strict=True)]


def _scrambled(seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A key, and the upper half of a counter, uint64 (2, …) each, of seeds, int32 (…, 2)."""
    halves = np.moveaxis(seeds.astype(np.int64).view(np.uint64), -1, 0)
    mixed = _philox(halves & LOW, halves >> HALF, SCRAMBLED.reshape(2, *(1,) * (seeds.ndim - 1)))
    return mixed[:2], mixed[2:]


def _blocks(key: np.ndarray, counter: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Four times 32 random bits, uint64 (4, …), for each number of a block."""
    number, zeros = np.broadcast_arrays(number, np.zeros_like(counter[0]))
    return _philox(np.stack([number, counter[0] + zeros]), np.stack([zeros, counter[1] + zeros]), key)


def _philox(even: np.ndarray, odd: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox 4x32-10 of a counter of four words, the even and the odd of them, uint64 (2, …): the four, (4, …)."""
    factors, weyl = (constant.reshape(2, *(1,) * (even.ndim - 1)) for constant in (FACTORS, WEYL))
    for _ in range(10):
        product = (even * factors)[::-1]
        even, odd = (product >> HALF) ^ odd ^ key, product & LOW
        key = (key + weyl) & LOW
    return np.stack([even[0], odd[0], even[1], odd[1]])


def _fractions(bits: np.ndarray) -> np.ndarray:
    """Random bits, uint32, as float32 in [0, 1): the lower 23 of them."""
    return (bits & np.uint32(0x7FFFFF) | np.uint32(127 << 23)).view(np.float32) - np.float32(1)
