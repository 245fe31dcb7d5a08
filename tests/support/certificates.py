"""Authorities and certificates of the tests, as files."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """An authority of its own, whose certificate is a file in `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(organization_name=name)
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(
        self,
        *identities: str,
        name: str = "server",
        common_name: str | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Files:
        """Issue a certificate, or replace the one of this name, as a renewal does."""
        made = self._ca.issue_cert(
            *identities, common_name=common_name, not_before=not_before, not_after=not_after
        )
        files = Files(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        for path, content in (
            (files.key, made.private_key_pem.bytes()),
            (files.certificate, chain),
        ):
            aside = path.with_suffix(".new")
            aside.write_bytes(content)
            aside.chmod(0o600)
            aside.replace(path)
        return files
