"""A delta that harms too much: the tab saves nothing, leaves the stack as it was, and shows why."""

import torch

from tests.webui.pack import load
from tests.webui.test_service import QUICK, core, service, services, wait  # noqa: F401

html, api = load("extension.html"), load("extension.api")


REPORT = {
    **{"concept": "cat", "kind": "object", "anchor": "dog", "reason": "", "stack": [], "way": "closed form"},
    **{"stopped": "", "seconds": 1.0, "check": {"verdict": "forgotten, but all is harmed"}, "withheld": "It harms."},
}


def test_what_harms_too_much_is_not_saved_but_shown_with_the_reason(service, monkeypatch):  # noqa: F811
    drawn = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), float("nan"))
    harmful = core.Result(None, REPORT, ("a cat", "one cat"), *drawn, "It harms.")
    monkeypatch.setattr(services, "forget_or_go_on", lambda *_: harmful)
    view = wait(service.forget({**QUICK, "concept": "cat"}))
    assert (view.state, view.error) == ("failed", "It harms.")
    assert not [*service.program.path.glob("*.safetensors")] and service.stack_file.rows() == ()
    assert view.result.file is None and view.result.tag == ""
    page = html.outcome(view, True)
    assert "It harms." in page and page.count("<img") == 4 and "Saved as" not in page and "&lt;lora" not in page
    told = api.plain(view)
    assert told["file"] == told["path"] == told["tag"] == "" and told["report"]["withheld"] == "It harms."
