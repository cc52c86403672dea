"""How replies are drawn and how long they may be; what a chat lets its user change.

Checked in one place, whether it was typed as an option, after a slash or sent by the web page.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import PosttrainError


class Settings(BaseModel):
    """temperature: 0 takes the likeliest token. top_p: nucleus sampling (Holtzman et al. 2020).

    seed: the same seed, conversation and attempt give the same reply. system: empty for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    temperature: Annotated[float, Field(ge=0, le=10)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    seed: Annotated[int, Field(ge=0, lt=2**53)] = 0  # what JavaScript's numbers hold
    system: str = ""

    def with_changes(self, **changes: Any) -> "Settings":
        """Return the settings with some replaced; text is read. Raises PosttrainError."""
        try:
            return Settings.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            raise refuse(error) from error


def refuse(error: ValidationError) -> PosttrainError:
    """Return as an error the first thing that pydantic finds wrong."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Input ")
    return PosttrainError(where, f"`{str(first['input'])[:40]}` {message[:1].lower()}{message[1:]}")
