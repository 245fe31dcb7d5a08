"""Limits of callers over HTTP: the check before a body is read, and the fields of every answer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.api.body import BodySpec
from gateway.api.call import Call
from gateway.api.context import context_of, services_of
from gateway.api.route import Bodies, Route
from gateway.collections.image_analysis import NamedImage
from gateway.images import pixels_of
from gateway.security.limits.base import OverLimitError
from gateway.security.limits.fields import rate_limit_fields

_CHECKED_AT_ONCE_BYTES: Final = 256 * 1024
"""Up to this size, headers take less time than a switch to a thread and back."""


def takes_images(route: Route) -> bool:
    """Whether a request of the route may carry images or tensors."""
    if isinstance(route.fields, BodySpec):
        return bool(route.fields.image_names)
    return isinstance(route.fields, Bodies)


@asynccontextmanager
async def within_limits(request: web.Request, route: Route) -> AsyncIterator[None]:
    """Hold one of the requests at a time of the caller; raises OverLimitError before the block."""
    context = context_of(request)
    try:
        async with services_of(request).limits.admit(
            context.caller, with_images=takes_images(route)
        ) as context.admission:
            yield
    except OverLimitError as error:
        context.refused_standing = error.standing
        raise


def fields_of(request: web.Request) -> dict[str, str]:
    """Return `RateLimit-Policy` and `RateLimit` for the answer to a caller that has limits."""
    context = context_of(request)
    if context.refused_standing is not None:
        return rate_limit_fields(context.refused_standing)
    return {} if context.admission is None else rate_limit_fields(context.admission.standing)


async def charge_images(call: Call[Any, Any]) -> None:
    """Charge the images of a body: their number per day, and the pixels of those that were sent.

    Raises RateLimitedError if the tenant has used up its images of the day.
    """
    number = len(call.body.sources)
    await call.services.collections.quotas.charge_images(call.caller.tenant, number)
    await charge_pixels(call, call.body.images)


async def charge_pixels(call: Call[Any, Any], images: Sequence[NamedImage]) -> None:
    """Charge the pixels of images whose bytes are there."""
    admission = call.context.admission
    if not images or admission is None or not admission.counts_pixels:
        return
    data = [image.data for image in images]
    count = partial(pixels_of, data, most_megapixels=call.services.settings.max_image_megapixels)
    if sum(map(len, data)) <= _CHECKED_AT_ONCE_BYTES:
        pixels = count()
    else:
        pixels = await call.services.cpu_pool.run(count, deadline=call.deadline)
    await admission.charge_pixels(pixels)
