"""What a foreign command can reach: its files, the roots, the system; never the platform."""

import os
import sys
from pathlib import Path

import pytest

from mlaas.engines.contract import ended, until, whole_log, workload
from mlaas.engines.local.engine import LocalEngine

pytestmark = pytest.mark.skipif(LocalEngine.confinement() is None, reason="this kernel has no Landlock")


async def script(engine: LocalEngine, command: str, **spec: object) -> str:
    """Output of a foreign shell command."""
    task = workload(command, **{"trusted": False, **spec})
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, ended)
    return (await whole_log(engine, task.meta.uid)).decode()


async def test_data_folder_cannot_be_opened(engine: LocalEngine, data: Path) -> None:
    for what in ("admin-token", "blobs/blob", ".", "work"):
        assert "Permission denied" in await script(engine, f"cat {data}/{what}; ls {data}/{what}")
    assert "denied" in await script(engine, f"echo 1 > {data}/cache/new")
    assert "mlaas_secret" not in await script(
        engine, f"cp {data}/admin-token . ; ln {data}/admin-token x; cat x admin-token"
    )


async def test_roots_and_working_folder_are_open(engine: LocalEngine, root: Path) -> None:
    (root / "given").write_text("given\n")
    output = await script(
        engine,
        f"cat {root}/given; echo new > {root}/new; mkdir a; echo 1 > a/b; mv a/b c; cat c; echo 2 > $TMPDIR/t && cat $TMPDIR/t",
    )
    assert output == "given\n1\n2\n"
    assert (root / "new").read_text() == "new\n"


async def test_elsewhere_is_closed(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    assert "denied" in await script(engine, f"cat {tmp_path}/outside")
    assert "denied" in await script(engine, "touch /tmp/by-a-script")
    assert "denied" in await script(engine, "touch /usr/by-a-script")


async def test_python_works(engine: LocalEngine) -> None:
    program = "import json, ssl, sqlite3, subprocess, tempfile, numpy; print(subprocess.check_output(['echo', 'fine']).decode())"
    assert "fine" in await script(engine, f'{sys.executable} -c "{program}"')


async def test_nothing_outside_can_be_signalled_or_read(engine: LocalEngine) -> None:
    output = await script(
        engine, f"kill -TERM {os.getpid()} || echo refused; cat /proc/{os.getpid()}/environ || echo closed"
    )
    assert "refused" in output
    assert "closed" in output
    assert "PATH" not in output


async def test_one_task_cannot_reach_another(engine: LocalEngine) -> None:
    victim = workload("sleep 600", trusted=False)
    await engine.ensure(victim, 1)
    seen = await until(engine, victim.meta.uid, lambda seen: seen.replicas[0].phase == "Running")
    pid = seen.replicas[0].pid
    output = await script(engine, f"kill -9 {pid} || echo refused; cat /proc/{pid}/environ || echo closed")
    assert "refused" in output
    assert "closed" in output


async def test_superuser_keeps_no_dangerous_capabilities(engine: LocalEngine) -> None:
    output = await script(engine, "grep -E 'Cap(Eff|Bnd)' /proc/self/status; grep NoNewPrivs /proc/self/status")
    for line in output.splitlines():
        name, value = line.split()
        if name.startswith("Cap"):
            assert int(value, 16) & (1 << 21 | 1 << 2 | 1 << 19 | 1 << 16) == 0, (
                line
            )  # SYS_ADMIN, DAC_READ_SEARCH, PTRACE, MODULE
        else:
            assert value == "1"


async def test_root_above_the_data_folder(tmp_path: Path) -> None:
    """A root may hold the data folder: all around it stays open, it does not."""
    root = tmp_path / "home"
    (root / "projects").mkdir(parents=True)
    (root / ".local" / "share" / "mlaas").mkdir(parents=True)
    (root / ".local" / "other").mkdir()
    data = root / ".local" / "share" / "mlaas"
    (data / "admin-token").write_text("mlaas_secret")
    engine = LocalEngine(data, "here", roots=[root])
    await engine.open()
    try:
        output = await script(
            engine,
            f"cd {root}; echo 1 > projects/a; echo 2 > .local/other/b; cat projects/a .local/other/b {data}/admin-token",
        )
    finally:
        await engine.close()
    assert output.startswith("1\n2\n")
    assert "mlaas_secret" not in output


async def test_the_files_folder_is_a_root(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "files").mkdir(parents=True)
    engine = LocalEngine(data, "here", roots=[data / "files"])
    await engine.open()
    try:
        output = await script(engine, f"echo mine > {data}/files/mine; cat {data}/files/mine; ls {data}")
    finally:
        await engine.close()
    assert output.startswith("mine\n")
    assert "denied" in output


async def test_environment_is_an_allow_list(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    monkeypatch.setenv("MY_PASSWORD", "s3cret")
    task = workload("env; pwd; cat $KUBEFLOW_TRAINER_SERVER_TOKEN", trusted=False)
    task.spec["roles"][0]["env"] = {"GREETING": "hello"}
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, ended)
    output = (await whole_log(engine, task.meta.uid)).decode()
    assert "s3cret" not in output
    names = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    assert names["GREETING"] == "hello"
    assert names["OMP_NUM_THREADS"] == "1"
    assert names["MLAAS_UID"] == task.meta.uid
    assert names["HOME"] == names["PWD"]
    assert names["CUDA_VISIBLE_DEVICES"] == ""
    assert "MLAAS_CREDENTIALS_FILE" not in names
    assert not any(name.startswith(("AWS_", "HF_")) for name in names)


async def test_inputs_cannot_lead_the_platform_elsewhere(engine: LocalEngine, root: Path, tmp_path: Path) -> None:
    """A link that a first attempt left in its folder is not followed when the second one's inputs are laid."""
    (root / "data.csv").write_text("text\n")
    outside = tmp_path / "outside"
    outside.mkdir()
    task = workload(
        f"ls inputs; rm -rf inputs; ln -s {outside} inputs; ln -s {outside}/task task.json; exit 1", trusted=False
    )
    task.spec["roles"][0]["mounts"] = [{"path": "inputs/data.csv", "uri": f"file://{root}/data.csv"}]
    for attempt in (1, 2):
        await engine.ensure(task, attempt)
        await until(engine, task.meta.uid, lambda seen, attempt=attempt: seen.attempt == attempt and ended(seen))
    assert await whole_log(engine, task.meta.uid) == b"data.csv\ndata.csv\n"
    assert list(outside.iterdir()) == []


async def test_result_of_a_script_is_not_trusted(engine: LocalEngine, data: Path) -> None:
    task = workload(f"ln -s {data}/admin-token result.json; ln -s {data}/blobs output", trusted=False)
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, ended)
    collected = await engine.collect(task.meta.uid, 1)
    assert (collected.result, collected.output) == (None, None)
