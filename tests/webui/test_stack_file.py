"""The file of the stack: what hands, links and strangers have made of it loses no line and leads nowhere else."""

import json
import types

import pytest
import torch

from tests.webui.pack import ROOT, load

core, stack_file, services = load("unlearn_core"), load("extension.stack_file"), load("extension.service")
library, html = load("extension.delta_library"), load("extension.html")
Row, STATE = stack_file.Row, stack_file.STATE

DEMO = ROOT / "assets" / "demo" / "demo.safetensors"
ORDER = [Row("banana.safetensors", 0.5), Row("cat.safetensors", -1.0, on=False), Row("dog.safetensors", 2.0)]


@pytest.fixture
def service(tmp_path, monkeypatch):
    """Of a program without a model, with three deltas in its folder and on its stack; "begun" is any job."""
    folder = tmp_path / "loras"
    folder.mkdir()
    facts = dict.fromkeys(("folder", "pictures_folder", "checkpoints_folder"), lambda: folder)
    facts |= {"checkpoint_name": lambda: "demo", "base": lambda: None, "checkpoint": lambda: DEMO}
    made = services.Service(types.SimpleNamespace(**facts, term_lists=lambda: (), file_changed=lambda file: None))
    monkeypatch.setattr(made.jobs, "start", lambda *_: "begun")
    for row in ORDER:
        delta_in(folder / row.name)
    made.stack_file.set(tuple(ORDER))
    return made


def delta_in(file):
    """A delta as it may be made of anything."""
    info = core.DeltaInfo(file.stem, "object", "pear", "sd1", "epsilon", "0" * 16, check={"verdict": "not checked"})
    down = torch.ones(1, 2) * sum(map(ord, file.stem))
    factor = load("unlearn_core.delta.format").Factor(down, torch.ones(2, 1), 1.0)
    core.save(core.Delta({"lora_unet_x": factor}, info), file)


def written(service, stored):
    """The state file as somebody has written it."""
    text = stored if isinstance(stored, str) else json.dumps(stored)
    (service.program.folder() / STATE).write_text(text)


def plain(*rows):
    return [{"name": r.name, "strength": r.strength, "on": r.on} for r in rows]


def begin(service):
    """What may not start while a line cannot be used."""
    return (
        lambda: service.forget({"concept": "frog"}),
        lambda: service.candidates({"concept": "frog"}),
        lambda: service.preview("a", 0, 1, 1),
        lambda: service.bake(""),
        lambda: service.merge("", "exact", 8),
        lambda: load("extension.balancing").start_balancing(service, ""),
    )


def moved(service, name, place):
    """A file of the folder elsewhere, with a link in its place."""
    file = service.program.folder() / name
    place.parent.mkdir(exist_ok=True)
    file.rename(place)
    file.symlink_to(place, target_is_directory=place.is_dir())
    return file


# Links


def test_a_delta_on_another_disk_stays_on_the_stack_where_a_link_leads_to_it(service, tmp_path):
    link = moved(service, "banana.safetensors", tmp_path / "disk" / "other name.safetensors")
    assert list(service.stack_file.rows()) == ORDER
    assert service.stack().concepts() == ("banana", "dog") and service.stack().entries[0].delta.name == "banana"
    assert service.tags() == "<lora:banana:0.5> <lora:dog:2>"
    assert service.cards_of(ORDER).keys() == {c.name for c in service.cards()} == {r.name for r in ORDER}
    delta_in(service.program.folder() / "frog.safetensors")
    assert list(service.stack_file.put("frog.safetensors")) == [*ORDER, Row("frog.safetensors")]
    assert service.forget({"concept": "car"}) == "begun"
    # who deletes it takes the link away, and nothing on the other disk
    service.stack_file.delete("banana.safetensors")
    assert not link.is_symlink() and (tmp_path / "disk" / "other name.safetensors").is_file()
    assert [r.name for r in service.stack_file.rows()] == ["cat.safetensors", "dog.safetensors", "frog.safetensors"]


def test_a_folder_on_another_disk_is_followed_too(service, tmp_path):
    folder = service.program.folder()
    (folder / "sub").mkdir()
    delta_in(folder / "sub" / "frog.safetensors")
    rows = service.stack_file.put("sub/frog.safetensors")
    moved(service, "sub", tmp_path / "disk" / "frogs")
    assert service.stack_file.rows() == rows and "frog" in service.stack().concepts()
    assert service.cards_of(rows)["sub/frog.safetensors"].info.concepts == ("frog",)
    # the disk is not there for a while
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    assert service.stack_file.rows() == rows and "sub/frog.safetensors" not in service.cards_of(rows)
    with pytest.raises(core.BadDelta, match="There is no file"):
        service.forget({"concept": "car"})
    (tmp_path / "unplugged").rename(tmp_path / "disk")
    assert service.forget({"concept": "car"}) == "begun"


def test_a_link_that_leads_nowhere_is_a_line_that_stops_all_until_it_is_off(service, tmp_path):
    link = service.program.folder() / "banana.safetensors"
    link.unlink()
    for place in (tmp_path / "unplugged.safetensors", "banana.safetensors"):
        link.symlink_to(place)
        assert list(service.stack_file.rows()) == ORDER
        for one in begin(service):
            with pytest.raises(core.BadDelta, match="There is no file"):
                one()
        assert "cannot be read" in html.row(1, ORDER[0], service.cards_of(ORDER).get(ORDER[0].name), None)
        link.unlink()
    link.symlink_to(tmp_path / "unplugged.safetensors")
    service.stack_file.change("banana.safetensors", on=False)
    assert service.forget({"concept": "car"}) == "begun"
    service.stack_file.take_out("banana.safetensors")
    assert list(service.stack_file.rows()) == ORDER[1:]
    # a file that was deleted is off the stack
    (service.program.folder() / "cat.safetensors").unlink()
    assert list(service.stack_file.rows()) == ORDER[2:]


def test_one_file_under_two_names_does_not_act_twice(service):
    (service.program.folder() / "again.safetensors").symlink_to("dog.safetensors")
    service.stack_file.put("again.safetensors")
    with pytest.raises(core.BadDelta, match="already in the stack: it would act twice"):
        service.forget({"concept": "car"})
    service.stack_file.take_out("dog.safetensors")
    assert service.stack().concepts() == ("banana", "dog")


@pytest.mark.parametrize("place", ["banana.safetensors", "../disk/nothing.safetensors", "forget_car.safetensors"])
def test_a_new_delta_takes_no_name_that_a_link_has(service, place):
    folder = service.program.folder()
    (folder / "forget_car.safetensors").symlink_to(place)
    assert library.free_file(folder, "forget car").name == "forget_car_2.safetensors"


# Lines that cannot be used

NAMES = ["../x.safetensors", "sub/../../x.safetensors", "/x.safetensors", "C:x.safetensors", "\\\\host\\x.safetensors"]
NAMES += ["x.pt", "", "a\0.safetensors", f"{'x' * 300}.safetensors", "\ud83d.safetensors", "<b>.pt", "\u202ex.pt"]
WRONG = [{"name": name, "strength": 1.0, "on": True} for name in NAMES]
WRONG += [3, None, "x", [], {}, {"name": 3}, {"name": ["a"]}, {"name": None, "strength": 1.0, "on": True}]
VALUES = [{"strength": s, "on": True} for s in (5, 10**400, 1e308, "1", None, True, [1], {})]
VALUES += [{"strength": 0.5, "on": on} for on in ("false", 1, None, [])] + [{"on": True}, {"strength": 1.0}, {}]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda w: ascii(w)[:40])
def test_a_line_that_cannot_be_used_is_kept_and_told_and_the_rest_is_untouched(service, tmp_path, wrong):
    delta_in(tmp_path / "x.safetensors")
    outside = (tmp_path / "x.safetensors").read_bytes()
    written(service, [*plain(*ORDER[:2]), wrong, *plain(ORDER[2])])
    *_, bad, last = rows = service.stack_file.rows()
    assert [*rows[:2], last] == ORDER and bad.wrong.endswith("Set it right, switch it off or remove it.") and bad.acts
    assert service.cards_of(rows).keys() == {r.name for r in ORDER}
    assert service.tags() == "<lora:banana:0.5> <lora:dog:2>"
    shown = html.row(3, bad, None, None)
    assert html.escape(bad.wrong) in shown and "<b><b>" not in shown and shown.encode()
    (said,) = service.remarks()
    assert said.startswith("In the Stack tab '") and said.endswith(f"' cannot be used. {bad.wrong}")
    for one in begin(service):
        with pytest.raises(core.BadSetting, match="^In the Stack tab .* cannot be used"):
            one()
    # a job that has begun before puts its delta on top, and nothing is lost
    delta_in(service.program.folder() / "frog.safetensors")
    rows = service.stack_file.put("frog.safetensors")
    assert service.stack_file.rows() == rows and rows[:4] == (*ORDER[:2], bad, last)
    service.stack_file.move(bad.name, 1)
    service.stack_file.change("cat.safetensors", strength=0.25)
    assert [r.name for r in service.stack_file.rows()][1:4] == ["cat.safetensors", "dog.safetensors", bad.name]
    with pytest.raises(core.BadDelta):
        service.stack_file.delete(bad.name)
    service.stack_file.change(bad.name, on=False)
    assert service.forget({"concept": "car"}) == "begun"
    service.stack_file.take_out(bad.name)
    assert service.forget({"concept": "car"}) == "begun"
    assert (tmp_path / "x.safetensors").read_bytes() == outside
    assert {p.name for p in tmp_path.iterdir()} == {"loras", "x.safetensors"}


@pytest.mark.parametrize("values", VALUES, ids=lambda v: ascii(v)[:40])
def test_a_strength_or_switch_that_is_none_is_set_anew_in_its_line(service, values):
    written(service, [{"name": "banana.safetensors", **values}, *plain(*ORDER[1:])])
    first, *rest = service.stack_file.rows()
    assert rest == ORDER[1:] and first.name == "banana.safetensors" and first.wrong and first.acts
    for one in begin(service):
        with pytest.raises(core.BadSetting, match="'banana.safetensors' cannot be used"):
            one()
    # what is written meanwhile makes no value of it
    service.stack_file.move("dog.safetensors", -1)
    assert service.stack_file.rows()[0] == first
    for wrong in ({"strength": 5}, {"strength": None}, {"on": "no"}, {"on": None}):
        with pytest.raises(core.BadSetting):
            service.stack_file.change("banana.safetensors", **wrong)
    service.stack_file.change("banana.safetensors", strength=0.75)
    service.stack_file.change("banana.safetensors", on=True)
    assert service.stack_file.rows()[0] == Row("banana.safetensors", 0.75)
    assert service.forget({"concept": "car"}) == "begun"


# A file that is no stack


@pytest.mark.parametrize("state", ["", "[", "{}", "3", "null", '"x"', "[" * 9000, "[NaN]", "[" + " " * 2**16 + "]"])
def test_a_file_that_is_no_stack_is_a_line_and_is_not_written_over(service, state):
    written(service, state)
    (bad,) = service.stack_file.rows()
    assert bad.name == STATE and bad.acts and bad.wrong.startswith("The stack's file cannot be read: it")
    assert "Mend it, or remove its line" in html.row(1, bad, None, None) and service.tags() == ""
    for one in begin(service):
        with pytest.raises(core.BadSetting, match="'unlearn_stack.json' cannot be used. The stack's file"):
            one()
    stack = service.stack_file
    for change in (
        lambda: stack.put("dog.safetensors"),
        lambda: stack.change(STATE, on=False),
        lambda: stack.delete("dog.safetensors"),
    ):
        with pytest.raises(core.BadSetting, match="The stack's file unlearn_stack.json cannot be read"):
            change()
    report = {"stopped": "", "check": {"verdict": "forgotten, the rest preserved"}}
    said, acts = service.put_on_stack("dog.safetensors", report)
    assert said.startswith("The delta is saved but not on the stack. The stack's file") and not acts
    assert (service.program.folder() / STATE).read_text() == state
    assert (service.program.folder() / "dog.safetensors").is_file()
    assert service.stack_file.take_out(STATE) == service.stack_file.rows() == ()
    assert service.put_on_stack("dog.safetensors", report) == ("", True)


def test_no_file_is_an_empty_stack(service):
    (service.program.folder() / STATE).unlink()
    assert service.stack_file.rows() == () and service.forget({"concept": "car"}) == "begun"
    assert [r.name for r in service.stack_file.put("dog.safetensors")] == ["dog.safetensors"]
