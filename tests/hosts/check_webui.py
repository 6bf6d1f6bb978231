"""Checks the Unlearn tab inside a running web UI, with the bundled demo checkpoint loaded there.

usage: python -m tests.hosts.check_webui URL [--concept banana] [--steps 300] [--pictures 16]

The web UI runs with --api, has this repository in extensions/ (and `tests/hosts/probe` as well, for the hash of the
weights), and `demo.safetensors`, `demo.yaml` and `demo.words.json` of assets/demo in models/Stable-diffusion; the
yaml's `version: tokenizer` must be written as a full path. Its LoRA folder's stack should be empty. Prints a line a
check and exits with 1 when one of them failed.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.hosts.webui_client import FINISHED, Webui, distance, same
from unlearn_core.demo.classifier import DemoClassifier
from unlearn_core.demo.recognition import FOLDER, world

SIZE = 128
QUICK = {"steps": 4, "batch": 2, "sampling_steps": 2, "closed_form": False}
STOPPED_IN = 2.0
"""Seconds from the host's Interrupt to the end of the job."""


class Checks:
    """Runs checks one by one, goes on after a failure, and counts."""

    def __init__(self):
        self.failed = 0

    def __call__(self, name: str, passed: bool, facts: Any = "") -> None:
        self.failed += not passed
        print(f"{'ok  ' if passed else 'FAIL'} {name}{f': {facts}' if facts != '' else ''}", flush=True)

    def run(self, part: Callable[..., Any], *values: Any) -> Any:
        """A group of checks; an exception is one failure."""
        try:
            return part(*values)
        except Exception as e:
            self(part.__name__.replace("_", " "), False, f"{type(e).__name__}: {e}")
            return None


def tab_is_there(check: Checks, ui: Webui) -> None:
    text = str(ui.call("/config"))
    check("the tab is on the page, once", text.count("'unlearn_start'") == 1)
    check("it does not say that it could not start", "Unlearn could not start" not in text)


def forgetting(check: Checks, ui: Webui, concept: str, steps: int) -> dict:
    """Forget for real; a picture that is asked for meanwhile waits and is the same as before."""
    prompt = f"a {concept}"
    before, weights = ui.draw(prompt)[0], ui.weights()
    job = ui.forget(concept, steps=steps, prompts=prompt)
    ui.until(job, "choosing", "replay", "training")
    waited: dict = {}

    def press() -> None:
        waited["picture"], waited["at"] = ui.draw(prompt)[0], time.monotonic()

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    shown, ended = [], None
    while True:
        view = ui.job(job)
        if view["state"] in FINISHED:
            ended = time.monotonic()
            break
        answer = ui.call("/sdapi/v1/progress?skip_current_image=true")
        if answer["state"]["job"] == "unlearn":
            shown.append(answer["progress"])
        time.sleep(1)
    thread.join()
    check("it ends", view["state"] == "done", view["error"] or f"{view['seconds']:.0f} s")
    verdict = view["report"]["check"]["verdict"]
    check("the check says forgotten", verdict.startswith("forgotten"), verdict)
    check("the host's progress showed it", len(shown) > 1 and shown == sorted(shown), f"{len(shown)} looks")
    # one look at the job a second, so the picture may seem early by that
    check("a picture asked for meanwhile waited", waited["at"] > ended - 1.5)
    check("and is the picture of before", same(waited["picture"], before))
    if weights is None:
        print("--   no hash of the weights: the extension in tests/hosts/probe is not installed")
    else:
        check("the model's weights have the same hash", ui.weights() == weights, weights[:16])
    return view


def switching(check: Checks, ui: Webui, concept: str, tag: str) -> None:
    prompt, other = f"a {concept}", "a car"
    plain, kept = ui.draw(prompt)[0], ui.draw(other)[0]
    gone, still = ui.draw(f"{prompt} {tag}")[0], ui.draw(f"{other} {tag}")[0]
    moved, drift = distance(plain, gone), distance(kept, still)
    check(
        "the tag changes the target more than another object", moved > 2 * drift, f"{moved:.1f} to {drift:.1f} of 255"
    )
    check("without it the same bytes come back", same(ui.draw(prompt)[0], plain))
    check("with it again the same bytes", same(ui.draw(f"{prompt} {tag}")[0], gone))


def classified(check: Checks, ui: Webui, concept: str, tag: str, count: int) -> None:
    """What the demo world's own classifier sees in the host's pictures."""
    judge = DemoClassifier.load(FOLDER / "classifier.safetensors")
    others = [o for o in world()["objects"] if o != concept][:count]

    def share(prompts: list[str], objects: list[str], ending: str) -> float:
        images = [ui.draw(p + ending, seed=100 + i)[0] for i, p in enumerate(prompts)]
        values = torch.from_numpy(np.stack([np.asarray(i) for i in images])).permute(0, 3, 1, 2) / 127.5 - 1
        seen = [o for o, _ in judge.recognise(values)]
        return sum(a == b for a, b in zip(seen, objects, strict=True)) / len(seen)

    target, rest = [f"a {concept}"] * count, [f"a {o}" for o in others]
    rates = {
        (name, bool(ending)): share(prompts, objects, ending)
        for name, prompts, objects in (("target", target, [concept] * count), ("others", rest, others))
        for ending in ("", f" {tag}")
    }
    facts = {name: f"{rates[name, False]:.0%} -> {rates[name, True]:.0%}" for name in ("target", "others")}
    check("the classifier finds the target without the tag", rates["target", False] >= 0.9, facts["target"])
    check("and not with it", rates["target", True] <= 0.1, facts["target"])
    check("other objects stay", rates["others", True] >= rates["others", False] - 0.1, facts["others"])


def stacking(check: Checks, ui: Webui, concept: str, tag: str) -> None:
    """The next one is learned on top of the first, also while the first is baked into the host's weights."""
    plain = ui.draw("a cat")[0]
    ui.draw(f"a {concept} {tag}")
    job = ui.forget("frog", **QUICK)
    view = ui.until(job)
    check("a second delta is learned on top", view["state"] == "done", view["error"] or view["report"]["stack"])
    check("it knows of the first", concept in view["report"]["stack"])
    check("an active LoRA was put back and comes off", same(ui.draw("a cat")[0], plain))


def stopping(check: Checks, ui: Webui) -> None:
    plain = ui.draw("a cat")[0]
    job = ui.forget("cat", steps=5000, closed_form=False)
    ui.until(job, "training")
    ui.call("/sdapi/v1/interrupt", {})
    begun = time.monotonic()
    view = ui.until(job, pause=0.05)
    seconds = time.monotonic() - begun
    check("the host's Interrupt stops it", view["state"] == "stopped" and seconds < STOPPED_IN, f"{seconds:.2f} s")
    kept = view.get("report", {}).get("stopped", "")
    check("and a marked delta is kept", kept.startswith("stopped at step"), kept)
    job = ui.forget("dog", steps=5000, closed_form=False)
    ui.until(job, "sampling", "choosing", "replay", "training")
    ui.call("/unlearn/stop", {"id": job, "keep": False})
    view = ui.until(job, pause=0.05)
    check("stop and discard leaves nothing", view["state"] == "stopped" and "file" not in view, view["error"])
    check("the model draws as before", same(ui.draw("a cat")[0], plain))


def mistakes(check: Checks, ui: Webui) -> None:
    for body, words in (({"concept": ""}, "empty"), ({"concept": "x", "steps": 0}, "steps"), ({"nonsense": 1}, "")):
        answer = ui.call("/unlearn/forget", body)
        check(f"{body} is one sentence", words in answer.get("error", "").lower() != "", answer.get("error"))


def reloading(check: Checks, ui: Webui) -> None:
    """Press the host's Reload UI and look for the tab again."""
    page = ui.call("/config")
    buttons = [c["id"] for c in page["components"] if c.get("props", {}).get("elem_id") == "settings_restart_gradio"]
    index = next(i for i, d in enumerate(page["dependencies"]) if {*map(first, d["targets"])} & set(buttons))
    ui.call("/run/predict", {"fn_index": index, "data": [], "session_hash": "check"}, timeout=60)
    time.sleep(5)
    deadline = time.monotonic() + 300
    while True:
        try:
            # Forge shows the page before it adds the API
            ui.call("/config", timeout=10)
            answer = ui.call("/unlearn/job/none", timeout=10)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
    tab_is_there(check, ui)
    check("its API answers", "no such job" in answer["error"])


def first(target: Any) -> Any:
    """A component's id: gradio 4 writes (id, event)."""
    return target[0] if isinstance(target, (list, tuple)) else target


def main() -> int:
    """Run all checks; the exit code."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("url")
    p.add_argument("--concept", default="banana")
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--pictures", type=int, default=16, help="for the classifier, of the target and of others")
    args = p.parse_args()
    sampler = {"steps": 8, "cfg_scale": 3, "sampler_name": "Euler", "seed": 1, "width": SIZE, "height": SIZE}
    check, ui = Checks(), Webui(args.url, **sampler)
    print(f"checkpoint: {ui.call('/sdapi/v1/options')['sd_model_checkpoint']}")
    check.run(tab_is_there, check, ui)
    check.run(mistakes, check, ui)
    view = check.run(forgetting, check, ui, args.concept, args.steps)
    if view and (tag := view.get("tag")):
        check.run(switching, check, ui, args.concept, tag)
        check.run(classified, check, ui, args.concept, tag, args.pictures)
        check.run(stacking, check, ui, args.concept, tag)
    check.run(stopping, check, ui)
    check.run(reloading, check, ui)
    print(f"{check.failed} failed" if check.failed else "all passed")
    return min(1, check.failed)


if __name__ == "__main__":
    sys.exit(main())
