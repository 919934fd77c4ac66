"""Random numbers of augmentations: functions of a seed, one at a time or for a whole batch.

TensorFlow has no operation that draws by many seeds at once. `batch` computes the same numbers, those of Philox 4x32-10
(Salmon et al., 2011), which TensorFlow's stateless operations take. XLA makes a few short loops of it; without a
compiler it is hundreds of small operations.
"""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

FACTORS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)  # of Philox
SCRAMBLED = (0x3EC8F720, 0x02461E29)  # the key by which TensorFlow makes a key of a seed


@dataclasses.dataclass(frozen=True)
class Uniform:
    """`count` numbers, even in [low, high): of a seed, int32 (2,), float32 (count,)."""

    count: int
    low: float = 0.0
    high: float = 1.0

    def __call__(self, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform((self.count,), seed, self.low, self.high)

    def of_bits(self, bits: tf.Tensor) -> tf.Tensor:
        """Of random bits, uint32 (…, at least count), what TensorFlow makes of them."""
        return _fractions(bits[..., : self.count]) * (self.high - self.low) + self.low


@dataclasses.dataclass(frozen=True)
class Normal:
    """`count` numbers of the standard normal distribution: of a seed, int32 (2,), float32 (count,)."""

    count: int

    def __call__(self, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal((self.count,), seed)

    def of_bits(self, bits: tf.Tensor) -> tf.Tensor:
        """Of random bits, uint32 (…, at least count, even), what TensorFlow makes of them (Box and Muller, 1958)."""
        even, odd = _fractions(bits[..., ::2]), _fractions(bits[..., 1::2])
        radius = tf.sqrt(-2 * tf.math.log(tf.maximum(even, 1e-7)))
        pairs = tf.stack([tf.sin(2 * math.pi * odd) * radius, tf.cos(2 * math.pi * odd) * radius], axis=-1)
        return tf.reshape(pairs, tf.concat([tf.shape(pairs)[:-2], [-1]], axis=0))[..., : self.count]


Draw = Uniform | Normal


def batch(seeds: tf.Tensor, numbers: Sequence[int], draws: Sequence[Draw]) -> list[tf.Tensor]:
    """What each of `draws` gives for each of `seeds`, folded in its number first.

    Args:
        seeds: int32 (N, 2).
        numbers: of `tf.random.experimental.stateless_fold_in`, one for each draw.

    Returns:
        float32 (N, count) for each draw; compiled ones to within the rounding of float32.
    """
    if not draws:
        return []
    rows = tf.shape(seeds)[0]
    first = tf.bitcast(_blocks(*_scrambled(seeds), 1)[:, 0], tf.int32)  # of every number
    folded = tf.stack([tf.tile(first, [len(numbers)]), tf.repeat(tf.constant(numbers), rows)], axis=-1)
    count = max(-(-draw.count // 4) for draw in draws)
    bits = tf.reshape(_blocks(*_scrambled(folded), count), [len(numbers), rows, 4 * count])
    return [draw.of_bits(row) for draw, row in zip(draws, tf.unstack(bits), strict=True)]


def _scrambled(seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A key, and the upper half of a counter, uint64 (2, N) each, of seeds, int32 (N, 2)."""
    halves = tf.bitcast(tf.cast(tf.transpose(seeds), tf.int64), tf.uint64)
    mixed = _philox(_low(halves), _high(halves), tf.constant(SCRAMBLED, tf.uint64)[:, None])
    return mixed[:2], mixed[2:]


def _blocks(key: tf.Tensor, counter: tf.Tensor, count: int) -> tf.Tensor:
    """Four times 32 random bits for each of `count` numbers of a block: uint32 (N, 4 · count)."""
    key, counter = key[..., None], counter[..., None]  # (2, N, 1)
    number = tf.cast(tf.range(count), tf.uint64) + tf.zeros_like(counter[0])
    even, odd = tf.stack([number, counter[0] + tf.zeros_like(number)]), tf.zeros_like(number)
    words = _philox(even, tf.stack([odd, counter[1] + odd]), key)
    return tf.reshape(tf.cast(tf.transpose(words, [1, 2, 0]), tf.uint32), [-1, 4 * count])


def _philox(even: tf.Tensor, odd: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Philox 4x32-10 of a counter of four words, the even and the odd of them, uint64 (2, …): the four, (4, …)."""
    shape = [2] + [1] * (even.shape.rank - 1)
    factors, weyl = (tf.constant(constants, tf.uint64, shape) for constants in (FACTORS, WEYL))
    for _ in range(10):
        product = tf.reverse(even * factors, [0])
        even, odd = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(_high(product), odd), key), _low(product)
        key = _low(key + weyl)
    return tf.stack([even[0], odd[0], even[1], odd[1]])


def _low(words: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(words, tf.constant(0xFFFFFFFF, tf.uint64))


def _high(words: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.right_shift(words, tf.constant(32, tf.uint64))


def _fractions(bits: tf.Tensor) -> tf.Tensor:
    """Random bits, uint32, as float32 in [0, 1): the lower 23 of them."""
    mantissa = tf.bitwise.bitwise_and(bits, tf.constant(0x7FFFFF, tf.uint32))
    return tf.bitcast(tf.bitwise.bitwise_or(mantissa, tf.constant(127 << 23, tf.uint32)), tf.float32) - 1
