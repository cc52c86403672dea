"""pass@k: how likely at least one of k sampled answers is right (Chen et al. 2021, section 2.1).

Not pass@1 of the likeliest answer: samples are drawn at a temperature.
"""

import math


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the unbiased estimate from n samples of which c are right: 1 - C(n-c, k) / C(n, k).

    It is the share of all sets of k samples with a right one among them, as the product that does
    not overflow: 1 - prod(1 - k / i) for i from n - c + 1 to n. Raises ValueError unless
    0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} cannot be told from {c} right of {n} samples")
    if n - c < k:
        return 1.0
    return 1 - math.prod(1 - k / i for i in range(n - c + 1, n + 1))
