"""A reward function in TRL's calling convention, used by gsm8k_grpo.yaml: how an answer ends.

Whether the number is right, the task's own verifier says; this one pays for saying it where it is
looked for, so that early in the training not all responses of a group score alike.
"""

import re

_LAST_LINE = re.compile(r"(#### ?|\\boxed\{|[Tt]he (final )?answer is:? ?)[-$]?\d[\d,.]*\}?\.?\s*$")


def ends_with_the_answer(completions: list[list[dict[str, str]]], **_: object) -> list[float]:
    """Give 1 to a response that ends with `#### 18`, a box or `The answer is 18.`, else 0.

    completions: chats of one message, as TRL hands them to a reward function, or plain texts.
    """
    texts = [each if isinstance(each, str) else each[-1]["content"] for each in completions]
    return [float(bool(_LAST_LINE.search(text))) for text in texts]
