"""Promises about data that is encoded once: looked up in pieces, streamed, kept."""

from tests.mutations.mutation import Mutation

_PROMPTS = "tests/unit/data/test_kept_prompts.py"
_PIECES = ("tests/unit/data/encoding/test_pieces.py",)

KEPT_DATA = [
    Mutation(
        "texts that the library may cut otherwise are left to it",
        "pipeline/data/encoding/pieces.py",
        "if not text.isascii() and _UNKNOWN.search(text):",
        "if False:",
        _PIECES,
    ),
    Mutation(
        "added tokens are found in texts that are looked up in pieces",
        "pipeline/data/encoding/pieces.py",
        "any(name in text for name in self._added)",
        "False",
        _PIECES,
    ),
    Mutation(
        "what lies between the matches of a pattern is a piece too",
        "pipeline/data/encoding/pieces.py",
        'len("".join(found)) < len(text)',
        "False",
        _PIECES,
    ),
    Mutation(
        "a stream is read once, without a copy on the disk",
        "pipeline/data/reading/sources.py",
        "streamed_rows if block.streaming else hub_rows",
        "hub_rows",
        ("tests/unit/data/test_kept_rows.py",),
    ),
    Mutation(
        "streaming changes no result",
        "pipeline/plan/identity.py",
        'exclude={"streaming"}',
        "exclude=set()",
        ("tests/stages/test_identity.py::test_a_stream_has_the_rows_of_its_data_set",),
    ),
    Mutation(
        "weights and streams do not go together",
        "pipeline/recipe/load.py",
        "if block.streaming and is_counted:",
        "if False:",
        ("tests/recipes/test_bad_recipes.py",),
    ),
    Mutation(
        "prompts of another form, or told of other tools, are encoded anew",
        "pipeline/data/kept_rows.py",
        "            **kind.settings,\n",
        "",
        (f"{_PROMPTS}::test_another_form_and_other_tools_are_encoded_anew",),
    ),
    Mutation(
        "prompts with values that no text has are not read from files",
        "pipeline/stages/rl/asked.py",
        "    return not report.num_not_plain\n",
        "    return True\n",
        ("tests/stages/test_kept_prompts_stage.py",),
    ),
    Mutation(
        "a value that would come back otherwise is not written",
        "pipeline/data/encoding/plain_values.py",
        "    kind = type(value)",
        "    kind = next(each for each in (str, dict, object) if isinstance(value, each))",
        (_PROMPTS,),
    ),
    Mutation(
        "plan's disk estimate counts encoded rows",
        "pipeline/plan/encoded_size.py",
        "_OF_PLAIN, _OF_PACKED = 2, 8",
        "_OF_PLAIN, _OF_PACKED = 0, 8",
        ("tests/unit/plan/test_estimate.py",),
    ),
]
