"""The shim: one small process per replica that starts it, watches it, and writes down how it ended.

It is session leader and child subreaper (prctl(2)), so everything below it stays below it. It owns the log pipe, the report
endpoint, the limits, and the end: TERM, grace, KILL. The platform is never needed as parent and may die meanwhile; all that
it must know lies in files (`record`), of which `exit.json` is the last, written when nothing below lives any more.

Claim: `shim.json` is created by link(2); of any number of shims started for one attempt, one goes on. Runs as
`python -I -S shim.py ATTEMPT_FOLDER` or forked from a fork server (`run`). Standard library only.
"""

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(__file__ + "/../../../.."))

from mlaas.engines.local import ending, launch, log, memory, process, record
from mlaas.engines.local.report import Endpoint
from mlaas.kernel import cgroup, landlock

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE = 1.0  # seconds between looks at the memory where no control group limits it
_DEFAULT_GRACE = 10.0


class Shim:
    """One replica of one attempt. `folder` is `.../work/UID/ROLE-INDEX/attempt-N`."""

    def __init__(self, folder: str, child: launch.Waiting) -> None:
        self.folder, self.child = folder, child
        self.order: dict[str, Any] = record.read(f"{folder}/{record.ORDER}") or {}
        self.group: dict[str, Any] | None = self.order.get("cgroup")
        self.pid = 0
        self.status: int | None = None
        self.started = record.now()
        self.stop: dict[str, Any] | None = None  # why everything is being ended: {reason, message, grace, by_platform}
        self.oom = False
        self.kill_at: float | None = None
        self.killed = False
        self.limit_at: float | None = None

    def run(self) -> None:
        """The whole life. Returns when the replica has ended, or at once when another shim has the attempt."""
        self._signals()
        token = _content(f"{self.folder}/{record.TOKEN}")
        self.endpoint = Endpoint(self.folder, token, self._hint)
        who = process.identity(os.getpid())
        if not self.order or self.child.ended():
            return  # nothing is claimed: the engine finds the attempt not started
        if not record.claim(f"{self.folder}/{record.SHIM}", {**who, "url": self.endpoint.url}):
            return
        try:
            if not self._stop_asked():
                self._start()
                self._watch()
        except Exception as error:
            import traceback

            with open(f"{self.folder}/shim.log", "a") as file:
                traceback.print_exc(file=file)
            self.stop = {"reason": "StartError", "message": f"The supervisor of the task failed: {error}"}
        self._finish()

    # -- start

    def _signals(self) -> None:
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda number, frame: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    def _start(self) -> None:
        if self.group:
            try:
                cgroup.create(self.group, self.order["cpu"], self.order["memory"])
            except OSError:
                cgroup.remove(self.group)
                self.group = self.order["cgroup"] = None
        self.log = log.Writer(os.path.dirname(self.folder), self.order.get("segment", log.SEGMENT))
        self._pipe = self.child.output
        os.set_blocking(self._pipe, False)
        self.pid = self.child.pid
        self.child.start(self.order, {**self.order["env"], "KUBEFLOW_TRAINER_SERVER_URL": self.endpoint.url})
        if self.order.get("time_limit"):
            self.limit_at = time.monotonic() + self.order["time_limit"]
        child = {**process.identity(self.pid), "started": self.started, "message": self.order.get("message", "")}
        record.write(f"{self.folder}/{record.CHILD}", child)
        self._hint()

    # -- watch

    def _watch(self) -> None:
        sample_at = None if self.group else time.monotonic() + _SAMPLE
        while self.status is None or (self.stop and not self.killed and process.below(os.getpid())):
            deadlines = [self.kill_at, self.limit_at if not self.stop else None, sample_at, self.endpoint.deadline()]
            pending = [moment for moment in deadlines if moment is not None]
            wait = max(0.0, min(pending) - time.monotonic()) if pending else None
            if self.status is not None:
                wait = min(wait if wait is not None else 0.05, 0.05)  # grandchildren do not always announce their end
            for number in self._ready(wait):
                if number == self._pipe:
                    self._copy()
                elif number == self._wake:
                    self._woken()
                else:
                    self.endpoint.serve(number)
            moment = time.monotonic()
            self.endpoint.tick()
            if self.limit_at is not None and moment >= self.limit_at and not self.stop:
                limit = self.order["time_limit"]
                self.begin_stop("TimeLimit", f"It ran longer than its time limit of {limit:g} s.", self._grace(), True)
            if self.kill_at is not None and moment >= self.kill_at and not self.killed:
                self.killed = True
                process.kill(self._all())
            if sample_at is not None and moment >= sample_at:
                sample_at = moment + _SAMPLE
                self._sample()

    def _ready(self, wait: float | None) -> list[int]:
        poll = select.poll()
        for number in [self._wake, *([self._pipe] if self._pipe >= 0 else []), *self.endpoint.descriptors()]:
            poll.register(number, select.POLLIN)
        return [number for number, _ in poll.poll(None if wait is None else wait * 1000 + 0.5)]

    def _copy(self) -> bool:
        """Bytes from the pipe to the log; False when there are none now."""
        try:
            content = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return False
        if content:
            self.log.write(content)
        else:
            os.close(self._pipe)
            self._pipe = -1
        return bool(content)

    def _woken(self) -> None:
        numbers = os.read(self._wake, 4096)
        if signal.SIGTERM in numbers and not self._stop_asked() and not self.stop:
            self.begin_stop("Signal", "The supervisor of the task was told to end it.", self._grace(), False)
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.pid:
                self.status = status

    def _stop_asked(self) -> bool:
        asked = record.read(f"{self.folder}/{record.STOP}")
        if not asked:
            return False
        self.begin_stop(asked["reason"], asked["message"], asked["grace"], True)
        return True

    def begin_stop(self, reason: str, message: str, grace: float, by_platform: bool) -> None:
        """TERM now, KILL after `grace` seconds. A second stop can only shorten the grace."""
        at = time.monotonic() + grace
        if self.stop:
            self.kill_at = min(at, self.kill_at or at)
            return
        self.stop = {"reason": reason, "message": message, "by_platform": by_platform}
        self.kill_at = at
        if self.pid and self.status is None:
            # A recipe ends its own workers and saves a checkpoint; a foreign command is asked as a whole.
            targets = [self.pid] if self.order.get("recipe") else self._all()
            for pid in targets:
                try:
                    os.kill(pid, signal.SIGTERM)
                except ProcessLookupError:
                    continue

    def _sample(self) -> None:
        used = memory.used(os.getpid(), self.order["memory"])
        if used > self.order["memory"] and not self.stop:
            self.oom = True
            self.stop = {"reason": "OOMKilled", "message": "", "by_platform": False}
            self.killed = True
            process.kill(self._all())

    def _all(self) -> list[int]:
        return list({*process.below(os.getpid()), *cgroup.members(self.group)})

    def _grace(self) -> float:
        return float(self.order.get("grace", _DEFAULT_GRACE))

    # -- end

    def _finish(self) -> None:
        process.wait_gone(self._living, 60)
        if self.pid:
            while self._pipe >= 0 and self._copy():
                pass
            self.oom = self.oom or cgroup.oom_kills(self.group) > 0
        self.endpoint.flush()
        failure = os.read(self.child.failure, 4096).decode(errors="replace") if self.pid else ""
        cgroup.remove(self.group)
        document = ending.describe(self.order, self.started, self.status, self.stop, self.oom, failure)
        ending.clean(self.folder, self.order)
        self._persist(document)
        if document["reason"] != "Completed":
            ending.end_peers(self.order)
        self._hint()

    def _living(self) -> list[int]:
        self._reap()
        return self._all()

    def _persist(self, document: dict[str, Any]) -> None:
        """The exit record must get to the disk: it waits for room rather than lose how the task ended."""
        pause = 0.1
        while True:
            try:
                record.claim(f"{self.folder}/{record.EXIT}", document, sync=True)
                return
            except FileNotFoundError:
                return  # the workload was removed
            except OSError:
                time.sleep(pause)
                pause = min(pause * 2, 10)

    def _hint(self) -> None:
        """Tell the platform that something changed. Lost when it is away."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(self.order["uid"].encode(), self.order["hint"])
        except OSError:
            pass


def prepare(warm: bool = False) -> launch.Waiting:
    """Make this process, which was just forked, ready to be a shim: session leader, subreaper, with a child that waits."""
    os.setsid()
    os.umask(0o077)
    landlock.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    landlock.prctl_name(b"mlaas-shim")
    os.chdir("/")
    return launch.Waiting(warm)


def run(folder: str, child: launch.Waiting) -> None:
    """Be the shim of the attempt in `folder`. Never returns."""
    try:
        Shim(folder, child).run()
    finally:
        os._exit(0)


def _content(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return json.dumps(os.urandom(16).hex())


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    os.closerange(3, 1 << 16)
    run(sys.argv[1], prepare())
