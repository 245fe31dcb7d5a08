"""Results of images: the JSON of an answer, sealed in the records."""

from gateway.records.encryption import DataCipher
from gateway.records.job_types import SealedResult
from gateway.records.types import SealedBytes


def seal_result(cipher: DataCipher, job_id: str, index: int, answer: bytes) -> SealedResult:
    """Encrypt an answer (JSON), bound to its image."""
    sealed = cipher.seal(_name(job_id, index), answer)
    return SealedResult(sealed.key_id, sealed.nonce, sealed.sealed)


def open_result(cipher: DataCipher, job_id: str, index: int, result: SealedResult) -> bytes:
    """Decrypt an answer; raises ConfigurationError for another key, or changed bytes."""
    sealed = SealedBytes(result.key_id, result.nonce, result.sealed)
    return cipher.open(_name(job_id, index), sealed)


def _name(job_id: str, index: int) -> str:
    return f"result/{job_id}/{index:06d}"
