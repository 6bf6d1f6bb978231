"""Two concepts forgotten one after the other by the shipped workflow, counted on pictures of the stock sampler."""

import pytest
import torch

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.sources import NEWEST
from tests.comfy.workflows import node, of_kind, pictures, shipped, text_to_image
from unlearn_core.demo.classifier import OTHER, DemoClassifier
from unlearn_core.demo.recognition import FOLDER, STEPS, questions

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(2700),  # two whole runs and some 800 pictures
    pytest.mark.parametrize("comfy", [NEWEST], indirect=True),
]

TARGETS = ("banana", "ink")
ASKED = 64
"""Pictures of each forgotten concept; every other object has the demo's own twelve."""
LEFT = 0.02
"""Share of its pictures that a forgotten concept may still have."""
AT_ONCE = 32
"""Pictures in one batch of the sampler."""


def drawn(page, nodes, model, loader, captions):
    """One picture of each caption, every one from noise of its own, `[n, 3, H, W]`."""
    stock = text_to_image(nodes[loader], side=128, steps=STEPS)
    nodes = {**nodes, "no": node("CLIPTextEncode", clip=[loader, 1], text="")}
    batches = [captions[i : i + AT_ONCE] for i in range(0, len(captions), AT_ONCE)]
    for i, batch in enumerate(batches):
        links = {"model": model, "positive": [f"texts {i}", 0], "latent_image": [f"empty {i}", 0], "seed": i}
        nodes |= {
            f"texts {i}": node("ProbeTexts", clip=[loader, 1], captions="\n".join(batch)),
            f"empty {i}": node("EmptyLatentImage", width=128, height=128, batch_size=len(batch)),
            f"latents {i}": node("KSampler", **stock["sample"]["inputs"] | links),
            f"pictures {i}": node("VAEDecode", samples=[f"latents {i}", 0], vae=[loader, 2]),
            f"shown {i}": node("PreviewImage", images=[f"pictures {i}", 0]),
        }
    run = page.run(nodes)
    return torch.cat([pictures(page, run, f"shown {i}") for i in range(len(batches))])


def rate(hits):
    return sum(hits) / len(hits)


def test_two_requests_in_a_row_are_gone_and_the_rest_is_kept(page):
    nodes = shipped("Forget three concepts", page.object_info())
    (loader,) = of_kind(nodes, "UnlearnLoadDemoModel")
    chain = {nodes[k]["inputs"]["concept"]: k for k in of_kind(nodes, "UnlearnForgetConcept")}
    second = chain[TARGETS[1]]
    assert nodes[second]["inputs"]["model"] == [chain[TARGETS[0]], 0]
    nodes = {k: nodes[k] for k in (loader, *(chain[c] for c in TARGETS))}

    about = [questions(c)[0][:ASKED] for c in TARGETS]
    rest = [q for q in questions(TARGETS[1])[1] if q.obj != TARGETS[0]]
    captions = [q.caption for q in (*about[0], *about[1], *rest)]
    classifier = DemoClassifier.load(FOLDER / "classifier.safetensors")
    before, after = (
        classifier.recognise(drawn(page, used, [model, 0], loader, captions) * 2 - 1)
        for used, model in (({loader: nodes[loader]}, loader), (nodes, second))
    )
    left = [
        [rate([c in answer for answer in seen[i * ASKED : (i + 1) * ASKED]]) for i, c in enumerate(TARGETS)]
        for seen in (before, after)
    ]
    kept = [seen[len(TARGETS) * ASKED :] for seen in (before, after)]
    objects, styles = (
        [[a[part] == getattr(q, name) for a, q in zip(seen, rest, strict=True)] for seen in kept]
        for part, name in ((0, "obj"), (1, "style"))
    )
    broken = [sum(OTHER in a for a in seen) for seen in kept]
    print(f"before, after: {TARGETS} {left}, {len(rest)} others: objects {list(map(rate, objects))},", end=" ")
    print(f"styles {list(map(rate, styles))}, broken {broken}")
    assert min(left[0]) >= 0.97 and max(left[1]) <= LEFT
    for name, hits in (("obj", objects), ("style", styles)):
        assert rate(hits[1]) >= 0.98 * rate(hits[0])
        for concept in {getattr(q, name) for q in rest}:
            share = [rate([h for h, q in zip(part, rest, strict=True) if getattr(q, name) == concept]) for part in hits]
            print(f"{concept} {share[0]:.3f} -> {share[1]:.3f}", end="; ")
            assert share[1] >= 0.9 * share[0], concept
    assert broken[1] <= broken[0]
