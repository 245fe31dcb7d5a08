"""The models in service and the version on trial."""

from gateway.api.call import Answer, Call
from gateway.api.models.serializers import candidate_out, stages_out
from gateway.api.shapes import NoOptions
from gateway.registry.rejected import read_rejected, with_rejected
from gateway.registry.version_metadata import VersionMetadata, read_version_metadata


async def models(call: Call[NoOptions, NoOptions]) -> Answer:
    """List stages and versions."""
    services = call.services
    stages = await services.inference.stages(deadline=call.deadline)
    repository = services.settings.model_repository
    keys = [(stage.name, each.version) for stage in stages for each in stage.versions]

    def read_all() -> tuple[
        dict[tuple[str, str], VersionMetadata | None], dict[tuple[str, str], str]
    ]:
        metadata = {key: read_version_metadata(repository, *key) for key in keys}
        return metadata, read_rejected(services.settings.home)

    metadata, rejected = await services.cpu_pool.run(read_all, deadline=call.deadline)
    return Answer(
        stages_out(
            with_rejected(stages, rejected),
            request_id=call.request_id,
            metadata=metadata,
            calibration_of=services.calibrations.of_space,
            reference_of=services.references.of,
        )
    )


async def candidate(call: Call[NoOptions, NoOptions]) -> Answer:
    """Show the version on trial beside the one in service."""
    return Answer(candidate_out(call.services.trials, request_id=call.request_id))
