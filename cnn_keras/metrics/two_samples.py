"""Whether two independent samples differ."""

import math

Interval = tuple[float, float]


def difference_interval(
    first: float, first_interval: Interval, second: float, second_interval: Interval
) -> tuple[float, float]:
    """The interval of first − second, of the confidence that both have, for figures of independent samples.

    Of two shares with Wilson's intervals it is the hybrid score interval: Newcombe, *Interval estimation for the
    difference between independent proportions* (Statistics in Medicine, 1998), method 10. Of any other figures it is
    the method of variance estimates recovery: Zou and Donner, *Construction of confidence limits about effect
    measures* (Statistics in Medicine, 2008), equation 3. Both only need the intervals of the figures, which need not
    be symmetric. A figure that lies outside its interval, as one of a bootstrap may, counts as its end.
    """
    (low, high), (least, most) = first_interval, second_interval
    below = math.hypot(max(first - low, 0.0), max(most - second, 0.0))
    above = math.hypot(max(high - first, 0.0), max(second - least, 0.0))
    return first - second - below, first - second + above
