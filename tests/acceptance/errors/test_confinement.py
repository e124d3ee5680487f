"""What a foreign script may not reach, on a real platform that holds secrets."""

import threading

import pytest
from tests.platform import Platform

from mlaas.engines.local.engine import LocalEngine

pytestmark = pytest.mark.skipif(LocalEngine.confinement() is None, reason="this kernel has no Landlock")
SECRET = "xs3cretx"


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    secrets = {"AWS_SECRET_ACCESS_KEY": SECRET, "HF_TOKEN": SECRET, "DATABASE_PASSWORD": SECRET}
    with Platform(tmp_path_factory.mktemp("platform"), MLAAS_WARM="0", **secrets) as running:
        yield running


def test_nothing_of_the_data_folder_can_be_read(asked, platform):
    data = platform.data
    log = asked.script(
        f"for f in admin-token mlaas.db mlaas.db-wal lock current.json blobs work cache .; do cat {data}/$f; ls {data}/$f; done;"
        f"ln -s {data}/admin-token a; cat a; ln {data}/admin-token b; cat b; cp {data}/mlaas.db .; ls -A"
    )
    assert platform.token not in log
    assert "SQLite" not in log
    assert log.count("denied") >= 10, log


def test_nothing_of_the_platform_can_be_read_or_signalled(asked, platform):
    pid = platform.pid
    log = asked.script(
        f"cat /proc/{pid}/environ; ls /proc/{pid}/fd/; ls /proc/{pid}/root/; ls -l /proc/{pid}/cwd;"
        f"for s in 0 TERM KILL STOP; do kill -$s {pid} && echo hit; done;"
        f"for s in TERM KILL; do kill -$s -{pid} && echo hit; done;"
        "cat /proc/$PPID/environ; kill -STOP $PPID && echo hit; env; true"
    )
    assert SECRET not in log
    assert platform.token not in log
    assert "hit" not in log, log
    assert asked.request("GET", "/readyz").status_code == 200


def test_nothing_of_another_task_can_be_read_or_written(asked, platform):
    answer = asked.request(
        "POST",
        "/api/v1/tasks",
        json={"name": "victim", "script": {"command": ["sh", "-c", "echo mine > own; sleep 300"]}},
    ).json()
    own = platform.data / "work"
    asked.script("true")
    found = [path for path in own.rglob("own") if path.parent.name == "cwd"]
    while not found:
        found = [path for path in own.rglob("own") if path.parent.name == "cwd"]
    log = asked.script(
        f"cat {found[0]}; echo theirs > {found[0]} && echo hit; ls {found[0].parent}; ls {own}; ls ../.."
    )
    assert "mine" not in log
    assert "hit" not in log
    assert found[0].read_text() == "mine\n"
    asked.request("DELETE", f"/api/v1/tasks/{answer['task_id']}")


def test_the_platforms_port_is_no_way_in_without_a_token(asked, platform):
    log = asked.script(f"curl -s {platform.url}/api/v1/projects/default/tasks; curl -s {platform.url}/metrics")
    assert "unauthenticated" in log
    assert "mlaas_" not in log


@pytest.mark.parametrize(
    "code",
    [
        "mkdir -p output; ln -s {data}/admin-token output/token",
        "mkdir -p output; ln -s {data}/admin-token output/token; ln -s / output/all",
        "rm -rf output; ln -s {data} output",
        "rm -rf output; ln -s {data}/admin-token output",
        "mkdir -p output; ln -s ../../../../admin-token output/token",
        "mkdir -p output; mkfifo output/pipe",
        "ln -s {data}/admin-token result.json",
        "mkfifo result.json",
        "mkfifo task.json.new; rm -rf output; mkfifo output",
    ],
)
def test_links_in_the_output_are_never_followed(asked, platform, code):
    answer = asked.ended({"script": {"command": ["sh", "-c", code.format(data=platform.data)]}})
    assert platform.token not in str(answer)
    for blob in (platform.data / "blobs").rglob("*"):
        if blob.is_file():
            assert platform.token.encode() not in blob.read_bytes()
    if answer["task_status"] == "failed":
        assert answer["error"]["code"] != "internal", answer["error"]
        assert "output" in answer["error"]["message"]


def test_many_and_strange_files_in_the_output(asked):
    answer = asked.ended(
        {"script": {"command": ["sh", "-c", "mkdir -p output; touch \"output/$(printf 'a\\377b')\"; touch output/ok"]}}
    )
    assert answer["task_status"] in ("failed", "succeeded")
    if answer["task_status"] == "failed":
        assert "UTF-8" in answer["error"]["message"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..", "", "a\u0000b", "x" * 300])
def test_names_of_inputs_stay_inside(asked, platform, name):
    (platform.files / "x.csv").write_text("text\n")
    answer = asked.request(
        "POST", "/api/v1/tasks", json={"script": {"command": ["true"], "inputs": {name: {"path": "x.csv"}}}}
    )
    assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "MLAAS_UID", "A=B", "", "KUBEFLOW_TRAINER_SERVER_URL"])
def test_environment_names(asked, variable):
    problem = asked.refused({"script": {"command": ["true"], "env": {variable: "x"}}})
    assert "env" in problem["errors"][0]["field"]


def test_a_path_to_what_is_the_platforms_is_refused(asked, platform):
    data, files = platform.data, platform.files
    outside = platform.folder / "outside.csv"
    outside.write_text("text,label\nsecret,1\n")
    (files / "link.csv").symlink_to(outside)
    (files / "data").symlink_to(data)
    (files / "loop").symlink_to(files / "loop")
    (files / "folder").mkdir()
    (files / "folder" / "token").symlink_to(data / "admin-token")
    paths = ["link.csv", "data/admin-token", "data", "loop", "../outside.csv", f"{files}/../outside.csv", str(outside)]
    paths += [str(data), str(data / "admin-token"), str(data / "work"), str(data / "blobs"), "/", "/etc/passwd"]
    paths += [
        "/proc/self/environ",
        f"/proc/{platform.pid}/environ",
        "/dev/zero",
        "~/x",
        "file:///etc/passwd",
        f"file://{data}/mlaas.db",
    ]
    paths += ["a\u0000b", "x" * 4000]
    for path in paths:
        answer = asked.request(
            "POST", "/api/v1/tasks", json={"script": {"command": ["true"], "inputs": {"x": {"path": path}}}}
        )
        assert answer.status_code in (400, 422), (path, answer.text)
        assert "secret" not in answer.text
    answer = asked.ended({"script": {"command": ["sh", "-c", "cat inputs/x/*"], "inputs": {"x": {"path": "folder"}}}})
    assert answer["task_status"] == "failed"
    assert answer["error"]["field"] == "inputs.x.path", answer
    for target in (str(data / "out"), "data/out", "../out", "/tmp/out", ".", "link.csv/x", str(files)):
        body = {
            "model": {"path": "m", "storage_type": "local", "objective": "no-objective"},
            "dataset": {"path": "rows.csv", "storage_type": "local"},
            "vector_store_save": {"path": target, "format": "vector_store", "storage_type": "local"},
        }
        (files / "m").mkdir(exist_ok=True)
        (files / "m" / "config.json").write_text('{"model_type": "bert"}')
        (files / "m" / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
        (files / "m" / "vocab.txt").write_text("[UNK]\n")
        (files / "rows.csv").write_text("text\nINFN Bari\n")
        answer = asked.request("POST", "/api/v1/tasks", json=body)
        assert answer.status_code in (409, 422), (target, answer.text)
        assert answer.json()["errors"][0]["field"] == "vector_store_save.path", answer.text


def test_an_input_that_is_exchanged_for_a_link_between_accept_and_start(asked, platform):
    """What the resolver looked at must be what the task gets."""
    victim = platform.files / "swap"
    stop = False

    def swap() -> None:
        while not stop:
            victim.unlink(missing_ok=True)
            victim.symlink_to(platform.data / "admin-token")
            victim.unlink(missing_ok=True)
            victim.write_text("fine\n")

    victim.write_text("fine\n")
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(15):
            answer = asked.request(
                "POST",
                "/api/v1/tasks",
                json={"script": {"command": ["cat", "inputs/x"], "inputs": {"x": {"path": "swap"}}}},
                headers={"Prefer": "wait=20"},
            )
            if answer.status_code == 201:
                assert platform.token not in asked.log(answer.json())
    finally:
        stop = True
        thread.join()
