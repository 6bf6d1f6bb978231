"""The pages: links, anchors and pictures exist, pages are short, quoted messages are those of the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MOST_LINES = 200
LONG = {"docs/delta-format.md"}
GENERATED = {"docs/settings.md"}
"""Pages that a command makes, so that a link to them may come first."""
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
OLD_WORDS = (
    r"the judge|firmness|second-hand|nobody has looked|in one go|text guard|led a twentieth past|hold altogether"
)


def path_of(page):
    return page.relative_to(ROOT).as_posix()


def anchors(text):
    """The anchors of a page's headings, as they are made by the usual viewers."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.casefold()).replace(" ", "-") for h in headings}


def broken(page, text):
    """Links and pictures of a page that lead nowhere."""
    found = []
    for link in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists():
            found += [] if path_of(target) in GENERATED else [link]
        elif anchor and anchor not in anchors(text if target == page else target.read_text("utf-8")):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_links_lead_somewhere(page):
    assert broken(page, page.read_text("utf-8")) == []


def test_a_broken_link_would_be_found():
    page = ROOT / "docs" / "index.md"
    assert broken(page, "# A page\n[x](gone.md) ![y](images/gone.png) [z](#a-page) [w](#other)") == [
        *("gone.md", "images/gone.png", "#other")
    ]


@pytest.mark.parametrize("page", [p for p in PAGES if "decisions" not in p.parts], ids=path_of)
def test_pages_are_short_and_speak_todays_words(page):
    text = page.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES or path_of(page) in LONG
    assert re.findall(OLD_WORDS, text, re.IGNORECASE) == []
    opened = re.findall(r"^<!-- table:(\S+) -->", text, re.MULTILINE)
    assert opened == re.findall(r"^<!-- /table:(\S+) -->", text, re.MULTILINE) and len(set(opened)) == len(opened)


def test_every_page_is_reached_from_the_index():
    listed = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert [p.name for p in (ROOT / "docs").glob("*.md") if p.name != "index.md" and f"({p.name})" not in listed] == []
    diary = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    pages = (ROOT / "docs" / "decisions").glob("0*.md")
    assert [p.name for p in pages if f"({p.name})" not in diary] == []


def spoken():
    """All texts of the product, a line each, with a gap where a value is put in."""
    rooms = [ROOT / room for room in ("unlearn_core", "nodes", "extension")]
    files = [ROOT / "install.py", *(file for room in rooms for file in room.rglob("*.py"))]
    texts = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(p.value if isinstance(p, ast.Constant) else "\0" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_messages_in_troubleshooting_are_those_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    quoted = [q for row in re.findall(r"^\| (.*?) \|", page, re.MULTILINE) for q in re.findall(r'"([^"]+)"', row)]
    code = spoken()
    parts = [part.strip(" '") for q in quoted for part in re.split(r"\*[^*]+\*|\.\.\.", q)]
    assert len(quoted) > 60
    missing = [p for p in parts if len(p) > 4 and p not in code]
    assert missing == []


@pytest.mark.parametrize("page", [p for p in PAGES if "decisions" not in p.parts], ids=path_of)
def test_no_table_waits_for_a_value(page):
    found = {*re.findall(r"(?:\| |, )([A-Z]{2,}) \|", page.read_text("utf-8"))}
    assert found <= {"CPU", "ESD", "KID", "LCM", "LECO", "UA"}
