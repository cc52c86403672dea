"""A task's prompts as rows: what is asked in a chat, and what a model of documents continues."""

from pipeline.data.reading.files import Row
from pipeline.data.reading.prompts import task_row


def test_a_model_of_documents_continues_what_the_task_says():
    row = task_row(Row("digits#1", {"prompt": "Draw a 3.", "reference": "3", "document": "3"}))
    assert (row.messages[0].content, row.text) == ("Draw a 3.", "3")
    assert dict(row.columns) == {"reference": "3"}


def test_without_it_the_prompt_is_continued():
    row = task_row(Row("sums#1", {"prompt": "1 + 2 =", "reference": "3"}))
    assert row.text == "1 + 2 ="
