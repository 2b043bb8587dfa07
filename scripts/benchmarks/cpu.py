"""CPU time from /proc: of one process, of everything we started, of everybody else.

Resolution is a scheduler tick (10 ms), so measure seconds, not requests.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from scripts.stack.process import descendants

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_CPUS: Final = os.cpu_count() or 1
_KTHREADD: Final = 2  # parent of the kernel's threads, which also write our pages to disk


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far; 0 when it is gone."""
    return _seconds(pid, children=False)


def resident_mb(pid: int) -> float:
    """Memory in RAM now, in 10^6 bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds since some start: wall clock, CPU of all programs, CPU of ours."""

    wall: float
    everybody: float
    ours: float

    @classmethod
    def now(cls) -> Self:
        """Ours are this process, its descendants and the children they have waited for."""
        mine = os.getpid()
        ours = sum(_seconds(pid, children=True) for pid in (mine, *descendants(mine)))
        kernel = sum(_seconds(pid, children=False) for pid in descendants(_KTHREADD))
        return cls(time.monotonic(), _busy_s(), ours + kernel)

    def others_since(self, then: "Moment") -> float:
        """The share of the machine that others used between `then` and this moment, 0 to 1."""
        others = (self.everybody - then.everybody) - (self.ours - then.ours)
        return max(0.0, others / ((self.wall - then.wall) * _CPUS))


def _busy_s() -> float:
    # user, nice, system and, at 7, what the hypervisor took; interrupts are nobody's.
    fields = [int(word) for word in Path("/proc/stat").read_text().split(maxsplit=11)[1:11]]
    return (sum(fields[:3]) + fields[7]) * _TICK_S


def _seconds(pid: int, *, children: bool) -> float:
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(word) for word in fields[11 : 15 if children else 13]) * _TICK_S
    return 0.0
