"""What lies behind the buttons, without any page: jobs, the folder, the stack, pictures of text."""

import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.webui.pack import ROOT, load

pytestmark = pytest.mark.usefixtures("few_in_pack")

jobs, library, stack_file, services, comparison = (
    load(f"extension.{name}") for name in ("jobs", "delta_library", "stack_file", "service", "comparison")
)
core, standalone = load("unlearn_core"), load("unlearn_core.standalone")
base_of, networks = load("unlearn_core.host").base_of, load("unlearn_core.standalone.networks")
DEMO = ROOT / "assets" / "demo" / "demo.safetensors"
HOSTILE = ["../../x", "<img src=x onerror=alert(1)>", "C:\\win", "nul", "a\r\nb", "x" * 120, "香蕉", "größe"]
HOSTILE += ["/etc/passwd"]
SHORT = {"anchor": "guitar", "steps": 2, "batch": 2, "sampling_steps": 1, "closed_form": False}
QUICK = {"quality": "quick", "sampling_steps": 1}
REFUSED = ["a\0b", "\u202eevil", "x" * 300, ""]


def wait(job, seconds=400):
    end = time.monotonic() + seconds
    while not (view := job.view()).finished:
        assert time.monotonic() < end, view
        time.sleep(0.02)
    return view


class Program:
    """A program with the demo model in it."""

    in_web_ui = shows_folders = False
    kept = None

    def __init__(self, folder: Path):
        self.path, self.listed = folder, []

    def folder(self):
        return self.path

    pictures_folder = checkpoints_folder = folder
    term_lists = staticmethod(tuple)

    def checkpoint_name(self):
        return "demo"

    def base(self):
        return base_of(self.kept) if self.kept else None

    def checkpoint(self):
        return DEMO

    @contextmanager
    def model(self, job):
        if Program.kept is None:
            Program.kept = standalone.StandaloneModel(DEMO)
        yield Program.kept

    def file_changed(self, file):
        self.listed.append(file.name)


@pytest.fixture
def service(tmp_path):
    return services.Service(Program(tmp_path))


def short(service, concept, prompts="", **values):
    """A few steps on the demo model."""
    return wait(service.forget({"concept": concept, **SHORT, **values}, prompts))


# Jobs


def test_one_job_at_a_time_and_the_second_one_is_told():
    service, go = jobs.Jobs(), threading.Event()
    first = service.start("a", "the first", lambda job: go.wait(10))
    with pytest.raises(jobs.Busy, match="the first"):
        service.start("a", "the second", print)
    go.set()
    assert wait(first).state == "done"
    assert wait(service.start("a", "the third", lambda job: 3)).result == 3
    assert service.get(first.id) is first and service.get("nonsense") is None


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


def test_the_bar_does_not_go_back_when_pictures_follow_the_work():
    shown = []

    def work(job):
        job.interrupted = lambda report: shown.append(report.fraction)
        job.hear(core.StepReport("after", 1, 1, 0.9, 1.0, 1.0))
        tick = job.counter(2)
        tick(), tick()

    assert wait(jobs.Jobs().start("a", "b", work)).state == "done" and shown == [0.9, 0.9, 1.0]


def test_a_broken_preview_does_not_end_the_work(capsys):
    def work(job):
        job.picture = lambda latents: 1 / 0
        job.hear(core.StepReport("training", 1, 2, 0.5, 1.0, 1.0, {"forget": 1.0}, "", torch.zeros(1)))
        return "done"

    assert wait(jobs.Jobs().start("a", "b", work)).result == "done"


# Forgetting


@pytest.mark.full
def test_forget_saves_a_listed_delta_with_a_card_and_the_next_one_stacks_on_it(service):
    first = short(service, "banana", prompts="a banana")
    assert first.state == "done", first.error
    made = first.result
    assert made.tag == "<lora:forget_banana:1>" and (service.program.path / "forget_banana.preview.png").is_file()
    assert service.program.listed == ["forget_banana.safetensors"] and len(made.extra) == 1
    assert [len(first.losses), first.losses[-1][0]] == [2, 2]
    # few steps do not forget
    assert service.tags() == "" and "because the model still generates the concept" in made.remark
    service.stack_file.set((stack_file.Row(made.name),))
    with pytest.raises(core.BadSetting, match="The stack has already forgotten 'banana'"):
        short(service, "banana")
    second = wait(service.forget({**QUICK, "concept": "frog"}))
    service.stack_file.set((stack_file.Row(made.name), stack_file.Row(second.result.name)))
    assert second.result.report["stack"] == ["banana"]
    assert [r.name for r in service.stack_file.rows()] == ["forget_banana.safetensors", "forget_frog.safetensors"]
    weak = "'forget_banana' is switched on although the model still generated the concept with it."
    assert service.remarks() == [weak]
    service.stack_file.move("forget_frog.safetensors", -1)
    assert "must come before" in service.remarks()[0]
    card, *_ = service.merge("", "exact", 8)
    assert [r.name for r in service.stack_file.rows()] == [card.name]
    assert set(card.info.concepts) == {"banana", "frog"} and service.tags() == f"<lora:{card.stem}:1>"
    drawn = wait(service.preview("a banana\na cat", 0, 2, 3.0))
    assert drawn.result.file.is_file() and all(p.after for p in drawn.result.pairs)
    baked = wait(service.bake("without both")).result
    host = standalone.StandaloneModel(service.program.checkpoint(), half=False)
    copy = standalone.StandaloneModel(baked, half=False)
    stack = service.stack_file.stack(service.stack_file.rows())
    pictures, sampler = load("unlearn_core.preview").pictures, load("unlearn_core.sampling").Sampler
    want = pictures(sampler(host, 2), stack, ["a banana"])
    got = pictures(sampler(copy, 2), core.Stack(), ["a banana"])
    assert (want - got).abs().max() < 1e-3


def test_quick_checks_nothing_and_still_shows_what_it_has_done(service):
    made = wait(service.forget({**QUICK, "concept": "banana"}, "a cat")).result
    assert made.report["check"]["verdict"].startswith("not checked")
    assert [bool(p.before and p.after) for p in (*made.pairs, *made.extra)] == [True] * 4 and made.others == ()
    assert made.file == service.program.path / "forget_banana.safetensors" and made.file.is_file()
    assert (service.program.path / "forget_banana.preview.png").is_file()
    assert service.tags() == made.tag == "<lora:forget_banana:1>" and made.remark == ""


def test_a_list_is_one_delta_each_on_one_stack(service):
    job = service.forget({**QUICK, "concept": "a Cat, dogs"}, "a dog")
    assert job.view().title == "Forgetting 'cat', 'dog'"
    made = wait(job).result
    assert [m.report["concept"] for m in (*made.earlier, made)] == ["cat", "dog"] and made.report["stack"] == ["cat"]
    assert [r.name for r in service.stack_file.rows()] == ["forget_cat.safetensors", "forget_dog.safetensors"]
    assert job.view().notes == ("'a Cat, dogs' was understood as 2 concepts, one delta each: 'cat', 'dog'.",)
    assert job.view().fraction == 1.0


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (lambda: core.Cancelled("Stopped early."), "stopped", "'dog' was not forgotten: you stopped."),
        (lambda: core.UnlearnError("Nothing near it"), "failed", "'dog' was not forgotten: Nothing near it."),
        (lambda: RuntimeError("boom"), "failed", "boom"),
    ],
)
def test_what_came_before_a_failure_in_a_list_stays(service, monkeypatch, error, state, words):
    calls, real = [], services.forget_or_go_on

    def second_fails(host, config, *rest):
        calls.append(config.concept)
        if len(calls) == 2:
            raise error()
        return real(host, config, *rest)

    monkeypatch.setattr(services, "forget_or_go_on", second_fails)
    view = wait(service.forget({**QUICK, "concept": "cat, dog"}))
    assert calls == ["cat", "dog"] and view.state == state and words in view.error
    assert view.result.report["concept"] == "cat" and view.fraction <= 0.5
    assert [r.name for r in service.stack_file.rows()] == ["forget_cat.safetensors"]


def test_a_sentence_is_questioned_before_the_job(service):
    with pytest.raises(core.BadSetting, match="reads as a sentence: which word is meant: 'cat' or 'sofa'"):
        service.forget({**QUICK, "concept": "a photo of a cat on a sofa"})
    assert service.jobs.running() is None


def test_a_stop_while_pictures_are_made_keeps_the_delta(service, monkeypatch):
    plain = comparison.Comparison.rows
    monkeypatch.setattr(comparison.Comparison, "rows", lambda self, prompts: self.job.stop() or plain(self, prompts))
    stopped = wait(service.forget({**QUICK, "concept": "frog"}, "a cat"))
    assert stopped.state == "stopped" and stopped.result.pairs == stopped.result.extra == ()
    assert [r.name for r in service.stack_file.rows()] == [stopped.result.name] == ["forget_frog.safetensors"]
    assert not (service.program.path / "forget_frog.preview.png").exists()


def test_the_api_of_earlier_versions_switches_the_check_off(service, monkeypatch):
    asked = []
    monkeypatch.setattr(services, "forget_or_go_on", lambda host, config, *_: asked.append(config) or 1 / 0)
    for given in (False, "no", True):
        wait(service.forget({"concept": "banana", "check": given}))
    assert [config.quality for config in asked] == ["quick", "quick", "normal"]


@pytest.mark.full
def test_the_tab_alone_and_the_command_line_write_the_same_bytes(tmp_path):
    alone = services.Service(load("extension.app").StandaloneProgram(DEMO, tmp_path, "cpu"))
    view = short(alone, "banana", prompts="a cat")
    assert view.state == "done", view.error
    tab, command = tmp_path / view.result.name, tmp_path / "command" / view.result.name
    command.parent.mkdir()
    settings = [f"--set={name}={value}" for name, value in SHORT.items() if name != "anchor"]
    options = [
        f"--checkpoint={DEMO}",
        "--concept=banana",
        f"--anchor={SHORT['anchor']}",
        f"--out={command}",
        "--device=cpu",
    ]
    assert load("unlearn_core.cli").main(["forget", *options, *settings]) == 0
    assert tab.read_bytes() == command.read_bytes()


@pytest.mark.full
def test_stop_and_discard_leaves_nothing_and_stop_and_keep_a_marked_delta(service):
    for discard in (True, False):
        job = service.forget({**SHORT, "concept": "cat", "steps": 500})
        while len(job.view().losses) < 2:
            assert not job.view().finished, job.view().error
            time.sleep(0.02)
        job.stop(discard)
        begun = time.monotonic()
        view = wait(job)
        assert view.state == "stopped" and time.monotonic() - begun < 10
        assert len(list(service.program.path.glob("*.safetensors"))) == (0 if discard else 1)
    assert view.result.report["stopped"].startswith("stopped at step")
    assert service.stack_file.rows() == (stack_file.Row(view.result.name, on=False),)
    assert "because the run was stopped" in view.result.remark


# The stack


FULL = "The stack is full \\(12 deltas\\): merge some of them in the Stack tab, then go on."


def filled(service, count=stack_file.SLOTS):
    """A stack of this many files that nobody reads, switched off."""
    rows = tuple(stack_file.Row(f"d{i}.safetensors", on=False) for i in range(count))
    for row in rows:
        (service.program.path / row.name).touch()
    return service.stack_file.set(rows)


def test_a_full_stack_is_refused_before_anything_is_learned(service):
    rows = filled(service)
    with pytest.raises(core.BadSetting, match=FULL):
        service.forget({"concept": "banana"})
    assert service.jobs.running() is None and service.jobs.newest(services.FORGET) is None
    (service.program.path / "one more.safetensors").touch()
    with pytest.raises(core.BadSetting, match=FULL):
        service.stack_file.put("one more.safetensors")
    assert service.stack_file.rows() == rows
    assert [r.name for r in service.stack_file.put(rows[0].name)] == [r.name for r in (*rows[1:], rows[0])]


REPORT = {"stopped": "", "check": {"verdict": "forgotten, the rest preserved"}}


@pytest.mark.parametrize(
    ("facts", "on", "words"),
    [
        ({}, True, ""),
        ({"check": {"verdict": "partly forgotten, the rest preserved"}}, True, ""),
        ({"check": {"verdict": "not checked"}}, True, ""),
        (
            {"check": {"verdict": "not forgotten, the rest preserved"}},
            False,
            "because the model still generates the concept",
        ),
        ({"stopped": "stopped at step 3"}, False, "because the run was stopped"),
    ],
)
def test_what_has_not_forgotten_is_on_the_stack_but_switched_off(service, facts, on, words):
    (service.program.path / "new.safetensors").touch()
    said, acts = service.put_on_stack("new.safetensors", {**REPORT, **facts})
    assert service.stack_file.rows() == (stack_file.Row("new.safetensors", on=on),)
    assert words in said and bool(said) == bool(words) and acts == on


def test_a_stack_that_was_filled_during_the_work_takes_nothing_away_from_it(service):
    rows = filled(service)
    (service.program.path / "new.safetensors").touch()
    said, acts = service.put_on_stack("new.safetensors", REPORT)
    assert said.startswith("The delta is saved but not on the stack. The stack is full (12") and not acts
    assert service.stack_file.rows() == rows


@pytest.mark.parametrize("strength", [5, -2.01, float("nan"), float("inf"), None, "1"])
def test_a_strength_out_of_bounds_is_a_sentence(service, strength):
    rows = filled(service, 1)
    with pytest.raises(core.BadSetting, match="Strengths go from -2 to 2"):
        service.stack_file.set((stack_file.Row(rows[0].name, strength),))
    assert service.stack_file.rows() == rows


# Names


@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_name_ends_as_a_file_inside_the_folder(tmp_path, name):
    file = library.free_file(tmp_path, f"forget {name}")
    assert file.parent == tmp_path.resolve() and file.name.startswith("forget_")
    file.touch()
    assert library.free_file(tmp_path, f"forget {name}") != file


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_wishes_are_refused_with_a_sentence(service, name):
    with pytest.raises(core.BadSetting):
        service.forget({"concept": name})
    assert service.jobs.running() is None


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "C:x.safetensors", "a\0.safetensors", "x.pt"]
)
def test_no_row_leads_out_of_the_folder(service, name):
    with pytest.raises(core.BadDelta):
        service.stack_file.put(name)
    with pytest.raises(core.UnlearnError):
        service.stack_file.delete(name)


# What is refused and what is known


@pytest.mark.parametrize(
    "values",
    [("", 0, 20, 3), ("a", -1, 20, 3), ("a", 0, 1.5, 3), ("a", 0, 20, "x"), ("a\n" * 17, 0, 20, 3)]
    + [("a", 10**400, 20, 3)],
)
def test_wrong_drawing_wishes_are_refused(service, values):
    with pytest.raises(core.BadSetting):
        service.preview(*values)


def test_a_checkpoint_is_known_without_being_loaded(tmp_path):
    read = load("extension.checkpoint_base").base_of
    host, known = standalone.StandaloneModel(DEMO), read(DEMO)
    assert (known.fingerprint, known.sample.text()) == (host.fingerprint, host.base_sample.text())
    scaled = {}
    for name, t in load_file(DEMO).items():
        scaled[name] = t
        if name.endswith("attn2.to_q.weight"):
            scaled |= {name: (t.float() / 0.01).to(torch.float8_e4m3fn)}
            scaled[name.removesuffix("weight") + "scale_weight"] = torch.tensor(0.01)
    save_file(scaled, file := tmp_path / "scaled.safetensors")
    shutil.copy(DEMO.with_suffix(".yaml"), tmp_path / "scaled.yaml")
    shutil.copytree(DEMO.with_name("tokenizer"), tmp_path / "tokenizer")
    known, base = read(file), networks.load(file, torch.float32).base
    assert (known.fingerprint, known.sample.text()) == (base.fingerprint, base.sample.text())
    (tmp_path / "x.safetensors").write_bytes(b"no checkpoint")
    assert read(tmp_path / "x.safetensors") is read(tmp_path / "none.ckpt") is None
