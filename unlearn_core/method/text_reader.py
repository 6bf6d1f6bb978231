"""What a group of layers reads of prompts: the encoded prompt itself, or what the denoiser makes of it on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..host import Conditioning, HostModel, counted
from ..sampling import noise
from .text_search import TextGroup


@dataclass(frozen=True)
class Tokens:
    """values: vectors `[prompts, n, d]`, zeros behind a prompt's last one. counts: how many each prompt has."""

    values: Tensor
    counts: tuple[int, ...]


class Found(Exception):  # noqa: N818 - not an error: the pass has done what it was for
    """Ends a pass at the layer that was asked."""


class TextReader:
    """Reads prompts as the text encoder gives them, which some layers read as they are.

    paths: of these layers, which may be none. pooled: whether a prompt is one vector.
    """

    pooled = False

    def __init__(self, host: HostModel, paths: Sequence[str] = ()):
        self.host, self.paths = host, tuple(paths)

    def read(self, prompts: Sequence[str]) -> Tokens:
        """The vectors of some prompts."""
        text = self.host.encode(prompts)
        return Tokens(text.tokens, tuple(counted(text).tolist()))


class LayerReader(TextReader):
    """Reads prompts as layers inside the denoiser do. Inside the host's session; without gradient."""

    def __init__(self, host: HostModel, backbone: nn.Module, group: TextGroup):
        super().__init__(host, group.paths)
        self.pooled = group.pooled
        self._layer = backbone.get_submodule(group.paths[0])

    @torch.no_grad()
    def read(self, prompts: Sequence[str]) -> Tokens:
        """The vectors of some prompts, by passes that end at the layer."""
        rows: dict[int, Tensor] = {}
        for numbers, part in self.host.encode(prompts).by_length():
            done = 0
            while done < len(part):
                # a host splits what its memory does not hold, and the first piece ends the pass
                passed = self._passed(part[done:])
                rows |= dict(zip(numbers[done:], passed, strict=False))
                done += len(passed)
        found = [without_zeros(rows[number]) for number in range(len(prompts))]
        return Tokens(nn.utils.rnn.pad_sequence(found, batch_first=True), tuple(map(len, found)))

    def _passed(self, text: Conditioning) -> Tensor:
        """What the layer reads of the first prompts of one length, `[rows, n, d]`, by a pass that ends there."""
        host, seen = self.host, []

        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0].detach().float().clone())
            raise Found

        hook = self._layer.register_forward_pre_hook(note)
        try:
            sigma = host.sigmas[len(host.sigmas) // 2].expand(len(text))
            start = noise((len(text), *host.latent_shape), 0, host.device)
            host.denoise(host.noised(torch.zeros_like(start), sigma, start), sigma, text)
        except Found:
            pass
        finally:
            hook.remove()
        if len(seen[0]) == 1 and len(text) > 1:
            # the rest was split off, or stands behind the first one's tokens in one row, as PixArt reads prompts
            return self._passed(text[:1])
        return seen[0].flatten(1, -2) if seen[0].dim() > 2 else seen[0][:, None]


def without_zeros(tokens: Tensor) -> Tensor:
    """A prompt's vectors `[n, d]` up to the last that is not zero: some networks fill prompts up themselves."""
    told = tokens.any(-1).nonzero()
    return tokens[: max(1, int(told[-1]) + 1 if len(told) else 1)]


def readers_of(host: HostModel, backbone: nn.Module, groups: Sequence[TextGroup]) -> tuple[TextReader, ...]:
    """What each group reads of prompts."""
    return tuple(TextReader(host, g.paths) if g.direct else LayerReader(host, backbone, g) for g in groups)
