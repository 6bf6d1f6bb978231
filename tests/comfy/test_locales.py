"""The nodes' texts in three languages, their help pages and the templates' titles.

English is what the nodes say themselves: about 10 s to ask them.
"""

import json
import re

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import IN_A_BROWSER, Browser
from tests.comfy.locales import FOLDER, LANGUAGES, of_the_nodes, read
from tests.comfy.sources import NEWEST, ROOT, SourceError

FILES = ("main", "nodeDefs")
OTHERS = [language for language in LANGUAGES if language != "en"]
MARKS = re.compile(r"[{}@|]")
"""Characters with a meaning of their own in the page's translated texts."""
SUFFIX = {"en": " (only if it trains)", "zh": "（仅在训练时）", "ja": "（学習する場合のみ）"}
"""What the names of the training's settings end in; a help page says it once, above their list."""
NODES = sorted(read("en", "nodeDefs"))
CHOICES = {
    **{"quality": ("quick", "normal", "thorough"), "kind": ("auto", "object", "style")},
    **{"layers": ("kv", "cross", "attention"), "depth": ("name", "deep"), "scope": ("named", "everywhere")},
    "save": ("newest delta", "each delta", "one merged file"),
}
HELP = ROOT / "web" / "docs"
"""`NODE.md` in English, which the page falls back to, and `NODE/LANGUAGE.md`, which it asks for first."""
NOT_OURS = {"Checkpoint加载器（简易）", "チェックポイントを読み込む"}
"""ComfyUI's own node Load Checkpoint, as it is called in other languages."""


def choices(node, name):
    """What can be chosen in a widget, which is the same word in each language."""
    return CHOICES.get(name, ()) if node != "UnlearnLoadDemoModel" else ()


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
    for language in OTHERS:
        texts = read(language, "nodeDefs")
        for node in NODES:
            for name, one in texts[node]["inputs"].items():
                english = read("en", "nodeDefs")[node]["inputs"][name]["tooltip"]
                assert set(re.findall(r"w_\w", english)) == set(re.findall(r"w_\w", one["tooltip"]))
                assert all(word in one["tooltip"] for word in choices(node, name)), (language, node, name)


def test_every_phase_that_is_sent_has_a_text():
    sources = [file.read_text("utf-8") for part in ("unlearn_core", "nodes") for file in (ROOT / part).rglob("*.py")]
    sent = {name for text in sources for name in re.findall(r"""\b(?:job\.start|self\._phase)\((?:"(\w+)")?""", text)}
    assert "" not in sent and len(sent) > 8, "its name cannot be read"
    assert {*read("en", "main")["unlearn"]["phases"]} == sent


def test_templates_have_titles():
    files = {f.stem for f in (ROOT / "example_workflows").glob("*.json")}
    for language in LANGUAGES:
        templates = read(language, "main")["templateWorkflows"]
        assert [{*templates[kind]["unlearn-deltas"]} for kind in ("template", "templateDescription")] == [files, files]


# Help pages


def help_page(node, language="en"):
    """A node's help page in a language."""
    return (HELP / (f"{node}.md" if language == "en" else f"{node}/{language}.md")).read_text("utf-8")


def shape(page):
    """What a translation keeps: levels of headings, lists, addresses of links and pictures."""
    lines = page.splitlines()
    kinds = [m[0] for line in lines if (m := re.match(r"#+ |- \*\*", line))]
    return kinds, re.findall(r"\]\(([^)]*)\)", page)


def rows(page):
    """The names that each entry of a help page's lists begins with."""
    found = re.findall(r"^- \*\*(.*?)\*\* – ", page, re.MULTILINE)
    return [re.split(r", | to |、|～", one) for one in found]


def named(page):
    """All names of the lists, without a number behind them."""
    return {re.sub(r"[ _]\d$", "", name) for row in rows(page) for name in row}


def names(node, language):
    """{the English name on the page: the one in another language} of a node's inputs and outputs."""
    english, ours = (read(one, "nodeDefs")[node] for one in ("en", language))
    found = {}
    for part in ("inputs", "outputs"):
        for key, facts in english[part].items():
            name, other = facts["name"], ours[part][key]["name"]
            assert name.endswith(SUFFIX["en"]) == other.endswith(SUFFIX[language]), other
            name, other = name.removesuffix(SUFFIX["en"]), other.removesuffix(SUFFIX[language])
            assert found.setdefault(name, other) == other, "one English name, two names in the other language"
    return found


@pytest.mark.parametrize("node", NODES)
def test_help_pages_name_every_input_and_output(node):
    page, facts = help_page(node), read("en", "nodeDefs")[node]
    assert page.startswith(f"# {facts['display_name']}\n")
    assert {re.sub(r"[ _]\d$", "", name) for name in names(node, "en")} - named(page) == set()


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("node", NODES)
def test_translated_help_pages_have_the_same_lists(node, language):
    page, english, known = help_page(node, language), help_page(node), names(node, language)
    assert page.startswith(f"# {read(language, 'nodeDefs')[node]['display_name']}\n")
    assert rows(page) == [[known.get(name, name) for name in row] for row in rows(english)]
    assert shape(page) == shape(english)
    assert not any(line.startswith("|") for line in page.splitlines()), "a narrow panel cuts tables off"


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("node", NODES)
def test_translated_help_pages_quote_names_that_exist(node, language):
    """Quotes are for names of nodes, inputs and outputs, code is for what is typed or chosen."""
    texts = read(language, "nodeDefs")
    known = NOT_OURS | {facts["display_name"] for facts in texts.values()}
    known |= {one["name"] for facts in texts.values() for part in ("inputs", "outputs") for one in facts[part].values()}
    page = help_page(node, language)
    assert {*re.findall("[“「]([^”」]*)[”」]", page)} - known == set()
    typed = {*re.findall("`([^`]*)`", help_page(node))} - {*names(node, "en")}
    typed |= {word for name in texts[node]["inputs"] for word in choices(node, name)}
    assert typed - {*re.findall("`([^`]*)`", page)} == set()


@pytest.mark.parametrize(
    ("line", "names_in_it"),
    [
        ("- **模型、CLIP** – a", [["模型", "CLIP"]]),
        ("- **stack_1 to stack_8** – a", [["stack_1", "stack_8"]]),
        ("- **堆叠 1～堆叠 8** – a", [["堆叠 1", "堆叠 8"]]),
        ("**Seed** – a\n- **Strength** – b", [["Strength"]]),
    ],
)
def test_entries_of_a_list_are_read(line, names_in_it):
    assert rows(line) == names_in_it


def test_every_node_has_a_page_in_each_language_and_no_other_is_shipped():
    wanted = {f"{node}.md" for node in NODES} | {f"{node}/{language}.md" for node in NODES for language in OTHERS}
    assert {f.relative_to(HELP).as_posix() for f in HELP.rglob("*.*")} == wanted


@pytest.mark.full
def test_comfyui_serves_the_texts(comfy):
    with comfy.client() as page:
        served = page.get("/i18n")
    for language in LANGUAGES:
        assert served[language]["nodeDefs"].items() >= json.loads(json.dumps(read(language, "nodeDefs"))).items()


SHOWN = """(async () => {
  const node = LiteGraph.createNode('UnlearnForgetConcept');
  app.graph.add(node);
  const panel = node.unlearnPanel, words = panel.comparison.root.querySelectorAll('span');
  panel.progress({phase: 'drawing', message: 'drawing the pictures', fraction: 0.9, part: 0});
  const doing = panel.doing.textContent;
  panel.finished({unlearn_folder: ['F'], unlearn_before: [{}], unlearn_after: [{}], unlearn_prompts: ['a cat']});
  return [node.title, ...node.widgets.slice(0, 3).map(w => w.label), node.outputs[3].localized_name,
    ...[...words].map(s => s.textContent), panel.comparison.slider.ariaLabel, doing, panel.report.textContent,
    ...[...panel.root.querySelectorAll('img')].map(i => i.alt)];
})()"""


@pytest.mark.full
@IN_A_BROWSER
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
    own = read(language, "main")["unlearn"]
    words = [own["before"], own["after"], own["beforeOrAfter"], own["phases"]["drawing"], f"{own['in']} F"]
    words += [f"{own[when]}: a cat" for when in ("before", "after")]
    assert shown == [facts["display_name"], *labels, facts["outputs"]["3"]["name"], *words]
