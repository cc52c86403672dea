"""Two readers of drawn digits that know nothing of one another: the verifier's, and the gold one.

Of two kinds, trained on images that neither the other nor a model that draws has seen: what one is
fooled by need not fool the other. Both learn each image at nine places, moved by a pixel at most,
since models draw so. Fitted once in a process, which takes about a second, the same every time.
"""

from functools import cache
from importlib import import_module
from itertools import product
from typing import Any, Literal

from eval.tasks.digit_images import INK, Part, Pixels, images, shift

Judge = Literal["verifier", "gold"]
TRAINED_ON: dict[Judge, Part] = {"verifier": "validation", "gold": "gold"}


def read_digit(judge: Judge, pixels: Pixels) -> int:
    """Return the digit that a judge sees in an image, whatever is in it."""
    (digit,) = _fitted(judge).predict([[level / INK for level in pixels]])
    return int(digit)


@cache
def _fitted(judge: Judge) -> Any:
    """Return a support vector machine (verifier) or a network with a hidden layer (gold)."""
    places = tuple(product((-1, 0, 1), repeat=2))
    known = [(image, place) for image in images(TRAINED_ON[judge]) for place in places]
    rows = [[level / INK for level in shift(image.pixels, *place)] for image, place in known]
    return _unfitted(judge).fit(rows, [image.digit for image, _ in known])


def _unfitted(judge: Judge) -> Any:
    if judge == "verifier":
        return import_module("sklearn.svm").SVC(C=10.0, gamma=0.25)
    network = import_module("sklearn.neural_network").MLPClassifier
    ends = {"tol": 1e-2, "n_iter_no_change": 5}  # after about 30 passes
    return network((100,), alpha=0.1, learning_rate_init=5e-3, random_state=0, **ends)
