"""One target and whether the measured figure meets it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target: what was asked for, what was measured, whether it is met (None: it could not be judged), and why not."""

    target: str
    limit: float
    measured: float | None
    unit: str
    at_least: bool = False
    spoiled: str = ""

    @property
    def met(self) -> bool | None:
        """False also when errors spoiled the figure; None when there is none."""
        if self.spoiled:
            return False
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit
