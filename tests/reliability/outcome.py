"""What a measurement found, as it is kept and shown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """name: of the measurement. tried: how many cases. failed: [{"case", "wrong"}]. counted: other numbers by name."""

    name: str
    tried: int
    failed: list[dict] = field(default_factory=list)
    counted: dict[str, float] = field(default_factory=dict)

    def note(self, case: str, wrong: list[str]) -> None:
        """Keep a case in which something was wrong."""
        if wrong:
            self.failed.append({"case": case, "wrong": wrong})

    def count(self, what: str, yes: bool) -> None:
        """Count the cases in which something was so."""
        self.counted[what] = self.counted.get(what, 0) + bool(yes)

    @property
    def passed(self) -> int:
        """Cases in which nothing was wrong."""
        return self.tried - len(self.failed)

    def to_json(self) -> dict:
        """Plain values."""
        return {"tried": self.tried, "passed": self.passed, "counted": self.counted, "failed": self.failed}
