"""The client without asyncio, generated from `_async` by `generate_sync.py`."""
