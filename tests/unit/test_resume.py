"""A run that was killed or stopped goes on, wherever that was, to the bytes of an unbroken one."""

import os
import random
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save as to_bytes

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, run, stack_on, state_of
from unlearn_core import Cancelled, Stack, saved_work
from unlearn_core.delta.format import canonical, metadata, tensors
from unlearn_core.method.forget import carried_out
from unlearn_core.method.request import Request
from unlearn_core.recipe import SMALL
from unlearn_core.saved_work import NOTHING, SavedWork

FROG = {"concept": "frog", "kind": "object", "anchor": "elephant", "prompts": (("a frog here", "an elephant here"),)}
LOOKING = {kind: replace(recipe, check_from=2, check_every=2, settle=3, fallen=9.0) for kind, recipe in SMALL.items()}
"""The check looks every second step of a training."""
GROUPED = {kind: replace(recipe, group=2) for kind, recipe in SMALL.items()}
"""The check stops when it knows."""
RUNS = {
    "trained": config(),
    "looked at": config(steps=12),
    "a style, trained": config(concept="ink", anchor="blob", steps=4),
    "closed form": config(closed_form=True, steps=60),
    "closed form, then trained": config(concept="frog", anchor="elephant", closed_form=True),
    "on a stack": config(concept="elephant", anchor="cat"),
    "quick": config(quality="quick", closed_form=True),
    "in groups": config(closed_form=True, steps=4),
}


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch):
    """Snapshots of a training at every step; without what takes most of so small a run's time: garbage, words."""
    monkeypatch.setattr(TinyHost, "_sentence", cached_sentence)
    monkeypatch.setattr("unlearn_core.device_memory.gc", SimpleNamespace(collect=lambda generation: 0))
    monkeypatch.setattr(saved_work, "SECONDS", 0.0)
    monkeypatch.setattr(saved_work, "SHARE", 1e9)


sentence, sentences = TinyHost._sentence, {}


def cached_sentence(host, prompt):
    if prompt not in sentences:
        sentences[prompt] = sentence(host, prompt)
    return sentences[prompt]


class Killed(BaseException):
    """As a kill leaves it: no code of the product catches this."""


def bytes_of(result):
    return canonical(to_bytes(tensors(result.delta), metadata(result.delta)))


def made(name, saved=NOTHING, progress=None, host=None):
    host = host or TinyHost()
    stack = stack_on(host, FROG) if name == "on a stack" else Stack()
    recipes = {"looked at": LOOKING, "in groups": GROUPED}.get(name, SMALL)
    return carried_out(Request.read(host, RUNS[name], stack, recipes=recipes), host, progress, saved)


@pytest.fixture(scope="module")
def whole():
    """The bytes of unbroken runs, made when they are asked for."""
    found = {}

    def bytes_of_run(name):
        if name not in found:
            found[name] = bytes_of(made(name))
        return found[name]

    return bytes_of_run


class KilledAfterOne(SavedWork):
    """Dies when it has kept one new thing."""

    def write(self, *arguments):
        super().write(*arguments)
        raise Killed


@pytest.mark.parametrize(
    "name",
    [
        n if n in ("looked at", "closed form", "quick", "in groups") else pytest.param(n, marks=pytest.mark.full)
        for n in RUNS
    ],
)
def test_killed_after_each_part_and_each_step_it_ends_with_the_same_bytes(name, whole, tmp_path):
    kills, host = 0, TinyHost()
    before = state_of(host)
    while True:
        try:
            result = made(name, KilledAfterOne(tmp_path), host=host)
            break
        except Killed:
            kills += 1
    assert bytes_of(result) == whole(name)
    assert kills >= (2 if name == "quick" else 8)
    assert_same(before, state_of(host))


def test_a_training_with_looks_goes_on_from_any_step(whole, tmp_path):
    """The check looks in the middle of it: what it saw then is not made again, and the schedule goes the same way."""
    for fall in range(2, 10, 3):
        with pytest.raises(Killed):
            made("looked at", SavedWork(tmp_path), lambda r, fall=fall: stop_at(r, fall))
    seen, result = reports("looked at", SavedWork(tmp_path))
    assert bytes_of(result) == whole("looked at")
    looks = [r.done for r in seen if r.phase == "training" and r.latents is not None]
    assert looks[:2] == [2, 4] and any(r.message.endswith("going on from step 7") for r in seen)


@pytest.mark.full
@pytest.mark.parametrize("name", RUNS)
def test_killed_at_any_event_it_ends_with_the_same_bytes(name, whole, tmp_path):
    seen = []
    made(name, progress=seen.append)
    for fall in range(0, len(seen), 1 if len(seen) < 150 else 7):
        left = iter(range(fall))

        def progress(_, left=left):
            if next(left, None) is None:
                raise Killed

        place = tmp_path / str(fall)
        with pytest.raises(Killed):
            made(name, SavedWork(place), progress)
        assert bytes_of(made(name, SavedWork(place))) == whole(name), fall


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked")
@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.full)])
def test_a_real_kill_at_a_random_time(count, whole, tmp_path):
    """SIGKILL, over the whole length of a run and on; what is left is gone on with."""
    draw, killed = random.Random(count), 0
    for number in range(count):
        name = list(RUNS)[number % len(RUNS)]
        begun = time.monotonic()
        whole(name)
        length = max(0.2, time.monotonic() - begun) if number < len(RUNS) else 1.0
        place = tmp_path / str(number)
        child = os.fork()
        if not child:
            try:
                made(name, SavedWork(place))
            finally:
                os._exit(0)
        time.sleep(draw.uniform(0, length))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert bytes_of(made(name, SavedWork(place))) == whole(name), (number, name)
    assert killed


def test_saving_changes_nothing_and_leaves_nothing_behind(whole, tmp_path):
    saved = SavedWork(tmp_path / "work")
    assert bytes_of(made("trained", saved)) == whole("trained")
    assert any((tmp_path / "work").rglob("*.part"))
    saved.remove()
    assert not (tmp_path / "work").exists()


def test_what_is_finished_is_not_made_again(tmp_path):
    host, passes = TinyHost(), []
    denoise = host.denoise
    host.denoise = lambda x, *more: passes.append(len(x)) or denoise(x, *more)
    for saved in (SavedWork(tmp_path), SavedWork(tmp_path), SavedWork(tmp_path, go_on=False)):
        made("trained", saved, host=host)
        passes.append(None)
    first, second, anew, _ = "".join("." if p else "|" for p in passes).split("|")
    assert len(second) == 1 and first == anew and len(first) > 40, "one pass tells which model it is"


def test_a_stop_that_keeps_nothing_can_be_gone_on_with(whole, tmp_path):
    for phase in ("choosing", "training", "after"):
        try:
            made("trained", SavedWork(tmp_path), lambda r, phase=phase: r.phase == phase)
        except Cancelled:
            assert phase == "choosing"
    assert bytes_of(made("trained", SavedWork(tmp_path))) == whole("trained")


def reports(name, saved, stop=lambda report: False):
    seen = []

    def progress(report):
        seen.append(report)
        if stop(report):
            raise Killed

    try:
        return seen, made(name, saved, progress)
    except Killed:
        return seen, None


def test_the_bar_goes_on_from_where_it_was_and_says_so(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    host = TinyHost()
    denoise = TinyHost.denoise

    def slow(self, x, *more):
        now[0] += 0.01 * len(x)
        return denoise(self, x, *more)

    monkeypatch.setattr(TinyHost, "denoise", slow)
    _, unbroken = reports("trained", NOTHING)
    early, _ = reports("trained", SavedWork(tmp_path), lambda r: r.phase == "training" and r.done == 4)
    late, result = reports("trained", SavedWork(tmp_path))
    fractions = [r.fraction for r in late]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert [r.done for r in late if r.phase == "training"] == list(range(7))
    assert [r.losses for r in late if r.phase == "training"][:4] == [r.losses for r in early if r.phase == "training"][
        :4
    ]
    assert any(r.message.endswith("going on with a run that was stopped") for r in late)
    assert any(r.phase == "training" and r.message.endswith("going on from step 3") for r in late)
    assert result.report["seconds"] == pytest.approx(unbroken.report["seconds"], rel=0.1)
    at = {round(r.fraction, 3): r.seconds_left for r in early if r.seconds_left}
    for r in late:
        if r.seconds_left and (then := at.get(round(r.fraction, 3))):
            assert r.seconds_left == pytest.approx(then, rel=0.3, abs=0.2)
    assert host.fingerprint


# Saved work that is damaged or another's


def stopped_at(place, step=4, name="trained"):
    with pytest.raises(Killed):

        def progress(report):
            if report.phase == "training" and report.done == step:
                raise Killed

        made(name, SavedWork(place), progress)
    return sorted(place.rglob("*.part"))


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 0x40
    file.write_bytes(bytes(data))


def nan(file):
    data = file.read_bytes()
    file.write_bytes(data[:-4] + b"\x00\x00\xc0\x7f")


def empty(file):
    file.write_bytes(b"")


def zeros(file):
    file.write_bytes(bytes(file.stat().st_size))


def pickled(file):
    torch.save({"it": torch.zeros(3)}, file)


def gone(file):
    file.unlink()


def a_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("harm", [cut, flipped, nan, empty, zeros, pickled, gone, a_folder])
def test_damaged_work_is_made_anew(harm, whole, tmp_path):
    files = stopped_at(tmp_path)
    assert len(files) > 8
    for number, file in enumerate(files):
        if number % 3 == 0:
            harm(file)
    assert bytes_of(made("trained", SavedWork(tmp_path))) == whole("trained")


@pytest.mark.full
@pytest.mark.parametrize("harm", [cut, nan, gone])
def test_each_damaged_file_alone_is_made_anew(harm, whole, tmp_path):
    for number in range(len(stopped_at(tmp_path / "all"))):
        files = stopped_at(place := tmp_path / str(number))
        harm(files[number])
        assert bytes_of(made("trained", SavedWork(place))) == whole("trained")


def test_files_under_each_others_names_are_not_taken(whole, tmp_path):
    files = stopped_at(tmp_path)
    data = [f.read_bytes() for f in files]
    for file, other in zip(files, data[1:] + data[:1], strict=True):
        file.write_bytes(other)
    assert bytes_of(made("trained", SavedWork(tmp_path))) == whole("trained")


def test_a_missing_look_of_the_training_makes_it_begin_again(whole, tmp_path):
    """Its weights of then are gone, so the look cannot be made with those of the snapshot."""
    name = "looked at"
    early = set(stopped_at(tmp_path / "early", 1, name))
    with pytest.raises(Killed):
        made(name, SavedWork(tmp_path), lambda r: stop_at(r, 7))
    for file in tmp_path.glob("*/*.part"):
        if file.name not in {f.name for f in early}:
            file.unlink()
    seen, result = reports(name, SavedWork(tmp_path))
    assert bytes_of(result) == whole(name)
    assert not any("going on from step" in r.message for r in seen)


def stop_at(report, step):
    if report.phase == "training" and report.done == step:
        raise Killed


def test_work_that_vanishes_under_a_run_ends_it_with_a_sentence(tmp_path, monkeypatch):
    name = "looked at"
    with pytest.raises(Killed):
        made(name, SavedWork(tmp_path), lambda r: stop_at(r, 7))

    def progress(report):
        if report.phase == "training" and report.done == 3:
            for file in tmp_path.glob("*/*.part"):
                file.unlink()

    with pytest.raises(RuntimeError, match="start again"):
        made(name, SavedWork(tmp_path), progress)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"learning_rate": 1e-3}, {"keep": ("cat",)}, {"steps": 7}])
def test_the_work_of_another_request_is_left_alone(changes, tmp_path):
    files = stopped_at(tmp_path)
    saved = SavedWork(tmp_path)
    host, wish = TinyHost(), config(**changes)
    result = carried_out(Request.read(host, wish, Stack(), recipes=SMALL), host, None, saved)
    assert not saved.there and bytes_of(result) == bytes_of(run(TinyHost(), wish))
    saved.remove()
    assert sorted(tmp_path.rglob("*.part")) == files


def test_another_model_version_or_stack_finds_nothing(tmp_path, monkeypatch):
    stopped_at(tmp_path)

    def found(host, stack=None, name="trained"):
        saved = SavedWork(tmp_path)
        with pytest.raises(Killed):
            carried_out(Request.read(host, RUNS[name], stack or Stack(), recipes=SMALL), host, fall, saved)
        return saved.there

    def fall(_):
        raise Killed

    other = TinyHost()
    other.backbone.leave.weight[0, 0] += 1e-3
    assert other.fingerprint == TinyHost().fingerprint and not found(other), "of another last layer alone"
    assert found(TinyHost())
    assert not found(TinyHost(), stack_on(TinyHost(), FROG))
    words = TinyHost()
    words.words_file = None
    assert not found(words)
    monkeypatch.setattr("unlearn_core.method.run.tool", lambda: "2.0")
    assert not found(TinyHost())
