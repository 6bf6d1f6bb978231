"""The stack as several pages change it, what is said of its deltas, and what is refused before any work."""

import os
import threading
import types

import pytest
import torch

from tests.webui.pack import ROOT, load

core, stack_file, services = load("unlearn_core"), load("extension.stack_file"), load("extension.service")
html, sampled = load("extension.html"), load("unlearn_core.delta.base_sample")
Base = sampled.Base

DEMO = ROOT / "assets" / "demo" / "demo.safetensors"


@pytest.fixture
def service(tmp_path):
    """Of a program without a model."""
    facts = dict.fromkeys(("folder", "pictures_folder", "checkpoints_folder"), lambda: tmp_path)
    facts |= {"checkpoint_name": lambda: "demo", "base": lambda: None, "checkpoint": lambda: DEMO}
    facts["term_lists"] = lambda: ()
    return services.Service(types.SimpleNamespace(**facts))


def test_one_value_of_one_row_is_changed_and_the_rest_stays(service):
    for i in range(3):
        (service.program.folder() / f"d{i}.safetensors").touch()
    service.stack_file.set(tuple(stack_file.Row(f"d{i}.safetensors", on=False) for i in range(3)))
    service.stack_file.change("d0.safetensors", strength=0.5)
    service.stack_file.change("d0.safetensors", on=True)
    service.stack_file.change("d2.safetensors", strength=-1)
    assert [(r.strength, r.on) for r in service.stack_file.rows()] == [(0.5, True), (1.0, False), (-1.0, False)]
    service.stack_file.take_out("d1.safetensors")
    for values in ({"strength": 0.2}, {"on": True}):
        with pytest.raises(core.BadSetting, match="The stack was changed in another page"):
            service.stack_file.change("d1.safetensors", **values)
    for on in ("yes", None, 1):
        with pytest.raises(core.BadSetting, match="switched on or off"):
            service.stack_file.change("d0.safetensors", on=on)


def made_for(service, fingerprint, check, **facts):
    """A delta in the folder and on the stack, as if it had been made for a checkpoint of this fingerprint."""
    info = core.DeltaInfo("banana", "object", "pear", "sd1", "epsilon", fingerprint, check={"verdict": check}, **facts)
    factor = load("unlearn_core.delta.format").Factor(torch.ones(1, 2), torch.ones(2, 1), 1.0)
    core.save(core.Delta({"lora_unet_x": factor}, info), service.program.folder() / "banana.safetensors")
    service.stack_file.set((stack_file.Row("banana.safetensors"),))


def test_a_delta_of_another_checkpoint_is_refused_in_words_before_any_work(service, monkeypatch):
    made_for(service, "2f0cc83c00000000", "forgotten, the rest preserved")
    for known, refused in ((None, False), ("2f0cc83c00000000", False), ("ffffffffffffffff", True)):
        monkeypatch.setattr(service.program, "base", lambda known=known: known and Base(known))
        monkeypatch.setattr(service.jobs, "start", lambda *_: "begun")
        begin = (
            lambda: service.forget({"concept": "cat"}),
            lambda: service.preview("a", 0, 1, 1),
            lambda: service.bake(""),
        )
        for one in begin:
            if not refused:
                assert one() == "begun"
                continue
            with pytest.raises(core.BadSetting, match="made for another checkpoint than demo: choose that one") as e:
                one()
            assert "2f0cc83c" not in str(e.value)


def test_a_delta_that_comfyui_made_on_the_rounded_checkpoint_is_for_this_one(service, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    whole = {"attn2.to_q.weight": (torch.randn(64, 32, generator=draw) * 0.03).half()}
    rounded = Base.of({name: t.bfloat16() for name, t in whole.items()})
    made_for(service, rounded.fingerprint, "forgotten, the rest preserved", base_sample=rounded.sample.text())
    monkeypatch.setattr(service.jobs, "start", lambda *_: "begun")
    rows = service.stack_file.rows()
    card = service.cards_of(rows)["banana.safetensors"]
    finetuned = {name: (t.float() * 1.02).half() for name, t in whole.items()}
    for weights, fits in ((whole, True), (finetuned, False)):
        known = Base.of(weights)
        assert known.fingerprint != rounded.fingerprint
        monkeypatch.setattr(service.program, "base", lambda known=known: known)
        shown = html.row(1, rows[0], card, known)
        assert ("for this checkpoint" in shown, "for another checkpoint" in shown) == (fits, not fits)
        if fits:
            assert service.preview("a", 0, 1, 1) == "begun"
        else:
            with pytest.raises(core.BadSetting, match="made for another checkpoint"):
                service.preview("a", 0, 1, 1)


def test_a_file_in_the_folders_place_is_named_before_any_work(service, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for name in ("folder", "pictures_folder"):
        monkeypatch.setattr(service.program, name, lambda: tmp_path / "file")
    for begin in (lambda: service.forget({"concept": "cat"}), lambda: service.preview("a", 0, 1, 1)):
        with pytest.raises(core.BadSetting, match="move or rename that file"):
            begin()


@pytest.mark.parametrize(
    ("check", "facts", "words"),
    [
        ("forgotten, the rest preserved", {}, ""),
        ("not checked", {}, ""),
        ("not forgotten, the rest preserved", {}, "the model still generated the concept"),
        ("forgotten, the rest preserved", {"stopped": "stopped at step 3"}, "its run was stopped"),
    ],
)
def test_a_weak_delta_that_is_switched_on_is_named(service, check, facts, words):
    made_for(service, "2f0cc83c00000000", check, **facts)
    said = service.remarks()
    assert [words in line for line in said] == ([True] if words else [])
    card = service.cards()[0]
    assert load("extension.html").checked_well(card.info) == (check.startswith("forgotten") and not facts)
    service.stack_file.change("banana.safetensors", on=False)
    assert service.remarks() == []


@pytest.mark.parametrize("wrong", [None, ["a"], 3, {}])
def test_what_is_no_text_is_no_name_and_no_prompt(service, wrong):
    made_for(service, "2f0cc83c00000000", "not checked")
    for begin in (service.bake, lambda name: service.merge(name, "exact", 8)):
        with pytest.raises(core.BadSetting, match="Name: write it as text"):
            begin(wrong)
    for use in (service.stack_file.delta, service.stack_file.put, service.stack_file.delete):
        with pytest.raises(core.BadDelta, match="plain file name|ends in .safetensors"):
            use(wrong)
    with pytest.raises(core.BadSetting, match="Prompts: write it as text" if wrong else "at least one prompt"):
        service.preview(wrong, 0, 1, 1)


def test_a_page_that_is_loaded_again_has_what_was_asked_for(service, monkeypatch):
    monkeypatch.setattr(service.jobs, "start", lambda *_: "begun")
    with pytest.raises(core.BadSetting):
        service.forget({"concept": ""})
    assert service.forms == {}
    service.forget({"concept": "cat, dog", "keep": ["lion", "wolf"], "seed": 4}, "a cat\na dog")
    service.preview(" a cat \n\n a dog", 3, 2, 1.5)
    form = service.forms["forget"]
    asked = {"concept": "cat, dog", "keep": "lion, wolf", "seed": 4, "prompts": "a cat\na dog"}
    assert form.items() >= {**asked, "anchor": "", "quality": "normal", "rank": 8}.items()
    assert service.forms["preview"] == {"prompts": "a cat\na dog", "seed": 3, "steps": 2, "guidance": 1.5}


TEXTS = {"seed": "7", "force": "false", "rank": "16.0", "closed_form": "On", "guidance": " 2.5", "memory": 1}
READ = {"seed": 7, "force": False, "rank": 16, "closed_form": True, "guidance": 2.5, "memory": 1.0}


def test_a_form_is_filled_with_what_the_core_has_read_and_with_the_words_as_typed(service, monkeypatch):
    """The API takes texts for numbers and switches, and names of earlier versions; the fields of a page do not."""
    monkeypatch.setattr(service.jobs, "start", lambda *_: types.SimpleNamespace(id="1"))
    words = {"concept": "some Bananas, a cat", "anchor": "a Pear", "keep": ["the lion", "wolf"]}
    old = {"check": "no", "guard_weight": "0.5", "null_space": "yes"}
    assert load("extension.api").forget(service, {**words, **TEXTS, **old, "prompts": ["a cat", "a dog"]})[0] == 200
    form = service.wished()
    assert form.items() >= {**READ, "quality": "quick", "preservation_weight": 0.5}.items() and "check" not in form
    assert [form[name] for name in ("concept", "anchor", "keep")] == ["some Bananas, a cat", "a Pear", "the lion, wolf"]
    assert form["prompts"] == "a cat\na dog"
    for f in core.settings():
        assert type(form[f.name]) is (str if isinstance(f.default, tuple) else type(f.default)), f.name
    # what is refused leaves the form as it was
    for wrong in ({"seed": "x"}, {"force": "perhaps"}, {"seed": [1]}):
        assert load("extension.api").forget(service, {"concept": "dog", **wrong})[0] == 422
    assert service.wished() == form
    service.candidates({"concept": "dog", "anchor": 5, "keep": None, "seed": "8"})
    assert service.wished() == {**form, **service.forms["candidates"]} and service.wished()["seed"] == 8
    assert [service.wished()[name] for name in ("concept", "anchor", "keep")] == ["dog", "", ""]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("", "<lora:a:1> <lora:b c:0.5>"),
        (" a dog ", "a dog <lora:a:1> <lora:b c:0.5>"),
        ("a dog <lora:a:1>", "a dog <lora:a:1> <lora:b c:0.5>"),
        ("<lora:b c:1>, a dog <lora:a:0.3:0.2>, red", ", a dog, red <lora:a:1> <lora:b c:0.5>"),
        ("a dog <lora:abc:1>", "a dog <lora:abc:1> <lora:a:1> <lora:b c:0.5>"),
    ],
)
def test_a_prompt_names_each_delta_once(prompt, wanted):
    assert load("extension.results").with_tags(prompt, "<lora:a:1> <lora:b c:0.5>") == wanted


def test_what_could_be_drawn_is_offered_for_the_last_word_alone(service, monkeypatch):
    results, jobs = load("extension.results"), load("extension.jobs")
    found = results.CandidatesResult("cat", (("dog", ""), ("fox", "")))
    view = jobs.View("1", services.CANDIDATES, "", result=found)
    monkeypatch.setattr(service.jobs, "start", lambda *_: "begun")
    monkeypatch.setattr(service.jobs, "newest", lambda kind: types.SimpleNamespace(view=lambda: view))
    service.forget({"concept": "banana", "quality": "quick"}, "a banana")
    service.candidates({"concept": "cat", "quality": "quick"})
    assert service.offered() is found
    assert service.wished().items() >= {"concept": "cat", "quality": "quick", "prompts": "a banana"}.items()
    service.forget({"concept": "cat", "anchor": "dog"})
    assert service.offered() is found
    assert service.was_offered("dog") and not service.was_offered("truck")
    service.forget({"concept": "car"})
    assert service.offered() is None and not service.was_offered("dog") and service.wished()["concept"] == "car"


def test_a_truncated_file_does_not_break_the_list(service):
    made_for(service, "2f0cc83c00000000", "not checked")
    whole = (service.program.folder() / "banana.safetensors").read_bytes()
    for name, data in (("broken", b"\xff" * 40), ("short", whole[:-1])):
        (service.program.folder() / f"{name}.safetensors").write_bytes(data)
    assert [c.name for c in service.cards()] == ["banana.safetensors"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders")
def test_a_pipe_in_the_folder_is_not_waited_for(service):
    for name in ("x.safetensors", "d.safetensors", "d.preview.png"):
        os.mkfifo(service.program.folder() / name)
    assert service.cards() == []
    assert load("extension.delta_library").small_card(service.program.folder() / "d.safetensors") == ""
    assert load("extension.checkpoint_base").base_of(service.program.folder() / "x.safetensors") is None
    os.mkfifo(service.program.folder() / stack_file.STATE)
    assert [r.name for r in service.stack_file.rows()] == [stack_file.STATE]


def test_a_header_beyond_all_deltas_is_not_read(service, monkeypatch):
    with open(service.program.folder() / "x.safetensors", "wb") as file:
        file.write((2**23).to_bytes(8, "little"))
        file.truncate(2**23 + 8)
    monkeypatch.setattr(load("extension.delta_library"), "safe_open", lambda *_, **__: 1 / 0)
    assert service.cards() == []


def test_a_delta_at_another_strength_is_told_and_is_not_without_its_concept(service):
    made_for(service, "2f0cc83c00000000", "forgotten, the rest preserved")
    for strength, words in ((0.05, "does not forget it"), (-1, "does not forget it"), (2, "made and checked at 1")):
        service.stack_file.change("banana.safetensors", strength=strength)
        (said,) = service.remarks()
        assert words in said and f"strength {strength:g}" in said
    service.stack_file.change("banana.safetensors", strength=1)
    assert service.remarks() == []


def test_a_stack_with_too_little_room_says_how_much_there_is(service):
    for number in range(10):
        (service.program.folder() / f"{number}.safetensors").touch()
    service.stack_file.set(tuple(stack_file.Row(f"{n}.safetensors") for n in range(10)))
    service.stack_file.check_room(2)
    with pytest.raises(core.BadSetting, match="room for 2 more, and 3 are asked for"):
        service.stack_file.check_room(3)


def test_an_empty_number_is_called_empty(service):
    for values, words in (
        ({"concept": "cat", "seed": None}, "Seed: it is empty, write a whole number from 0 to 4294967295."),
        ({"concept": "cat", "guidance": ""}, "Guidance: it is empty, write a number from"),
    ):
        with pytest.raises(core.BadSetting, match=words):
            service.forget(values)
    with pytest.raises(core.BadSetting, match="Seed: it is empty. Write a number from 0 to 4294967295."):
        service.preview("a", None, 1, 1)
    with pytest.raises(core.BadSetting, match="Prompt 2 holds invisible control characters"):
        service.preview("a\nb\u202e", 0, 1, 1)


def test_of_a_list_that_was_stopped_the_rest_is_forgotten(service, monkeypatch):
    made_for(service, "2f0cc83c00000000", "forgotten, the rest preserved")
    begun = []
    monkeypatch.setattr(service.jobs, "start", lambda kind, title, work, notes=(): begun.append((title, notes)))
    service.forget({"concept": "banana, cat, dog"})
    ((title, notes),) = begun
    assert title == "Forgetting 'cat', 'dog'" and "'banana': on the stack already." in notes
    with pytest.raises(core.BadSetting, match="already forgotten 'banana'"):
        service.forget({"concept": "banana"})
    service.stack_file.change("banana.safetensors", strength=0.1)
    with pytest.raises(core.BadSetting, match="at strength 0.1"):
        service.forget({"concept": "banana, cat"})


def test_what_a_stop_has_left_of_a_list_is_named():
    results = load("extension.results")
    told = results.told_after([object()], "cat", core.Cancelled("x"), ["dog", "frog"])
    assert isinstance(told, core.Cancelled)
    assert str(told) == (
        "'cat' was not forgotten: you stopped. Not begun: 'dog', 'frog'. What came before it is saved, see below. "
        "Start makes the rest of the list."
    )
    failed = results.told_after([object()], "cat", core.UnlearnError("No room."), [])
    assert str(failed) == "'cat' was not forgotten: No room. What came before it is saved, see below."


def test_a_stop_is_only_advised_where_there_is_a_button_for_it(service):
    jobs = load("extension.jobs")
    for kind, words in (("candidates", "wait until it ends."), ("forget", "wait until it ends, or stop it.")):
        pool, go_on = jobs.Jobs(), threading.Event()
        pool.start(kind, "x", lambda job, go_on=go_on: go_on.wait(10))
        with pytest.raises(jobs.Busy) as busy:
            pool.start("preview", "y", lambda job: None)
        assert str(busy.value).endswith(words)
        go_on.set()
