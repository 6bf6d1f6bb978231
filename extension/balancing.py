"""Balancing the stack of a page: a job that makes one delta and puts it in place of those that are switched on."""

from __future__ import annotations

from dataclasses import dataclass

from ..unlearn_core.delta.outputs import TEXT_SIZE, check_room
from ..unlearn_core.method.balance import balance, check_possible
from .inputs import written
from .jobs import Job
from .service import Service, check_folder, concepts
from .stack_file import Row

BALANCE = "balance"


@dataclass(frozen=True)
class BalancedResult:
    """name: of the new file. remark: what was done. doubt: what has to be looked at, or ""."""

    name: str
    remark: str
    doubt: str


def start_balancing(service: Service, name: str) -> Job:
    """Start to balance what is switched on; its files stay, and leave the stack at the end. Raises `UnlearnError`.

    name: of the new file; "" for one after the concepts.
    """
    active = [r for r in service.stack_file.rows() if r.acts]
    named, stack = written(name, "Name"), service.stack_file.stack(tuple(active))
    check_possible(stack)
    service.check_checkpoint(stack)
    folder = service.program.folder()
    check_room([(folder, TEXT_SIZE + 2 * sum((folder / r.name).stat().st_size for r in active))])
    check_folder(folder)

    def work(job: Job) -> BalancedResult:
        with service.program.model(job) as host:
            job.begin()
            made = balance(host, stack, job.hear)
        file, _ = service.saved(made.delta, named or f"forget {concepts(stack)}")
        service.stack_file.put_in_place(active, Row(file.name))
        remark = f"{len(active)} deltas are balanced into one. They are off the stack, and their files stay."
        return BalancedResult(file.name, f"{remark} {made.change}", made.doubt)

    return service.jobs.start(BALANCE, f"Balancing {len(stack.concepts())} concepts", work)
