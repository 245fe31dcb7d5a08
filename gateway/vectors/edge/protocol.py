"""The names in a collection's folder that the gateway and the engine process share."""

from typing import Final

MANIFEST: Final = "manifest.json"
"""The file in a collection's folder that lists its shards."""
