"""A script's life on the real store, loop and local engine."""

import asyncio
import os
import signal

import pytest

from mlaas.kernel.errors import Conflict, Exists, Invalid, NotFound, Unavailable
from mlaas.kernel.resource import Meta, Resource, condition
from mlaas.kinds.task import commands

from .conftest import running


def runs(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


async def test_a_script_runs_to_its_end(platform):
    await platform.script("hello", "echo hello world")
    task = await platform.until("hello", "Succeeded")
    assert await platform.log("hello") == b"hello world\n"
    assert task.status["attempts"] == 1
    stamps = task.status["timestamps"]
    assert stamps["submitted"] <= stamps["started"] <= stamps["ended"]
    assert {"Admitted", "Started", "Succeeded"} <= set(await platform.events("hello"))
    [replica] = task.status["replicas"]
    assert replica["exit"]["code"] == 0


async def test_a_failure_is_told_and_not_retried_unless_asked(platform):
    await platform.script("fails", "echo broken >&2; exit 3")
    task = await platform.until("fails", "Failed")
    assert task.status["attempts"] == 1
    assert "3" in task.status["error"]["message"]
    assert "log" in task.status["error"]["hint"]


async def test_a_failure_within_the_budget_is_retried(platform):
    await platform.script("flaky", 'test "$MLAAS_ATTEMPT" = 2 && echo second', retries=1)
    task = await platform.until("flaky", "Succeeded")
    assert task.status["attempts"] == 2
    outcomes = [entry["outcome"] for entry in task.status["attempt_history"]]
    assert outcomes == ["failure", "success"]
    assert condition(task.status, "Retrying")["status"] == "False"


async def test_retries_end(platform):
    await platform.script("hopeless", "exit 9", retries=1)
    task = await platform.until("hopeless", "Failed")
    assert task.status["attempts"] == 2
    assert "1 retry did not help" in task.status["error"]["message"]


@pytest.mark.parametrize(
    ("saves", "phase", "attempts"),
    [("step-$MLAAS_ATTEMPT", "Succeeded", 6), ("step-1", "Failed", 3)],
    ids=["goes on", "stands still"],
)
async def test_a_new_checkpoint_is_progress_also_without_a_report(platform, monkeypatch, saves, phase, attempts):
    monkeypatch.setattr("mlaas.kinds.workload.reconcile.MOST_INTERRUPTIONS", 2)
    code = f"mkdir -p checkpoints/{saves}; test $MLAAS_ATTEMPT = 6 || kill -9 $$"
    await platform.script("saves", code)
    task = await platform.until("saves", phase)
    assert task.status["attempts"] == attempts
    if phase == "Failed":
        assert "interrupted 3 times without progress" in task.status["error"]["message"]


async def test_a_foreign_kill_is_an_interruption_outside_the_retries(platform):
    await platform.script("killed", 'test "$MLAAS_ATTEMPT" = 2 || exec sleep 60')
    task = await platform.until("killed", lambda t: t.phase == "Running" and t.status["replicas"][0].get("pid"))
    os.kill(task.status["replicas"][0]["pid"], signal.SIGKILL)
    task = await platform.until("killed", "Succeeded")
    assert [entry["outcome"] for entry in task.status["attempt_history"]] == ["interruption", "success"]


async def test_exit_75_asks_for_another_attempt(platform):
    await platform.script("temp", 'test "$MLAAS_ATTEMPT" = 3 || exit 75')
    task = await platform.until("temp", "Succeeded")
    assert task.status["attempts"] == 3


async def test_cancelled_means_that_nothing_runs_any_more(platform):
    await platform.script("long", "exec sleep 60")
    pid = (await platform.until("long", "Running")).status["replicas"][0]["pid"]
    await commands.cancel(platform.context, "default", "long")
    task = await platform.until("long", "Cancelled")
    assert not runs(pid)
    assert task.status["attempts"] == 1
    assert (await platform.workload("long")).phase == "Cancelled"


async def test_cancel_of_one_that_waits_and_of_one_that_ended(platform):
    await platform.script("holder", "exec sleep 60", resources={"cpu": 2})
    await platform.until("holder", "Running")
    await platform.script("waits", "true", resources={"cpu": 1})
    await platform.until("waits", "Queued")
    await commands.cancel(platform.context, "default", "waits")
    assert (await platform.until("waits", "Cancelled")).status["attempts"] == 0
    await commands.cancel(platform.context, "default", "holder")
    await platform.until("holder", "Cancelled")
    await platform.script("quick", "true")
    await platform.until("quick", "Succeeded")
    with pytest.raises(Conflict):
        await commands.cancel(platform.context, "default", "quick")


async def test_suspend_gives_the_room_to_others_and_resume_goes_on(platform):
    await platform.script("first", 'test "$MLAAS_ATTEMPT" = 2 || exec sleep 60', resources={"cpu": 2})
    await platform.until("first", "Running")
    await platform.script("second", "true", resources={"cpu": 2})
    await platform.change("first", lambda task: task.spec.update(suspend=True))
    await platform.until("second", "Succeeded")
    task = await platform.get("first")
    assert task.phase == "Queued"
    assert condition(task.status, "Suspended")["status"] == "True"
    await platform.change("first", lambda task: task.spec.update(suspend=False))
    task = await platform.until("first", "Succeeded")
    assert task.status["attempts"] == 2
    assert condition(task.status, "Suspended")["status"] == "False"


async def test_one_that_is_created_suspended_waits_for_its_resume(platform):
    await platform.script("later", "true", suspend=True)
    await platform.until("later", lambda task: condition(task.status, "Suspended"))
    assert (await platform.get("later")).status["attempts"] == 0
    await platform.change("later", lambda task: task.spec.update(suspend=False))
    await platform.until("later", "Succeeded")


async def test_what_waits_says_why_and_starts_when_there_is_room(platform):
    await platform.script("holder", "exec sleep 60", resources={"cpu": 2})
    await platform.until("holder", "Running")
    await platform.script("waits", "true", resources={"cpu": 1})
    task = await platform.until("waits", lambda t: condition(t.status, "Admitted"))
    message = condition(task.status, "Admitted")["message"]
    assert "position 1" in message
    assert "needs 1 cpu, 1 GiB" in message
    assert "free 0 cpu, 3 GiB" in message
    assert "held by 'holder'" in message
    assert "starts when 'holder' ends" in message
    admission = (await platform.workload("waits")).status["admission"]
    assert admission["unblocked_by"] == ["holder"]
    await commands.cancel(platform.context, "default", "holder")
    task = await platform.until("waits", "Succeeded")
    assert condition(task.status, "Admitted")["status"] == "True"


async def test_priority_decides_who_is_next(platform):
    await platform.script("holder", "exec sleep 60", resources={"cpu": 2})
    await platform.until("holder", "Running")
    for name, priority in (("low", 0), ("high", 10), ("risen", 0)):
        await platform.script(name, "date +%s%N > $HOME/../when; true", resources={"cpu": 2}, priority=priority)
        await platform.until(name, "Queued")
    await platform.change("risen", lambda task: task.spec.update(priority=20))
    await platform.until("risen", lambda t: "position 1" in (condition(t.status, "Admitted") or {}).get("message", ""))
    await commands.cancel(platform.context, "default", "holder")
    ended = [
        (await platform.until(name, "Succeeded")).status["timestamps"]["started"] for name in ("risen", "high", "low")
    ]
    assert ended == sorted(ended)


async def test_more_than_the_machine_is_refused_at_once(platform):
    with pytest.raises(Invalid) as caught:
        await platform.script("huge", "true", resources={"cpu": 64})
    assert caught.value.field == "spec.resources.cpu"
    with pytest.raises(Invalid) as caught:
        await platform.script("huge", "true", resources={"memory": "1Ti"})
    assert caught.value.field == "spec.resources.memory"


async def test_delete_ends_it_and_frees_its_name(platform):
    await platform.script("again", "exec sleep 60")
    task = await platform.until("again", "Running")
    pid = task.status["replicas"][0]["pid"]
    await platform.context.database.delete("task", "default", "again")
    with pytest.raises(Exists):
        await platform.script("again", "true")
    await platform.gone("again")
    assert not runs(pid)
    fresh = await platform.script("again", "true")
    assert fresh.meta.uid != task.meta.uid
    await platform.until("again", "Succeeded")


async def test_an_ended_task_goes_after_its_time(platform):
    await platform.script("brief", "true", ttl_after_finished=0.1)
    await platform.gone("brief")


async def test_a_time_limit_ends_an_attempt(platform):
    await platform.script("slow", "exec sleep 60", time_limit=0.3)
    task = await platform.until("slow", "Failed")
    assert task.status["error"]["code"] == "time-limit"


async def test_a_command_that_is_not_there_fails(platform):
    await platform.submit("absent", {"recipe": "script", "command": ["no-such-program"]})
    task = await platform.until("absent", "Failed")
    assert "no-such-program" in task.status["error"]["message"]


async def test_the_output_is_kept_and_another_reads_it(platform):
    await platform.script("makes", "mkdir -p output/deep && echo fruit > output/deep/file")
    made = await platform.until("makes", "Succeeded")
    assert made.status["output"]["uri"] == f"blobs:{made.status['output']['hash']}"
    await platform.script("takes", "cat inputs/it/deep/file", inputs={"it": {"path": "task:makes"}})
    taken = await platform.until("takes", "Succeeded")
    assert await platform.log("takes") == b"fruit\n"
    assert taken.status["resolved"]["inputs.it"] == made.status["output"]


async def test_outputs_that_are_not_there_are_refused(platform):
    with pytest.raises(NotFound) as caught:
        await platform.script("takes", "true", inputs={"it": {"path": "task:nobody"}})
    assert caught.value.field == "spec.inputs.it.path"
    await platform.script("empty", "true")
    await platform.until("empty", "Succeeded")
    with pytest.raises(Invalid, match="left no output"):
        await platform.script("takes", "true", inputs={"it": {"path": "task:empty"}})
    await platform.script("long", "exec sleep 60")
    await platform.until("long", "Running")
    with pytest.raises(Conflict, match="is still Running"):
        await platform.script("takes", "true", inputs={"it": {"path": "task:long"}})


async def test_progress_and_metrics_of_a_foreign_script(platform):
    report = (
        'curl -sf -H "Authorization: Bearer $(cat $KUBEFLOW_TRAINER_SERVER_TOKEN)" -d '
        """'{"trainerStatus": {"progressPercentage": 40, "estimatedRemainingSeconds": 6, "metrics": """
        """[{"name": "loss", "value": "0.5"}, {"name": "current_step", "value": "7"}]}}' $KUBEFLOW_TRAINER_SERVER_URL"""
    )
    await platform.script("reports", f"{report}; until test -e go; do sleep 0.05; done")
    task = await platform.until("reports", lambda t: t.status.get("progress"))
    assert task.status["progress"]["percentage"] == 40
    assert task.status["progress"]["metrics"]["loss"] == 0.5
    points = await platform.context.database.points(task.meta.uid)
    assert [(point.metric, point.step, point.value) for _, point in points] == [("loss", 7, 0.5)]
    await commands.cancel(platform.context, "default", "reports")
    await platform.until("reports", "Cancelled")


async def test_nothing_is_admitted_when_the_platform_says_so(tmp_path, root):
    async with running(tmp_path / "data", root, admit=False) as platform:
        await platform.script("never", "true")
        task = await platform.until("never", lambda t: condition(t.status, "Admitted"))
        assert "MLAAS_ADMIT=0" in condition(task.status, "Admitted")["message"]
        assert task.phase == "Queued"


async def test_a_task_goes_on_while_the_platform_is_away(tmp_path, root):
    async with running(tmp_path / "data", root, stop=False) as platform:
        await platform.script("stays", "until test -e go; do sleep 0.02; done; echo done")
        task = await platform.until("stays", "Running")
        workload = await platform.workload("stays")
    cwd = tmp_path / "data" / "work" / workload.meta.uid / "main-0" / "cwd"
    await asyncio.to_thread((cwd / "go").touch)
    async with running(tmp_path / "data", root) as platform:
        task = await platform.until("stays", "Succeeded")
        assert task.status["attempts"] == 1
        assert await platform.log("stays") == b"done\n"


async def test_many_tasks_one_core(platform):
    for number in range(20):
        await platform.script(f"t{number}", f"echo {number}", resources={"cpu": 0.5, "memory": "64Mi"})
    for number in range(20):
        task = await platform.until(f"t{number}", "Succeeded", 60)
        assert task.status["attempts"] == 1
        assert await platform.log(f"t{number}") == f"{number}\n".encode()


async def test_a_projects_quota_holds(platform):
    quota = Resource("project", Meta("default"), {"quota": {"cpu": 0.5}})
    await platform.context.database.create(quota)
    await platform.script("first", "exec sleep 60", resources={"cpu": 0.5})
    await platform.until("first", "Running")
    await platform.script("second", "true", resources={"cpu": 0.5})
    task = await platform.until("second", lambda t: condition(t.status, "Admitted"))
    assert condition(task.status, "Admitted")["reason"] == "Quota"
    await commands.cancel(platform.context, "default", "first")
    await platform.until("second", "Succeeded")


async def test_a_wait_whose_words_change_is_not_written_over_and_over(platform):
    """Each write of a task wakes its reconciler; the failures of a store that is away may each read a little different."""

    class Away:
        asked = 0

        def resolve(self, *_args, **_options):
            self.asked += 1
            raise Unavailable(f"S3 does not answer: tried for {self.asked} ms.", hint="Check AWS_ENDPOINT_URL.")

    away = platform.context.resolver = Away()
    model = {"path": "s3://bucket/model", "storage_type": "s3"}
    await platform.submit("waits", {"recipe": "predict", "model": model, "predict_input": {"input_text": ["a"]}})
    task = await platform.until("waits", lambda t: condition(t.status, "Resolved"))
    found = condition(task.status, "Resolved")
    assert (found["status"], found["reason"]) == ("False", "Unavailable")
    assert "S3 does not answer" in found["message"]
    assert "AWS_ENDPOINT_URL" in found["message"]
    version, asked = task.meta.version, away.asked
    await asyncio.sleep(1)  # the time in which a livelock would have asked a hundred times
    assert (await platform.get("waits")).meta.version == version
    assert away.asked <= asked + 2
