"""ComfyUI's nodes: the extension that ComfyUI asks for."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .balance import BalanceStack
from .before_run import listen
from .cache_size import limit
from .demo import LoadDemoModel
from .forget import ForgetConcept
from .pictures import BeforeAfter
from .save import SaveDelta
from .settings import ForgetSettings
from .stack import ApplyUnlearning, LoadDelta, StackUnlearning


class Unlearning(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Their classes; from now on each workflow is seen before it is checked."""
        listen()
        limit()  # what is wrong with it is said at the start, not after the first run
        return [
            ForgetConcept,
            ForgetSettings,
            StackUnlearning,
            ApplyUnlearning,
            BalanceStack,
            LoadDelta,
            SaveDelta,
            BeforeAfter,
            LoadDemoModel,
        ]
