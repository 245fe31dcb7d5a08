"""`aurum models optimise`: configurations for machines with a GPU."""

from pathlib import Path
from typing import Annotated

import typer

from tools.commands.models.common import Repository, opened
from tools.errors import WeightsError
from tools.serving.gpu_configs import VARIANTS, GpuConfigError, write_configs


def optimise(
    folder: Annotated[Path, typer.Argument(help="Where they go, laid out as a repository.")],
    *,
    gpu: Annotated[bool, typer.Option("--gpu", help="For NVIDIA's container on a GPU.")] = False,
    repository: Repository = None,
) -> None:
    """Write configurations of the ONNX stages for a GPU: CUDA, TensorRT, and with CUDA graphs."""
    with opened(repository) as context:
        if not gpu:
            raise WeightsError("nothing to optimise for: say --gpu")
        try:
            written = write_configs(context.version_store.repository, folder)
        except (GpuConfigError, OSError) as error:
            raise WeightsError(str(error)) from error
        for path in written:
            context.out.print(str(path), markup=False)
        names = ", ".join(VARIANTS)
        context.out.print(
            f"Copy {folder}/ over the repository and start NVIDIA's tritonserver with "
            f"--model-config-name= one of {names}. They were parsed, and not run on a GPU.",
            markup=False,
        )
