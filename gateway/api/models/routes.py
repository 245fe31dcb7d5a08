"""The models in service, and the version on trial."""

from aiohttp import web

from gateway.api.context import (
    context_of,
    json_answer,
    read_options,
    services_of,
)
from gateway.api.models.serializers import candidate_out, stages_out
from gateway.api.shapes import NoOptions
from gateway.registry.rejected import read_withdrawn, with_withdrawn
from gateway.registry.version_metadata import VersionMetadata, read_version_metadata


async def models(request: web.Request) -> web.Response:
    """List stages and versions."""
    context, services = context_of(request), services_of(request)
    read_options(request, NoOptions)
    stages = await services.inference.stages(deadline=context.deadline)
    repository = services.settings.model_repository
    keys = [(stage.name, each.version) for stage in stages for each in stage.versions]

    def read_all() -> tuple[
        dict[tuple[str, str], VersionMetadata | None], dict[tuple[str, str], str]
    ]:
        sidecars = {key: read_version_metadata(repository, *key) for key in keys}
        return sidecars, read_withdrawn(services.settings.home)

    sidecars, withdrawn = await services.workers.run(read_all, deadline=context.deadline)
    stages = with_withdrawn(stages, withdrawn)
    return json_answer(
        stages_out(
            stages,
            request_id=context.request_id,
            sidecars=sidecars,
            calibration_of=services.calibrations.of_space,
            reference_of=services.references.of,
        )
    )


async def candidate(request: web.Request) -> web.Response:
    """Show the version being tried beside the one in service."""
    read_options(request, NoOptions)
    trials = services_of(request).trials
    return json_answer(candidate_out(trials, request_id=context_of(request).request_id))
