"""What artists read is in plain words: no terms of papers, no words of earlier versions, no praise."""

import ast
import json
import re
from pathlib import Path

import pytest

from unlearn_core.config import REQUEST, settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [DOCS / name for name in ("index.md", "comfyui.md", "webui.md", "results.md")]
FRONT = [ROOT / "README.md", *PAGES, *sorted((DOCS / "recipes").glob("*.md"))]
HELP = sorted((ROOT / "web" / "docs").glob("*.md"))
MORE = [DOCS / "command-line.md", DOCS / "troubleshooting.md", DOCS / "stacking.md"]
FOR_FEW = "UnlearnForgetSettings"
"""The node of the settings that few people need, which have their terms in them."""

BANNED = {
    "words of earlier versions": "judge|exam|firmness|text guard|second-hand|relapse|null[- ]space|hold altogether|"
    "nobody has looked|in one go|led a twentieth",
    "praise": "powerful|seamless(ly)?|simply|easily|effortless(ly)?|revolutionary|state-of-the-art|cutting-edge|"
    "blazing(ly)?|game-?changing|unleash|supercharge|world-class|best-in-class|magic(al)?(ly)?",
    "fashion": "leverag(e|es|ing)|utili[sz](e|es|ing)|delve|holistic|synergy|paradigm",
}
"""In no text of the product."""
TECHNICAL = (
    "closed form|latents?|denois(er|e|ing)|autoencoders?|tensors?|gradients?|cross-attention|epochs?|loss(es)?|"
    "optimi[sz]ers?|AdamW|inference|embeddings?|fine-?tun(e|ed|ing)|hyper-?parameters?|KID|score distance|leakage|"
    "resurgence|replay|teacher|student|retention|regulari[sz]ation|preserve scale|preservation penalty|overshoot|"
    "anchors?|backbone|logits?|manifold|ablation|baselines?|eigen\\w*|Gram|posterior|prior"
)
"""In nothing that an artist meets before the training settings."""
OPTION = re.compile(r"`[^`]*`|^ {4,}[^\n]*$|<!-- table:.*?<!-- /table:\S+ -->|\]\([^)]*\)", re.MULTILINE | re.DOTALL)
"""Commands, generated tables and addresses: their words are names."""


def found(pattern, text):
    """The words of a pattern that stand in a text."""
    return [m[0] for m in re.finditer(rf"(?<![\w-])({pattern})(?![\w-])", text, re.IGNORECASE)]


def path_of(page):
    return page.relative_to(ROOT).as_posix()


def messages(*rooms):
    """{file:line: text} of every text of some rooms that is a sentence or a label; what explains the code is none."""
    texts = {}
    for room in rooms:
        for file in [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py")):
            tree = ast.parse(file.read_text("utf-8"))
            explains = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
            for n in ast.walk(tree):
                if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in explains:
                    texts[f"{path_of(file)}:{n.lineno}:{n.col_offset}"] = n.value
    return texts


@pytest.mark.parametrize("page", [*FRONT, *HELP, *MORE], ids=path_of)
def test_no_page_has_a_banned_word(page):
    text = page.read_text("utf-8")
    assert {kind: words for kind, pattern in BANNED.items() if (words := found(pattern, text))} == {}


def test_no_message_has_a_banned_word():
    said = {
        where: words
        for where, text in messages("unlearn_core", "nodes", "extension", "install.py").items()
        if " " in text and (words := found("|".join(BANNED.values()), text))
    }
    assert said == {}


def test_no_script_of_the_page_has_a_banned_word():
    texts = {f.name: f.read_text("utf-8") for f in (ROOT / "web").glob("*.js")}
    assert {n: w for n, text in texts.items() if (w := found("|".join(BANNED.values()), text))} == {}


@pytest.mark.parametrize("page", [*FRONT, *(p for p in HELP if p.stem != FOR_FEW)], ids=path_of)
def test_front_pages_have_no_technical_word(page):
    assert found(TECHNICAL, OPTION.sub("", page.read_text("utf-8"))) == []


def test_what_every_request_asks_for_has_no_technical_word():
    asked = [f.metadata for f in settings() if f.metadata["group"] == REQUEST]
    assert len(asked) > 5
    assert found(TECHNICAL, " ".join(m["label"] + " " + m["help"] for m in asked)) == []


def test_the_nodes_have_no_technical_word():
    nodes = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
    nodes[FOR_FEW] = {name: nodes[FOR_FEW][name] for name in ("display_name", "description")}
    assert {name: words for name, facts in nodes.items() if (words := found(TECHNICAL, words_of(facts)))} == {}


def words_of(facts):
    """All texts below a node, without the names of its inputs in the code."""
    return facts if isinstance(facts, str) else " ".join(map(words_of, facts.values()))


NAMES = {"losses", "replay", "overshoot", "anchor"}
"""Phases and settings as the code calls them."""
ALLOWED = {
    "extension/loss_curve.py": {"loss", "replay", "anchor"},
    "extension/jobs.py": {"gradient"},
}
"""The curve of a training and its colours; a message that names a setting by its label."""


def test_the_tab_has_no_technical_word():
    said = {}
    for where, text in messages("extension").items():
        words = {w.casefold() for w in found(TECHNICAL, text)} - ALLOWED.get(where.split(":")[0], set())
        if words and text.casefold() not in NAMES:
            said[where] = words
    assert said == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The judge finds it, simply.", ["judge", "simply"]),
        ("An examination by many, with priority", []),
        ("Utilizing null space", ["Utilizing", "null space"]),
    ],
)
def test_such_words_are_found(text, words):
    assert found("|".join(BANNED.values()), text) == words


def test_commands_and_addresses_are_no_words():
    text = "Use `--anchor` [here](anchor.md).\n\n    python x --anchor cat\n\nNot the anchor."
    assert found(TECHNICAL, OPTION.sub("", text)) == ["anchor"]
