"""What a task names is looked at when it is posted: refused with the field, before any work starts."""

import pytest

from .test_form_over_http import client  # noqa: F401

TRAIN = {
    "model": {"path": "model", "storage_type": "local", "objective": "text-classification"},
    "dataset": {"path": "rows.csv", "storage_type": "local", "train_test_split": 0.1},
    "model_train": {"epochs": 1},
    "model_save": {"path": "saved", "storage_type": "local"},
}

ROWS = "text,label\n" + "a,b\nc,d\n" * 10


@pytest.fixture
def files(root):
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text('{"model_type": "bert", "vocab_size": 3}')
    (root / "model" / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    (root / "model" / "vocab.txt").write_text("[PAD]\n[UNK]\na\n")
    (root / "rows.csv").write_text(ROWS)
    (root / "taken").mkdir()
    (root / "empty").mkdir()
    (root / "notes").mkdir()
    (root / "notes" / "a.txt").write_text("x")
    return root


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("model", {"path": "nowhere"}, 422),
        ("model", {"path": "/etc"}, 422),
        ("model", {"path": "../../etc/passwd"}, 422),
        ("model", {"path": "notes"}, 422),
        ("model", {"path": "rows.csv"}, 422),
        ("model", {"path": "task:nobody"}, 404),
        ("model", {"path": "not/a/repository", "storage_type": "hugging_face_hub"}, 422),
        ("dataset", {"path": "org/name@../x", "storage_type": "hugging_face_hub"}, 422),
        ("dataset", {"path": "absent.csv"}, 422),
        ("model_save", {"path": "taken"}, 409),
        ("model_save", {"path": "/proc/x"}, 422),
    ],
)
async def test_refused_at_once(client, files, key, value, status):  # noqa: F811
    answer = await client.post("/api/v1/tasks", json={**TRAIN, key: value})
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["field"] == f"{key}.path"
    assert (await client.get("/api/v1/tasks")).json()["items"] == []


async def test_a_script_reads_a_local_file(client, files):  # noqa: F811
    body = {"script": {"command": ["cat", "inputs/rows"], "inputs": {"rows": {"path": "rows.csv"}}}, "name": "reads"}
    answer = await client.post("/api/v1/tasks", json=body, headers={"Prefer": "wait=30"})
    assert answer.json()["task_status"] == "succeeded", answer.text
    resource = (await client.get("/api/v1/projects/default/tasks/reads")).json()
    assert resource["status"]["resolved"]["inputs.rows"]["hash"]
    log = await client.get("/api/v1/projects/default/tasks/reads/logs")
    assert log.text == ROWS
