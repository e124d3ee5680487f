"""Who is admitted next, as pure functions of who waits, who holds, and what the machine has.

The order is priority (higher first), then age. A workload that fits passes a blocked one that came before it, for at most
`PASSING` seconds from the first time that happened; then the blocked one reserves what becomes free and nobody passes.
Interactive workloads stand beside this: up to one per core, oldest first, whatever else runs.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

PASSING = 600.0
SLACK = 1e-6  # cores: sums of 0.05 are not exact


@dataclass(frozen=True, slots=True)
class Amount:
    """Cores, bytes, accelerators."""

    cpu: float = 0.0
    memory: int = 0
    gpu: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.cpu + other.cpu, self.memory + other.memory, self.gpu + other.gpu)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.cpu - other.cpu, self.memory - other.memory, self.gpu - other.gpu)

    def times(self, count: int) -> "Amount":
        return Amount(self.cpu * count, self.memory * count, self.gpu * count)

    def fits(self, free: "Amount") -> bool:
        return self.cpu <= free.cpu + SLACK and self.memory <= free.memory and self.gpu <= free.gpu

    def excess(self, whole: "Amount") -> list[str]:
        """Which of cpu, memory, gpu exceed `whole`."""
        over = {
            "cpu": self.cpu > whole.cpu + SLACK,
            "memory": self.memory > whole.memory,
            "gpu": self.gpu > whole.gpu,
        }
        return [name for name, exceeded in over.items() if exceeded]

    def __str__(self) -> str:
        parts = [f"{max(0.0, round(self.cpu, 3)):g} cpu", size(max(0, self.memory))]
        return ", ".join(parts + ([f"{self.gpu} gpu"] if self.gpu > 0 else []))

    def document(self) -> dict[str, float]:
        return {"cpu": round(self.cpu, 3), "memory": self.memory, "gpu": self.gpu}


def size(count: float) -> str:
    """Bytes in words: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{round(count, 1):g} {unit}"
        count /= 1024
    return f"{round(count, 1):g} TiB"


@dataclass(slots=True)
class Entry:
    """One workload that is not over. `title` is how its holder is called in messages; `since`, `passed` are epoch seconds."""

    uid: str
    project: str
    name: str
    title: str
    needs: Amount
    engine: str = ""
    priority: int = 0
    created: str = ""
    interactive: bool = False
    server: bool = False  # admitted at once, holds nothing: it takes what its requests make it take
    suspended: bool = False
    admitted: bool = False
    passed: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What admission says of a waiting workload. `position` counts from 1; no `message`: nobody asked for one."""

    admitted: bool
    reason: str
    message: str
    position: int = 0
    passed: float | None = None
    free: Amount = field(default_factory=Amount)
    holders: tuple[str, ...] = ()
    needed_to_end: tuple[str, ...] = ()


def order(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (-entry.priority, entry.created, entry.uid))


def decide(
    entries: Sequence[Entry],
    whole: Amount,
    now: float,
    *,
    admit: bool = True,
    explained: int = 10,
    unexplained: Container[str] = frozenset(),
    quotas: Mapping[str, Amount] | None = None,
) -> dict[str, Verdict]:
    """The verdict on each workload that waits, by uid. `entries` holds those that wait and those that are admitted.

    Reasons are spelled out for the first `explained` positions and for those in `unexplained`. `quotas` are the most that
    projects may hold; who is beyond waits without standing in the way of other projects.
    """
    verdicts: dict[str, Verdict] = {}
    for entry in entries:
        if entry.server and not entry.admitted and not entry.suspended:
            verdicts[entry.uid] = Verdict(
                True, "Server", "admitted at once: a server shares the machine with what runs"
            )
    entries = [entry for entry in entries if not entry.server]
    holding = [entry for entry in entries if entry.admitted]
    waiting = order(entry for entry in entries if not entry.admitted and not entry.suspended)
    if not admit:
        message = "This platform admits nothing now (MLAAS_ADMIT=0); what waits starts when it is started without that."
        for position, entry in enumerate(waiting, 1):
            verdicts[entry.uid] = Verdict(False, "AdmissionOff", f"position {position}: {message}", position)
        return verdicts
    _interactive([e for e in waiting if e.interactive], [e for e in holding if e.interactive], whole, verdicts)
    accounted = [entry for entry in holding if not entry.interactive]
    blocked = _accounted(
        [entry for entry in waiting if not entry.interactive], accounted, whole, now, quotas or {}, verdicts
    )
    _explain(blocked, explained, unexplained, verdicts)
    return verdicts


def _interactive(waiting: list[Entry], holding: list[Entry], whole: Amount, verdicts: dict[str, Verdict]) -> None:
    places = max(1, int(whole.cpu)) - len(holding)
    for index, entry in enumerate(waiting):
        if index < places:
            verdicts[entry.uid] = Verdict(True, "Interactive", "admitted at once: interactive")
            continue
        position = index - max(0, places) + 1
        holders = tuple(holder.title for holder in order(holding))
        message = (
            f"position {position} among the interactive: one runs per core, {max(1, int(whole.cpu))} in all; "
            f"running: {_names(holders)}; starts when {position} of these {'ends' if position == 1 else 'end'}"
        )
        verdicts[entry.uid] = Verdict(False, "InteractiveFull", message, position, None, Amount(), holders)


@dataclass(slots=True)
class _Blocked:
    """Those that wait for room, in order; who holds it, what is free, and who reserves what becomes free."""

    entries: list[Entry]
    holders: list[Entry]
    free: Amount
    reserved_by: Entry | None
    passed: dict[str, float | None]


def _accounted(
    waiting: list[Entry],
    holding: list[Entry],
    whole: Amount,
    now: float,
    quotas: Mapping[str, Amount],
    verdicts: dict[str, Verdict],
) -> _Blocked:
    free = whole
    left = dict(quotas)
    for entry in holding:
        free = free - entry.needs
        _take(left, entry)
    found = _Blocked([], [], free, None, {})
    admitted: list[Entry] = []
    for entry in waiting:
        if entry.project in left and not entry.needs.fits(left[entry.project]):
            verdicts[entry.uid] = _beyond_quota(entry, quotas[entry.project], left[entry.project])
            continue
        if found.reserved_by is None and entry.needs.fits(free):
            admitted.append(entry)
            free = free - entry.needs
            _take(left, entry)
            for earlier in found.entries:
                if found.passed[earlier.uid] is None:
                    found.passed[earlier.uid] = now
            verdicts[entry.uid] = Verdict(True, "Fits", f"admitted: {entry.needs} of {whole}")
            continue
        found.entries.append(entry)
        found.passed[entry.uid] = entry.passed
        if found.reserved_by is None and entry.passed is not None and now - entry.passed >= PASSING:
            found.reserved_by = entry
    found.free = free
    found.holders = order([*holding, *admitted])
    return found


def _take(left: dict[str, Amount], entry: Entry) -> None:
    if entry.project in left:
        left[entry.project] = left[entry.project] - entry.needs


def _beyond_quota(entry: Entry, quota: Amount, left: Amount) -> Verdict:
    what = entry.needs.excess(left)
    shown = ", ".join(
        f"{what_of(entry.needs, name)} of {name}, {what_of(left, name)} of {what_of(quota, name)} left" for name in what
    )
    never = entry.needs.excess(quota)
    unblock = "never starts unless the quota is raised" if never else f"starts when others of '{entry.project}' end"
    message = f"the quota of the project '{entry.project}' is used up: needs {shown}; {unblock}"
    return Verdict(False, "Quota", message, 0, None, left)


def what_of(amount: Amount, name: str) -> str:
    """One part of an amount in words."""
    value = max(0, getattr(amount, name))
    return size(value) if name == "memory" else f"{round(value, 3):g}"


def _explain(blocked: _Blocked, explained: int, unexplained: Container[str], verdicts: dict[str, Verdict]) -> None:
    for position, entry in enumerate(blocked.entries, 1):
        passed = blocked.passed[entry.uid]
        if position <= explained or entry.uid in unexplained:
            verdicts[entry.uid] = _waits(entry, position, blocked, passed)
        else:
            verdicts[entry.uid] = Verdict(False, "NoCapacity", "", position, passed)


def _waits(entry: Entry, position: int, blocked: _Blocked, passed: float | None) -> Verdict:
    free = blocked.free
    names = tuple(holder.title for holder in blocked.holders)
    needed = _needed_to_end(entry, blocked.holders, free)
    reserved_by = blocked.reserved_by
    reserved = reserved_by is not None and reserved_by is not entry and entry.needs.fits(free)
    if reserved and reserved_by is not None:
        unblock = f"starts after '{reserved_by.title}', which has waited longest and goes first"
    elif position > 1:
        unblock = f"starts after '{blocked.entries[0].title}', or sooner when it fits beside what runs"
    else:
        unblock = f"starts when {_names(needed)} {'ends' if len(needed) == 1 else 'end'}"
    message = f"position {position}: needs {entry.needs}; free {free}; held by {_names(names)}; {unblock}"
    reason = "Reserved" if reserved else "NoCapacity"
    return Verdict(False, reason, message, position, passed, free, names[:20], needed)


def _needed_to_end(entry: Entry, holders: list[Entry], free: Amount) -> tuple[str, ...]:
    """The longest-running holders that free enough together when they end."""
    names: list[str] = []
    for holder in sorted(holders, key=lambda holder: holder.created):
        if entry.needs.fits(free):
            break
        lacking = entry.needs.excess(free)
        if any(getattr(holder.needs, what) > 0 for what in lacking):
            free = free + holder.needs
            names.append(holder.title)
    return tuple(names)


def _names(names: Sequence[str], most: int = 3) -> str:
    if not names:
        return "nobody"
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
