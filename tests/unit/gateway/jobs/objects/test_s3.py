"""Settings of a bucket that cannot be used."""

import pytest

from gateway.errors import ConfigurationError
from gateway.jobs.objects.factory import open_objects
from gateway.settings import Settings

GOOD = {
    "object_store_url": "s3://jobs/prefix",
    "object_store_endpoint": "http://127.0.0.1:9",
    "object_store_key_id": "id",
    "object_store_secret": "not-to-be-shown",
}


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"object_store_url": "https://jobs"}, "AURUM_OBJECT_STORE_URL"),
        ({"object_store_url": "s3://"}, "AURUM_OBJECT_STORE_URL"),
        ({"object_store_url": "s3://id:not-to-be-shown@jobs"}, "AURUM_OBJECT_STORE_URL"),
        ({"object_store_key_id": None}, "AURUM_OBJECT_STORE_KEY_ID"),
        ({"object_store_secret": None}, "AURUM_OBJECT_STORE_SECRET"),
        ({"object_store_endpoint": "127.0.0.1:9"}, "AURUM_OBJECT_STORE_ENDPOINT"),
    ],
)
async def test_the_wrong_variable_is_named(tmp_path, changes, variable):
    settings = Settings(home=tmp_path, **{**GOOD, **changes})
    with pytest.raises(ConfigurationError, match=variable) as refused:
        async with open_objects(settings):
            pass
    assert "not-to-be-shown" not in str(refused.value)


@pytest.mark.parametrize(
    "changes", [{}, {"object_store_key_id": None, "object_store_secret": None}]
)
async def test_a_bucket_need_not_be_there_at_the_start(tmp_path, changes):
    async with open_objects(Settings(home=tmp_path, **{**GOOD, **changes})) as objects:
        assert "not-to-be-shown" not in repr(objects) + repr(vars(objects))
