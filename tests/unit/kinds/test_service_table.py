"""What the serving table has of a service's predictor."""

import pytest
from pydantic import ValidationError

from mlaas.kinds.service.references import sources
from mlaas.kinds.service.schema import Predictor, ServiceSpec
from mlaas.kinds.service.table import deployment


def test_the_rows_for_int8_are_pinned_to_their_content() -> None:
    predictor = {"model": "encoder", "int8": {"rows": "rows.jsonl", "max_drop": 0.02}}
    spec = ServiceSpec.model_validate(
        {
            "predictor": predictor,
            "rollout": {"canary": [{"name": "new", "traffic_percent": 5, "predictor": {"model": "other"}}]},
        }
    )
    assert sources(spec) == {
        "predictor.model": "encoder",
        "predictor.int8.rows": "rows.jsonl",
        "rollout.canary.0.predictor.model": "other",
    }
    assert spec.predictor is not None
    resolved = {
        "predictor.model": {"uri": "file:///encoder", "hash": "m"},
        "predictor.int8.rows": {"uri": "file:///rows.jsonl", "hash": "one"},
    }
    first = deployment("encoder", spec.predictor, "predictor", resolved)
    assert first["int8"] == {"source": "file:///rows.jsonl", "hash": "one", "max_drop": 0.02}
    resolved["predictor.int8.rows"]["hash"] = "two"
    assert deployment("encoder", spec.predictor, "predictor", resolved)["revision"] != first["revision"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": "m", "options": {"int8": {"rows": "/etc/passwd"}}}, "beside the options"),
        ({"model": "m", "int8": {"rows": "r", "max_drop": 2}}, "less than or equal to 1"),
        ({"remote": {"url": "http://x"}, "int8": {"rows": "r"}}, "served here"),
    ],
)
def test_int8_that_cannot_be_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Predictor.model_validate(more)
