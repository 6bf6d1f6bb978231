"""The clock on a newcomer's commands: when it stops, what counts as failed, and what becomes of its rows."""

import json
import sys

import pytest

from benchmarks.doc_results import first as table
from tests.install import first_steps as first
from unlearn_core.errors import BadSetting

PAGE = """
import sys, http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Page).serve_forever()
"""


def test_the_clock_stops_at_the_picture_and_not_at_the_end(tmp_path):
    program = "import time; open('p.png', 'w').close(); time.sleep(1.5); open('end', 'w').close()"
    seconds = first.until_end([sys.executable, "-c", program], tmp_path, tmp_path / "p.png")
    assert 0 < seconds < 1.5 and (tmp_path / "end").exists()
    assert first.until_end([sys.executable, "-c", "import time; time.sleep(0.3)"], tmp_path) >= 0.3


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "pass"])
def test_a_program_that_fails_or_makes_no_picture_is_no_time(tmp_path, program):
    with pytest.raises(BadSetting, match="did not end well"):
        first.until_end([sys.executable, "-c", program], tmp_path, tmp_path / "p.png")


def test_a_page_is_open_when_it_answers_and_closed_afterwards(tmp_path):
    assert first.until_open([sys.executable, "-c", PAGE], tmp_path) > 0
    with pytest.raises(BadSetting, match="opened no page"):
        first.until_open([sys.executable, "-c", "pass"], tmp_path)


def test_every_step_is_a_row_and_an_old_clone_is_refused(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(first, "until_end", lambda command, place, file=None: seen.append(command) or 2.04)
    monkeypatch.setattr(first, "until_open", lambda command, place: seen.append(command) or 1.0)
    monkeypatch.setattr(first, "in_comfyui", lambda: [{"what": "ComfyUI", "seconds": 7.5}])
    rows = first.measure(tmp_path / "a folder", True)
    assert [r["seconds"] for r in rows] == [2.0, 2.0, 2.0, 1.0, 1.0, 7.5] and rows[0]["command"] == "git clone"
    assert rows[1]["command"] == "python install.py demo --concept banana" and seen[1][0] != "python"
    first.record(rows, "abc1234", tmp_path / first.FILE)
    lines = table(json.loads((tmp_path / first.FILE).read_text()))
    assert lines[3] == "| first picture, packages installed | `python install.py demo --concept banana` | 2 | 1 |"
    (tmp_path / "a folder" / first.CLONED).mkdir(parents=True)
    with pytest.raises(BadSetting, match="there already"):
        first.measure(tmp_path / "a folder", False)


def test_the_command_says_what_is_missing(tmp_path, capsys):
    (tmp_path / first.CLONED).mkdir()
    assert first.main(["--out", str(tmp_path)]) == 1
    assert "there already" in capsys.readouterr().err
