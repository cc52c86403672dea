"""What a typed line does."""

import pytest

from pipeline.chat.commands import take
from pipeline.chat.session import Exchange, Session
from pipeline.chat.settings import Settings
from pipeline.errors import PosttrainError


@pytest.fixture
def session(chat_model):
    return Session([chat_model], Settings(max_new_tokens=4))


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("/temperature 0.2", "temperature", 0.2),
        ("/top-p .9", "top_p", 0.9),
        ("/max 17", "max_new_tokens", 17),
        ("/seed 5", "seed", 5),
        ("/system Be kind, always", "system", "Be kind, always"),
    ],
)
def test_settings_are_changed_shown_and_used_for_the_next_answer(session, line, key, value):
    said = take(session, line).messages
    assert getattr(session.settings, key) == value
    assert said == [f"{key}: {value}"] == take(session, line.partition(" ")[0]).messages
    (answer,) = take(session, "Hello").answers
    assert answer._settings == session.settings


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/temperature -1", "temperature: `-1` should be greater than or equal to 0"),
        ("/temperature nan", "temperature: `nan` should be a finite number"),
        ("/temperature hot", "temperature: `hot` should be a valid number"),
        ("/top-p 0", "top_p: `0` should be greater than 0"),
        ("/max 1.5", "max_new_tokens: `1.5` should be a valid integer"),
        ("/sed 3", "there is no command `/sed`; did you mean `/seed`?"),
        ("/etc/passwd", "there is no command `/etc/passwd`; /help shows all"),
        ("/save", "/save: needs the name of a file"),
        ("/save /nowhere/x.jsonl", "/nowhere/x.jsonl: cannot be written"),
        ("/undo", "nothing was said yet"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_changes_nothing(session, line, words):
    before = session.settings
    with pytest.raises(PosttrainError) as caught:
        take(session, line)
    assert str(caught.value).startswith(words)
    assert session.settings == before


def test_two_slashes_begin_a_text_with_one(session):
    (answer,) = take(session, "//etc is a folder").answers
    assert answer.prompt == "/etc is a folder"


def test_an_empty_line_asks_a_chat_model_nothing_and_lets_a_document_go_on(session, document_model):
    assert take(session, "  ").answers == ()
    writing = Session([document_model], Settings(max_new_tokens=4))
    writing.sides[0].exchanges.append(Exchange("Once", " upon"))
    (answer,) = take(writing, "").answers
    assert answer.prompt == "Once upon"


def test_history_and_undo_show_what_is_there(session):
    session.sides[0].exchanges += [Exchange("Hi", "Hello"), Exchange("Bye", "See you")]
    assert take(session, "/history").messages == [
        "you: Hi",
        "tiny: Hello",
        "you: Bye",
        "tiny: See you",
    ]
    assert take(session, "/undo").messages == ["taken back; exchanges left: 1"]
    take(session, "/clear")
    assert take(session, "/history").messages == ["nothing was said yet"]


def test_the_system_prompt_can_be_taken_away_and_quit_ends(session):
    take(session, "/system Be kind")
    assert take(session, "/system -").messages == ["system: none"]
    assert session.settings.system == ""
    assert take(session, "/quit").is_over
