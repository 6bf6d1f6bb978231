"""Where the text of a prompt enters a model, for baselines that edit these layers."""

from __future__ import annotations

from torch import nn

from unlearn_core.host import HostModel
from unlearn_core.method.text_layers import reads_text
from unlearn_core.method.text_reader import TextReader, readers_of
from unlearn_core.method.text_search import find_text_groups


def text_readers(host: HostModel, backbone: nn.Module) -> tuple[TextReader, ...]:
    """Of cross-attention's keys and values; where there are none, of the layers that are found to read text alone."""
    named = [path for path in host.layers().values() if reads_text(path)]
    if named:
        return (TextReader(host, sorted(set(named))),)
    return readers_of(host, backbone, find_text_groups(host, backbone))
