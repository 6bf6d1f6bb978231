"""ComfyUI's nodes: the extension that ComfyUI asks for."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .demo import LoadDemoModel
from .forget import ForgetConcept
from .pictures import BeforeAfter
from .settings import ForgetSettings
from .stack import ApplyUnlearning, LoadDelta, SaveDelta, StackUnlearning


class Unlearning(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Their classes."""
        return [
            ForgetConcept,
            ForgetSettings,
            StackUnlearning,
            ApplyUnlearning,
            LoadDelta,
            SaveDelta,
            BeforeAfter,
            LoadDemoModel,
        ]
