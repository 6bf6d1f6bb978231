"""Forget Settings: everything about a request that most people can leave as it is."""

from __future__ import annotations

from comfy_api.latest import io

from ..unlearn_core.config import EDIT, TRAINING
from .schema import SettingsType, schema, setting_inputs


class ForgetSettings(io.ComfyNode):
    """Settings for Forget Concept, those of the edit first, then those that act only if it trains."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="UnlearnForgetSettings",
            display_name="Forget Settings",
            description="More settings for Forget Concept. Without this node it uses the values that you see here. "
            "Forget Concept trains only when the fast edit is not enough; settings marked 'only if it trains' change "
            "nothing otherwise.",
            inputs=setting_inputs(EDIT, TRAINING),
            outputs=[SettingsType.Output(display_name="settings", tooltip="Wire it into Forget Concept.")],
        )

    @classmethod
    def execute(cls, **values) -> io.NodeOutput:
        """Hand them on by name; Forget Concept checks them together with its own."""
        return io.NodeOutput(values)
