"""`aurum draw`: post a photo to the gateway and draw its answer."""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import cv2
import numpy as np
import typer
from rich.console import Console

from gateway.errors import ConfigurationError
from gateway.settings import load_settings
from tools.batch.options import ApiKeyFile
from tools.clients.api_key import key_headers
from tools.clients.listeners import gateway_url
from tools.clients.service_client import gateway_context
from tools.drawing import draw_faces
from tools.errors import BatchError
from triton_python_backend.decoding import decode


def draw(
    photo: Annotated[Path, typer.Argument(help="A photo.", exists=True, dir_okay=False)],
    picture: Annotated[Path, typer.Argument(help="Picture to write (.png, .jpg, .webp).")],
    url: Annotated[
        str | None, typer.Option(help="Address of the gateway; default: the settings'.")
    ] = None,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Ask the gateway for the faces of PHOTO and draw them into PICTURE."""
    data = photo.read_bytes()
    try:
        settings = load_settings()
        url = url or gateway_url(settings)
        headers = key_headers(settings, api_key_file)
        context = gateway_context(url, settings)
        answer = asyncio.run(_score(url, data, headers, context))
    except (BatchError, ConfigurationError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False)
        raise typer.Exit(1) from error
    except aiohttp.ClientConnectionError as error:
        Console(stderr=True).print(f"no gateway at {url}: {error}")
        raise typer.Exit(1) from error
    if "faces" not in answer:
        Console(stderr=True).print(f"{answer['code']}: {answer['detail']}")
        raise typer.Exit(1)
    drawn = draw_faces(decode(data), answer["faces"])
    encoded, bytes_ = cv2.imencode(picture.suffix, np.ascontiguousarray(drawn[..., ::-1]))
    if not encoded:
        raise typer.BadParameter(f"cannot write {picture.suffix} pictures")
    picture.write_bytes(bytes_.tobytes())
    Console().print(f"{len(answer['faces'])} face(s) drawn into {picture}")


async def _score(
    url: str, data: bytes, headers: Mapping[str, str], context: ssl.SSLContext | bool
) -> dict[str, Any]:
    form = aiohttp.FormData()
    form.add_field("image", data, filename="photo")
    async with (
        aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(30)) as session,
        session.post(f"{url}/api/ml/score", data=form, ssl=context or True) as answer,
    ):
        return dict(await answer.json(content_type=None))
