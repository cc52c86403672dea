"""What the claims on boxes, graders and rewards rest on."""

from tests.mutations.mutation import Mutation

GRADING: list[Mutation] = [
    Mutation(
        "a reply of a box is read within a budget",
        "reward/boxes/values.py",
        "if self.spent > self._elements:",
        "if self.spent < 0:",
        ("G6", "--case", "reply, colliding numbers in a set, as root"),
        claims=True,
    ),
    Mutation(
        "no tag of a reply takes another iterable",
        "reward/boxes/values.py",
        'case "tuple" | "deque", list():\n'
        '                return _KIND_BY_TAG[tag](self._items(cast("list[Any]", content), depth))',
        'case "tuple" | "deque", _:\n'
        "                return _KIND_BY_TAG[tag](self.value(content, depth))",
        ("G6", "--case", "reply, a range in a tuple, as root"),
        claims=True,
    ),
    Mutation(
        "the end of an iteration in a program does not end its tests",
        "reward/boxes/judge.py",
        "if kind is StopIteration and not takes_stops:",
        "if kind is StopIteration and not name:",
        ("G7", "--case", "cheat, ends_the_iteration"),
        claims=True,
    ),
    Mutation(
        "a response is read in time that grows with its length only",
        "reward/extract.py",
        r"```[ \t]*+([^\s`]*+)[^\n`]*+$",
        r"```[ \t]*([^\s`]*)[^\n`]*$",
        ("G6", "--case", "response, a fence of spaces"),
        claims=True,
    ),
    Mutation(
        "no reward that is no number is trained with",
        "pipeline/rewards/user_function.py",
        "if not math.isfinite(number):",
        "if number is None:",
        ("G8", "--case", "plain, nan at 0"),
        claims=True,
    ),
    Mutation(
        "no sum of rewards is beyond fp32",
        "pipeline/rewards/composition.py",
        "if not bool((total.abs() < _LARGEST).all()):",
        "if total is None:",
        ("G8", "--case", "a sum with weights (1.0, 1.0), running"),
        claims=True,
    ),
]
