"""A platform of one's own on a temporary folder, spoken to with plain curl."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENDED = ("succeeded", "failed", "cancelled")


class Refused(Exception):
    """The platform said no, or ended; the message is in its own words."""


class Platform:
    """`mlaas up` on free ports. Files in `work` may be named in tasks by their relative path."""

    def __init__(self, folder: Path, *, roots: list[Path]) -> None:
        self.folder = folder
        self.work = roots[0]
        self.data = folder / "data"
        self.log = folder / "platform.log"
        port, inference, grpc = free_ports(3)
        self.url = f"http://127.0.0.1:{port}"
        self.header = folder / "authorization"  # a file: what stands in the arguments of curl, others can read
        ports = ["--port", str(port), "--inference-port", str(inference), "--grpc-port", str(grpc)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("mlaas"), "up", "--data", self.data, "--host", "127.0.0.1", *ports],
                cwd=self.work,
                env={
                    **os.environ,
                    "MLAAS_LOCAL_ROOTS": ":".join(map(str, roots)),
                    "XDG_STATE_HOME": str(folder / "state"),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Refused(f"The platform ended with code {self.process.returncode}:\n{self.tail()}")
            answer = subprocess.run(["curl", "-sf", "-o", os.devnull, f"{self.url}/readyz"], check=False)
            if answer.returncode == 0:
                token = (self.data / "admin-token").read_text().strip()
                with open(os.open(self.header, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as stream:
                    stream.write(f"Authorization: Bearer {token}\n")
                return
            time.sleep(0.1)
        raise Refused(f"The platform was not ready within {seconds:.0f} s:\n{self.tail()}")

    def post(self, body: dict[str, Any], *, wait: int = 0) -> dict[str, Any]:
        """Post a task as the institute does, `curl -d @body.json`; `wait` holds the answer until the task ends."""
        path = self.folder / "body.json"
        path.write_text(json.dumps(body, indent=1, ensure_ascii=False))
        extra = ["-H", f"Prefer: wait={wait}"] if wait else []
        return self._curl("-d", f"@{path}", *extra, f"{self.url}/api/v1/tasks")

    def get(self, task: str) -> dict[str, Any]:
        return self._curl(f"{self.url}/api/v1/tasks/{task}")

    def run(self, body: dict[str, Any]) -> dict[str, Any]:
        """Post a task and give its answer."""
        answer = self.post(body, wait=30)
        while answer["task_status"] not in ENDED:
            time.sleep(0.5)
            answer = self.get(answer["task_id"])
        return self.check(answer)

    def follow(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Post a task and yield how it stands once a second; last its answer."""
        answer = self.post(body)
        while answer["task_status"] not in ENDED:
            yield answer
            time.sleep(1)
            answer = self.get(answer["task_id"])
        yield self.check(answer)

    def check(self, answer: dict[str, Any]) -> dict[str, Any]:
        if answer["task_status"] != "succeeded":
            error = answer.get("error") or {}
            said = "\n".join(str(error[key]) for key in ("message", "hint") if error.get(key))
            raise Refused(f"The task {answer['task_id']} is {answer['task_status']}:\n{said}\n{self.tail(5)}")
        return answer

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End what runs, then the platform. Trainings outlive their platform, so they are cancelled first."""
        with contextlib.suppress(Refused, KeyError, TypeError):
            self._cancel()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _cancel(self) -> None:
        if self.process.poll() is not None or not self.header.exists():
            return
        tasks = self._curl(f"{self.url}/api/v1/projects/default/tasks")["items"]
        running = [t["meta"] for t in tasks if t["status"].get("phase", "Pending").lower() not in ENDED]
        for meta in running:
            self._curl("-X", "POST", f"{self.url}/api/v1/projects/default/tasks/{meta['name']}/cancel")
        deadline = time.monotonic() + 20
        for meta in running:
            while self.get(meta["uid"])["task_status"] not in ENDED and time.monotonic() < deadline:
                time.sleep(0.2)

    def _curl(self, *arguments: str) -> dict[str, Any]:
        command = ["curl", "-sS", "-H", f"@{self.header}", "-w", "\n%{http_code}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        body, _, status = done.stdout.rpartition("\n")
        if done.returncode or not status.startswith("2"):
            with contextlib.suppress(ValueError):
                problem = json.loads(body)
                body = "\n".join(str(problem[key]) for key in ("title", "detail", "hint") if problem.get(key))
            words = body or done.stderr.strip()
            if not status.startswith("4"):
                words += f"\n{self.tail(5)}"
            raise Refused(f"{arguments[-1]} answered {status}:\n{words}")
        answer: dict[str, Any] = json.loads(body or "{}")
        return answer


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
