"""Which checkpoint learns inside a web UI, and a copy of it with the stack baked in."""

from __future__ import annotations

import time
from pathlib import Path

from tests.hosts.forget_checks import HARDLY, MOSTLY, Places, other_objects, share
from tests.hosts.running_host import OTHER
from tests.webui.page_client import PageClient
from unlearn_core import load
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.standalone.model import StandaloneModel


def the_chosen_one_learns(places: Places) -> None:
    """After a picture with a refiner, and after the host has unloaded its checkpoint."""
    check, ui = places.check, places.ui
    names = {c["title"].split(".")[0]: c["title"] for c in ui.call("/sdapi/v1/sd-models")}
    if OTHER not in names:
        print(f"--   no second checkpoint ({OTHER}): see tests/hosts/running_host.py")
        return
    expected = StandaloneModel(CHECKPOINT, "cpu").fingerprint
    ui.draw("a cat", refiner_checkpoint=names[OTHER], refiner_switch_at=0.5)
    learned_on(places, "lemon", "after a picture with a refiner", expected)
    if ui.has("/sdapi/v1/unload-checkpoint"):
        ui.call("/sdapi/v1/unload-checkpoint", {})
        learned_on(places, "mushroom", "after the checkpoint was unloaded", expected)
    plain = ui.draw("a cat")[0]
    check("pictures are the chosen one's", ui.draw("a cat")[0].tobytes() == plain.tobytes())


def learned_on(places: Places, concept: str, when: str, expected: str) -> None:
    """Forget in short; the delta names the base that it was learned on."""
    view = places.ui.until(places.ui.forget(concept, quality="quick"))
    if view["state"] != "done":
        places.check(f"{when} it learns", False, view["error"])
        return
    found = load(Path(view["path"])).info.base_fingerprint
    places.check(f"{when} the chosen checkpoint learns", found == expected, found)


def baking(places: Places, concept: str) -> None:
    """Write a copy with the delta in it by the Stack tab's button, and load it as any checkpoint."""
    check, ui = places.check, places.ui
    page = PageClient(ui.address)
    page.press("unlearn_reload")
    page.press("unlearn_bake")
    if page.fields["unlearn_stack_problem"]:
        check("the copy is begun", False, page.fields["unlearn_stack_problem"])
        return
    deadline = time.monotonic() + 300
    while page.fields["unlearn_bake_timer"] and time.monotonic() < deadline:
        time.sleep(0.5)
        page.press("unlearn_bake_poll")
    shown = page.fields["unlearn_bake_status"]
    check("the copy is written and its path is shown", "Saved as:" in shown, shown.rpartition("<code>")[2][:200])
    ui.call("/sdapi/v1/refresh-checkpoints", {})
    titles = [c["title"] for c in ui.call("/sdapi/v1/sd-models")]
    made = next(t for t in titles if f"without_{concept}" in t.replace(" ", "_"))
    chosen = ui.call("/sdapi/v1/options")["sd_model_checkpoint"]
    ui.call("/sdapi/v1/options", {"sd_model_checkpoint": made})
    try:
        gone, rest = share(ui, [concept] * places.pictures), share(ui, other_objects([concept], places.pictures))
        check("the copy does without the concept", gone <= HARDLY and rest >= MOSTLY, f"{gone:.0%}, others {rest:.0%}")
    finally:
        ui.call("/sdapi/v1/options", {"sd_model_checkpoint": chosen})
