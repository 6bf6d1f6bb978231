"""`forget --resume` and `stack --retrain` as a person uses them: what was stopped goes on, what is finished stays."""

import errno
import json
import signal

import pytest

from tests.unit.test_cli import FORGET, QUICK, TRAINED, replaced
from unlearn_core import UnlearnError, load, saved_work
from unlearn_core.cli import progress_bar, unfinished
from unlearn_core.cli.main import main
from unlearn_core.cli.unfinished import only_run
from unlearn_core.demo.recognition import CHECKPOINT

LIST = [*FORGET, "--concept", "banana, frog", "--anchor", "cat", "--set", "steps=3", "--set", "batch=2"]


@pytest.fixture(autouse=True)
def tiny():
    with replaced():
        yield


class Killed(BaseException):
    """As a kill leaves it: no code of the product catches this."""


@pytest.fixture
def falling(monkeypatch):
    """Call it with what is to happen at the n-th report of a phase, once; gives the reports that will have come."""
    show = progress_bar.Bar.show

    def at(phase, count, what):
        seen = []

        def shown(self, report, *fraction):
            show(self, report, *fraction)
            if phase in (report.phase, "any"):
                seen.append(report)
                if len(seen) == count:
                    what()

        monkeypatch.setattr(progress_bar.Bar, "show", shown)
        return seen

    yield at


def killed():
    raise Killed


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def forget(out, *more):
    return main([*FORGET, "--concept", "banana", *TRAINED, "--out", str(out), *more])


@pytest.fixture
def whole(tmp_path):
    """The bytes of an unbroken run, of the same file name."""
    out = tmp_path / "unbroken" / "o.safetensors"
    assert forget(out) == 0
    return out.read_bytes()


def test_a_killed_run_goes_on_to_the_same_files(whole, falling, tmp_path, capsys):
    out, report, picture = (tmp_path / "new" / n for n in ("o.safetensors", "r.json", "p.png"))
    files = ["--report", str(report), "--preview", str(picture)]
    falling("training", 3, killed)
    with pytest.raises(Killed):
        forget(out, *files)
    assert (tmp_path / "new" / "o.unfinished").is_dir() and not out.exists()
    capsys.readouterr()
    assert forget(out, *files, "--resume") == 0
    assert "note: going on with the run that was stopped." in capsys.readouterr().err
    assert out.read_bytes() == whole and picture.exists() and json.loads(report.read_text())["stopped"] == ""
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["o.safetensors", "p.png", "r.json"]


def test_a_stopped_delta_is_not_in_the_way(whole, falling, tmp_path, capsys):
    out = tmp_path / "new" / "o.safetensors"
    falling("training", 3, ctrl_c)
    assert forget(out) == 130
    assert load(out).info.stopped.startswith("stopped at step")
    assert "Add --resume to the same command" in capsys.readouterr().out
    assert forget(out, "--resume") == 0 and out.read_bytes() == whole


def test_a_stop_before_anything_was_learned_says_how_to_go_on(whole, falling, tmp_path, capsys):
    out = tmp_path / "new" / "o.safetensors"
    falling("before", 2, ctrl_c)
    assert forget(out) == 130
    assert "Add --resume to the same command" in capsys.readouterr().err
    assert forget(out, "--resume") == 0 and out.read_bytes() == whole


def test_without_resume_it_begins_anew_and_says_what_is_kept(whole, falling, tmp_path, capsys):
    out = tmp_path / "new" / "o.safetensors"
    falling("training", 3, killed)
    with pytest.raises(Killed):
        forget(out)
    capsys.readouterr()
    assert forget(out) == 0 and out.read_bytes() == whole
    said = capsys.readouterr().err
    assert "o.unfinished: add --resume to go on with it" in said and "going on" not in said
    assert not (tmp_path / "new" / "o.unfinished").exists()


def test_nothing_to_go_on_with_is_said(whole, tmp_path, capsys):
    out = tmp_path / "new" / "o.safetensors"
    assert forget(out, "--resume") == 0 and out.read_bytes() == whole
    assert "nothing of this run is kept, it begins anew" in capsys.readouterr().err


def test_what_is_finished_is_left_as_it_is(whole, tmp_path, capsys):
    out = tmp_path / "unbroken" / "o.safetensors"
    changed = out.stat().st_mtime_ns
    assert forget(out, "--resume") == 0
    assert out.stat().st_mtime_ns == changed
    said = capsys.readouterr()
    assert "'banana' is finished already" in said.err and said.out.startswith("Next: put the delta")


def test_pictures_of_what_is_finished_are_drawn_then_and_a_report_is_said_not_to_be_written(tmp_path, capsys):
    out, report, *pictures = (tmp_path / n for n in ("o.safetensors", "r.json", "p.png", "q.png"))
    quick = [*FORGET, "--concept", "banana", "--anchor", "pear", *QUICK, "--out", str(out)]
    assert main([*quick, "--preview", str(pictures[0])]) == 0
    made = out.read_bytes()
    assert main([*quick, "--resume", "--preview", str(pictures[1]), "--report", str(report)]) == 0
    said = capsys.readouterr().err
    assert pictures[1].read_bytes() == pictures[0].read_bytes() and out.read_bytes() == made and not report.exists()
    assert f"note: its pictures are drawn now, in {pictures[1]}." in said
    assert f"note: {report} is not written, since only the run itself can report" in said and f"inspect {out}`" in said


def test_other_files_of_what_is_finished_are_left_as_they_are(whole, tmp_path, capsys):
    files = [tmp_path / "p.png", tmp_path / "r.json"]
    for file in files:
        file.write_text("mine")
    out = tmp_path / "unbroken" / "o.safetensors"
    assert forget(out, "--resume", "--preview", str(files[0]), "--report", str(files[1])) == 0
    said = capsys.readouterr().err
    assert all(f.read_text() == "mine" and f"{f} was there before and is left as it is." in said for f in files)


@pytest.mark.parametrize("other", [["--set", "seed=5"], ["--keep", "cat"]])
def test_a_delta_of_another_request_is_not_overwritten(other, whole, tmp_path, capsys):
    out = tmp_path / "unbroken" / "o.safetensors"
    assert forget(out, "--resume", *other) == 1
    assert "made by another request" in capsys.readouterr().err and out.read_bytes() == whole


def test_a_file_that_is_no_delta_is_not_overwritten(tmp_path, capsys):
    out = tmp_path / "o.safetensors"
    out.write_bytes(b"mine")
    assert forget(out, "--resume") == 1
    assert "is something else" in capsys.readouterr().err and out.read_bytes() == b"mine"


@pytest.mark.parametrize("share, ready", [(0.3, 0), (0.7, 1), (0.99, 1)])
def test_a_list_goes_on_from_the_one_that_was_under_way(share, ready, falling, tmp_path, capsys):
    whole, out = tmp_path / "whole" / "o.safetensors", tmp_path / "new" / "o.safetensors"
    names = ["o_banana.safetensors", "o_frog.safetensors"]
    seen = falling("any", 0, killed)
    assert main([*LIST, "--out", str(whole)]) == 0
    falling("any", int(share * len(seen)), killed)
    with pytest.raises(Killed):
        main([*LIST, "--out", str(out)])
    done = {f: f.stat().st_mtime_ns for f in out.parent.glob("*.safetensors")}
    assert len(done) == ready
    capsys.readouterr()
    assert main([*LIST, "--out", str(out), "--resume"]) == 0
    told = capsys.readouterr().out.splitlines()[-3:-1]
    assert [line.strip() for line in told] == [str(out.parent / n) for n in names]
    assert [f.name for f in sorted(out.parent.iterdir())] == names
    assert all((out.parent / n).read_bytes() == (whole.parent / n).read_bytes() for n in names)
    assert all(f.stat().st_mtime_ns == changed for f, changed in done.items())


def test_a_foreign_delta_at_a_later_place_is_said_before_the_work(tmp_path, capsys):
    out = tmp_path / "o.safetensors"
    assert main([*FORGET, "--concept", "apple", *QUICK, "--out", str(tmp_path / "o_frog.safetensors")]) == 0
    assert main([*LIST, "--out", str(out), "--resume"]) == 1
    assert "o_frog.safetensors is there already" in capsys.readouterr().err
    assert [f.name for f in tmp_path.iterdir()] == ["o_frog.safetensors"]


def test_other_files_that_were_not_written_yet_are_made_up_for(whole, tmp_path, monkeypatch):
    """Killed between the delta and its pictures."""
    out, picture = tmp_path / "new" / "o.safetensors", tmp_path / "new" / "p.png"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("unlearn_core.cli.forget.write_pictures", lambda *_: killed())
        forget(out, "--preview", str(picture))
    assert out.exists() and not picture.exists()
    assert forget(out, "--preview", str(picture), "--resume") == 0
    assert picture.exists() and out.read_bytes() == whole and not (out.parent / "o.unfinished").exists()


def stack_of_three(folder):
    files = []
    for concept, anchor in (("banana", "pear"), ("frog", "cat"), ("dog", "car")):
        out = folder / f"{concept}.safetensors"
        options = [o for f in files for o in ("--stack", str(f))]
        wish = ["--concept", concept, "--anchor", anchor, "--out", str(out), *options]
        assert main([*FORGET, *wish, "--set", "steps=3", "--set", "batch=2", "--set", "closed_form=no"]) == 0
        files.append(out)
    return [str(f) for f in files]


def test_retrain_goes_on_and_keeps_what_it_had_finished(falling, tmp_path, capsys):
    retrain = ["stack", *stack_of_three(tmp_path), "--without", "banana", "--retrain", "--checkpoint", str(CHECKPOINT)]
    whole, new = tmp_path / "whole", tmp_path / "new"
    assert main([*retrain, "--out", str(whole)]) == 0
    for phase, count, ready in (("training", 3, []), ("training", 8, ["frog.safetensors"])):
        falling(phase, count, killed)
        with pytest.raises(Killed):
            main([*retrain, "--out", str(new)])
        assert [f.name for f in new.glob("*.safetensors")] == ready
    falling("training", 2, ctrl_c)
    assert main([*retrain, "--out", str(new)]) == 130
    assert "The same command goes on." in capsys.readouterr().err
    falling("none", 1, killed)
    assert main([*retrain, "--out", str(new)]) == 0
    assert {f.name: f.read_bytes() for f in new.iterdir()} == {f.name: f.read_bytes() for f in whole.iterdir()}


def test_retrain_refuses_a_folder_that_holds_anothers_deltas(tmp_path, capsys):
    files = stack_of_three(tmp_path)
    retrain = ["stack", *files, "--without", "banana", "--retrain", "--checkpoint", str(CHECKPOINT)]
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    assert main([*retrain, "--out", str(tmp_path)]) == 1
    assert "frog.safetensors is there already" in capsys.readouterr().err
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before
    (tmp_path / "new").mkdir()
    with only_run(tmp_path / "new" / "frog.safetensors"):
        assert main([*retrain, "--out", str(tmp_path / "new")]) == 1
    assert "Another run is making 'frog.safetensors'" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


def test_a_delta_that_was_withheld_can_be_kept_without_making_it_anew(whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "o.safetensors"
    monkeypatch.setattr("unlearn_core.method.forget.too_harmful", lambda *_: "Nothing was handed on.")
    assert forget(out) == 1 and not out.exists()
    assert "add --force --resume" in capsys.readouterr().out
    assert forget(out, "--force", "--resume") == 0 and out.read_bytes() == whole
    assert "going on with the run" in capsys.readouterr().err and not (out.parent / "o.unfinished").exists()


def test_two_runs_at_once_do_not_make_one_delta(falling, tmp_path, capsys):
    """The second one is refused, whatever it wishes, and touches nothing of the first."""
    out, codes = tmp_path / "new" / "o.safetensors", []
    falling("training", 3, lambda: codes.append(forget(out, "--keep", "cat")))
    assert forget(out) == 0 and codes == [1]
    said = capsys.readouterr().err
    assert "Another run is making 'o.safetensors' at this moment: wait" in said and "a stopped run" not in said
    assert load(out).info.config["keep"] == [] and [f.name for f in out.parent.iterdir()] == ["o.safetensors"]


def test_where_nothing_can_be_locked_it_goes_on_without(tmp_path, monkeypatch):
    def no_locks(handle):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(unfinished, "lock", no_locks)
    assert forget(tmp_path / "o.safetensors") == 0
    (tmp_path / "p.unfinished").write_text("mine")
    assert forget(tmp_path / "p.safetensors") == 0 and (tmp_path / "p.unfinished").read_text() == "mine"


def test_a_run_that_fails_leaves_nothing_behind_but_what_was_there(falling, tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise UnlearnError("The model does not know it.")

    out = tmp_path / "o.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("unlearn_core.method.forget.attempted", failing)
        assert forget(out) == 1 and list(tmp_path.iterdir()) == []
    falling("training", 3, killed)
    with pytest.raises(Killed):
        forget(out)
    parts = sorted(tmp_path.rglob("*.part"))
    monkeypatch.setattr("unlearn_core.method.forget.attempted", failing)
    assert forget(out, "--keep", "cat") == 1 and sorted(tmp_path.rglob("*.part")) == parts
    assert forget(out, "--resume") == 1 and sorted(tmp_path.rglob("*.part")) == parts


@pytest.mark.parametrize("phase, count", [("before", 2), ("training", 3)])
def test_it_is_not_said_to_go_on_where_nothing_could_be_kept(phase, count, falling, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(saved_work, "RESERVE", 2**60)
    falling(phase, count, ctrl_c)
    assert forget(tmp_path / "o.safetensors") == 130
    said = "".join(capsys.readouterr())
    assert "Nothing of this run could be kept on the disk: make room" in said and "--resume" not in said


def test_a_line_break_in_a_name_is_not_in_the_way_of_a_list(tmp_path):
    assert main([*LIST, *QUICK, "--out", str(tmp_path / "a\nb.safetensors")]) == 0
    (parent,) = load(tmp_path / "a\nb_frog.safetensors").info.parents
    assert parent.name == load(tmp_path / "a\nb_banana.safetensors").name == "a b_banana"
    files = [str(tmp_path / f"a\nb_{name}.safetensors") for name in ("banana", "frog")]
    assert main(["stack", *files, "--out", str(tmp_path / "c\nd.safetensors")]) == 0


def test_a_demo_that_was_killed_while_it_counted_counts_when_it_goes_on(tmp_path, monkeypatch, capsys):
    demo = ["demo", "--out", str(tmp_path), "--set", "sampling_steps=2", "--anchor", "pear", *QUICK]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("unlearn_core.demo.recognition.measure", lambda *_: killed())
        main(demo)
    shares = {f"{what}_{when}": 0.5 for what in ("target", "others", "styles") for when in ("before", "after")}
    monkeypatch.setattr("unlearn_core.demo.recognition.measure", lambda *_: shares)
    assert main([*demo, "--resume"]) == 0
    assert json.loads((tmp_path / "forget-banana.json").read_text())["classifier"] == shares
    assert "Classifier:" in capsys.readouterr().out and not list(tmp_path.glob("*.unfinished"))
