"""What the gateway and the engine process both know of the folder."""

from typing import Final

MANIFEST: Final = "manifest.json"
"""The file in a collection's folder that lists its shards."""
