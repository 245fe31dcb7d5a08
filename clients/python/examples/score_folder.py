"""Rate the faces of all photos in a folder: python score_folder.py FOLDER [URL]."""

import sys
from pathlib import Path

from aurum_client import AurumClient

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def main(folder: str, url: str = "http://localhost:8080") -> None:
    """Print a line for each photo: its name, and the scores or why there are none."""
    photos = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in ENDINGS)
    with AurumClient(url) as client:
        for outcome in client.score_many(photos, concurrency=8):
            if outcome.result is None:
                print(f"{outcome.image}\t{outcome.error}")
                continue
            scores = [face.score for face in outcome.result.faces if face.score is not None]
            print(f"{outcome.image}\t{' '.join(f'{score:.2f}' for score in scores)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
