"""ComfyUI's door. Nothing is imported before ComfyUI asks for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The extension with all nodes."""
    from .nodes import Unlearning

    return Unlearning()
