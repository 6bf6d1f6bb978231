"""What a screen reader says of the HTML that the page's own functions make: everything that counts has a name."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.webui.pack import load

core, html, jobs = load("unlearn_core"), load("extension.html"), load("extension.jobs")
library, results, stack_file = (load(f"extension.{name}") for name in ("delta_library", "results", "stack_file"))

ENDLESS = {"img", "input", "wbr", "line", "polyline"}
PRESSED = {"button", "input"}
"""What the keyboard reaches too."""


@dataclass
class Part:
    """An element: what it is, what it is in, and all words inside it."""

    tag: str
    facts: dict
    inside: list
    text: list = field(default_factory=list)

    def wrong(self):
        """Why nobody can say or press it, or ""."""
        name = self.facts.get("aria-label") or "".join(self.text).strip()
        within = [part.tag for part in self.inside]
        if self.tag == "img":
            # a picture beside the words of its own button is passed over
            return "" if self.facts.get("alt") or ("alt" in self.facts and "button" in within) else "no words"
        if self.tag == "input":
            name = name or next(("".join(part.text).strip() for part in self.inside if part.tag == "label"), "")
        if self.tag in PRESSED or self.facts.get("role") in ("progressbar", "img"):
            return "" if any(map(str.isalpha, name)) else "no name"
        return "no button" if {"onclick", "onchange", "oninput"} & set(self.facts) else ""


class Reader(HTMLParser):
    """All parts of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.open, self.parts = [], []
        self.feed(text)
        self.close()
        assert not self.open, [part.tag for part in self.open]

    def handle_starttag(self, tag, attrs):
        part = Part(tag, dict(attrs), [*self.open])
        self.parts.append(part)
        if tag not in ENDLESS:
            self.open.append(part)

    def handle_endtag(self, tag):
        if tag not in ENDLESS:
            assert self.open.pop().tag == tag

    def handle_data(self, data):
        for part in self.open:
            part.text.append(data)


def faults(text):
    return [(part.tag, part.facts, why) for part in Reader(text).parts if (why := part.wrong())]


def pieces():
    """One of everything that the page shows."""
    running = {"state": "running", "phase": "training", "done": 3, "total": 9, "fraction": 0.3, "notes": ("a note",)}
    running |= {"losses": ((1, 0.5, 0.1), (2, 0.4, 0.1)), "pictures": ("1.jpg", "2.jpg")}
    facts = {"concept": "cat", "anchor": "dog", "reason": "x", "check": {"verdict": "forgotten, the rest preserved"}}
    facts |= {"way": "closed form", "stack": [], "stopped": "", "seconds": 3.0}
    pairs = (results.Pair("a cat", "before.jpg", "after.jpg"), results.Pair("a dog", "before.jpg", ""))
    first = results.ForgetResult(Path("/loras/forget_cat.safetensors"), "forget_cat.safetensors", facts, pairs)
    both = results.ForgetResult(first.file, first.name, facts, pairs, earlier=(first,))
    view = jobs.View("1", "forget", "Forgetting 'cat'", **running)
    info = core.DeltaInfo("cat", "object", "dog", "sd1", "epsilon", "0" * 16)
    card = library.Card("forget_cat.safetensors", info, "2026-01-01 00:00", 1)
    row = stack_file.Row(card.name)
    yield from (html.status(view, ""), html.live(view, "cat"), html.status(None, "idle"))
    for state in ("waiting", "done", "stopped", "failed"):
        yield html.status(jobs.View("1", "forget", "x", state=state, error="what went wrong", fraction=0.5), "")
    for made in (first, both):
        yield html.outcome(jobs.View("1", "forget", "x", state="done", result=made), in_web_ui=True)
    yield html.candidates(results.CandidatesResult("cat", (("dog", "1.jpg"), ("fox", "2.jpg"))))
    yield from (html.row(1, row, card, None, "data:x"), html.row(1, row, card, None), html.row(2, row, None, None))
    yield html.row(3, stack_file.Row("../x", wrong="It cannot be used."), None, None)
    yield from (html.notice("words", "bad"), html.timer("poll"), html.naming(), html.sentences(["a"], "b", True))


@pytest.mark.parametrize("piece", [*pieces()])
def test_all_that_is_shown_or_pressed_has_words(piece):
    assert faults(piece) == []


@pytest.mark.parametrize(
    "bad",
    [
        '<img src="x">',
        '<img src="x" alt="">',
        '<input type="range">',
        '<label><input type="checkbox"> </label>',
        "<button>+</button>",
        '<button><img src="x" alt=""></button>',
        '<div role="progressbar"></div>',
        '<span onclick="x">words</span>',
    ],
)
def test_what_has_none_is_found(bad):
    assert len(faults(bad)) == 1


def test_pictures_bars_and_lines_are_told_apart():
    shown = [*pieces()]
    assert 'alt="picture 1 of 2"' in shown[1] and 'alt="picture 2 of 2"' in shown[1]
    assert 'role="progressbar" aria-label="Forgetting &#x27;cat&#x27;"' in shown[0]
    names = [next(p.facts["data-name"] for p in Reader(text).parts if "data-name" in p.facts) for text in shown[10:14]]
    assert names == ["1. cat", "1. cat", "2. forget_cat.safetensors", "3. ../x"]
    assert 'data-name="&lt;b&gt;&quot;"' in html.naming('<b>"')


def test_the_sign_that_names_the_fields_runs_once_it_is_shown():
    (sign,) = Reader(html.naming("1. cat")).parts
    css = Path(html.__file__).with_name("tab.css").read_text("utf-8")
    rule = next(line for line in css.splitlines() if line.startswith(".unlearn-names {"))
    assert sign.facts["onanimationend"] == html.NAMES and sign.facts["class"] == "unlearn-names" and "animation" in rule
