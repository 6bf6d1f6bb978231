"""The tab in headless Chromium, on both gradios, as an artist uses it: forget, look, reload, forget more, stop."""

import json
import re
import time

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.browser import Browser, chromium
from tests.webui.app import App
from tests.webui.environments import EnvironmentProblem, python_with

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine"),
]

FULL = "gradio4"
"""Trains with the settings as they are, the other one with few steps: the core is the same."""
TRAINED = {"closed_form": False}
SHORT = {"steps": 12, "batch": 4, "sampling_steps": 4, **TRAINED}
SIZES = (1280, 900)
TABS = {"Forget": "unlearn_concept", "Stack": "unlearn_library", "Before / After": "unlearn_draw"}
ANSWERED = 2.0
"""Seconds from a press on Stop until the page says that the job has ended."""

READY = "document.querySelector('#unlearn_start') && !document.querySelector('.loading')"
POINTS = "(document.querySelector('#unlearn_status polyline.forget')?.getAttribute('points') || '')"
STATUS = "(document.querySelector('#unlearn_status')?.innerText || '')"
DRAWN = "(l => l.length && l.every(i => i.naturalWidth > 0))([...document.querySelectorAll('%s')])"
OPEN_TAB = "[...document.querySelectorAll('button')].find(b => b.innerText.trim() === %s).click()"
SEEN = "Boolean(document.querySelector('#%s')?.offsetParent)"
WIDTHS = "[document.documentElement.scrollWidth, window.innerWidth]"
# Texts of ours whose colour is too near to what is behind them (WCAG: 4.5 for text, 3 is its bound for large text).
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
    if (ratio < 3) found.push(`${e.innerText} (${ratio.toFixed(1)})`);
  }
  return found;
})()"""


@pytest.fixture(scope="module", params=["gradio3", "gradio4"])
def app(request, tmp_path_factory):
    """The running app, once for each gradio."""
    try:
        python = python_with(request.param)
    except EnvironmentProblem as e:
        pytest.skip(f"no environment of requirements/webui-{request.param}.txt: {e}")
    with App(python, tmp_path_factory.mktemp(f"app {request.param}")) as running:
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
    browser.until("document.querySelector('#unlearn_teacher')?.innerText.includes('Works on')", 60)


def wish(page, concept, settings=None):
    page.fill("#unlearn_concept :is(textarea, input)", concept)
    if settings and not page.evaluate(SEEN % "unlearn_batch"):
        page.evaluate("document.querySelector('#unlearn_advanced button, #unlearn_advanced .label-wrap').click()")
        page.until(SEEN % "unlearn_batch", 10)
    for name, value in (settings or {}).items():
        if isinstance(value, bool):
            box = f"document.querySelector('#unlearn_{name} input[type=checkbox]')"
            page.evaluate(f"{box}.checked === {json.dumps(value)} || {box}.click()")
        else:
            page.fill(f"#unlearn_{name} input[type=number]", str(value))


def ours(page, app):
    """Errors on the console; gradio asks for fonts and a script for framed pages outside, which cannot be had here."""
    outside = re.compile(r'"url": "https?://(?!127\.0\.0\.1)')
    return [p for p in page.problems if not outside.search(p)]


def test_from_a_click_to_the_grid_reloaded_in_the_middle_then_more_and_stop(app, page, tmp_path):
    full = app.gradio == FULL
    page.screenshot(tmp_path / "idle.png")
    page.fill("#unlearn_prompts textarea", "a banana\na flat cat")
    wish(page, "banana", TRAINED if full else SHORT)
    page.click("#unlearn_start")

    first = page.until(POINTS, 600)
    page.until(f"{POINTS}.length > {len(first)}", 120)
    page.screenshot(tmp_path / "learning.png")
    if full:
        page.until(DRAWN % "#unlearn_live img", 300)
        page.screenshot(tmp_path / "live.png")
    assert "Forgetting 'banana'" in page.evaluate(STATUS)
    before = page.evaluate(POINTS)

    opened(page, app)
    attached = page.until(POINTS, 10)
    assert len(attached) >= len(before)
    assert "step " in page.evaluate(STATUS), "the job was over before the page was back"
    assert page.evaluate("document.querySelector('#unlearn_start').disabled")

    page.until(DRAWN % "#unlearn_result .unlearn-compare img", 600)
    text = page.evaluate("document.querySelector('#unlearn_result').innerText")
    assert "<lora:forget_banana:1>" in text and "a flat cat" in text
    assert (app.folder / "forget_banana.safetensors").is_file()
    if full:
        numbers = [int(n) for n in re.findall(r"(\d+)%", text)][:4]
        assert "forgotten" in text and numbers[0] >= 90 and numbers[1] <= 5 and numbers[3] >= 95, text
    slide(page)
    page.screenshot(tmp_path / "done.png", whole=True)

    # What is learned next is learned on top of what is switched on, and few steps have not forgotten
    switch_on(page, "banana")
    wish(page, "frog", {} if full else SHORT)
    page.click("#unlearn_start")
    page.until("document.querySelector('#unlearn_result').innerText.includes('<lora:forget_frog:1>')", 300)
    facts = "[...document.querySelectorAll('#unlearn_result th')].find(e => e.innerText === 'On top of')"
    assert page.evaluate(f"{facts}?.nextElementSibling.innerText") == "banana"

    # Stop
    for button, end, kept in (("discard", "nothing was kept", False), ("keep", "Half-trained", True)):
        wish(page, "cat", {"steps": 5000, **TRAINED})
        page.click("#unlearn_start")
        page.until(f"!{STATUS}.includes('Stopped') && {STATUS}.includes('cat') && {POINTS}", 300)
        begun = time.monotonic()
        page.click(f"#unlearn_stop_{button}")
        page.until(f"{STATUS}.includes('Stopped')", 60, pause=0.05)
        waited = time.monotonic() - begun
        print(f"{app.gradio}: stop and {button} answered in {waited:.2f} s")
        assert waited < ANSWERED
        page.until(f"document.querySelector('.gradio-container').innerText.includes({json.dumps(end)})", 10)
        assert (app.folder / "forget_cat.safetensors").exists() is kept
    assert not ours(page, app), "\n".join(ours(page, app))
    assert "Traceback" not in app.log_text(), app.log_text()[-3000:]


def switch_on(page, concept):
    """Switch the stack's first delta on, where it is not, and come back."""
    box = "document.querySelector('#unlearn_slot_0 input[type=checkbox]')"
    page.evaluate(OPEN_TAB % json.dumps("Stack"))
    page.until(f"Boolean({box}?.offsetParent)", 20)
    page.evaluate(f"{box}.checked || {box}.click()")
    page.evaluate(OPEN_TAB % json.dumps("Forget"))
    page.until(f"document.querySelector('#unlearn_teacher').innerText.includes('with the stack {concept}')", 20)


def slide(page):
    """Move the divider between before and after."""
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
    assert not ours(page, app), "\n".join(ours(page, app))
