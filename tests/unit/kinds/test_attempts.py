"""What the end of an attempt means."""

import pytest

from mlaas.kernel.workload import Collected, Exit, Observed, Replica, Role, WorkloadSpec
from mlaas.kinds.workload.attempts import all_ended, delay, gang_broken, judge, progress_mark, progress_of

SCRIPT = WorkloadSpec(roles=[Role(command=["x"])])
RECIPE = WorkloadSpec(roles=[Role(recipe="m", task_file={})])
PHASES = {"Completed": "Succeeded", "Lost": "Lost"}


def replica(reason: str, code: int | None = None, sign: int | None = None, index: int = 0, **more) -> Replica:
    ended = more.pop("ended", "2026-01-01T00:00:01Z")
    ending = Exit(1, code, sign, reason, f"in words: {reason}", "2026-01-01T00:00:00Z", ended, **more)
    return Replica("main", index, PHASES.get(reason, "Failed"), exit=ending)


@pytest.mark.parametrize(
    ("spec", "ended", "outcome"),
    [
        (SCRIPT, replica("Completed", 0), "success"),
        (SCRIPT, replica("Error", 1), "failure"),
        (RECIPE, replica("Error", 1), "final"),  # the same input fails again
        (RECIPE, replica("Error", 70), "failure"),
        (SCRIPT, replica("Error", 75), "interruption"),
        (SCRIPT, replica("Signal", sign=9), "interruption"),
        (SCRIPT, replica("OOMKilled", sign=9, oom=True), "failure"),
        (SCRIPT, replica("TimeLimit", sign=15, by_platform=True), "failure"),
        (SCRIPT, replica("Suspended", sign=15, by_platform=True), "interruption"),
        (RECIPE, replica("Suspended", 75, by_platform=True), "interruption"),
        (SCRIPT, replica("Lost", sign=9), "interruption"),
        (SCRIPT, replica("StartError", 127), "failure"),
    ],
)
def test_one_replica(spec, ended, outcome):
    assert judge(spec, [ended]).outcome == outcome


def test_a_gang_ends_as_the_one_that_went_first_by_itself():
    gang = [
        replica("Cancelled", sign=15, index=0, by_platform=True, ended="2026-01-01T00:00:00Z"),
        replica("Error", 4, index=1, ended="2026-01-01T00:00:05Z"),
        replica("Error", 5, index=2, ended="2026-01-01T00:00:09Z"),
    ]
    assert judge(SCRIPT, gang).code == 4


def test_a_gang_is_broken_when_one_is_gone_and_another_runs():
    runs = Replica("main", 1, "Running", 7)
    assert gang_broken([replica("Error", 1), runs])
    assert not gang_broken([replica("Completed", 0), runs])
    assert not all_ended([replica("Completed", 0), runs])
    assert not all_ended([])


def test_progress_takes_numbers_only_from_what_a_foreign_program_sends():
    report = {
        "progressPercentage": 12,
        "estimatedRemainingSeconds": 3,
        "metrics": [
            {"name": "loss", "value": "0.5"},
            {"name": "bad", "value": "much"},
            "odd",
            {"name": "current_step", "value": "8"},
        ],
    }
    assert progress_of(report) == {
        "percentage": 12,
        "remaining_seconds": 3,
        "metrics": {"loss": 0.5, "current_step": 8.0},
    }
    assert progress_mark(Observed("u", 1, [], report)) == [12.0, 8.0, 0.0]
    assert progress_mark(Observed("u", 1, []), Collected(None, None, 120.0)) == [0.0, 0.0, 120.0]
    assert progress_of({"metrics": "none"}) == {}


def test_back_off_doubles_to_a_limit():
    assert 1 <= delay("failure", 1) <= 1.2
    assert 4 <= delay("failure", 3) <= 4.8
    assert delay("failure", 1000) <= 360
    assert delay("interruption", 1000) <= 72
