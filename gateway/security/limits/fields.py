"""Limits as HTTP fields: `RateLimit-Policy` and `RateLimit`.

After draft-ietf-httpapi-ratelimit-headers-11. Both are lists of structured fields (RFC 9651).
"""

from gateway.security.limits.base import Left, Policy, Standing

_MINUTE = "60"
_UNITS = {Policy.MEGAPIXELS: "megapixels", Policy.CONCURRENT: "concurrent-requests"}
"""Where it is not `requests`, the default. The draft's registry has no unit for pixels."""


def rate_limit_fields(standing: Standing) -> dict[str, str]:
    """Write the fields of an answer; none for a caller without limits."""
    if not standing:
        return {}
    return {
        "RateLimit-Policy": ", ".join(_policy(name, left) for name, left in standing.items()),
        "RateLimit": ", ".join(_left(name, left) for name, left in standing.items()),
    }


def _policy(name: Policy, left: Left) -> str:
    unit = f';qu="{_UNITS[name]}"' if name in _UNITS else ""
    window = "" if left.seconds is None else f";w={_MINUTE}"
    burst = "" if left.burst is None else f";aurum-burst={left.burst}"
    return f'"{name}";q={left.quota}{unit}{window}{burst}'


def _left(name: Policy, left: Left) -> str:
    seconds = "" if left.seconds is None else f";t={left.seconds}"
    return f'"{name}";r={left.available}{seconds}'
