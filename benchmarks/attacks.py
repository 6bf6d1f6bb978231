"""Ways to get a forgotten concept back: a word that is learned for it, and training on other things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from unlearn_core.host import Conditioning
from unlearn_core.method.learned_word import Learning
from unlearn_core.method.training import losses
from unlearn_core.sampling import LatentBank, direction
from unlearn_core.standalone.model import StandaloneModel

from .baselines.descent import Descent, fresh_noise, levels, rows

SPARE = "~"
"""One token that no prompt of the benchmark uses: the place of the learned word."""
WORD_STEPS, WORD_RATE = 200, 2e-2
TUNED_STEPS, TUNED_RATE = 200, 1e-4
BATCH = 8


@contextmanager
def word(host: StandaloneModel, vector: Tensor) -> Iterator[None]:
    """The token vector `[d]` in the place of `SPARE`'s, for the length of a block."""
    encoder = host.encoders[0]
    spare = encoder.tokens([SPARE])[0, 1].to(vector.device)
    table = encoder.model.get_input_embeddings()

    def replaced(_: torch.nn.Module, ids: tuple[Tensor], vectors: Tensor) -> Tensor:
        return torch.where((ids[0] == spare)[..., None], vector.to(vectors), vectors)

    hook = table.register_forward_hook(replaced)
    try:
        yield
    finally:
        hook.remove()


def read(host: StandaloneModel, prompts: Sequence[str]) -> Conditioning:
    """`host.encode` with gradients, and without its memory, which knows nothing of a word's vector."""
    encoder = host.encoders[0]
    with host.companions_precision():
        return Conditioning(encoder.model(encoder.tokens(prompts).to(host.device)).last_hidden_state.float())


def learned_word(host: StandaloneModel, bank: LatentBank, prompts: Sequence[str], begin: str, seed: int) -> Tensor:
    """Textual inversion (Gal et al. 2022) against the host as it is now, the token vector `[d]`.

    Under it the host explains pictures best, E || d(z_s; s, prompt) - (x - z) / s ||^2.

    bank: the base model's pictures of the concept, one a prompt. prompts: with `SPARE` in the concept's place. begin:
    the word whose vector is the start.
    """
    encoder = host.encoders[0]
    table = encoder.model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(seed)

    def losses(vector: Tensor) -> Iterator[Tensor]:
        which = rows(len(prompts), BATCH, generator)
        with word(host, vector):
            named = read(host, [prompts[i] for i in which.tolist()])
        yield explained(host, bank, which, named, generator)

    learning = Learning(table[encoder.tokens([begin])[0, 1]], losses, WORD_RATE)
    for _ in range(WORD_STEPS):
        learning.step()
    return learning.vector.detach()


def explained(
    host: StandaloneModel, bank: LatentBank, which: Tensor, named: Conditioning, generator: torch.Generator
) -> Tensor:
    """The ordinary training loss of a diffusion model on pictures of the bank."""
    latents, sigma = bank.pick(which, generator), levels(host, len(which), generator)
    x = host.noised(latents, sigma, fresh_noise(host, len(which), generator))
    truth = (x - latents) / sigma.view(-1, 1, 1, 1)
    return losses.squared_distance(direction(host, x, sigma, named), truth).mean()


@contextmanager
def tuned(host: StandaloneModel, bank: LatentBank, seed: int) -> Iterator[None]:
    """The host after ordinary fine-tuning of its whole UNet on a bank of other pictures; as before at the end."""
    parameters = list(host.backbone.parameters())
    before = [p.detach().clone() for p in parameters]

    def loss(generator: torch.Generator) -> Tensor:
        which = rows(len(bank), BATCH, generator)
        return explained(host, bank, which, bank.conditioning[which], generator)

    try:
        host.backbone.requires_grad_(True)
        Descent(TUNED_STEPS, TUNED_RATE, seed).run(parameters, loss)
        host.backbone.requires_grad_(False)
        yield
    finally:
        host.backbone.requires_grad_(False)
        with torch.no_grad():
            for p, values in zip(parameters, before, strict=True):
                p.copy_(values)
