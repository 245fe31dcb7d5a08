"""Load on every route of the gateway and on Triton's gRPC port, by Locust.

    locust -f benchmarks/locustfile.py --host http://127.0.0.1:8080
    locust -f benchmarks/locustfile.py --host http://127.0.0.1:8080 --headless -u 8 -t 1m ScoreUser

Every user class is one kind of caller; name some on the command line to run only those. A request
counts as failed unless it is answered as its image deserves: a blank image must give `no_face`
from `/score`, a broken one `invalid_image`.
"""

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import grpc.experimental.gevent
import numpy as np
from locust import HttpUser, User, between, events, task
from locust.argument_parser import LocustArgumentParser
from tritonclient import grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from triton_python_backend import contract

PORTRAIT = Path(__file__).parents[1] / "tools" / "golden" / "eileen_collins.png"

grpc.experimental.gevent.init_gevent()


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add our options to Locust's own."""
    parser.add_argument(
        "--images", default=str(PORTRAIT.parent), help="folder of photos that show a face"
    )
    parser.add_argument(
        "--triton", default="127.0.0.1:8001", help="host:port of Triton's gRPC, for TritonUser"
    )


def read_photos(folder: str) -> list[bytes]:
    """Read all photos of a folder; raises FileNotFoundError if there is none."""
    suffixes = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in suffixes)
    if not paths:
        message = f"no photo in {folder}"
        raise FileNotFoundError(message)
    return [path.read_bytes() for path in paths]


def blank_image() -> bytes:
    """Encode a grey image that shows nothing."""
    return cv2.imencode(".png", np.full((240, 320, 3), 128, np.uint8))[1].tobytes()


class GatewayUser(HttpUser):
    """Base of the callers of the gateway: photos in turn, now and then a blank or broken one."""

    abstract = True
    wait_time = between(0, 0.05)
    path = ""
    blank_status = 200

    def on_start(self) -> None:
        """Load the photos."""
        photos = read_photos(self.environment.parsed_options.images)
        random.Random(id(self)).shuffle(photos)
        self.photos: Iterator[bytes] = itertools.cycle(photos)
        self.blank = blank_image()

    def form(self, image: bytes) -> dict[str, tuple[str, bytes]]:
        """Build the form that sends an image."""
        return {"image": ("image", image)}

    def send(self, image: bytes, name: str, expected: int) -> None:
        """Post an image and count the request as failed if the status is not the expected one."""
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
        self.send(next(self.photos), "photo", 200)

    @task(2)
    def nothing_to_see(self) -> None:
        """Post an image without a face."""
        self.send(self.blank, "blank", self.blank_status)

    @task(1)
    def broken(self) -> None:
        """Post the first half of a photo."""
        photo = next(self.photos)
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
    """Compares a photo with another, with nothing, with half a photo."""

    path = "/api/ml/verify"
    blank_status = 422

    def form(self, image: bytes) -> dict[str, tuple[str, bytes]]:
        """Build the form that compares a photo with the image."""
        return {"image_a": ("a", next(self.photos)), "image_b": ("b", image)}


class LookingUser(HttpUser):
    """Asks what serves and how it is."""

    wait_time = between(0.5, 1)

    @task
    def models(self) -> None:
        """List the models."""
        self.client.get("/api/ml/models")

    @task
    def ready(self) -> None:
        """Ask for readiness."""
        self.client.get("/api/health/ready")


class TritonUser(User):
    """Calls `face_pipeline` on Triton's gRPC port, past the gateway."""

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
