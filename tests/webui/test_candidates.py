"""What could be drawn instead, as the tab shows it, and the tab alone on a checkpoint of XL."""

import pytest

from tests.checkpoints import Small
from tests.webui.pack import load
from tests.webui.test_service import QUICK, Program, wait

pytestmark = pytest.mark.usefixtures("few_in_pack")

services, jobs, core = load("extension.service"), load("extension.jobs"), load("unlearn_core")
standalone = load("unlearn_core.standalone")


@pytest.fixture
def service(tmp_path):
    return services.Service(Program(tmp_path))


def test_what_could_be_drawn_instead_is_shown_nearest_first_and_nothing_is_made(service):
    asked = {"concept": "a Cat, banana", "anchor": "guitar", "sampling_steps": 1}
    made = wait(service.candidates(asked)).result
    names = [name for name, _ in made.shown]
    assert made.concept == "cat" and len(names) == 6 and len(set(names)) == 6
    assert {"cat", "cats", "banana"}.isdisjoint(names), "neither what goes nor what goes with it"
    assert all(picture.startswith("data:image/") for _, picture in made.shown)
    assert not list(service.program.folder().iterdir()) and services.FORGET not in service.forms
    quick = wait(service.forget({"concept": "cat", "going": ("banana",), **QUICK})).result
    assert quick.report["anchor"] == names[0], "the first is what a quick run takes"


def test_styles_are_offered_for_a_style(service):
    made = wait(service.candidates({"concept": "ink", "sampling_steps": 1})).result
    assert {name for name, _ in made.shown} == {"glossy", "blob", "flat"}


def test_candidates_of_an_empty_wish_are_refused(service):
    with pytest.raises(core.BadSetting, match="Name the concept"):
        service.candidates({"concept": " "})


def test_the_tab_alone_forgets_on_a_checkpoint_of_xl(tmp_path):
    """A tiny one, read from its file as the command line reads it."""
    file = Small("sdxl").write(tmp_path / "tiny xl.safetensors")
    program = load("extension.app").StandaloneProgram(file, tmp_path / "out", "cpu")
    program._model = standalone.StandaloneModel(file, "cpu", 64)
    view = wait(services.Service(program).forget({"concept": "cat", "anchor": "dog", "force": True, **QUICK}))
    assert view.state == jobs.DONE, view.error
    assert core.load(view.result.file).info.architecture == "sdxl"
