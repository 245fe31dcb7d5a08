r"""Load on every route of the gateway and on Triton's gRPC port, by Locust.

    locust -f benchmarks/locustfile.py --host http://127.0.0.1:8080
    locust -f benchmarks/locustfile.py --host http://127.0.0.1:8080 --headless -u 8 -t 1m \
        --max-p95 200 --max-errors 0.1 --html report.html ScoreUser SearchUser

Each user class is one kind of caller; name some on the command line to run only those. A request
fails unless the answer fits the image: `/score` must answer `no_face` to a blank image and
`invalid_image` to a broken one. The load is steady unless a file of `shapes/` is named beside this
one. A run that misses a goal exits with status 3.
"""

import itertools
import time
import uuid
from pathlib import Path

import grpc.experimental.gevent
import numpy as np
from locust import HttpUser, User, between, events, task
from locust.argument_parser import LocustArgumentParser

# Locust looks for modules in the folder of this file
from locust_goals import check_goals  # noqa: F401 - listens
from locust_photos import Photos, blank_image, make_variants, read_photos
from tritonclient import grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from triton_python_backend import contract

PORTRAIT = Path(__file__).parents[1] / "tools" / "golden" / "eileen_collins.png"

grpc.experimental.gevent.init_gevent()


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add the options of this file."""
    parser.add_argument(
        "--images", default=str(PORTRAIT.parent), help="folder of photos that show a face"
    )
    parser.add_argument(
        "--variants", type=int, default=0, help="variants to generate of each photo"
    )
    parser.add_argument(
        "--cold", type=float, default=0.5, help="share of photos that no cache can answer, 0 to 1"
    )
    parser.add_argument(
        "--triton", default="127.0.0.1:8001", help="host:port of Triton's gRPC, for TritonUser"
    )


def photos_of(user: User) -> Photos:
    """Return the photos that the options select."""
    options = user.environment.parsed_options
    given = read_photos(options.images)
    made = [each for photo in given for each in make_variants(photo, options.variants)]
    return Photos(given + made, cold=options.cold)


class GatewayUser(HttpUser):
    """Base of the gateway's callers: photos in turn, sometimes a blank or broken one."""

    abstract = True
    wait_time = between(0, 0.05)
    path = ""
    blank_status = 200

    def on_start(self) -> None:
        """Load the photos."""
        self.photos = photos_of(self)
        self.blank = blank_image()

    def form(self, image: bytes) -> dict[str, tuple[str, bytes]]:
        """Return the form that sends an image."""
        return {"image": ("image", image)}

    def send(self, image: bytes, name: str, expected: int) -> None:
        """Post an image; the request fails unless the status is the expected one."""
        with self.client.post(
            self.path, files=self.form(image), name=f"{self.path} {name}", catch_response=True
        ) as answer:
            if answer.status_code == expected:
                answer.success()
            else:
                answer.failure(f"{answer.status_code} instead of {expected}: {answer.text[:200]}")

    @task(16)
    def photo(self) -> None:
        """Post a photo with a face."""
        self.send(self.photos.photo(), "photo", 200)

    @task(2)
    def nothing_to_see(self) -> None:
        """Post an image without a face."""
        self.send(self.blank, "blank", self.blank_status)

    @task(1)
    def broken(self) -> None:
        """Post the first half of a photo."""
        photo = self.photos.photo()
        self.send(photo[: len(photo) // 2], "broken", 422)


class ScoreUser(GatewayUser):
    """Rates faces."""

    path = "/api/ml/score"
    blank_status = 422


class DetectUser(GatewayUser):
    """Finds faces."""

    path = "/api/ml/detect"


class EmbedUser(GatewayUser):
    """Embeds faces."""

    path = "/api/ml/embed"


class VerifyUser(GatewayUser):
    """Compares a photo with another one, a blank image or half a photo."""

    path = "/api/ml/verify"
    blank_status = 422

    def form(self, image: bytes) -> dict[str, tuple[str, bytes]]:
        """Return the form that compares a photo with the image."""
        return {"image_a": ("a", self.photos.photo()), "image_b": ("b", image)}


class CollectionUser(HttpUser):
    """Base of the users of collections: each has its own, deleted at the end."""

    abstract = True
    wait_time = between(0, 0.05)

    def on_start(self) -> None:
        """Create the collection."""
        self.photos = photos_of(self)
        self.collection = f"load-{uuid.uuid4().hex[:12]}"
        self.at = f"/api/collections/{self.collection}"
        self.client.post("/api/collections", json={"name": self.collection})

    def on_stop(self) -> None:
        """Delete the collection."""
        self.client.delete(self.at, name="/api/collections/{name}")

    def enrol(self) -> None:
        """Enrol a new subject."""
        self.client.post(
            f"{self.at}/faces",
            files={"image": ("image", self.photos.unseen_photo())},
            data={"subject": f"s{uuid.uuid4().hex[:8]}"},
            name="/api/collections/{name}/faces",
        )


class EnrolUser(CollectionUser):
    """Enrols new subjects."""

    @task
    def somebody(self) -> None:
        """Enrol a new subject."""
        self.enrol()


class SearchUser(CollectionUser):
    """Searches among three subjects."""

    def on_start(self) -> None:
        """Create a collection of three subjects."""
        super().on_start()
        for _ in range(3):
            self.enrol()

    @task
    def search(self) -> None:
        """Search for the face of a photo; the request fails if nothing matches."""
        with self.client.post(
            f"{self.at}/search",
            files={"image": ("image", self.photos.photo())},
            name="/api/collections/{name}/search",
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")
            elif not any(face["matches"] for face in answer.json()["faces"]):
                answer.failure("no match")


class LookingUser(HttpUser):
    """Requests models and readiness."""

    wait_time = between(0.5, 1)

    @task
    def models(self) -> None:
        """Request the models."""
        self.client.get("/api/ml/models")

    @task
    def ready(self) -> None:
        """Request readiness."""
        self.client.get("/api/health/ready")


class TritonUser(User):
    """Calls `face_pipeline` on Triton's gRPC port, without the gateway."""

    wait_time = between(0, 0.05)

    def on_start(self) -> None:
        """Connect."""
        options = self.environment.parsed_options
        self.photos = itertools.cycle(read_photos(options.images))
        self.triton = triton_grpc.InferenceServerClient(options.triton)

    def on_stop(self) -> None:
        """Disconnect."""
        self.triton.close()

    @task
    def pipeline(self) -> None:
        """Send a photo through the whole ensemble."""
        photo = next(self.photos)
        image = triton_grpc.InferInput(contract.IMAGE, [1], "BYTES")
        image.set_data_from_numpy(np.array([photo], dtype=np.object_))
        started = time.perf_counter()
        failure: Exception | None = None
        faces = 0
        try:
            answer = self.triton.infer(contract.PIPELINE.name, [image])
            faces = len(answer.as_numpy(contract.BOXES))
        except InferenceServerException as error:
            failure = error
        if failure is None and faces == 0:
            failure = ValueError("no face in a photo that shows one")
        self.environment.events.request.fire(
            request_type="gRPC",
            name=contract.PIPELINE.name,
            response_time=(time.perf_counter() - started) * 1000,
            response_length=len(photo),
            exception=failure,
        )
