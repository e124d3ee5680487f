"""Who is admitted next, without a store."""

import random

from mlaas.kinds.workload.queue import PASSING, Amount, Entry, decide

GIB = 1 << 30
WHOLE = Amount(4, 16 * GIB, 1)
_count = 0


def entry(name: str, cpu: float = 1, memory: int = GIB, gpu: int = 0, **fields) -> Entry:
    global _count
    _count += 1
    return Entry(name, "p", name, name, Amount(cpu, memory, gpu), created=f"{_count:06}", **fields)


def admitted(entries: list[Entry], now: float = 0, **options) -> set[str]:
    return {uid for uid, verdict in decide(entries, WHOLE, now, **options).items() if verdict.admitted}


def test_the_oldest_of_equal_priority_goes_first():
    assert admitted([entry("a", 3), entry("b", 3), entry("c", 1)]) == {"a", "c"}


def test_priority_goes_before_age():
    assert admitted([entry("a", 3), entry("b", 3, priority=1)]) == {"b"}


def test_every_resource_counts():
    assert admitted([entry("a", 1, 10 * GIB), entry("b", 1, 10 * GIB)]) == {"a"}
    assert admitted([entry("a", gpu=1), entry("b", gpu=1)]) == {"a"}


def test_twenty_times_a_twentieth_is_one_core():
    entries = [entry(f"t{i}", 0.05, 1) for i in range(81)]
    assert len(admitted(entries)) == 80


def test_a_later_one_that_fits_passes_for_ten_minutes_only():
    holder, big, small = entry("holder", 2, admitted=True), entry("big", 4), entry("small", 1)
    verdicts = decide([holder, big, small], WHOLE, 1000.0)
    assert verdicts["small"].admitted
    assert verdicts["big"].passed == 1000.0
    big.passed = 1000.0
    assert admitted([holder, big, small], 1000.0 + PASSING - 1) == {"small"}
    verdicts = decide([holder, big, small], WHOLE, 1000.0 + PASSING)
    assert not verdicts["small"].admitted
    assert "'big', which has waited longest" in verdicts["small"].message


def test_nobody_passes_when_nothing_has_passed_yet_but_time_did():
    """The ten minutes begin with the first that passes, not with the wait."""
    holder, big, small = entry("holder", 2, admitted=True), entry("big", 4), entry("small", 1)
    assert admitted([holder, big, small], 1e9) == {"small"}


def test_suspended_ones_neither_wait_nor_block():
    verdicts = decide([entry("a", 4, suspended=True), entry("b", 4)], WHOLE, 0)
    assert set(verdicts) == {"b"}


def test_interactive_ones_run_beside_the_others_one_per_core():
    full = entry("full", 4, 16 * GIB, admitted=True)
    running = [entry(f"r{i}", interactive=True, admitted=True) for i in range(3)]
    waiting = [entry("x", interactive=True), entry("y", interactive=True)]
    verdicts = decide([full, *running, *waiting], WHOLE, 0)
    assert verdicts["x"].admitted
    assert not verdicts["y"].admitted
    assert verdicts["y"].message.startswith("position 1 among the interactive")


def test_the_reason_names_what_would_unblock():
    holders = [entry("one", 2, admitted=True), entry("two", 1, admitted=True), entry("three", 1, admitted=True)]
    verdict = decide([*holders, entry("waits", 3)], WHOLE, 0)["waits"]
    assert verdict.needed_to_end == ("one", "two")
    assert "starts when 'one', 'two' end" in verdict.message
    assert verdict.free.cpu == 0


def test_admission_off():
    verdict = decide([entry("a"), entry("b", interactive=True)], WHOLE, 0, admit=False)["b"]
    assert not verdict.admitted
    assert "MLAAS_ADMIT=0" in verdict.message


def test_only_the_first_are_explained_and_those_that_were_never_told():
    entries = [entry("holder", 4, admitted=True), *[entry(f"w{i:03}") for i in range(50)]]
    verdicts = decide(entries, WHOLE, 0, explained=10, unexplained={"w049"})
    assert sum(bool(verdict.message) for verdict in verdicts.values()) == 11
    assert verdicts["w049"].position == 50


def test_what_is_admitted_never_exceeds_the_machine():
    source = random.Random(1)
    for _ in range(200):
        entries = [
            entry(f"e{i}", source.choice([0.05, 0.5, 1, 2, 4]), source.randint(1, 8) * GIB, source.choice([0, 0, 1]))
            for i in range(source.randint(1, 30))
        ]
        total = Amount()
        for one in entries:
            if one.uid in admitted(entries):
                total = total + one.needs
        assert total.fits(WHOLE)


def test_a_project_beyond_its_quota_waits_without_blocking_others():
    mine = [entry("a", 1, admitted=True), entry("b", 2)]
    other = entry("c", 3)
    other.project = "q"
    verdicts = decide([*mine, other], WHOLE, 0, quotas={"p": Amount(2, 64 * GIB, 9)})
    assert verdicts["c"].admitted
    assert verdicts["b"].reason == "Quota"
    assert "needs 2 of cpu, 1 of 2 left; starts when others of 'p' end" in verdicts["b"].message
    never = decide([entry("d", 3)], WHOLE, 0, quotas={"p": Amount(2, 64 * GIB, 9)})["d"]
    assert "unless the quota is raised" in never.message
