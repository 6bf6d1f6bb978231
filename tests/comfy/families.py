"""Forgetting on tiny networks of ComfyUI's own classes: what is edited, and whether the MODEL stays as it was.

Runs inside ComfyUI: python boot.py COMFYUI_FOLDER families.py [NAME...] --cpu
Prints a line {name: what was seen} for each family, as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import comfy.options

HERE = Path(__file__).resolve().parent
WANTED = [a for a in sys.argv[1:] if not a.startswith("--")]
sys.argv = [sys.argv[0], *(a for a in sys.argv[1:] if a.startswith("--"))]
# behind ComfyUI's own folder, which has modules of the same names
sys.path.append(str(HERE))
comfy.options.enable_args_parsing()

import comfy.lora  # noqa: E402
import comfy.model_detection  # noqa: E402
import comfy.model_management  # noqa: E402
import torch  # noqa: E402
from families_cases import FAMILIES, REFUSED, built, small_parts  # noqa: E402
from our_pack import load_pack  # noqa: E402

QUICK = {"concept": "cat", "anchor": "dog", "quality": "quick", "force": True, "sampling_steps": 1}


class Broken(Exception):
    """Raised on purpose."""


class Trial:
    """One family: its MODEL and CLIP, quick requests, and what the MODEL is before and after."""

    def __init__(self, name: str, family):
        from the_pack.nodes.host import ComfyHostModel

        self._host_of = ComfyHostModel
        self.name, self.side = name, family.side
        self.model, self.clip = built(family)
        self.network = self.model.model.diffusion_model
        self.host = self.hosted(self.model)
        self.weights = {n: t.clone() for n, t in self.network.state_dict().items()}
        self.answer = self.draw(self.model)

    def hosted(self, model):
        """A host of a MODEL that knows few words."""
        host = self._host_of(model, self.clip, None, self.side)
        host.words_file = str(HERE / "few_words.json")
        return host

    def request(self, progress=lambda report: False, **more):
        """A quick request."""
        from the_pack.unlearn_core import ForgetConfig, Stack, forget, recipe
        from the_pack.unlearn_core.words.word_list import WordList

        small = {k: replace(r, listed_prompts=(1, 1), earlier_prompts=4) for k, r in recipe.SMALL.items()}
        general = WordList.load(str(HERE / "few_words.json"))
        return forget(self.host, ForgetConfig.from_flat({**QUICK, **more}), Stack(), progress, general, small)

    @torch.no_grad()
    def draw(self, model):
        """What a MODEL answers to two prompts of other lengths, and to one of them alone."""
        host = self.hosted(model)
        with host.session(host.stack):
            text, sigma = host.encode(["a photo of a cat on a table", "cat"]), host.sigmas[len(host.sigmas) // 2]
            x = torch.randn(1, *host.latent_shape, generator=torch.Generator().manual_seed(1)) * sigma
            both = host.denoise(torch.cat([x, x]), sigma.expand(2), text)
            alone = host.denoise(x, sigma.expand(1), host.encode(["cat"]))
        return both, alone

    def untouched(self) -> bool:
        """Whether weights, answers, hooks and gradients are those of the beginning."""
        # first, since it takes another MODEL's patches off the network
        answer = all(torch.equal(a, b) for a, b in zip(self.answer, self.draw(self.model), strict=True))
        now = self.network.state_dict()
        same = now.keys() == self.weights.keys() and all(torch.equal(t, now[n]) for n, t in self.weights.items())
        hooks = [m for m in self.network.modules() if m._forward_hooks or m._forward_pre_hooks]
        return same and answer and not hooks and not any(p.requires_grad for p in self.network.parameters())

    def stopped_by(self, error: type[Exception], run) -> bool:
        """Whether a request ends with an error and leaves the MODEL as it was."""
        try:
            run()
        except error:
            return self.untouched()
        return False


def broken_at(trial: Trial, call: int):
    """A request whose network fails at its call number `call`."""
    from the_pack.unlearn_core.method import text_search

    # the whole request counted its calls with the search for text layers, which is made once of each base
    text_search._KNOWN.clear()
    calls = iter(range(call))

    def fail(*_):
        if next(calls, None) is None:
            raise Broken

    hook = trial.network.register_forward_pre_hook(fail)
    try:
        trial.request()
    finally:
        hook.remove()


def counted(trial: Trial):
    """(result, events, calls of the network) of a whole request."""
    events, calls = [], []
    hook = trial.network.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        result = trial.request(lambda report: bool(events.append(1)))
    finally:
        hook.remove()
    return result, len(events), len(calls)


def cancelled_at(trial: Trial, event: int):
    """A request that is interrupted at its event number `event`."""
    events = iter(range(event))

    def interrupt(_):
        if next(events, None) is None:
            raise comfy.model_management.InterruptProcessingException
        return False

    trial.request(interrupt)


def detected(network) -> str:
    """The class that ComfyUI chooses for a file with these weights."""
    try:
        found = comfy.model_detection.model_config_from_unet(network.state_dict(), "")
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    return type(found).__name__


def forgotten(name: str) -> dict:
    """One quick request, and what it did to the MODEL."""
    from the_pack.nodes.model_stack import with_delta
    from the_pack.unlearn_core.delta import format as delta_file

    trial, numbers = Trial(name, FAMILIES[name]), random.Random(name)
    both, alone = trial.answer
    result, events, calls = counted(trial)
    seen = {"way": result.report["way"], "same": trial.untouched(), "detected": detected(trial.network)}
    keys = comfy.lora.model_lora_keys_unet(trial.model.model, {})
    matched = comfy.lora.load_lora(delta_file.tensors(result.delta), keys, log_missing=False)
    layers = trial.host.layers()
    changed = trial.draw(with_delta(trial.model, result.delta))
    return seen | {
        "layers": sorted(layers[n] for n in result.delta.factors),
        "matched": [len(matched), len(result.delta.factors)],
        "differs": all(not torch.equal(a, b) for a, b in zip(trial.answer, changed, strict=True)),
        "rows": float((both[1] - alone[0]).abs().max() / alone.abs().max()),
        "same without": trial.untouched(),
        "same interrupted": trial.stopped_by(
            comfy.model_management.InterruptProcessingException,
            lambda: cancelled_at(trial, numbers.randrange(events)),
        ),
        "same broken": trial.stopped_by(Broken, lambda: broken_at(trial, numbers.randrange(calls))),
        "preview": list(trial.host.rough(torch.zeros(2, *trial.host.latent_shape)).shape),
        "side": trial.side,
        "prediction": trial.host.prediction_type,
    }


def refused(name: str) -> dict:
    """What is said about a model that cannot be forgotten on."""
    from the_pack.unlearn_core import BadCheckpoint

    try:
        Trial(name, REFUSED[name])
    except BadCheckpoint as e:
        return {"refused": str(e)}
    return {"error": "it was taken"}


def main() -> None:
    """Each family that was asked for."""
    load_pack()
    small_parts()
    for name in WANTED or [*FAMILIES, *REFUSED]:
        started = time.monotonic()
        try:
            with torch.inference_mode(False):
                seen = forgotten(name) if name in FAMILIES else refused(name)
        except Exception as e:
            traceback.print_exc()
            seen = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps({"family": name, **seen, "seconds": round(time.monotonic() - started, 1)}), flush=True)


if __name__ == "__main__":
    main()
