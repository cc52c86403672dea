"""Pages name only what is there: links, anchors, paths, modules; and list what they must list."""

import ast
import re
import tomllib
from importlib import import_module
from importlib.util import find_spec

import pytest

from pipeline.stages import BUILT_IN, stage_of
from tests.pages.page import DOCS, PAGES, REPOSITORY, Page, page

_PATH = re.compile(r"(?<![\w./-])(?:pipeline|eval|reward|tests|recipes|docs)/[\w./-]*\w")
_MODULE = re.compile(r"(?:pipeline|eval|reward|tests)(?:\.(?!py\b)\w+)+")
_GENERATED = {"keys.md", "README.md"}  # with lists of their own instead of a line of contents

each_page = pytest.mark.parametrize("shown", PAGES, ids=lambda shown: shown.name)


@each_page
def test_every_link_leads_somewhere(shown: Page) -> None:
    for link in shown.links:
        if link.startswith("https://"):
            continue
        file, _, fragment = link.partition("#")
        target = Page((shown.path.parent / file).resolve() if file else shown.path)
        assert target.path.exists(), link
        if fragment:
            assert fragment in target.headings(), link


@each_page
def test_every_path_and_module_that_is_named_exists(shown: Page) -> None:
    for path in _PATH.findall(shown.text):
        assert (REPOSITORY / path).exists(), path
    for span in shown.spans:
        if _MODULE.fullmatch(span):
            _resolve(span)


def _resolve(name: str) -> None:
    """Import a module, or the module of a name in it."""
    try:
        import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute), name


@each_page
def test_every_python_block_compiles_and_its_imports_are_there(shown: Page) -> None:
    for block in shown.blocks:
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.Import):
                assert all(find_spec(alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                module = import_module(node.module)
                missing = [a.name for a in node.names if not hasattr(module, a.name)]
                assert not missing, f"{shown.name}:{block.line}: {node.module} has no {missing}"


@pytest.mark.parametrize(
    "shown",
    [shown for shown in PAGES if shown.path.parent == DOCS and shown.path.name not in _GENERATED],
    ids=lambda shown: shown.name,
)
def test_a_page_begins_with_its_contents(shown: Page) -> None:
    title, empty, contents = shown.text.splitlines()[:3]
    assert (title[:2], empty, contents[:10]) == ("# ", "", "Contents: ")
    assert re.findall(r"\(#([^)]+)\)", contents) == shown.headings(2)


@each_page
def test_every_row_of_a_table_has_as_many_cells_as_its_head(shown: Page) -> None:
    width = None
    for line in shown.prose.splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        assert width in (None, cells), line
        width = cells


def test_every_page_is_listed() -> None:
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert pages == {link for link in page("docs/README.md").links if "/" not in link}
    linked = {link.partition("#")[0] for link in page("README.md").links}
    assert {f"docs/{name}" for name in pages} <= linked


def test_the_table_of_stages_has_all_and_names_keys_that_they_have() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", page("docs/recipes.md").prose, re.MULTILINE)
    told = {kind: keys for kind, keys in rows if kind in BUILT_IN}
    assert tuple(told) == BUILT_IN
    for kind, keys in told.items():
        named = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", keys))
        assert set(named) <= stage_of(kind).config.model_fields.keys(), kind


def test_the_tree_of_contributing_has_every_folder_in_the_order_of_the_floors() -> None:
    (tree,) = (b.text for b in page("CONTRIBUTING.md").blocks if "pipeline/  " in b.text)
    told: dict[str, list[str]] = {}
    for line in filter(None, tree.splitlines()):
        name = line.split()[0]
        if name.endswith("/") and not line.startswith(" "):
            told[name] = []
        elif name.endswith("/"):
            told[[*told][-1]].append(name.rstrip("/"))
    for root, folders in told.items():
        there = {path.parent.name for path in (REPOSITORY / root).glob("*/*.py")}
        assert there - {"shipped"} <= set(folders), root
        assert all((REPOSITORY / root / folder).is_dir() for folder in folders)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (floors,) = (
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["pipeline"]
    )
    order = [name for floor in floors for name in floor.split(" | ")]
    assert told["pipeline/"] == [name for name in order if name in told["pipeline/"]]


def test_the_readme_is_one_page() -> None:
    assert len(page("README.md").text.split()) <= 1000
