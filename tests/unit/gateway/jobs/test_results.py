import pytest

from gateway.errors import ConfigurationError
from gateway.jobs.results import open_result, seal_result
from gateway.records.encryption import RingCipher
from gateway.records.key_ring import KeyRing


def test_a_result_opens_for_its_image_only():
    cipher = RingCipher(lambda: KeyRing.of(b"k" * 32))
    sealed = seal_result(cipher, "job", 7, b'{"faces":[]}')
    assert b"faces" not in sealed.sealed
    assert open_result(cipher, "job", 7, sealed) == b'{"faces":[]}'
    for job_id, index in (("job", 8), ("other", 7)):
        with pytest.raises(ConfigurationError):
            open_result(cipher, job_id, index, sealed)
