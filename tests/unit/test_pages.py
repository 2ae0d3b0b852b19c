"""Every link of the repository's pages leads to a file, and to a heading of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (ROOT, ROOT / "nwc", ROOT / "nwc" / "nip47", ROOT / "tests", ROOT / "tests" / "bench")
    for page in folder.glob("*.md")
)
_CODE_BLOCK = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def without_code(page: Path) -> str:
    return _CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    texts = (
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        for heading in _HEADING.findall(without_code(page))
    )
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def dead_links(page: Path) -> list[str]:
    """Return the links to files or headings that do not exist."""
    dead = []
    for link in _LINK.findall(without_code(page)):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading\n[a](#a-heading) [b](#none) [c](none.md) [d](https://example.com)\n")
    assert dead_links(page) == ["#none", "none.md"]


def test_every_promise_names_tests_that_exist() -> None:
    page = (ROOT / "nwc" / "README.md").read_text(encoding="utf-8")
    promises = page.partition("## Promises")[2].partition("\n## ")[0]
    named = re.findall(r"`((?:unit|wire)/[^`]*)`", promises)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / "tests" / path).exists()] == []
