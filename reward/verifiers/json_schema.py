"""Is a response JSON that follows a JSON Schema? A fenced block or bare JSON; text around is none.

By jsonschema, in a process that is ended when a schema refers to itself forever or one of its
patterns backtracks. Keys that the schema does not name are allowed, as JSON Schema has it, unless
it says `additionalProperties: false`.
"""

from reward import extract
from reward.bounded.process import NotGraded, ask
from reward.verdict import Verdict

LONGEST_SCHEMA, LONGEST_RESPONSE = 100_000, 1_000_000


def json_schema(response: str, reference: str, *, cpu_s: float = 2.0) -> Verdict:
    """Check the response's last block of JSON, or all of it without one, by the reference.

    reference: the schema as JSON text. None where it is no schema, and where checking takes more
    than `cpu_s` processor seconds.
    """
    problem = problem_of_schema(reference)
    if problem:
        return Verdict(None, None, f"the schema is none: {problem}")
    block = extract.code_block(response, "json")
    value = (response if block is None else block).strip()
    if len(value) > LONGEST_RESPONSE:
        return Verdict(None, None, f"the JSON has more than {LONGEST_RESPONSE:,} characters")
    if not value:
        return Verdict(0.0, None, "the response is empty")
    try:
        problem = ask("follows", reference, value, cpu_s=cpu_s)
    except NotGraded as error:
        return Verdict(None, None, f"it cannot be checked: {error}")
    if problem:
        return Verdict(0.0, value, problem)
    return Verdict(1.0, value, "JSON that follows the schema")


_problems: dict[str, str] = {}  # of the schemas seen, of which a task has a few


def problem_of_schema(text: str) -> str:
    """Return why a text is no JSON Schema that can be checked, "" if it is one."""
    if len(text) > LONGEST_SCHEMA:
        return f"it has {len(text)} characters, and at most {LONGEST_SCHEMA:,} are taken"
    if text not in _problems:
        if len(_problems) >= 1000:
            _problems.clear()
        try:
            _problems[text] = ask("schema", text, cpu_s=2.0)
        except NotGraded as error:
            return str(error)
    return _problems[text]
