import time

import pytest

from mlaas.kernel.errors import Compacted
from mlaas.kernel.housekeeping import forget, sweep_blobs
from mlaas.kernel.resource import Meta, Resource


async def test_only_blobs_that_nothing_refers_to_go(api, tmp_path):
    blobs = api.context.blobs
    kept, addressed, lost, fresh = (blobs.put(text) for text in (b"kept", b"addressed", b"lost", b"fresh"))
    note = await api.context.database.create(Resource("note", Meta("a", "default"), {"text": f"blobs:{addressed}"}))
    note.status = {"output": {"hash": kept}}
    await api.context.database.update(note)
    assert await sweep_blobs(api.context, time.time() - 3600) == 0
    assert await sweep_blobs(api.context, time.time() + 1) == 2
    assert blobs.size(kept)
    assert blobs.size(addressed)
    assert blobs.size(lost) is None
    assert blobs.size(fresh) is None


async def test_old_revisions_are_forgotten(api, monkeypatch):
    monkeypatch.setattr("mlaas.kernel.housekeeping.KEPT_REVISIONS", 1)
    note = await api.context.database.create(Resource("note", Meta("a", "default"), {}))
    for stars in range(5):
        note.spec = {"stars": stars}
        note = await api.context.database.update(note)
    await forget(api.context)
    with pytest.raises(Compacted):
        async for _ in api.context.database.changes(1, follow=False):
            pass
    assert (await api.context.database.get("note", "default", "a")).spec == {"stars": 4}
