"""A delta that harms too much: the tab saves nothing, leaves the stack as it was, and says why."""

from tests.webui.test_service import QUICK, core, service, services, wait  # noqa: F401


def test_what_harms_too_much_is_not_saved_and_the_reason_is_shown(service, monkeypatch):  # noqa: F811
    harmful = core.Result(None, {"stopped": ""}, (), None, None, "Nothing was handed on.")
    monkeypatch.setattr(services, "forget_or_go_on", lambda *_: harmful)
    view = wait(service.forget({**QUICK, "concept": "cat"}))
    assert (view.state, view.error) == ("failed", "Nothing was handed on.")
    assert not [*service.program.path.glob("*.safetensors")] and service.stack_file.rows() == ()
