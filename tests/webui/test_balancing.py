"""Balancing behind the Stack tab: one delta in place of those that are switched on. About 25 s, few pictures."""

import shutil
import threading

import pytest

from tests.webui.pack import ROOT, load
from tests.webui.test_service import Program, services, stack_file, wait

pytestmark = pytest.mark.usefixtures("few_in_pack")

core, balancing = load("unlearn_core"), load("extension.balancing")
Base = load("unlearn_core.delta.base_sample").Base
SHIPPED = ("forget_banana.safetensors", "forget_cat.safetensors")


@pytest.fixture
def service(tmp_path):
    """With two of the demo's deltas on the stack."""
    for name in SHIPPED:
        shutil.copy(ROOT / "assets" / "demo" / "deltas" / name, tmp_path)
    made = services.Service(Program(tmp_path))
    made.stack_file.set(tuple(stack_file.Row(name) for name in SHIPPED))
    return made


@pytest.mark.full
def test_one_delta_takes_the_place_of_what_is_switched_on(service):
    other = shutil.copy(service.program.path / SHIPPED[0], service.program.path / "off.safetensors")
    service.stack_file.put("off.safetensors", on=False)
    view = wait(balancing.start_balancing(service, ""))
    assert view.state == "done", view.error
    made = view.result
    assert made.name == "forget_banana_cat.safetensors"
    assert made.remark.startswith(
        "2 deltas are balanced into one. They are off the stack, and their files stay. Change"
    )
    assert [(r.name, r.on) for r in service.stack_file.rows()] == [("off.safetensors", False), (made.name, True)]
    assert other.is_file() and all((service.program.path / name).is_file() for name in SHIPPED)
    assert service.stack_file.delta(made.name).info.concepts == ("banana", "cat")
    with pytest.raises(core.BadSetting, match="There is nothing to balance"):
        service.stack_file.set(())
        balancing.start_balancing(service, "")


@pytest.mark.full
def test_a_stop_leaves_the_stack_as_it_was(service):
    running = threading.Event()

    class Slow(Program):
        kept = Program.kept

        def model(self, job):
            job.interrupted = lambda report: running.set()
            return super().model(job)

    service.program = Slow(service.program.path)
    job = balancing.start_balancing(service, "both")
    assert running.wait(60)
    job.stop()
    view = wait(job)
    assert view.state == "stopped" and view.error.startswith("Stopped")
    assert [r.name for r in service.stack_file.rows()] == list(SHIPPED)
    assert sorted(f.name for f in service.program.path.glob("*.safetensors")) == sorted(SHIPPED)


def test_what_cannot_be_balanced_is_refused_before_any_work(service, monkeypatch):
    monkeypatch.setattr(service.jobs, "start", lambda *_: pytest.fail("no work"))
    with pytest.raises(core.BadSetting, match="Name: write it as text"):
        balancing.start_balancing(service, None)
    service.stack_file.change(SHIPPED[1], strength=0.5)
    with pytest.raises(core.BadSetting, match="'forget_cat' has the strength 0.5: a stack is balanced at 1"):
        balancing.start_balancing(service, "")
    service.stack_file.change(SHIPPED[1], on=False, strength=1.0)
    with pytest.raises(core.BadSetting, match="There is nothing to balance"):
        balancing.start_balancing(service, "")
    monkeypatch.setattr(service.program, "base", lambda: Base("ffffffffffffffff"))
    service.stack_file.change(SHIPPED[1], on=True)
    with pytest.raises(core.BadSetting, match="made for another checkpoint"):
        balancing.start_balancing(service, "")
