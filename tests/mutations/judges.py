"""Mutations of how judges are asked, believed and remembered."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_MISBEHAVIOURS = ("tests/unit/reward/test_judge_misbehaviours.py",)
_REQUESTS = ("tests/unit/reward/test_judge_requests.py",)
_CACHE = ("tests/unit/reward/test_judge_cache.py",)
_ENDPOINT = ("tests/unit/reward/test_judge_endpoint.py",)

JUDGES = [
    Mutation(
        "a pair is asked in both orders",
        "reward/judges/pairwise.py",
        "ask(pair.second, pair.first)",
        "ask(pair.first, pair.second)",
        _REQUESTS,
    ),
    Mutation(
        "no number is made of a string, a fraction or a list",
        "reward/judges/answers.py",
        "type(answer) is not kind",
        "not isinstance(answer, (kind, str, float))",
        _MISBEHAVIOURS,
    ),
    Mutation(
        "of two verdicts in one object none counts",
        "reward/judges/answers.py",
        "if len(found) < len(pairs):",
        "if len(found) > len(pairs):",
        _MISBEHAVIOURS,
    ),
    Mutation(
        "the key goes to its own host",
        "reward/judges/transport.py",
        "if _place(request.url) != self._place:",
        "if not self._place:",
        _ENDPOINT,
    ),
    Mutation(
        "headers of the environment stay here",
        "reward/judges/transport.py",
        "headers = {name: request.headers[name] for name in _SENT if name in request.headers}",
        "headers = dict(request.headers)",
        _ENDPOINT,
    ),
    Mutation(
        "a budget stops before it is overdrawn",
        "reward/judges/ledger.py",
        'spent["sent"] >= limits.requests',
        'spent["sent"] > limits.requests',
        _ENDPOINT,
    ),
    Mutation(
        "what a killed attempt spent counts towards the budget",
        "reward/judges/ledger.py",
        "self.earlier.get(name, 0) + getattr(self, name)",
        "getattr(self, name)",
        ("tests/unit/rewards/test_spending.py",),
    ),
    Mutation(
        "the key is in no log",
        "reward/judges/endpoint.py",
        "self._key.keep_out_of_logs()",
        "pass",
        _MISBEHAVIOURS,
    ),
    Mutation(
        "an entry of the cache that was changed is asked anew",
        "reward/judges/cache.py",
        ' or entry["sha256"] != _sha256(content)',
        "",
        _CACHE,
    ),
    Mutation(
        "of two processes' answers the first one stays",
        "reward/judges/cache.py",
        "os.link(written, place)",
        "os.replace(written, place)",
        _CACHE,
    ),
]
