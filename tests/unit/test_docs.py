"""The pages: links, anchors and pictures exist, pages are short, quoted messages are those of the code."""

import ast
import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.__main__ import parser as benchmarks
from tests.webui import pack
from unlearn_core.cli.main import parser as product

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
    recipes = (ROOT / "docs" / "recipes" / "README.md").read_text("utf-8")
    others = [p for p in (ROOT / "docs" / "recipes").glob("*.md") if p.name != "README.md"]
    assert len(others) >= 9 and [p.name for p in others if f"({p.name})" not in recipes] == []
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
    assert found <= {"CEASE", "CPU", "ESD", "KID", "LCM", "LECO", "OCE", "UA", "XL"}


# Commands


WRITTEN = re.compile(r"^ {4,}(\S(?:.*\\\n)*.*)$|`((?:python3?|py) [^`]+)`", re.MULTILINE)
"""Commands in indented lines, which may go on in the next one, and in the midst of a sentence."""
PYTHON = re.compile(r"(?:\.venv/bin/)?(?:python3?|py) (-m [\w.]+|install\.py)\b *(.*)")
PARSERS = {
    "-m unlearn_core": product,
    "-m benchmarks": benchmarks,
    "page": lambda: pack.load("extension.app").parser(),
}
PLACEHOLDERS = re.compile(r"\.\.\.|\[|\bNAME=VALUE\b|\bMETHOD\b|--count$")


def commands(text):
    """(program, its options) of every command on a page; those that stand for many are left out."""
    for match in WRITTEN.finditer(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        line = (match[1] or match[2]).replace("\\\n", " ")
        if (found := PYTHON.match(line)) and not PLACEHOLDERS.search(line):
            yield found[1], shlex.split(found[2].rstrip(".,;:"), comments=True)


def refused(program, options):
    """What the program itself says about options that it does not take, or ""."""
    if program == "install.py":
        mode = options[0] if options else ""
        if mode in ("demo", "app"):
            return refused(*(("-m unlearn_core", options) if mode == "demo" else ("page", options[1:])))
        return "" if mode in ("test", "release", "") else f"install.py has no mode {mode}"
    if not options and program != "page":
        return ""  # it is only named
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            PARSERS[program]().parse_args(options)
        except SystemExit as end:
            return said.getvalue() if end.code else ""
    return ""


@pytest.mark.parametrize("page", [p for p in PAGES if "decisions" not in p.parts], ids=path_of)
def test_commands_are_understood(page):
    known = [(p, o) for p, o in commands(page.read_text("utf-8")) if p == "install.py" or p in PARSERS]
    assert [f"{program} {options}: {why}" for program, options in known if (why := refused(program, options))] == []


def test_a_wrong_command_would_be_found():
    text = """
    .venv/bin/python -m unlearn_core forget --checkpoint m.safetensors \\
        --concept cat --nonsense 1
    python -m benchmarks nonsense
`python install.py nonsense` and `py install.py app --nonsense`, `python install.py demo --concept cat`
"""
    found = list(commands(text))
    assert [bool(refused(*c)) for c in found] == [True, True, True, True, False]


def test_front_pages_have_commands_to_test():
    pages = [ROOT / "README.md", *(p for p in (ROOT / "docs" / "recipes").glob("*.md") if p.name != "README.md")]
    assert [p.name for p in pages if not list(commands(p.read_text("utf-8")))] == []


def test_recipes_name_templates_that_exist():
    pages = "".join(p.read_text("utf-8") for p in PAGES if "decisions" not in p.parts)
    named = {*re.findall(r"`([^`/]+\.json)`", pages)}
    files = {f.name for f in (ROOT / "example_workflows").glob("*.json")}
    assert {n for n in named if n[0].isupper() and " " in n} <= files and named & files
