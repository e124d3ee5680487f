import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mlaas.kernel.errors import Full, Invalid, OutOfMemory
from mlaas.runtimes.child import plain, translate


def start(folder: Path, body: str, **environment: str) -> subprocess.Popen[str]:
    (folder / "recipe.py").write_text(textwrap.dedent(body))
    task = {"uid": "u1", "name": "n", "project": "default", "attempt": 1, "recipe": "finetune", "params": {"epochs": 2}}
    (folder / "task.json").write_text(json.dumps(task))
    paths = os.pathsep.join(
        [*(part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part), str(folder)]
    )
    env = os.environ | {"MLAAS_TASK_FILE": "task.json", "PYTHONPATH": paths} | environment
    return subprocess.Popen(
        [sys.executable, "-m", "mlaas.runtimes.child", "recipe"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_result_is_what_main_returns(tmp_path: Path) -> None:
    code, _, _ = finish(
        start(tmp_path, "def main(task): return {'epochs': task.params['epochs'], 'bad': float('nan')}")
    )
    assert code == 0
    assert result(tmp_path) == {"result": {"epochs": 2, "bad": None}}


def test_an_error_of_the_user_is_one_document_and_no_trace(tmp_path: Path) -> None:
    body = """
    from mlaas.kernel.errors import Invalid
    def main(task): raise Invalid("No column 'text'.", field="dataset", hint="Columns found: a, b.")
    """
    code, _, err = finish(start(tmp_path, body))
    assert code == 1
    assert result(tmp_path)["error"] == {
        "code": "invalid", "message": "No column 'text'.", "hint": "Columns found: a, b.", "field": "dataset",
    }  # fmt: skip
    assert "Traceback" not in err


def test_a_crash_has_its_trace_in_the_log_and_one_line_for_the_user(tmp_path: Path) -> None:
    code, _, err = finish(start(tmp_path, "def main(task): return {}['missing\\nkey']"))
    assert code == 70
    error = result(tmp_path)["error"]
    assert error["code"] == "internal"
    assert "KeyError" in error["message"]
    assert "\n" not in error["message"]
    assert "Traceback" in err


def test_a_module_that_is_not_there_is_a_crash_with_a_result(tmp_path: Path) -> None:
    code, _, _ = finish(start(tmp_path, "import nothing_of_this_name\ndef main(task): return {}"))
    assert code == 70
    assert "nothing_of_this_name" in result(tmp_path)["error"]["message"]


def test_credentials_are_loaded_and_other_names_are_not(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(json.dumps({"AWS_ACCESS_KEY_ID": "k", "LD_PRELOAD": "x"}))
    body = "import os\ndef main(task): return {k: os.environ.get(k) for k in ('AWS_ACCESS_KEY_ID', 'LD_PRELOAD')}"
    code, _, _ = finish(start(tmp_path, body, MLAAS_CREDENTIALS_FILE="credentials"))
    assert code == 0
    assert result(tmp_path)["result"] == {"AWS_ACCESS_KEY_ID": "k", "LD_PRELOAD": None}


def test_sigterm_finds_a_recipe_that_polls(tmp_path: Path) -> None:
    body = """
    import time
    from pathlib import Path
    from mlaas.runtimes.child import stopping
    from mlaas.runtimes.taskfile import Interrupted
    def main(task):
        stopping()
        print("ready", flush=True)
        while not stopping():
            time.sleep(0.01)
        Path("saved").touch()
        raise Interrupted
    """
    process = start(tmp_path, body)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    code, _, _ = finish(process)
    assert code == 75
    assert (tmp_path / "saved").exists()
    assert not (tmp_path / "result.json").exists()


def test_sigterm_that_another_thread_got_still_wakes_the_recipe(tmp_path: Path) -> None:
    body = """
    import signal, threading, time
    def main(task):
        own = lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        threading.Timer(0.3, own).start()
        time.sleep(60)
    """
    begun = time.monotonic()
    assert finish(start(tmp_path, body))[0] == 75
    assert time.monotonic() - begun < 50


def test_sigterm_of_a_forked_child_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    body = """
    import os, signal, time
    def main(task):
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            while True:
                time.sleep(0.01)
        time.sleep(0.3)
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        time.sleep(1)
        return {}
    """
    assert finish(start(tmp_path, body))[0] == 0


@pytest.mark.parametrize("shield", ["pass", "raise RuntimeError('wrapped')"])
def test_sigterm_finds_a_recipe_that_never_polled(tmp_path: Path, shield: str) -> None:
    body = f"""
    import time
    def main(task):
        print("ready", flush=True)
        try:
            time.sleep(60)
        except ValueError:
            pass
        except Exception:
            if {shield.startswith("raise")}: raise RuntimeError("wrapped")
            raise
    """
    process = start(tmp_path, body)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 75


def test_common_failures_are_translated() -> None:
    assert isinstance(translate(OSError(28, "No space left on device")), Full)
    assert isinstance(translate(RuntimeError("I/O error: No space left on device (os error 28)")), Full)
    assert isinstance(translate(MemoryError()), OutOfMemory)
    assert isinstance(translate(RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")), OutOfMemory)
    assert isinstance(translate(Invalid("x")), Invalid)
    assert translate(ValueError("x")) is None


def test_plain_takes_numpy() -> None:
    import numpy

    value = {"a": numpy.float32(1.5), "b": numpy.arange(3), "c": (True, None), 4: numpy.inf}
    assert plain(value) == {"a": 1.5, "b": [0, 1, 2], "c": [True, None], "4": None}


def test_an_answer_of_many_vectors_is_written_whole_and_one_that_nobody_could_hold_is_an_error(tmp_path: Path) -> None:
    body = "def main(task):\n    return {'predictions': [{'embedding': [0.1] * 1000}] * %d}\n"
    code, _, err = finish(start(tmp_path, body % 5000))
    assert code == 0, err
    assert len(result(tmp_path)["result"]["predictions"]) == 5000
    lowered = "from mlaas.runtimes import child\nchild.LARGEST_RESULT = 1 << 20\n" + body % 5000
    code, _, _ = finish(start(tmp_path, lowered))
    assert code == 1
    error = result(tmp_path)["error"]
    assert error["code"] == "too-large"
    assert error["field"] == "predict_input.input_text"
    assert "at most 1 are kept" in error["message"]
    assert "fewer inputs" in error["hint"]
