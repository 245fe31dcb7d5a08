"""Rate all photos of a folder or archive as a job: python batch_job.py PATH [URL].

The service keeps the job when this program ends; `client.jobs.get(job_id)` finds it again.
"""

import sys

from aurum_client import AurumClient, FacesResult


def main(path: str, url: str = "http://localhost:8080") -> None:
    """Upload, show the progress, print each photo with its best score."""
    with AurumClient(url) as client:
        job = client.jobs.submit(path, operation="score")
        print(f"job {job.job_id}: {job.total} photos", file=sys.stderr)
        for event in client.jobs.events(job.job_id):
            if event.job is not None:
                ended = event.job.done + event.job.failed
                left = event.job.seconds_left
                rest = "" if left is None else f", {left:.0f} s left"
                print(f"{ended} of {event.job.total}{rest}", file=sys.stderr)
        for item in client.jobs.results(job.job_id):
            if item.error is not None:
                print(f"{item.name}\t{item.error.code}")
            elif isinstance(item.result, FacesResult):
                scores = [face.score for face in item.result.faces if face.score is not None]
                print(f"{item.name}\t{max(scores, default=0):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
