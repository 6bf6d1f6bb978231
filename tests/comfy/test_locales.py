"""The nodes' texts in three languages, their help pages and the templates' titles.

English is what the nodes say themselves: about 10 s to ask them.
"""

import json
import re

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import Browser, chromium
from tests.comfy.locales import FOLDER, LANGUAGES, of_the_nodes, read
from tests.comfy.sources import NEWEST, ROOT, SourceError

FILES = ("main", "nodeDefs")
OTHERS = [language for language in LANGUAGES if language != "en"]
MARKS = re.compile(r"[{}@|]")
"""Characters with a meaning of their own in the page's translated texts."""
SUFFIX = " (only if it trains)"
NODES = sorted(read("en", "nodeDefs"))


def leaves(tree, path=()):
    """{path: text} of a tree of texts."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {p: text for key, part in tree.items() for p, text in leaves(part, (*path, key)).items()}


@pytest.fixture(scope="module")
def nodes():
    """What the nodes say of themselves today."""
    try:
        return of_the_nodes()
    except SourceError as e:
        pytest.skip(str(e))


def test_english_is_what_the_nodes_say(nodes):
    assert read("en", "nodeDefs") == nodes, "run: python -m tests.comfy.locales, then translate what is new"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("language", OTHERS)
def test_languages_have_the_same_texts(language, name):
    ours, english = leaves(read(language, name)), leaves(read("en", name))
    assert list(ours) == list(english)
    letters = r"[\u3040-\u30ff\u4e00-\u9fff]"
    assert [p for p, text in ours.items() if not re.search(letters, text) and text not in ("CLIP", "VAE")] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_plain(language):
    texts = {p: t for name in FILES for p, t in leaves(read(language, name)).items()}
    assert [p for p, t in texts.items() if not t or MARKS.search(t) or t != t.strip()] == []
    assert {f.name for f in (FOLDER / language).iterdir()} == {f"{name}.json" for name in FILES}


def test_numbers_and_choices_are_kept():
    """What is typed or chosen is the same word in each language: numbers, letters, names of choices."""
    choices = {"quality": ("quick", "thorough"), "kind": ("object", "style"), "layers": ("kv", "cross", "attention")}
    choices |= {"depth": ("name", "deep"), "scope": ("named", "everywhere")}
    for language in OTHERS:
        texts = read(language, "nodeDefs")
        for node in NODES:
            for name, one in texts[node]["inputs"].items():
                english = read("en", "nodeDefs")[node]["inputs"][name]["tooltip"]
                assert set(re.findall(r"w_\w", english)) == set(re.findall(r"w_\w", one["tooltip"]))
                words = choices.get(name, ()) if node != "UnlearnLoadDemoModel" else ()
                assert all(word in one["tooltip"] for word in words), (language, node, name)


def test_templates_have_titles():
    files = {f.stem for f in (ROOT / "example_workflows").glob("*.json")}
    for language in LANGUAGES:
        templates = read(language, "main")["templateWorkflows"]
        assert [{*templates[kind]["unlearn-deltas"]} for kind in ("template", "templateDescription")] == [files, files]


# Help pages


def named(page):
    """What stands in the first column of a help page's tables, without a number behind it."""
    cells = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
    return {re.sub(r"[ _]\d$", "", part) for cell in cells for part in re.split(", | to ", cell)}


@pytest.mark.parametrize("node", NODES)
def test_help_pages_name_every_input_and_output(node):
    page = (ROOT / "web" / "docs" / f"{node}.md").read_text("utf-8")
    facts = read("en", "nodeDefs")[node]
    assert page.startswith(f"# {facts['display_name']}\n")
    names = [one["name"].removesuffix(SUFFIX) for part in ("inputs", "outputs") for one in facts[part].values()]
    assert {re.sub(r"[ _]\d$", "", name) for name in names} - named(page) == set()


def test_every_node_has_a_page_and_no_other_is_shipped():
    assert {f.stem for f in (ROOT / "web" / "docs").glob("*.md")} == {*NODES}


@pytest.mark.full
def test_comfyui_serves_the_texts(comfy):
    with comfy.client() as page:
        served = page.get("/i18n")
    for language in LANGUAGES:
        assert served[language]["nodeDefs"].items() >= json.loads(json.dumps(read(language, "nodeDefs"))).items()


SHOWN = """(async () => {
  const node = LiteGraph.createNode('UnlearnForgetConcept');
  app.graph.add(node);
  return [node.title, ...node.widgets.slice(0, 3).map(w => w.label), node.outputs[3].localized_name];
})()"""


@pytest.mark.full
@pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine")
@pytest.mark.parametrize("comfy", [NEWEST], indirect=True)
@pytest.mark.parametrize("language", OTHERS)
def test_the_page_shows_them(comfy, tmp_path, language):
    facts = read(language, "nodeDefs")["UnlearnForgetConcept"]
    with comfy.client() as page:
        page.post("/settings/Comfy.TutorialCompleted", True)
        page.post("/settings/Comfy.Locale", language)
        try:
            with Browser(tmp_path) as browser:
                browser.goto(f"http://{comfy.address}/")
                browser.until("Boolean(window.app?.graph && window.app.canvas)", 300)
                labels = [facts["inputs"][name]["name"] for name in ("concept", "anchor", "keep")]
                shown = browser.evaluate(SHOWN)
                browser.screenshot(tmp_path / "page.png")
        finally:
            page.post("/settings/Comfy.Locale", "en")
    assert shown == [facts["display_name"], *labels, facts["outputs"]["3"]["name"]]
