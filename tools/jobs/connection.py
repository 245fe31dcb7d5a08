"""The connection of the job commands to the service, and their errors as one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer
from aurum_client import (
    AurumClient,
    AurumError,
    AuthenticationError,
    NotFoundError,
    ProblemError,
    ServiceUnreachableError,
    TimeLimitError,
    UnavailableError,
)
from rich.console import Console

from gateway.errors import ConfigurationError
from gateway.settings import load_settings
from tools.batch.types import printable
from tools.clients.api_key import key_headers
from tools.clients.listeners import gateway_url
from tools.clients.service_client import open_client
from tools.errors import BatchError, ServiceError
from tools.serving.home import resolve

INTERRUPTED = 130
_BROKEN_PIPE = 141
"""The status of a program that `SIGPIPE` ends."""


@dataclass(frozen=True, slots=True)
class Target:
    """The service of a command: `--url` and `--api-key-file`; None uses the settings."""

    url: str | None
    api_key_file: Path | None


def note(text: str) -> None:
    """Print a line to standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(printable(text))


@contextmanager
def connected(
    target: Target, *, missing: str = "list jobs with: aurum jobs list"
) -> Iterator[AurumClient]:
    """Open a client; end the command with a line and a status if the block fails.

    missing: what to say where something does not exist.

    The statuses are those of `options.EXIT_STATUSES`: 1 for a request that was rejected, 3 for a
    service that does not answer, 130 for Ctrl-C.
    """
    url = target.url or "the gateway"
    try:
        settings = resolve(load_settings())
        url = target.url or gateway_url(settings)
        with open_client(
            url, settings, headers=key_headers(settings, target.api_key_file)
        ) as client:
            yield client
    except BrokenPipeError:
        # the reader of a pipe, such as `head`, has ended; Python would complain at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_BROKEN_PIPE) from None
    except (AurumError, BatchError, ConfigurationError, OSError, ValueError) as error:
        _fail(error, url, missing, is_own=target.url is None)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _fail(error: Exception, url: str, missing: str, *, is_own: bool) -> NoReturn:
    status = BatchError.exit_status
    if isinstance(error, ServiceUnreachableError):
        text = f"no gateway at {url}: {error}" + ("; start one with: aurum up" if is_own else "")
        status = ServiceError.exit_status
    elif isinstance(error, TimeLimitError):
        text, status = f"no answer from {url}: {error}", ServiceError.exit_status
    elif isinstance(error, UnavailableError):
        text, status = f"{url}: {error}", ServiceError.exit_status
    elif isinstance(error, AuthenticationError):
        text = f"{error.detail}; pass a key with AURUM_API_KEY or --api-key-file"
    elif isinstance(error, NotFoundError):
        text = f"{error.detail}; {missing}"
    elif isinstance(error, ProblemError):
        text = str(error)
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error)
    note(f"error: {text}")
    raise typer.Exit(status) from error
