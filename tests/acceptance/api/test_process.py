"""The platform as a process: it starts once, says where it is, ends at once, starts again on the same ports."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time

import httpx2
import pytest
from tests.platform import Platform


@pytest.fixture
def platform(tmp_path):
    with Platform(tmp_path, MLAAS_WARM="0", MLAAS_ADMIT="0") as running:
        yield running


def api(platform, **options):
    headers = {"Authorization": f"Bearer {platform.token}"}
    return httpx2.Client(base_url=platform.url, headers=headers, timeout=20, **options)


def second(platform, **changes):
    """What another `mlaas up` over the same folder or ports says; its exit code and words."""
    values = {
        "data": platform.data,
        "port": platform.port,
        "inference-port": platform.inference_port,
        "grpc-port": platform.grpc_port,
        **changes,
    }
    command = [sys.executable, "-m", "mlaas.app", *(f"--{key}={value}" for key, value in values.items())]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=platform.environment, cwd=platform.files
    )
    return done.returncode, done.stderr


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_it_says_where_it_is_and_keeps_its_secrets(platform, tmp_path):
    for path in (platform.data / "current.json", tmp_path / "state" / "mlaas" / "current.json"):
        record = json.loads(path.read_text())
        assert record["url"] == platform.url
        assert record["pid"] == platform.pid
        assert record["token_file"] == str(platform.data / "admin-token")
        assert mode(path) == 0o600
    assert mode(platform.data / "admin-token") == 0o600
    with api(platform) as client:
        assert client.get("/api/v1/projects/default").status_code == 200
        assert client.get("/metrics").text.count("mlaas_http_requests_total") > 0
    assert platform.token not in platform.tail(100_000)
    assert platform.tail(100_000).startswith(platform.url)


def test_a_second_one_is_told_pid_and_address_of_the_first(platform):
    code, words = second(platform, port=0)
    assert code == 1
    assert f"pid {platform.pid}" in words
    assert platform.url in words
    assert "Traceback" not in words


def test_a_taken_port_is_named_with_its_flag(platform, tmp_path):
    for name in ("port", "inference-port", "grpc-port"):
        others = {"port": 0, "inference-port": 0, "grpc-port": 0, "data": tmp_path / "other"}
        code, words = second(platform, **{**others, name: getattr(platform, name.replace("-", "_"))})
        assert code == 1
        assert f"--{name}" in words
        assert "Traceback" not in words


def test_it_ends_at_once_with_streams_open_and_starts_again_on_its_ports(platform):
    task = {"meta": {"name": "waiting"}, "spec": {"recipe": "script", "command": ["true"]}}
    with api(platform) as client:
        assert client.post("/api/v1/projects/default/tasks", json=task).status_code == 201
        paths = ("tasks?watch=1", "tasks/waiting/logs?follow=1", "tasks/waiting/events?watch=1")
        streams = [client.stream("GET", f"/api/v1/projects/default/{path}") for path in paths]
        for stream in streams:
            assert stream.__enter__().status_code == 200
        begin = time.monotonic()
        assert platform.stop() == 0
        assert time.monotonic() - begin < 5
        assert not (platform.data / "current.json").exists()
        for stream in streams:
            stream.__exit__(None, None, None)
    platform.start()
    platform.kill()
    platform.start()
    with api(platform) as client:
        assert client.get("/api/v1/projects/default/tasks/waiting").status_code == 200


def test_a_watch_goes_on_where_it_was_after_a_kill(platform):
    path = "/api/v1/projects"
    with api(platform) as client, client.stream("GET", path, params={"watch": 1}) as stream:
        lines = stream.iter_lines()
        for line in lines:
            if line.startswith("id: "):
                last = line.removeprefix("id: ")
            if line == "event: bookmark":
                break
    platform.kill()
    platform.start()
    with api(platform) as client:
        assert client.post(path, json={"meta": {"name": "later"}}).status_code == 201
        with client.stream("GET", path, params={"watch": 1}, headers={"Last-Event-ID": last}) as stream:
            changes = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
            # The platform may have made its own project after the bookmark.
            assert next(each for each in changes if each["meta"]["name"] != "system")["meta"]["name"] == "later"


def test_a_body_of_100_mb_is_refused_over_a_socket(platform):
    before = memory(platform.pid)
    with api(platform) as client:
        chunks = (b" " * 65536 for _ in range(1600))
        try:
            assert client.post("/api/v1/tasks", content=chunks).status_code == 413
        except httpx2.WriteError:
            pass  # it hung up: as good
        assert client.get("/api/v1/projects").status_code == 200
    with socket.create_connection(("127.0.0.1", platform.port), timeout=10) as sock:
        sock.sendall(
            b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n"
            b"Authorization: Bearer " + platform.token.encode() + b"\r\n\r\n"
        )
        assert b" 413 " in sock.recv(4096)
    assert memory(platform.pid) - before < 40 << 20


def memory(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_tls_and_a_warning_without_it_off_loopback(tmp_path):
    request = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    made = subprocess.run([*request.split(), *files], capture_output=True)
    if made.returncode:
        pytest.skip("openssl is not installed")
    environment = {**os.environ, "MLAAS_WARM": "0", "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "mlaas.app", f"--data={tmp_path / 'data'}", "--port=0", "--inference-port=0"]
    secure = ["--grpc-port=0", f"--tls-cert={tmp_path / 'cert.pem'}", f"--tls-key={tmp_path / 'key.pem'}"]
    for flags, check in ((secure, "https"), (["--grpc-port=0", "--host=0.0.0.0"], "without TLS")):
        process = subprocess.Popen(
            command + flags,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        try:
            url = process.stdout.readline().strip()
            if check == "https":
                import ssl

                context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
                assert httpx2.get(f"{url}/livez", verify=context).status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
        assert check in url + errors


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("25 1 0:20 / / rw - ext4 /dev/a rw\n26 25 0:21 / {here} rw - nfs4 server:/x rw\n", "nfs4"),
        ("25 1 0:20 / / rw - ext4 /dev/a rw\n26 25 0:21 / {here} rw - fuse.sshfs server:/x rw\n", "fuse.sshfs"),
    ],
)
def test_a_network_file_system_is_refused_with_the_fix(tmp_path, mounts, kind):
    from mlaas.kernel.datafolder import check_local
    from mlaas.kernel.errors import Invalid

    with pytest.raises(Invalid, match=kind) as caught:
        check_local(tmp_path / "data", mounts.format(here=tmp_path))
    assert "--data" in caught.value.hint
    check_local(tmp_path / "data", "25 1 0:20 / / rw - ext4 /dev/a rw\n")
