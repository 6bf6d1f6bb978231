"""The tab in headless Chromium, on both gradios, as an artist uses it: forget, look, reload, forget more, stop."""

import json
import subprocess
import time

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import IN_A_BROWSER, Browser
from tests.legible import cut_texts
from tests.webui.app import ROOT, App
from tests.webui.environments import EnvironmentProblem, python_with

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(1500),
    IN_A_BROWSER,
]

TRAINED = {"closed_form": False, "batch": 4, "sampling_steps": 2}
SIZES = (1280, 900)
TABS = {"Forget": "unlearn_concept", "Stack": "unlearn_library", "Before / After": "unlearn_generate"}
ANSWERED = 2.0
"""Seconds from a press on Stop until the page says that the job has ended; the machine may do other work as well."""

READY = "document.querySelector('#unlearn_start') && !document.querySelector('.loading')"
POINTS = "(document.querySelector('#unlearn_status polyline.forget')?.getAttribute('points') || '')"
STATUS = "(document.querySelector('#unlearn_status')?.innerText || '')"
DRAWN = "(l => l.length && l.every(i => i.naturalWidth > 0))([...document.querySelectorAll('%s')])"
OPEN_TAB = "[...document.querySelectorAll('button')].find(b => b.innerText.trim() === %s).click()"
SEEN = "Boolean(document.querySelector('#%s')?.offsetParent)"
WIDTHS = "[document.documentElement.scrollWidth, window.innerWidth]"
# Texts of ours whose colour is too near to what is behind them (WCAG: 4.5).
PALE = """(() => {
  const light = c => {
    const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parsed = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parsed(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.5) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll('[class*=unlearn-] *, [class^=unlearn-]')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.offsetParent) continue;
    const [a, b] = [parsed(getComputedStyle(e).color).slice(0, 3), behind(e)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${e.innerText} (${ratio.toFixed(1)})`);
  }
  return found;
})()"""


TALLEST = """(window.tallest = 0, setInterval(() => { for (const id of ['problem', 'look_problem', 'live'])
  window.tallest = Math.max(window.tallest, document.querySelector('#unlearn_' + id).offsetHeight); }, 10))"""
# What the stack says of a delta in too little room, and the text for a prompt where a part of it is hidden.
NARROW = "[...document.querySelectorAll('.unlearn-row .small')].map(e => e.offsetWidth).filter(w => w && w < 200)"
CUT = "(e => e.scrollHeight > e.clientHeight + 1 ? e.value : '')(document.querySelector('#unlearn_tags textarea'))"


@pytest.fixture(scope="module", params=["gradio3", "gradio4"])
def app(request, tmp_path_factory):
    """The running app, once for each gradio."""
    try:
        python = python_with(request.param)
    except EnvironmentProblem as e:
        pytest.skip(f"no environment of requirements/webui-{request.param}.txt: {e}")
    with App(python, tmp_path_factory.mktemp(f"app {request.param}"), small=True) as running:
        running.python = python
        running.gradio = request.param
        yield running


@pytest.fixture
def page(app, tmp_path):
    """Its page in a window."""
    with Browser(tmp_path, (SIZES[0], 900)) as browser:
        opened(browser, app)
        yield browser


def opened(browser, app, theme="light"):
    browser.goto(f"{app.address}/?__theme={theme}")
    browser.until(READY, 120)
    # its first events (what the stack is, whether a job runs) have been answered
    browser.until("document.querySelector('#unlearn_base')?.innerText.includes('Model:')", 60)


def wish(page, concept, quality="normal", settings=None):
    page.fill("#unlearn_concept :is(textarea, input)", concept)
    page.evaluate(f"document.querySelector('#unlearn_quality input[value={quality}]').click()")
    for fold, name in (("edit", "rank"), ("training", "batch")):
        if settings and not page.evaluate(SEEN % f"unlearn_{name}"):
            page.evaluate(f"document.querySelector('#unlearn_{fold} button, #unlearn_{fold} .label-wrap').click()")
            page.until(SEEN % f"unlearn_{name}", 10)
    for name, value in (settings or {}).items():
        if isinstance(value, bool):
            box = f"document.querySelector('#unlearn_{name} input[type=checkbox]')"
            page.evaluate(f"{box}.checked === {json.dumps(value)} || {box}.click()")
        else:
            page.fill(f"#unlearn_{name} input[type=number]", str(value))


def check_quiet(page, app):
    """No error on the console, nothing asked of another machine than this one, and no traceback."""
    page.evaluate("1")
    assert not page.problems, "\n".join(page.problems)
    other = [url for url in page.requests if not url.startswith((f"{app.address}/", "data:", "blob:", "about:"))]
    assert page.requests and not other
    assert "Traceback" not in app.log_text(), app.log_text()[-3000:]


LARGE = 170
"""Pixels that a picture is wide at least, so that an artist can judge it."""
BOXES = """[...document.querySelectorAll('#unlearn_result .frame')].slice(0, 1).flatMap(f =>
  ['before', 'after'].map(k => (b => [b.x, b.y, b.width])(f.querySelector('img.' + k).getBoundingClientRect())))"""
RESULT = "(document.querySelector('#unlearn_result')?.innerText || '')"


def test_a_quick_request_from_a_click_to_the_pictures(app, page, tmp_path):
    page.screenshot(tmp_path / "idle.png")
    page.fill("#unlearn_prompts textarea", "a banana\na flat cat")
    wish(page, "banana", "quick")
    page.evaluate(TALLEST)
    page.click("#unlearn_start")
    page.until(DRAWN % "#unlearn_result .unlearn-compare img", 300)
    assert page.evaluate("window.tallest") == 0, "what is empty takes no place while an answer is awaited"
    text = page.evaluate(RESULT)
    assert "<lora:forget_banana:1>" in text and "a flat cat" in text and "not checked" in text
    file = app.folder / "forget_banana.safetensors"
    assert file.is_file() and str(file) in text
    for width in SIZES:
        page.resize(width, 900)
        before, after = page.evaluate(BOXES)
        assert before[1] == after[1] and before[0] + before[2] <= after[0], "side by side, nothing over the other"
        assert min(before[2], after[2]) >= LARGE, f"too small to judge in a window of {width} pixels"
        assert cut_texts(page, ".gradio-container") == []
    page.resize(SIZES[0], 900)
    slide(page)
    page.screenshot(tmp_path / "done.png", whole=True)
    # the stack has it by itself, and what comes next is learned on top of it
    base = "document.querySelector('#unlearn_base').innerText"
    page.until(f"{base}.includes('without banana')", 20)
    wish(page, "frog", "quick")
    # Enter is as good as Start
    page.evaluate("document.querySelector('#unlearn_concept :is(textarea, input)').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
    page.until(f"{RESULT}.includes('<lora:forget_frog:1>')", 300)
    facts = "[...document.querySelectorAll('#unlearn_result th')].find(e => e.innerText === 'On top of')"
    assert page.evaluate(f"{facts}?.nextElementSibling.innerText") == "banana"
    check_quiet(page, app)


def test_what_could_be_drawn_instead_is_chosen_by_its_picture(app, page, tmp_path):
    wish(page, "dog", "quick")
    page.click("#unlearn_look")
    page.until(DRAWN % "#unlearn_offered img", 120)
    page.screenshot(tmp_path / "offered.png", whole=True)
    buttons = "[...document.querySelectorAll('#unlearn_offered button')]"
    name = page.evaluate(f"{buttons}[1].innerText.trim()")
    page.evaluate(f"{buttons}[1].click()")
    field = "document.querySelector('#unlearn_anchor :is(textarea, input)').value"
    assert page.evaluate(field) == name
    pressed = (
        "[...document.querySelectorAll('#unlearn_offered button[aria-pressed=true]')].map(b => b.innerText.trim())"
    )
    assert page.evaluate(pressed) == [name]
    assert page.evaluate("document.querySelector('#unlearn_offered .taken').innerText") == f"Chosen: {name}."
    heights = page.evaluate(f"[...new Set({buttons}.map(b => b.offsetHeight))]")
    assert len(heights) == 1, "all cards are equally tall"
    # the server has it too
    page.click("#unlearn_start")
    facts = "[...document.querySelectorAll('#unlearn_result th')].filter(e => e.innerText === 'Draws instead').at(-1)"
    page.until(f"({facts})?.nextElementSibling.innerText === {json.dumps(name)}", 300)
    # another word is typed, and what could be drawn instead of the old one goes, also what was chosen, and for good
    wish(page, "cat", "quick")
    page.until(f"!{buttons}.length && {field} === ''", 20)
    # what a hand has written there stays, whatever was offered before
    page.fill("#unlearn_anchor :is(textarea, input)", name)
    wish(page, "car", "quick")
    page.until("document.querySelector('#unlearn_concept :is(textarea, input)').value === 'car'", 20)
    time.sleep(1)
    assert page.evaluate(field) == name
    check_quiet(page, app)


ROWS = "[...document.querySelectorAll('.unlearn-slot')].filter(e => e.offsetParent)"
STRENGTHS = f"{ROWS}.map(e => Number(e.querySelector('input[type=range]').value))"


def strength_of(page, row, value):
    """Type a strength, as a hand does."""
    page.evaluate(f"{ROWS}[{row}].querySelector('input[type=number]').id = 'typed'")
    page.fill("#typed", value)
    page.evaluate("document.querySelector('#typed').removeAttribute('id')")


def kept(app):
    return [row["strength"] for row in json.loads((app.folder / "unlearn_stack.json").read_text())]


def test_two_pages_change_one_stack_and_neither_undoes_the_other(app, page, tmp_path):
    """Runs after the two that were forgotten above; the first page is open all the time, and stale in between."""
    second = Browser(tmp_path / "second", (SIZES[0], 900))
    (tmp_path / "second").mkdir()
    with second:
        opened(second, app)
        for browser in (page, second):
            browser.evaluate(OPEN_TAB % json.dumps("Stack"))
            browser.until(f"{ROWS}.length >= 2", 20)
        strength_of(page, 0, "0.5")
        page.until(f"{STRENGTHS}[0] === 0.5", 20)
        until(lambda: kept(app)[:2] == [0.5, 1.0])
        strength_of(second, 1, "0.25")
        until(lambda: kept(app)[:2] == [0.5, 0.25])
        # and it sees what the first page has done
        second.until(f"{STRENGTHS}[0] === 0.5", 20)
        page.click("#unlearn_reload")
        page.until(f"{STRENGTHS}[1] === 0.25", 20)
        for row in (0, 1):
            strength_of(page, row, "1")
            until(lambda row=row: kept(app)[row] == 1.0)
        check_quiet(second, app)
    check_quiet(page, app)


SPOKEN = {"button", "checkbox", "slider", "spinbutton", "textbox", "combobox", "listbox", "group", "progressbar"}
FOLDS = "[...document.querySelectorAll('.label-wrap:not(.open)')].filter(e => e.offsetParent).forEach(e => e.click())"


def test_every_field_has_a_name_of_its_own_that_can_be_said(app, page):
    """Runs after the two that were forgotten above; the names are those that the browser gives a screen reader."""
    page.call("Accessibility.enable")
    for tab, part in TABS.items():
        page.evaluate(OPEN_TAB % json.dumps(tab))
        page.until(SEEN % part, 20)
        page.evaluate(FOLDS)
        if tab == "Stack":
            page.until(f"{ROWS}.filter(e => e.querySelector('[aria-label^=\"Up: \"]')).length > 1", 20)
        page.until("[...document.querySelectorAll('fieldset')].every(e => e.ariaLabel)", 20)
        nodes = [n for n in page.call("Accessibility.getFullAXTree")["nodes"] if not n.get("ignored")]
        names = [(n["role"]["value"], n["name"]["value"]) for n in nodes if n["role"]["value"] in SPOKEN]
        assert len(names) > 4 and all(any(map(str.isalpha, name)) for _, name in names), names
        assert len(set(names)) == len(names), sorted(names)
        if tab == "Stack":
            for own in ("Use", "Strength", "Up", "Down", "Remove"):
                assert {f"{own}: 1. banana", f"{own}: 2. frog"} <= {name for _, name in names}, own
    # and after a line was moved
    page.evaluate(OPEN_TAB % json.dumps("Stack"))
    for first, second in (("frog", "banana"), ("banana", "frog")):
        page.evaluate(f"{ROWS}[1].querySelector('button').click()")
        for at, name in enumerate((first, second)):
            page.until(f"{ROWS}[{at}].querySelector('[type=checkbox]').ariaLabel === 'Use: {at + 1}. {name}'", 20)
    check_quiet(page, app)


def until(true, seconds=20):
    """Wait for the server."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_training_is_followed_reloaded_and_stopped(app, page, tmp_path):
    for button, end, kept in (("discard", "No delta was saved", False), ("keep", "stopped at step", True)):
        wish(page, "cat", settings={"steps": 5000, **TRAINED})
        page.click("#unlearn_start")
        page.until(f"!{STATUS}.includes('Stopped') && {STATUS}.includes('cat') && Boolean({POINTS})", 300)
        if not kept:
            first = page.evaluate(POINTS)
            page.until(f"{POINTS}.length > {len(first)}", 120)
            page.screenshot(tmp_path / "learning.png")
            before = page.evaluate(POINTS)
            opened(page, app)
            assert len(page.until(POINTS, 10)) >= len(before)
            assert page.evaluate("document.querySelector('#unlearn_start').disabled")
            # the form has the request again
            page.until("document.querySelector('#unlearn_concept :is(textarea, input)').value === 'cat'", 20)
        begun = time.monotonic()
        page.click(f"#unlearn_stop_{button}")
        page.until(f"{STATUS}.includes('Stopped')", 60, pause=0.05)
        waited = time.monotonic() - begun
        print(f"{app.gradio}: stop and {button} answered in {waited:.2f} s")
        assert waited < ANSWERED
        page.until(f"document.querySelector('.gradio-container').innerText.includes({json.dumps(end)})", 10)
        assert (app.folder / "forget_cat.safetensors").exists() is kept
    check_quiet(page, app)


def test_a_page_that_was_closed_during_a_job_does_not_hold_up_a_reload(app, tmp_path):
    """gradio 3 never ended an event whose page was closed, and the web UI hung in its Reload UI."""
    command = [str(app.python), "tests/webui/closing_page.py", str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        try:
            address = next(line for line in process.stdout if line.startswith("http")).strip()
            with Browser(tmp_path) as browser:
                browser.goto(address)
                browser.until(f"{STATUS}.includes('Forgetting')", 60)
                first = browser.until(POINTS, 20)
                browser.until(f"{POINTS} !== {json.dumps(first)}", 20)
            process.stdin.write("\n")
            process.stdin.flush()
            assert next(line for line in process.stdout if line in ("closed\n", "hangs\n")) == "closed\n"
        finally:
            process.kill()


def slide(page):
    """Move the divider between before and after."""
    page.evaluate("document.querySelector('#unlearn_result input[type=checkbox]').click()")
    handle = "document.querySelector('#unlearn_result input[type=range]')"
    x, y, width, height = page.at_rest(handle)
    page.drag((x + width / 2, y + height / 2), (x + 0.2 * width, y + height / 2))
    cut = page.evaluate(f"getComputedStyle({handle}.closest('.unlearn-compare')).getPropertyValue('--cut')")
    assert float(cut.strip().rstrip("%")) == pytest.approx(20, abs=4)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_the_page_can_be_read_in_both_themes_and_narrow(app, page, tmp_path, theme, width):
    page.resize(width, 900)
    opened(page, app, theme)
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    for name, part in TABS.items():
        page.evaluate(OPEN_TAB % json.dumps(name))
        page.until(SEEN % part, 20)
        page.screenshot(tmp_path / f"{theme} {width} {part}.png", whole=True)
        content, window = page.evaluate(WIDTHS)
        assert content <= window, f"{name} is wider than the window"
        assert page.evaluate(PALE) == []
        assert page.evaluate(NARROW) == [] and page.evaluate(CUT) == ""
        assert cut_texts(page, ".gradio-container") == []
    check_quiet(page, app)
