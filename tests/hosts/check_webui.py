"""Checks the Unlearn tab inside a running web UI, with the bundled demo checkpoint loaded there.

usage: python -m tests.hosts.check_webui --host FOLDER --python FILE [--option=--medvram] [--only NAME ...]
       python -m tests.hosts.check_webui URL

--host is an installed Automatic1111 or a relative of it, --python the interpreter of its environment: it is started on
the CPU with a data folder of its own (see `running_host.py`) and ended afterwards. A URL is a web UI that runs already,
with --api, this repository and `tests/hosts/probe` in extensions/, and `demo.safetensors`, `demo.yaml`,
`demo.words.json` and `tokenizer` of assets/demo in models/Stable-diffusion; the yaml's `version: tokenizer` must be
written as that folder's full path, and the LoRA folder's stack should be empty. Prints a line a check and exits with 1
when one of them failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.hosts import checkpoint_checks, forget_checks, page_checks
from tests.hosts.checks import Checks
from tests.hosts.forget_checks import Places
from tests.hosts.running_host import ROOT, RunningHost
from tests.hosts.webui_client import Webui

SIZE = 128
PICTURE = {"steps": 8, "cfg_scale": 3, "sampler_name": "Euler", "seed": 1, "width": SIZE, "height": SIZE}
FIRST, THEN = "banana", ("cat", "dog")
LOG = 3000
"""Characters of the web UI's own log that a failed run shows."""
QUIET_IN = 10.0
"""Seconds that install.py may take at a start of the host when nothing is missing."""


def parts(places: Places, data: Path | None) -> dict[str, Callable[[], object]]:
    """All groups of checks by name, in their order; some need what an earlier one has made."""
    made: dict = {}
    check = places.check

    def by_the_tab() -> None:
        made.update(check.run(forget_checks.by_the_tab, places, FIRST) or {})

    return {
        "page": lambda: check.run(page_checks.tab_is_there, places),
        "mistakes": lambda: check.run(page_checks.mistakes, places),
        "defaults": lambda: data and check.run(page_checks.defaults_are_not_frozen, places, data),
        "tab": by_the_tab,
        "tag": lambda: made and check.run(forget_checks.switching, places, FIRST, made["tag"]),
        "classifier": lambda: made and check.run(forget_checks.classified, places, [FIRST], made["tag"]),
        "same": lambda: made and check.run(forget_checks.as_on_the_command_line, places, FIRST, Path(made["path"])),
        "bake": lambda: made and check.run(checkpoint_checks.baking, places, FIRST),
        "list": lambda: check.run(forget_checks.a_list, places, THEN),
        "chosen": lambda: check.run(checkpoint_checks.the_chosen_one_learns, places),
        "stack": lambda: made and check.run(forget_checks.stacking, places, FIRST, made["tag"]),
        "stop": lambda: check.run(forget_checks.stopping, places),
        "foreign": lambda: check.run(page_checks.foreign_pages, places),
        "reload": lambda: check.run(page_checks.reloading, places),
    }


def installing(check: Checks, host: Path, python: Path) -> None:
    """The pack's install.py as the host calls it at each start, with nothing to add."""
    begun = time.monotonic()
    command, environment = [str(python), str(ROOT / "install.py")], {**os.environ, "PYTHONPATH": str(host)}
    done = subprocess.run(command, cwd=host, env=environment, capture_output=True, text=True, timeout=900)
    seconds, said = time.monotonic() - begun, done.stdout + done.stderr
    check("install.py is quick", done.returncode == 0 and seconds < QUIET_IN, f"{seconds:.1f} s")
    check("and says nothing", not said, said)


def has_peft(python: Path) -> bool:
    """Whether the environment can train."""
    code = "import importlib.util as u, sys; sys.exit(u.find_spec('peft') is None)"
    return subprocess.run([str(python), "-c", code]).returncode == 0


def arguments() -> argparse.Namespace:
    """The command's options."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("url", nargs="?", help="a web UI that runs already")
    p.add_argument("--host", type=Path, help="the folder of a web UI to start")
    p.add_argument("--python", type=Path, default=Path(sys.executable), help="the interpreter of its environment")
    p.add_argument("--option", action="append", default=[], help="one more option of the web UI, such as --medvram")
    p.add_argument("--only", nargs="+", default=[], help="names of the groups of checks to run")
    p.add_argument("--pictures", type=int, default=16, help="for the classifier, of the target and of others")
    return p.parse_args()


def main() -> int:
    """Run all checks; the exit code."""
    args, check = arguments(), Checks()
    with contextlib.ExitStack() as stack:
        data, url, trains = None, args.url, True
        if args.host:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unlearn_host_")))
            host, python = args.host.resolve(), args.python.absolute()
            trains = has_peft(python)
            if trains:
                check.run(installing, check, host, python)
            running = stack.enter_context(RunningHost(host, python, data, *args.option))
            url = running.address
            print(f"--   started in {running.seconds:.0f} s, {'with' if trains else 'without'} peft")
            check("nothing of ours is wrong in its log", "sd_unlearn_pack" not in running.log_text())
        places = Places(check, Webui(url, **PICTURE), args.pictures, trains)
        print(f"checkpoint: {places.ui.call('/sdapi/v1/options')['sd_model_checkpoint']}")
        for name, part in parts(places, data).items():
            if not args.only or name in args.only:
                part()
        if args.host and check.failed:
            print(f"--   the last that the web UI printed:\n{running.log_text()[-LOG:]}")
    print(f"{check.failed} failed" if check.failed else "all passed")
    return min(1, check.failed)


if __name__ == "__main__":
    sys.exit(main())
