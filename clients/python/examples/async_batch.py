"""Embed photos and find the most similar pair: python async_batch.py URL PHOTO PHOTO…."""

import asyncio
import sys
from itertools import combinations

from aurum_client import AsyncAurumClient


async def main(url: str, *photos: str) -> None:
    """Print how similar the largest faces of the most similar two photos are."""
    embeddings = {}
    async with AsyncAurumClient(url) as client:
        async for outcome in client.embed_many(photos, concurrency=4):
            if outcome.result is None:
                print(f"{outcome.image}: {outcome.error}")
            elif outcome.result.faces:
                embeddings[photos[outcome.index]] = outcome.result.faces[0].embedding or ()
    pairs = [
        (sum(x * y for x, y in zip(embeddings[a], embeddings[b])), a, b)
        for a, b in combinations(embeddings, 2)
    ]
    if pairs:
        similarity, first, second = max(pairs)
        print(f"{first} and {second}: {similarity:.3f}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
