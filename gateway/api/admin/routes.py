"""Keys: create, list, change, rotate, revoke. The audit log."""

from dataclasses import asdict
from typing import Any, Final

from gateway.api.admin.schemas import (
    AuditLineOut,
    AuditOut,
    KeyAnswer,
    KeyChange,
    KeyIn,
    KeyLimits,
    KeyOut,
    KeysOut,
    NewKeyAnswer,
    RotateIn,
    WebhookSecretOut,
)
from gateway.api.body import BodySpec
from gateway.api.call import Answer, Call
from gateway.api.collections.serializers import moment
from gateway.api.pagination import PageOptions, read_page
from gateway.api.shapes import NoOptions
from gateway.records import clock
from gateway.records.keys import ApiKeyRecord
from gateway.security.key_service import DAY_SECONDS, KeyRequest, NewKey
from gateway.types import RateLimits

KEY_BODY: Final = BodySpec(KeyIn, "none")
CHANGE_BODY: Final = BodySpec(KeyChange, "none")
ROTATE_BODY: Final = BodySpec(RotateIn, "none")
_HOUR_SECONDS: Final = 3600
_SECRET: Final = {"Cache-Control": "no-store"}


async def create_key(call: Call[NoOptions, KeyIn]) -> Answer:
    """Create a key of the caller's tenant."""
    fields = call.fields
    days = fields.expires_in_days
    request = KeyRequest(
        tenant=call.caller.tenant,
        name=fields.name,
        roles=fields.roles,
        collections=fields.collections,
        expires_in_seconds=None if days is None else days * DAY_SECONDS,
        limits=RateLimits(**({} if fields.limits is None else fields.limits.model_dump())),
    )
    made = await call.services.access.keys.create(
        request, by=call.caller.name, request_id=call.request_id
    )
    return _new(call, made)


async def list_keys(call: Call[PageOptions, NoOptions]) -> Answer:
    """List the keys of the caller's tenant."""
    keys = call.services.access.keys
    page = await read_page(
        call.options,
        lambda limit, after: keys.page(tenant=call.caller.tenant, limit=limit, after=after),
        position=lambda record: (record.created_at, record.id),
        kinds=(float, str),
    )
    return Answer(
        KeysOut(
            request_id=call.request_id,
            keys=[KeyOut(**_key(record)) for record in page.items],
            next_cursor=page.next_cursor,
        )
    )


async def change_key(call: Call[NoOptions, KeyChange]) -> Answer:
    """Change the limits of a key that are sent."""
    key_id, limits = call.path("key_id"), call.fields.limits
    record = await call.services.access.keys.change_limits(
        key_id,
        {name: getattr(limits, name) for name in limits.model_fields_set},
        tenant=call.caller.tenant,
        by=call.caller.name,
        request_id=call.request_id,
    )
    call.services.access.forget_key(key_id)
    return Answer(KeyAnswer(**_key(record), request_id=call.request_id))


async def rotate_key(call: Call[NoOptions, RotateIn]) -> Answer:
    """Replace a key by a new one."""
    key_id = call.path("key_id")
    rotated = await call.services.access.keys.rotate(
        key_id,
        overlap_seconds=call.fields.overlap_hours * _HOUR_SECONDS,
        tenant=call.caller.tenant,
        by=call.caller.name,
        request_id=call.request_id,
    )
    call.services.access.forget_key(key_id)
    return _new(call, rotated.new)


async def revoke_key(call: Call[NoOptions, NoOptions]) -> Answer:
    """Revoke a key."""
    key_id = call.path("key_id")
    record = await call.services.access.keys.revoke(
        key_id, tenant=call.caller.tenant, by=call.caller.name, request_id=call.request_id
    )
    call.services.access.forget_key(key_id)
    return Answer(KeyAnswer(**_key(record), request_id=call.request_id))


async def show_webhook_secret(call: Call[NoOptions, NoOptions]) -> Answer:
    """Show the secret that signs the webhooks of the caller's tenant."""
    tenant = call.caller.tenant
    secret = call.services.jobs.webhook_policy.secret_of(tenant)
    shape = WebhookSecretOut(request_id=call.request_id, tenant=tenant, secret=secret)
    return Answer(shape, headers=_SECRET)


async def show_audit(call: Call[PageOptions, NoOptions]) -> Answer:
    """Show the audit log of the caller's tenant."""
    audit = call.services.collections.stores.records.audit
    page = await read_page(
        call.options,
        lambda limit, after: audit.page(
            tenant=call.caller.tenant, limit=limit, before=after and after[0]
        ),
        position=lambda numbered: (numbered[0],),
        kinds=(int,),
    )
    lines = [
        AuditLineOut(
            at=moment(line.at),
            actor=line.actor,
            action=line.action,
            collection=line.collection,
            receipt=line.receipt,
            counts=dict(line.counts),
            request_id=line.request_id,
            outcome=line.outcome,
        )
        for _, line in page.items
    ]
    return Answer(AuditOut(request_id=call.request_id, lines=lines, next_cursor=page.next_cursor))


def _new(call: Call[Any, Any], made: NewKey) -> Answer:
    shape = NewKeyAnswer(**_key(made.record), key=made.key.text, request_id=call.request_id)
    return Answer(shape, status=201, headers=_SECRET)


def _key(record: ApiKeyRecord) -> dict[str, Any]:
    collections = record.collections
    return {
        "key_id": record.id,
        "tenant": record.tenant,
        "name": record.name,
        "roles": list(record.roles),
        "collections": None if collections is None else list(collections),
        "created_at": moment(record.created_at),
        "created_by": record.created_by,
        "expires_at": _moment(record.shown_expiry),
        "revoked_at": _moment(record.revoked_at),
        "last_used_at": _moment(record.last_used_at),
        "replaces": record.replaces,
        "limits": KeyLimits(**asdict(record.limits)),
        "valid": record.is_valid(at=clock.now()),
    }


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds)
