"""The key with which tools ask a gateway of this machine; the gateway makes it at its start."""

from pathlib import Path

from gateway.checkout import LOCAL_KEY


def local_key_headers(home: Path) -> dict[str, str]:
    """Return the header with the key; none if there is no key, or it is not ours to read."""
    try:
        key = (home / LOCAL_KEY).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return {}
    return {"Authorization": f"Bearer {key}"}
