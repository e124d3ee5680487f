"""`/openapi.json` says all that clients need."""

METHODS = {"get", "put", "post", "delete", "patch", "head"}


async def test_every_operation_is_described(api, client):
    document = (await client.get("/openapi.json")).json()
    operations = [
        (f"{method} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]
    names = [operation["operationId"] for _, operation in operations]
    assert len(names) == len(set(names)) > 30
    for where, operation in operations:
        responses = operation["responses"]
        assert any(code.startswith("2") for code in responses), where
        assert "application/problem+json" in responses["500"]["content"], where
        if where.split()[1].startswith("/api/") or where.endswith("/metrics"):
            assert "401" in responses, where
            assert operation.get("security", document["security"]) == [{"bearer": []}], where
        if where.split()[0] in ("post", "put", "patch"):
            assert operation["requestBody"]["content"], where


async def test_every_reference_leads_somewhere(client):
    document = (await client.get("/openapi.json")).json()
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                assert reference.rsplit("/", 1)[1] in document["components"]["schemas"], reference
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
