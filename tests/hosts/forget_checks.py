"""Forgetting inside a web UI: through the tab and through the API, read by the demo's classifier."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.hosts.checks import Checks
from tests.hosts.webui_client import Webui, distance, same
from tests.webui.page_client import PageClient
from unlearn_core import Delta, ForgetConfig, forget, load
from unlearn_core.demo.classifier import DemoClassifier
from unlearn_core.demo.recognition import FOLDER, world
from unlearn_core.standalone.model import StandaloneModel

QUICK = {"steps": 4, "batch": 2, "sampling_steps": 2, "closed_form": False}
LONG = {"steps": 5000, "closed_form": False}
POLL, ENDED = "unlearn_forget_poll", -2
"""The button by which the page asks for news, and which of its fields has the id of the job that has ended."""
STOPPED_IN = 2.0
"""Seconds from a stop to the end of the job; a machine that does much else may need more."""
MOSTLY, HARDLY = 0.9, 0.1
"""Shares of pictures that show a concept before and after it was forgotten."""
SAME_DELTA = 0.99
"""Least cosine of two deltas of one request on two builds of torch."""


@dataclass(frozen=True)
class Places:
    """What is checked and how. trains: whether the web UI's environment has peft."""

    check: Checks
    ui: Webui
    pictures: int
    trains: bool


def by_the_tab(places: Places, concept: str) -> dict | None:
    """Forget with the settings as the page has them; a picture that is asked for meanwhile waits and is the same."""
    check, ui = places.check, places.ui
    prompt = f"a {concept}"
    before, weights = ui.draw(prompt)[0], ui.weights()
    page = PageClient(ui.address)
    page.fields["unlearn_concept"] = concept
    page.press("unlearn_start")
    check("Start is pressed in the tab", page.fields["unlearn_problem"] == "", page.fields["unlearn_problem"])
    waited: dict = {}

    def draw() -> None:
        waited["picture"], waited["at"] = ui.draw(prompt)[0], time.monotonic()

    while ui.progress()["state"]["job"] != "unlearn":
        time.sleep(0.2)
    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    begun, shown = time.monotonic(), []
    while page.fields["unlearn_forget_timer"]:
        answer = ui.progress()
        if answer["state"]["job"] == "unlearn":
            shown.append(answer["progress"])
        time.sleep(1)
        page.press(POLL)
    ended = time.monotonic()
    thread.join()
    view = ui.job(page.output(POLL, ENDED))
    check("it ends", view["state"] == "done", view["error"] or f"{view['seconds']:.0f} s")
    verdict = view["report"]["check"]["verdict"]
    check("the check says forgotten", verdict.startswith("forgotten"), verdict)
    check(
        "the page shows the report and the path",
        view["path"] in page.fields["unlearn_result"].replace("<wbr>", ""),
        view["path"],
    )
    check("the host's progress showed it and never went back", shown == sorted(shown) != [], f"{len(shown)} looks")
    # one look at the job a second, so the picture may seem early by that
    check("a picture asked for meanwhile waited", waited["at"] > ended - 2.5, f"{ended - begun:.0f} s")
    check("and is the picture of before", same(waited["picture"], before))
    if weights is None:
        print("--   no hash of the weights: the extension in tests/hosts/probe is not installed")
    else:
        check("the model's weights have the same hash", ui.weights() == weights, weights[:16])
    return view


def a_list(places: Places, concepts: Sequence[str]) -> None:
    """Several concepts in one request: one delta each, learned in the order given."""
    check, ui = places.check, places.ui
    view = ui.until(ui.forget(", ".join(concepts)))
    check(f"'{', '.join(concepts)}' ends", view["state"] == "done", view["error"] or f"{view['seconds']:.0f} s")
    made = [*view["earlier"], view]
    found = [one["report"]["concept"] for one in made]
    check("a delta each, in the order given", found == list(concepts), [Path(one["path"]).name for one in made])
    for one in made:
        check(f"'{one['report']['concept']}'", True, one["report"]["check"]["verdict"])
    classified(places, concepts, " ".join(one["tag"] for one in made))


def switching(places: Places, concept: str, tag: str) -> None:
    """The delta in a prompt of the host's own."""
    check, ui = places.check, places.ui
    prompt, other = f"a {concept}", "a car"
    plain, kept = ui.draw(prompt)[0], ui.draw(other)[0]
    gone, still = ui.draw(f"{prompt} {tag}")[0], ui.draw(f"{other} {tag}")[0]
    moved, drift = distance(plain, gone), distance(kept, still)
    facts = f"{moved:.1f} to {drift:.1f} of 255"
    check("the tag changes the target more than another object", moved > 2 * drift, facts)
    check("without it the same bytes come back", same(ui.draw(prompt)[0], plain))
    check("with it again the same bytes", same(ui.draw(f"{prompt} {tag}")[0], gone))
    name = tag.split(":")[1]
    cards = [one["alias"] for one in ui.call("/sdapi/v1/loras") if one["name"] == name]
    check("the host's card writes the file's name into a prompt", cards == [name], cards)


def classified(places: Places, concepts: Sequence[str], tag: str) -> None:
    """What the demo world's own classifier sees in the host's pictures, without and with the tags."""
    each = max(1, places.pictures // len(concepts))
    for name in concepts:
        before, after = (share(places.ui, [name] * each, ending) for ending in ("", f" {tag}"))
        gone = before > MOSTLY > HARDLY >= after
        facts = f"{before:.0%} -> {after:.0%} of {each}"
        places.check(f"the classifier finds '{name}' without the tags and not with them", gone, facts)
    others = other_objects(concepts, places.pictures)
    before, after = (share(places.ui, others, ending) for ending in ("", f" {tag}"))
    places.check("other objects stay", after >= before - HARDLY, f"{before:.0%} -> {after:.0%} of {len(others)}")


def other_objects(concepts: Sequence[str], count: int) -> list[str]:
    """Objects of the demo world that are not forgotten."""
    return [o for o in world()["objects"] if o not in concepts][:count]


def share(ui: Webui, objects: Sequence[str], ending: str = "") -> float:
    """How many of the host's pictures of these objects show them, 0..1."""
    classifier = DemoClassifier.load(FOLDER / "classifier.safetensors")
    images = [ui.draw(f"a {o}{ending}", seed=100 + i)[0] for i, o in enumerate(objects)]
    values = torch.from_numpy(np.stack([np.asarray(i) for i in images])).permute(0, 3, 1, 2) / 127.5 - 1
    seen = [o for o, _ in classifier.recognise(values)]
    return sum(a == b for a, b in zip(seen, objects, strict=True)) / len(seen)


def as_on_the_command_line(places: Places, concept: str, file: Path) -> None:
    """The host's delta is the one that the standalone model gives for the same request, here."""
    made = load(file)
    here = forget(StandaloneModel(FOLDER / "demo.safetensors"), ForgetConfig.from_flat({"concept": concept}))
    value = cosine(made, here.delta)
    places.check("the same anchor as on the command line", made.info.anchor == here.delta.info.anchor, made.info.anchor)
    places.check("the same delta as on the command line", value >= SAME_DELTA, f"cosine {value:.6f}")


def cosine(a: Delta, b: Delta) -> float:
    """Of two deltas' changes of all layers."""
    names = sorted(a.factors.keys() | b.factors.keys())
    if a.factors.keys() != b.factors.keys():
        return 0.0
    one, two = (torch.cat([change(d, name) for name in names]) for d in (a, b))
    return float(torch.cosine_similarity(one, two, 0))


def change(delta: Delta, layer: str) -> torch.Tensor:
    """What a delta adds to a layer's weight, as one row."""
    factor = delta.factors[layer]
    return (factor.up.double() @ factor.down.double() * factor.scale).flatten()


def stacking(places: Places, concept: str, tag: str) -> None:
    """The next one is learned on top of the first, also while the first is baked into the host's weights."""
    check, ui = places.check, places.ui
    plain = ui.draw("a cat")[0]
    ui.draw(f"a {concept} {tag}")
    view = ui.until(ui.forget("frog", quality="quick"))
    check("a second delta is learned on top", view["state"] == "done", view["error"] or view["report"]["stack"])
    check("it knows of the first", concept in view["report"]["stack"])
    check("an active LoRA was put back and comes off", same(ui.draw("a cat")[0], plain))


def stopping(places: Places) -> None:
    """The host's Interrupt and the tab's Stop."""
    check, ui = places.check, places.ui
    plain = ui.draw("a cat")[0]
    if places.trains:
        job = ui.forget("pear", **LONG)
        ui.until(job, "training")
        ui.call("/sdapi/v1/interrupt", {})
        begun = time.monotonic()
        view = ui.until(job, pause=0.05)
        seconds = time.monotonic() - begun
        check("the host's Interrupt stops it", view["state"] == "stopped" and seconds < STOPPED_IN, f"{seconds:.2f} s")
        kept = view.get("report", {}).get("stopped", "")
        check("and a marked delta is kept", kept.startswith("stopped at step"), kept)
    page = PageClient(ui.address)
    page.fields["unlearn_concept"] = "fox"
    page.press("unlearn_start")
    check("Start is pressed in the tab", page.fields["unlearn_problem"] == "", page.fields["unlearn_problem"])
    while page.fields["unlearn_forget_timer"] and ui.progress()["state"]["job"] != "unlearn":
        time.sleep(0.2)
    time.sleep(3)
    begun = time.monotonic()
    page.press("unlearn_stop_discard")
    while page.fields["unlearn_forget_timer"]:
        page.press(POLL)
    seconds = time.monotonic() - begun
    view = ui.job(page.output(POLL, ENDED))
    left = view["state"] == "stopped" and "file" not in view
    check("Stop and discard leaves nothing", left and seconds < STOPPED_IN, f"{seconds:.2f} s, {view['error']}")
    check("the model draws as before", same(ui.draw("a cat")[0], plain))
    check("the host is not busy any more", ui.progress()["state"]["job"] == "")
