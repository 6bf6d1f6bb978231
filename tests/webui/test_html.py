"""What the page shows as HTML: nothing unescaped, reports in the core's own rows, small curves."""

import re
from dataclasses import replace
from html import escape
from pathlib import Path, PurePosixPath

import pytest

from tests.webui.pack import load

core, html, jobs = load("unlearn_core"), load("extension.html"), load("extension.jobs")
Base = load("unlearn_core.delta.base_sample").Base
library, loss_curve, results, stack_file = (
    load(f"extension.{name}") for name in ("delta_library", "loss_curve", "results", "stack_file")
)


def test_nothing_is_unescaped():
    evil = "<img src=x onerror=alert(1)>"
    view = jobs.View("1", "forget", evil, message=evil, error=evil, state="failed")
    shown = [html.status(view, evil), html.status(None, evil), html.notice(evil), html.code(evil, evil)]
    shown += [html.comparison({evil: [results.Pair(evil, '"><img>', "")]}), html.sentences([evil], evil, True)]
    shown.append(html.row(1, stack_file.Row(evil), None, None))
    shown.append(html.candidates(results.CandidatesResult(evil, ((evil, '"><img>'),))))
    assert all(evil not in text and '"><img>' not in text for text in shown)


def test_a_page_asks_again_where_no_answer_came():
    """The first animation presses once; the second one goes on, slowly, until an answer brings another timer."""
    css = (Path(html.__file__).with_name("tab.css")).read_text("utf-8")
    rule = next(line for line in css.splitlines() if line.startswith(".unlearn-timer "))
    assert "unlearn-timer 0.4s linear 1, unlearn-again 5s linear infinite" in rule and "@keyframes unlearn-again" in css
    shown = html.timer("poll")
    assert all(
        f"{event}=\"document.getElementById('poll').click()\"" in shown
        for event in ("onanimationend", "onanimationiteration")
    )


def light(colour):
    """Relative luminance of "#rrggbb" (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme, behind", [(":root", ("#ffffff", "#f4f4f5")), (".dark", ("#0b0f19", "#1f2937"))])
def test_own_colours_of_texts_can_be_read_on_both_themes(theme, behind):
    """Behind them: the lightest and darkest grounds of gradio 3 and 4. WCAG asks for 4.5 to 1."""
    css = (Path(html.__file__).with_name("tab.css")).read_text("utf-8")
    rule = next(line for line in css.splitlines() if line.startswith(f"{theme} {{"))
    colours = dict(re.findall(r"--unlearn-(\w+): (#\w{6})", rule))
    assert set(colours) == {"quiet", "bad", "forget", "replay"}
    for name, colour in colours.items():
        for ground in behind:
            dark, bright = sorted([light(colour), light(ground)])
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (name, ground)


def test_a_path_breaks_between_its_parts():
    shown = html.place(PurePosixPath("/loras/a b/forget_cat.safetensors"), "Saved as:")
    assert "<code>/<wbr>loras/<wbr>a b/<wbr>forget_<wbr>cat.safetensors</code>" in shown


@pytest.mark.parametrize(
    "points", [[], [(1, 1.0, 1.0)], [(1, float("nan"), 1.0)] * 3, [(i, 0.0, 0.0) for i in range(5)]]
)
def test_no_curve_is_drawn_of_nothing(points):
    assert loss_curve.curve(points) == ""


def test_the_curves_words_are_an_artists_and_do_not_shrink_with_it():
    shown = loss_curve.curve([(1, 0.1, 1e-5), (9, 0.02, 0.0004)])
    assert "<text" not in shown and "<span>step 1</span><span>step 9</span>" in shown
    assert ">forgetting 0.0200<" in shown and ">keeping the rest 0.0004<" in shown
    scale = shown.partition('class="scale">')[2].partition("</div>")[0]
    assert scale == "".join(f"<span>{v}</span>" for v in ("0.1", "0.01", "0.001", "0.0001", "0.00001"))


def test_a_long_curve_stays_small():
    assert len(loss_curve.curve([(i, 1.0 / i, 2.0) for i in range(1, 5001)])) < 20_000


def test_the_report_is_shown_in_the_cores_own_rows():
    check = {"verdict": "forgotten, the rest preserved"}
    facts = {"concept": "a <b>", "anchor": "", "reason": "x", "check": check, "way": "closed form"}
    facts |= {"stack": ["frog"], "stopped": "", "seconds": 3.0}
    shown = html.report(facts)
    rows = load("unlearn_core.method.forget").summary(facts)
    assert all(f"<th>{name}</th><td>{escape(value)}</td>" in shown for name, value in rows)
    assert 'box good"' in shown and 'box good"' not in html.report(facts, on=False)
    for more in ({"stopped": "stopped at step 3"}, {"check": {"verdict": "not checked"}}):
        assert 'box info"' in html.report({**facts, **more})
    assert "<th>Time</th><td>4 min 01 s</td>" in html.report({**facts, "seconds": 241.3})
    for verdict in ("not forgotten, the rest preserved", "partly forgotten", "forgotten, but 'dog' is harmed"):
        assert 'box info"' in html.report({**facts, "check": {"verdict": verdict}})


def made(concept, anchor, file, earlier=()):
    facts = {"concept": concept, "anchor": anchor, "reason": "x", "check": {"verdict": "forgotten, the rest preserved"}}
    facts |= {"way": "closed form", "stack": [], "stopped": "", "seconds": 3.0}
    pairs = (results.Pair(f"a {concept}", "before.jpg", "after.jpg"),)
    return results.ForgetResult(file, file.name if file else "", facts, pairs, earlier=earlier)


def test_a_list_is_shown_block_by_block_with_what_to_do_first():
    first = made("cat", "dog", Path("/loras/forget_cat.safetensors"))
    whole = made("<b>", "", Path("/loras/forget_b.safetensors"), (first,))
    shown = html.outcome(jobs.View("1", "forget", "x", state="done", result=whole), in_web_ui=False)
    top, cat, other = shown.replace("<wbr>", "").split('<section class="unlearn-part">')[1:]
    assert "Copy them into" in top and str(Path("/loras")) in top
    assert escape("<lora:forget_cat:1> <lora:forget_b:1>") in top and "<figure>" not in top
    assert "1 of 2: cat" in cat and "drawn instead: dog" in cat and "forget_cat.safetensors" in cat
    assert "2 of 2: &lt;b&gt;" in other and "nothing is drawn in its place" in other and "<b>" not in other
    inside = html.outcome(jobs.View("1", "forget", "x", state="done", result=whole), in_web_ui=True)
    assert "Add these to a prompt" in inside and "Copy" not in inside


def test_one_result_needs_no_overview_and_stands_side_by_side():
    view = jobs.View("1", "forget", "x", state="done", result=made("cat", "dog", Path("/loras/forget_cat.safetensors")))
    shown = html.outcome(view, in_web_ui=False)
    assert "unlearn-part" not in shown and shown.index("drawn instead: dog") < shown.index("<figure>")
    assert 'class="unlearn-compare sides"' in shown and "Copy it into" in shown
    assert "<h5>What should be gone: cat</h5>" in shown and "should stay" not in shown
    unsaved = made("cat", "dog", None, (made("frog", "", None),))
    told = html.outcome(jobs.View("1", "forget", "x", state="failed", result=unsaved), in_web_ui=False)
    assert "lora:" not in told and told.count("<figure>") == 2


def test_what_a_delta_was_made_on_top_of_goes_into_the_prompt_as_well():
    alone = replace(made("frog", "dog", Path("/loras/forget_frog.safetensors")), below="<lora:forget_cat:0.5>")
    shown = html.outcome(jobs.View("1", "forget", "x", state="done", result=alone), in_web_ui=False)
    assert escape("<lora:forget_cat:0.5> <lora:forget_frog:1>") in shown and "what it was made on top of" in shown
    both = replace(made("ink", "flat", Path("/loras/forget_ink.safetensors"), (alone,)), below="<lora:x:1>")
    listed = html.outcome(jobs.View("1", "forget", "x", state="done", result=both), in_web_ui=False)
    assert escape("<lora:forget_cat:0.5> <lora:forget_frog:1> <lora:forget_ink:1>") in listed


def test_each_group_of_pictures_has_its_heading_and_all_share_one_slider():
    groups = {"a": [results.Pair("x", "1", "2")], "b": (), "<c>": [results.Pair("y", "3", "")]}
    shown = html.comparison(groups)
    assert [part.partition("</h5>")[0] for part in shown.split("<h5>")[1:]] == ["a", "&lt;c&gt;"]
    assert shown.count('type="range"') == 1 and shown.index("a</h5>") < shown.index(">x<") < shown.index("&lt;c&gt;")
    assert "<h5>" not in html.comparison({"": groups["a"]}) and html.comparison({"a": ()}) == ""


def test_what_was_understood_is_said_from_the_start_to_the_end():
    for state in ("waiting", "running", "done", "failed"):
        shown = html.status(jobs.View("1", "forget", "x", state=state, notes=("'a <b>' was understood.",)), "")
        assert escape("'a <b>' was understood.") in shown


def test_the_bar_is_full_when_the_job_has_ended_and_says_no_time_before():
    running = jobs.View("1", "forget", "x", state="running", phase="generating", fraction=1.0, seconds_left=0.0)
    shown = html.status(running, "")
    assert "99 %" in shown and "left" not in shown.replace('class="left"', "")
    soon = html.status(jobs.View("1", "forget", "x", state="running", seconds_left=0.4), "")
    assert "left" not in soon.replace('class="left"', "")
    done = html.status(jobs.View("1", "forget", "x", state="done", fraction=1.0, seconds=62.0), "")
    assert "100 %" in done and "Done, 1 min 02 s" in done


def test_a_delta_says_whether_it_is_for_the_chosen_checkpoint():
    info = core.DeltaInfo("banana", "object", "pear", "sd1", "epsilon", "2f0cc83c00000000")
    card = library.Card("forget_banana.safetensors", info, "2026-01-01 12:00", 1)
    for chosen, shown, hidden in (
        ("2f0cc83c00000000", "for this checkpoint", "another"),
        ("0000000000000000", "for another checkpoint", "this checkpoint"),
        (None, "draws pear instead", "checkpoint"),
    ):
        text = html.row(1, stack_file.Row(card.name), card, chosen and Base(chosen))
        assert shown in text and hidden not in text and "2f0cc83c" not in text
        assert '<span class="whole">2026-01-01 12:00</span>' in text, "a date is one word"


def test_no_box_is_shown_of_nothing():
    assert html.status(None, "") == html.notice("") == "" and "Write" in html.status(None, "Write prompts.")


def test_what_was_not_found_to_be_well_is_named_with_the_reason():
    def card(concept, verdict, **facts):
        info = core.DeltaInfo(concept, "object", "x", "sd1", "epsilon", "0" * 16, check={"verdict": verdict}, **facts)
        return library.Card(f"{concept}.safetensors", info, "2026-01-01 12:00", 1)

    well = card("cat", "forgotten, the rest preserved")
    assert html.doubts([]) == html.doubts([well]) == ""
    some = [card("banana", "not checked"), well, card("frog", ""), card("ink", "partly forgotten, the rest preserved")]
    assert html.doubts(some) == "banana, frog (not checked); ink (partly forgotten, the rest preserved)"
