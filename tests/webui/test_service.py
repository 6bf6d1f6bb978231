"""What lies behind the buttons, without any page: jobs, the folder, the stack, pictures of text."""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.webui.pack import ROOT, load

pytestmark = pytest.mark.usefixtures("few_in_pack")

jobs, library, actions, views, plot = (
    load(f"extension.{name}") for name in ("jobs", "library", "actions", "views", "plot")
)
core, standalone = load("unlearn_core"), load("unlearn_core.standalone")
DEMO = ROOT / "assets" / "demo" / "demo.safetensors"
HOSTILE = [
    "../../x",
    "<img src=x onerror=alert(1)>",
    "C:\\win",
    "nul",
    "a\r\nb",
    "x" * 120,
    "香蕉",
    "größe",
    "/etc/passwd",
]
SHORT = {"steps": 2, "batch": 2, "sampling_steps": 1, "closed_form": False}
REFUSED = ["a\0b", "\u202eevil", "x" * 300, ""]


def wait(job, seconds=400):
    end = time.monotonic() + seconds
    while not (view := job.view()).finished:
        assert time.monotonic() < end, view
        time.sleep(0.02)
    return view


class Door:
    """A program with the demo model in it."""

    in_host = False
    kept = None

    def __init__(self, folder: Path):
        self.path, self.listed = folder, []

    def folder(self):
        return self.path

    pictures_folder = checkpoints_folder = folder

    def base(self):
        return "demo"

    def fingerprint(self):
        return self.kept.fingerprint if self.kept else None

    def checkpoint(self):
        return DEMO

    @contextmanager
    def model(self, job):
        if Door.kept is None:
            Door.kept = standalone.StandaloneModel(DEMO)
        yield Door.kept

    def saved(self, file):
        self.listed.append(file.name)


@pytest.fixture
def desk(tmp_path):
    return actions.Desk(Door(tmp_path))


def short(desk, concept, prompts="", **values):
    """A few steps on the demo model."""
    return wait(desk.forget({"concept": concept, **SHORT, **values}, prompts))


# Jobs


def test_one_job_at_a_time_and_the_second_one_is_told():
    desk, go = jobs.Jobs(), threading.Event()
    first = desk.start("a", "the first", lambda job: go.wait(10))
    with pytest.raises(jobs.Busy, match="the first"):
        desk.start("a", "the second", print)
    go.set()
    assert wait(first).state == "done"
    assert wait(desk.start("a", "the third", lambda job: 3)).result == 3
    assert desk.get(first.id) is first and desk.get("nonsense") is None


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (lambda: core.Cancelled("as you wished"), "stopped", "as you wished"),
        (lambda: core.TrainingFailed("no number"), "failed", "no number"),
        (lambda: RuntimeError("CUDA out of memory. Tried"), "failed", "not enough memory"),
        (lambda: ValueError("odd\nsecond line"), "failed", "ValueError: odd"),
    ],
)
def test_what_goes_wrong_is_one_sentence(error, state, words, capsys):
    def work(job):
        raise error()

    view = wait(jobs.Jobs().start("a", "b", work))
    assert view.state == state and words in view.error and "\n" not in view.error


def test_the_bar_does_not_go_back_when_pictures_follow_the_training():
    shown = []

    def work(job):
        job.interrupted = lambda report: shown.append(report.fraction)
        job.hear(core.StepReport("after", 1, 1, 0.9, 1.0, 1.0))
        for done in (1, 2):
            job.tick(done, 2)

    assert wait(jobs.Jobs().start("a", "b", work)).state == "done" and shown == [0.9, 0.9, 1.0]


def test_a_broken_preview_does_not_end_the_work(capsys):
    def work(job):
        job.picture = lambda latents: 1 / 0
        job.hear(core.StepReport("training", 1, 2, 0.5, 1.0, 1.0, {"forget": 1.0}, "", torch.zeros(1)))
        return "done"

    assert wait(jobs.Jobs().start("a", "b", work)).result == "done"


# Forgetting


@pytest.mark.slow
def test_forget_saves_a_listed_delta_with_a_card_and_the_next_one_stacks_on_it(desk):
    first = short(desk, "banana", prompts="a banana")
    assert first.state == "done", first.error
    made = first.result
    assert made.tag == "<lora:forget_banana:1>" and (desk.door.path / "forget_banana.preview.png").is_file()
    assert desk.door.listed == ["forget_banana.safetensors"] and len(made.extra) == 1
    assert [len(first.losses), first.losses[-1][0]] == [2, 2]
    # few steps do not forget
    assert desk.tags() == "" and "switched off, as it has not forgotten" in made.remark
    desk.shelf.set((library.Row(made.name),))
    assert short(desk, "banana").error.startswith("The stack has already forgotten")
    second = short(desk, "frog")
    desk.shelf.set((library.Row(made.name), library.Row(second.result.name)))
    assert second.result.report["teacher_stack"] == ("banana",)
    assert [r.name for r in desk.shelf.rows()] == ["forget_banana.safetensors", "forget_frog.safetensors"]
    assert desk.lineage() == []
    desk.shelf.move("forget_frog.safetensors", -1)
    assert "must come before" in desk.lineage()[0]
    card, _ = desk.merge("", "exact", 8)
    assert [r.name for r in desk.shelf.rows()] == [card.name]
    assert set(card.info.concepts) == {"banana", "frog"} and desk.tags() == f"<lora:{card.stem}:1>"
    drawn = wait(desk.draw("a banana\na cat", 0, 2, 3.0))
    assert drawn.result.file.is_file() and all(p.after for p in drawn.result.pairs)
    baked = wait(desk.bake("without both")).result
    host = standalone.StandaloneModel(desk.door.checkpoint(), half=False)
    copy = standalone.StandaloneModel(baked, half=False)
    stack = desk.shelf.stack(desk.shelf.rows())
    want = load("unlearn_core.preview").pictures(host, stack, ["a banana"], 0, 2)
    got = load("unlearn_core.preview").pictures(copy, core.Stack(), ["a banana"], 0, 2)
    assert (want - got).abs().max() < 1e-3


@pytest.mark.slow
def test_quick_looks_at_nothing_and_still_shows_what_it_has_done(desk):
    quick = {**actions.defaults("quick"), "sampling_steps": 1}
    made = wait(desk.forget({**quick, "concept": "banana"}, "a cat")).result
    assert made.report["judge"] == {"verdict": "not judged: without the check"}
    assert [bool(p.before and p.after) for p in (*made.pairs, *made.extra)] == [True] * 4
    assert (desk.door.path / "forget_banana.preview.png").is_file()
    words = views.verdict(made.report)
    assert "not judged: without the check" in words and "read" not in words.replace("read as it", "")
    plain = actions.drawn_rows
    try:
        actions.drawn_rows = lambda job, *given: job.stop() or plain(job, *given)
        stopped = wait(desk.forget({**quick, "concept": "frog"})).result
    finally:
        actions.drawn_rows = plain
    assert stopped.pairs == () and [r.name for r in desk.shelf.rows()][-1] == stopped.name == "forget_frog.safetensors"
    assert not (desk.door.path / "forget_frog.preview.png").exists()


@pytest.mark.slow
def test_the_tab_alone_and_the_command_line_write_the_same_bytes(tmp_path):
    alone = actions.Desk(load("extension.app").StandaloneDoor(DEMO, tmp_path, "cpu"))
    view = short(alone, "banana", prompts="a cat")
    assert view.state == "done", view.error
    tab, command = tmp_path / view.result.name, tmp_path / "command" / view.result.name
    command.parent.mkdir()
    settings = [f"--set={name}={value}" for name, value in SHORT.items()]
    options = [f"--checkpoint={DEMO}", "--concept=banana", f"--out={command}", "--device=cpu"]
    assert load("unlearn_core.cli").main(["forget", *options, *settings]) == 0
    assert tab.read_bytes() == command.read_bytes()


@pytest.mark.slow
def test_stop_and_discard_leaves_nothing_and_stop_and_keep_a_marked_delta(desk):
    for discard in (True, False):
        job = desk.forget({"concept": "cat", "steps": 500, "batch": 2, "sampling_steps": 1, "closed_form": False})
        while len(job.view().losses) < 2:
            assert not job.view().finished, job.view().error
            time.sleep(0.02)
        job.stop(discard)
        begun = time.monotonic()
        view = wait(job)
        assert view.state == "stopped" and time.monotonic() - begun < 10
        assert len(list(desk.door.path.glob("*.safetensors"))) == (0 if discard else 1)
    assert view.result.report["stopped"].startswith("stopped at step")
    assert desk.shelf.rows() == (library.Row(view.result.name, on=False),)
    assert "switched off, as the run was stopped" in view.result.remark


# The stack


FULL = "The stack holds 12 deltas, which is the most: merge them first \\(Merge\\), then go on."


def filled(desk, count=library.SLOTS):
    """A stack of this many files that nobody reads, switched off."""
    rows = tuple(library.Row(f"d{i}.safetensors", on=False) for i in range(count))
    for row in rows:
        (desk.door.path / row.name).touch()
    return desk.shelf.set(rows)


def test_a_full_stack_is_refused_before_anything_is_learned(desk):
    rows = filled(desk)
    with pytest.raises(core.BadSetting, match=FULL):
        desk.forget({"concept": "banana"})
    assert desk.jobs.running() is None and desk.jobs.newest(actions.FORGET) is None
    (desk.door.path / "one more.safetensors").touch()
    with pytest.raises(core.BadSetting, match=FULL):
        desk.shelf.put("one more.safetensors")
    assert desk.shelf.rows() == rows
    assert [r.name for r in desk.shelf.put(rows[0].name)] == [r.name for r in (*rows[1:], rows[0])]


REPORT = {"stopped": "", "judge": {"verdict": "forgotten, the rest kept"}}


@pytest.mark.parametrize(
    ("facts", "on", "words"),
    [
        ({}, True, ""),
        ({"judge": {"verdict": "partly forgotten, the rest kept"}}, True, ""),
        ({"judge": {"verdict": "not judged: without the check"}}, True, ""),
        ({"judge": {"verdict": "not forgotten, the rest kept"}}, False, "switched off, as it has not forgotten"),
        ({"stopped": "stopped at step 3"}, False, "switched off, as the run was stopped"),
    ],
)
def test_what_has_not_forgotten_is_on_the_stack_but_switched_off(desk, facts, on, words):
    (desk.door.path / "new.safetensors").touch()
    said = desk.put_on_stack("new.safetensors", {**REPORT, **facts})
    assert desk.shelf.rows() == (library.Row("new.safetensors", on=on),)
    assert words in said and bool(said) == bool(words)


def test_a_stack_that_was_filled_during_the_work_takes_nothing_away_from_it(desk):
    rows = filled(desk)
    (desk.door.path / "new.safetensors").touch()
    said = desk.put_on_stack("new.safetensors", REPORT)
    assert said.startswith("The delta is saved but not on the stack. The stack holds 12") and desk.shelf.rows() == rows


@pytest.mark.parametrize("strength", [5, -2.01, float("nan"), float("inf"), None, "1"])
def test_a_strength_out_of_bounds_is_a_sentence(desk, strength):
    rows = filled(desk, 1)
    with pytest.raises(core.BadSetting, match="Strengths go from -2 to 2"):
        desk.shelf.set((library.Row(rows[0].name, strength),))
    assert desk.shelf.rows() == rows


# Names


@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_name_ends_as_a_file_inside_the_folder(tmp_path, name):
    file = library.free_file(tmp_path, f"forget {name}")
    assert file.parent == tmp_path.resolve() and file.name.startswith("forget_")
    file.touch()
    assert library.free_file(tmp_path, f"forget {name}") != file


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_wishes_are_refused_with_a_sentence(desk, name):
    with pytest.raises(core.BadSetting):
        desk.forget({"concept": name})
    assert desk.jobs.running() is None


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "C:x.safetensors", "a\0.safetensors", "x.pt"]
)
def test_no_row_leads_out_of_the_folder(desk, name):
    with pytest.raises(core.BadDelta):
        desk.shelf.put(name)
    with pytest.raises(core.UnlearnError):
        desk.shelf.delete(name)


@pytest.mark.parametrize(
    "state", ["", "[", "{}", '[{"name": 3}]', '[{"name": "../x.safetensors", "strength": 1, "on": 1}]']
)
def test_a_damaged_state_file_is_an_empty_stack(desk, state):
    (desk.door.path / library.STATE).write_text(state)
    assert desk.shelf.rows() == ()


def test_a_truncated_file_does_not_break_the_list(desk):
    (desk.door.path / "broken.safetensors").write_bytes(b"\xff" * 40)
    assert desk.cards() == []


# What is shown


def test_nothing_is_unescaped():
    evil = "<img src=x onerror=alert(1)>"
    view = jobs.View("1", "forget", evil, message=evil, error=evil, state="failed")
    shown = [views.status(view, evil), views.status(None, evil), views.notice(evil), views.tag(evil, evil)]
    shown += [views.comparison([views.Pair(evil, '"><img>', "")]), views.sentences([evil], evil)]
    shown.append(views.row(1, library.Row(evil), None, None))
    assert all(evil not in html and '"><img>' not in html for html in shown)


@pytest.mark.parametrize(
    "points", [[], [(1, 1.0, 1.0)], [(1, float("nan"), 1.0)] * 3, [(i, 0.0, 0.0) for i in range(5)]]
)
def test_no_curve_is_drawn_of_nothing(points):
    assert plot.curve(points) == ""


def test_a_long_curve_stays_small():
    assert len(plot.curve([(i, 1.0 / i, 2.0) for i in range(1, 5001)])) < 20_000


@pytest.mark.parametrize(
    "values", [("", 0, 20, 3), ("a", -1, 20, 3), ("a", 0, 1.5, 3), ("a", 0, 20, "x"), ("a\n" * 17, 0, 20, 3)]
)
def test_wrong_drawing_wishes_are_refused(desk, values):
    with pytest.raises(core.BadSetting):
        desk.draw(*values)


def test_every_quality_is_a_valid_request():
    for quality in actions.QUALITIES:
        core.ForgetConfig.from_flat({**actions.defaults(quality), "concept": "x"})
    assert actions.defaults("normal") == {f.name: f.default for f in core.settings()}
