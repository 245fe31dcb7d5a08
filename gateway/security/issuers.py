"""The issuers whose tokens are accepted, from a TOML file.

```toml
[[issuer]]
issuer = "https://login.example.com/"
audience = "aurum"
algorithms = ["RS256"]
jwks_url = "https://login.example.com/.well-known/jwks.json"
tenant_claim = "tenant"
roles = ["infer", "search"]
```
"""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import ConfigurationError
from gateway.outbound.documents import check_url
from gateway.secret_files import read_secret_file
from gateway.security.key_service import NAME
from gateway.security.roles import RoleName

VARIABLE: Final = "AURUM_TOKEN_ISSUERS_FILE"
MIN_SECRET_BYTES: Final = 32
_SHARED: Final = "HS256"
Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class Issuer(BaseModel):
    """One issuer, and how its claims are read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    issuer: Text
    """The claim `iss`, compared as a whole."""
    audience: Text
    """What the claim `aud` must contain."""
    algorithms: list[Algorithm] = Field(min_length=1)
    """All that it signs with: HS256 alone, or any of the others."""
    jwks_url: str | None = None
    """Where its public keys are."""
    secret_file: Path | None = Field(default=None, strict=False)
    """File with the secret of HS256, 32 bytes or more; nobody else may read it."""
    tenant: str | None = None
    """Tenant of all its tokens; else `tenant_claim` names it."""
    tenant_claim: Text = "tenant"
    tenants: list[str] | None = None
    """The tenants that `tenant_claim` may name; None for all."""
    roles_claim: Text = "roles"
    """A list of roles, or a text with blanks between them; unknown ones are ignored."""
    roles: list[RoleName] = ["infer", "enrol", "search", "manage"]
    """The most that its tokens may have."""
    collections_claim: Text = "collections"
    """Names of collections that a token is limited to; without it, all of the tenant."""
    leeway_seconds: float = Field(default=30.0, ge=0, le=300)
    """How far its clock may differ from ours."""

    def complaint(self) -> str | None:
        """Say what contradicts itself; None if nothing does."""
        if _SHARED in self.algorithms:
            if len(self.algorithms) > 1:
                return "HS256 cannot be mixed with other algorithms"
            if self.secret_file is None or self.jwks_url is not None:
                return "HS256 needs `secret_file`, and no `jwks_url`"
        elif self.jwks_url is None or self.secret_file is not None:
            return f"{', '.join(self.algorithms)} need `jwks_url`, and no `secret_file`"
        else:
            refusal = check_url(self.jwks_url)
            if refusal is not None:
                return f"`jwks_url`: {refusal}"
        for each in (self.tenant, *(self.tenants or ())):
            if each is not None and not NAME.fullmatch(each):
                return f"tenant {each[:80]!r} must match {NAME.pattern}"
        return None

    def secret(self) -> bytes:
        """Read the secret of HS256; raises ConfigurationError."""
        if self.secret_file is None:
            raise ConfigurationError(f"{VARIABLE}: {self.issuer} has no secret")
        secret = read_secret_file(self.secret_file, VARIABLE).strip().encode()
        if len(secret) < MIN_SECRET_BYTES:
            message = f"{VARIABLE}: {self.secret_file} has fewer than {MIN_SECRET_BYTES} bytes"
            raise ConfigurationError(message)
        return secret


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    issuer: list[Issuer] = Field(min_length=1)


def load_issuers(file: Path | None) -> tuple[Issuer, ...]:
    """Read the file; none without one. Raises ConfigurationError that names the field."""
    if file is None:
        return ()
    try:
        document = tomllib.loads(file.read_text())
        issuers = tuple(_File.model_validate(document).issuer)
    except OSError as error:
        raise ConfigurationError(f"{VARIABLE}: {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{VARIABLE}: {file}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{VARIABLE}: {file}: {where}: {first['msg']}") from error
    names = [issuer.issuer for issuer in issuers]
    for issuer in issuers:
        complaint = issuer.complaint()
        if names.count(issuer.issuer) > 1:
            complaint = "it is listed twice"
        if complaint is not None:
            raise ConfigurationError(f"{VARIABLE}: {file}: {issuer.issuer}: {complaint}")
    return issuers
