"""The admin routes; all of them concern the caller's own tenant."""

from typing import Final

from gateway.api.admin import routes
from gateway.api.admin.schemas import AuditOut, KeyAnswer, KeysOut, NewKeyAnswer, WebhookSecretOut
from gateway.api.audit import Audit
from gateway.api.auth import Permission
from gateway.api.pagination import PageOptions
from gateway.api.route import Route

_STORED: Final = ("invalid_request", "storage_unavailable")
_WRITES: Final = (*_STORED, "unsupported_media_type", "insufficient_storage")
_TAG: Final = "admin"

ADMIN_ROUTES: Final = (
    Route(
        method="POST",
        path="/api/admin/keys",
        handler=routes.create_key,
        audit=Audit(action="create_key", kind="receipt"),
        permission=Permission.ADMIN,
        tag=_TAG,
        summary="Create an API key",
        description="The answer contains the whole key, this once. `aurum keys create` on the "
        "machine of the gateway makes keys of every tenant.",
        responses={201: NewKeyAnswer},
        fields=routes.KEY_BODY,
        errors=_WRITES,
    ),
    Route(
        method="GET",
        path="/api/admin/keys",
        handler=routes.list_keys,
        audit=Audit(action="list_keys", kind="read"),
        permission=Permission.ADMIN,
        tag=_TAG,
        summary="List API keys",
        description="Oldest first, without their secrets; revoked and expired ones, too.",
        responses={200: KeysOut},
        options=PageOptions,
        errors=_STORED,
    ),
    Route(
        method="PATCH",
        path="/api/admin/keys/{key_id}",
        handler=routes.change_key,
        audit=Audit(action="change_key", kind="receipt"),
        permission=Permission.ADMIN,
        tag=_TAG,
        summary="Change the limits of an API key",
        description="Limits that are left out stay as they are; null lets the default of the "
        "gateway apply. They hold at once in this gateway, and within two seconds in others that "
        "share its records; what the key has used is not forgotten. 409 for a key that is revoked "
        "or expired.",
        responses={200: KeyAnswer},
        fields=routes.CHANGE_BODY,
        errors=(*_WRITES, "not_found", "conflict"),
    ),
    Route(
        method="POST",
        path="/api/admin/keys/{key_id}/rotate",
        handler=routes.rotate_key,
        audit=Audit(action="rotate_key", kind="receipt"),
        permission=Permission.ADMIN,
        tag=_TAG,
        summary="Replace an API key",
        description="Makes a key with the same roles and collections. The old one stays valid for "
        "`overlap_hours`, so that programs can change over.",
        responses={201: NewKeyAnswer},
        fields=routes.ROTATE_BODY,
        errors=(*_WRITES, "not_found", "conflict"),
    ),
    Route(
        method="DELETE",
        path="/api/admin/keys/{key_id}",
        handler=routes.revoke_key,
        audit=Audit(action="revoke_key", kind="receipt"),
        permission=Permission.ADMIN,
        tag=_TAG,
        summary="Revoke an API key",
        description="It is refused at once by this gateway, and within two seconds by others that "
        "share its records. A key that was revoked before stays as it is.",
        responses={200: KeyAnswer},
        errors=(*_STORED, "not_found", "insufficient_storage"),
    ),
    Route(
        method="GET",
        path="/api/admin/webhook-secret",
        handler=routes.show_webhook_secret,
        audit=Audit(action="show_webhook_secret", kind="read"),
        permission=Permission.ADMIN,
        tag=_TAG,
        summary="Show the secret of webhooks",
        description="The secret with which webhooks of the tenant are signed. It changes with "
        "`AURUM_WEBHOOK_SECRET`, from which it is derived; 404 if the service sends no webhooks.",
        responses={200: WebhookSecretOut},
        errors=("invalid_request", "not_found"),
    ),
    Route(
        method="GET",
        path="/api/admin/audit",
        handler=routes.show_audit,
        audit=Audit(action="show_audit", kind="read"),
        permission=Permission.ADMIN,
        tag=_TAG,
        summary="Show the audit log",
        description="Newest first: who changed, searched or read what is stored about people, or "
        "managed keys, in which collection and with which outcome; never whom it concerned.",
        responses={200: AuditOut},
        options=PageOptions,
        errors=_STORED,
    ),
)
"""Keys of other tenants do not exist for a caller."""
