"""A job of the tab that was stopped, or whose program was killed, goes on by itself when it is asked for again."""

from contextlib import contextmanager

import pytest

from tests.tiny import TinyHost
from tests.webui.pack import load
from tests.webui.test_service import Program, services, wait

pytestmark = pytest.mark.usefixtures("few_in_pack")

WISH = {"concept": "banana", "anchor": "pear", "steps": 4, "batch": 2, "sampling_steps": 1, "closed_form": False}
saved_work = load("unlearn_core.saved_work")


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch):
    monkeypatch.setattr(saved_work, "SECONDS", 0.0)
    monkeypatch.setattr(saved_work, "SHARE", 1e9)


class Tiny(Program):
    """A program with the tiny model in it. see: hears each job and its reports."""

    def __init__(self, folder, see=lambda job, report: None):
        super().__init__(folder)
        self.see = see

    @contextmanager
    def model(self, job):
        job.interrupted = lambda report: self.see(job, report)
        yield TinyHost()


def made(folder, see=lambda job, report: None):
    """The state of a job at its end."""
    return wait(services.Service(Tiny(folder, see)).forget(dict(WISH)))


def stopping(discard):
    def see(job, report):
        if report.phase == "training" and report.done == 2:
            job.stop(discard)

    return see


def newest(folder):
    return max(folder.glob("*.safetensors"), key=lambda f: f.stat().st_mtime_ns)


@pytest.mark.parametrize("discard", [True, False])
def test_a_stopped_job_goes_on_by_itself_and_says_so(discard, tmp_path):
    whole, new = tmp_path / "whole", tmp_path / "new"
    undisturbed = made(whole)
    assert undisturbed.state == "done"
    gone, stays = ([p.prompt for p in shown] for shown in (undisturbed.result.pairs, undisturbed.result.others))
    assert gone and stays and all("banana" in p for p in gone) and not any("banana" in p for p in stays)
    view = made(new, stopping(discard))
    assert view.state == "stopped" and any((new / services.UNFINISHED).rglob("*.part"))
    assert discard or services.GO_ON in view.result.remark
    messages = []
    view = made(new, lambda job, report: messages.append(report.message))
    assert view.state == "done" and len(view.losses) == 4, "the curve is whole"
    assert any("going on from step" in m for m in messages)
    assert newest(new).read_bytes() == newest(whole).read_bytes()
    assert not (new / services.UNFINISHED).exists() and not (whole / services.UNFINISHED).exists()


def test_what_is_unfinished_is_no_delta_of_the_list(tmp_path):
    made(tmp_path, stopping(True))
    assert services.Service(Tiny(tmp_path)).cards() == [] and not list(tmp_path.rglob("*.safetensors"))
