"""A script's life on the real store, loop and local engine."""


async def test_a_script_runs_to_its_end(platform):
    await platform.script("hello", "echo hello world")
    task = await platform.until("hello", "Succeeded")
    assert await platform.log("hello") == b"hello world\n"
    assert task.status["attempts"] == 1
    stamps = task.status["timestamps"]
    assert stamps["submitted"] <= stamps["started"] <= stamps["ended"]
    assert {"Admitted", "Started", "Succeeded"} <= set(await platform.events("hello"))
