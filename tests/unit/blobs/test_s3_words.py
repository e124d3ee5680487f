"""What S3's errors are in our words."""

import pytest
from obstore.exceptions import GenericError

from mlaas.kernel.blobs.s3 import explained
from mlaas.kernel.errors import Forbidden, Unavailable

NO_KEYS = "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 3.7ms - 403 Forbidden"


def test_a_platform_without_keys_is_told_to_have_none() -> None:
    with pytest.raises(Forbidden) as caught, explained("s3://bucket/key", "model.path"):
        raise GenericError(NO_KEYS)
    assert "no keys for S3" in caught.value.message
    assert "169.254" not in caught.value.message
    assert "AWS_ACCESS_KEY_ID" in (caught.value.hint or "")
    assert caught.value.field == "model.path"


def test_a_server_that_does_not_answer_is_waited_for() -> None:
    said = set()
    for took in ("974.718µs", "5.57ms", "1s"):
        with pytest.raises(Unavailable) as caught, explained("s3://bucket/key"):
            raise GenericError(f"Generic S3 error: Error performing GET http://127.0.0.1:9/bucket in {took} - refused")
        said.add(caught.value.message)
    assert len(said) == 1
