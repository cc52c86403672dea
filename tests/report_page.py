"""A report as a parser sees it: elements with attributes, texts; what is not well-formed fails."""

from html.parser import HTMLParser

import pytest

VOID = ("meta", "link", "input", "img")


class Page(HTMLParser):
    """A page's elements in order, each with its attributes, and the texts between them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute of <{tag}> is there twice"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def handle_comment(self, data):
        pytest.fail(f"a comment: {data}")

    @property
    def text(self):
        return " ".join("".join(self.texts).split())
