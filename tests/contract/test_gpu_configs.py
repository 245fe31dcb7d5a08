"""The output of `aurum models optimise --gpu` parses as Triton's protobuf and fits the stages."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from gateway.settings import CHECKOUT
from tools.commands.models import app
from tools.serving.gpu_configs import BATCHING, VARIANTS, GpuConfigError, write_configs
from triton_python_backend import contract

REPOSITORY = CHECKOUT / "model_repository"
STAGES = {stage.name: stage for stage in contract.STAGES}


def parse(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    run = CliRunner().invoke(
        app, ["optimise", "--gpu", str(folder), "--repository", str(REPOSITORY)]
    )
    assert run.exit_code == 0, run.output
    return folder


def configs(folder):
    for variant in VARIANTS:
        for stage in BATCHING:
            text = (folder / stage / "configs" / f"{variant}.pbtxt").read_text()
            yield variant, parse(text), parse((REPOSITORY / stage / "config.pbtxt").read_text())


def test_names_types_and_versions_are_kept(written):
    for _, config, base in configs(written):
        for field in ("name", "backend", "input", "output", "version_policy"):
            assert getattr(config, field) == getattr(base, field)
        assert config.default_model_filename == base.default_model_filename


def test_batches_and_instances(written):
    for _, config, base in configs(written):
        preferred = config.dynamic_batching.preferred_batch_size
        # Triton refuses a preferred size above the largest
        assert list(preferred) == sorted(preferred)
        assert preferred[-1] == config.max_batch_size >= base.max_batch_size
        kinds = {group.kind for group in config.instance_group}
        assert kinds == {model_config_pb2.ModelInstanceGroup.KIND_GPU}
        assert not {"intra_op_thread_count", "enable_mem_pattern", "rows_per_run"} & set(
            config.parameters
        )


def test_execution_providers_and_graphs(written):
    for variant, config, _ in configs(written):
        (found,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        assert found.name == variant.split("-")[0]
        assert (found.parameters.get("trt_cuda_graph_enable") == "1") == (
            variant == "tensorrt-graphs"
        )
        assert (found.parameters.get("precision_mode") == "FP16") == variant.startswith("tensorrt")


def test_warm_up_is_the_largest_batch_and_one(written):
    for _, config, _ in configs(written):
        stage = STAGES[config.name]
        assert [w.batch_size for w in config.model_warmup] == [config.max_batch_size, 1]
        for sample in config.model_warmup:
            (given,) = sample.inputs.items()
            tensor = stage.inputs[0]
            assert given[0] == tensor.name
            assert model_config_pb2.DataType.Name(given[1].data_type) == f"TYPE_{tensor.dtype}"
            sizes = list(zip(given[1].dims, tensor.dims, strict=True))
            assert all(size == dim or (dim == -1 and size % 32 == 0) for size, dim in sizes)


def test_the_rest_of_the_repository_is_unchanged(written):
    files = {path.relative_to(written).parts[1] for path in written.rglob("*.pbtxt")}
    assert files == {"configs"}
    assert len(list(written.rglob("*.pbtxt"))) == len(VARIANTS) * len(BATCHING)


def test_the_error_names_a_stage_without_configuration(tmp_path):
    with pytest.raises(GpuConfigError, match=r"face_detection/config\.pbtxt cannot be read"):
        write_configs(tmp_path, tmp_path / "out")


def test_a_target_is_required(tmp_path):
    run = CliRunner().invoke(app, ["optimise", str(tmp_path)])
    assert run.exit_code == 1
    assert not list(tmp_path.iterdir())
