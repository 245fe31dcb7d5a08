"""Every `config.pbtxt` matches `contract.py` and suits NVIDIA's container unchanged."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from triton_python_backend import contract

REPOSITORY = Path(__file__).parents[2] / "model_repository"
STAGES = {stage.name: stage for stage in contract.STAGES}


def read_config(name: str) -> model_config_pb2.ModelConfig:
    text = (REPOSITORY / name / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def described(entries) -> list[tuple[str, str, tuple[int, ...]]]:
    names = model_config_pb2.DataType.Name
    kinds = {"STRING": "BYTES"}
    found = []
    for entry in entries:
        kind = names(entry.data_type).removeprefix("TYPE_")
        found.append((entry.name, kinds.get(kind, kind), tuple(entry.dims)))
    return found


def test_each_stage_has_a_folder():
    folders = {path.name for path in REPOSITORY.iterdir() if path.is_dir()}
    assert folders == set(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_config_matches_contract(name):
    config, stage = read_config(name), STAGES[name]
    assert config.name == name
    assert config.max_batch_size == stage.max_batch_size
    assert (config.backend or config.platform) == stage.backend
    for entries, tensors in ((config.input, stage.inputs), (config.output, stage.outputs)):
        assert described(entries) == [(t.name, t.dtype, t.dims) for t in tensors]


@pytest.mark.parametrize("name", [stage.name for stage in contract.ONNX_STAGES])
def test_onnx_stages_serve_the_newest_version_and_batch_requests(name):
    config = read_config(name)
    if name == contract.EMBEDDING_STAGE.name:
        # collections keep the spaces of older versions
        assert config.version_policy.HasField("all")
    else:
        assert config.version_policy.latest.num_versions == 1
    assert config.HasField("dynamic_batching")
    assert config.default_model_filename == "model.onnx"
    assert contract.ID_OUTPUT[name] in [output.name for output in config.output]


@pytest.mark.parametrize("name", [stage.name for stage in contract.ONNX_STAGES])
def test_networks_take_the_requests_of_callers_before_those_of_jobs(name):
    batching = read_config(name).dynamic_batching
    # 1 is the highest, which requests without a priority have
    assert batching.default_priority_level == 1
    assert batching.priority_levels == contract.JOB_PRIORITY == 2


@pytest.mark.parametrize(
    "name", [stage.name for stage in contract.STAGES if stage.backend == "python"]
)
def test_python_stage_has_a_short_entry_point_and_a_module(name):
    entry = (REPOSITORY / name / "1" / "model.py").read_text()
    assert len(entry.splitlines()) < 60
    assert "cv2" not in entry
    assert "numpy" not in entry
    module = name.removeprefix("face_")
    library = REPOSITORY.parent / "triton_python_backend"
    assert (library / f"{module}.py").is_file()


def test_every_module_of_the_library_has_a_unit_test():
    library = REPOSITORY.parent / "triton_python_backend"
    modules = {path.stem for path in library.glob("*.py")} - {"__init__"}
    folder = REPOSITORY.parent / "tests/unit/triton_python_backend"
    tests = {path.stem.removeprefix("test_") for path in folder.glob("test_*.py")}
    assert modules <= tests


@pytest.mark.parametrize("name", [contract.PIPELINE.name, contract.UNSCORED.name])
def test_ensemble_steps_connect_tensors_of_the_same_type(name):
    ensemble = read_config(name)
    made = {contract.IMAGE: ("BYTES", (1,))}
    for step in ensemble.ensemble_scheduling.step:
        stage = STAGES[step.model_name]
        batch = (-1,) if stage.max_batch_size else ()
        inputs = {tensor.name: tensor for tensor in stage.inputs}
        outputs = {tensor.name: tensor for tensor in stage.outputs}
        assert set(step.input_map) == set(inputs)
        assert set(step.output_map) <= set(outputs)
        for name, source in step.input_map.items():
            kind, shape = made[source]
            expected = (*batch, *inputs[name].dims)
            assert kind == inputs[name].dtype
            assert len(shape) == len(expected), (step.model_name, name)
            assert all(
                -1 in pair or pair[0] == pair[1] for pair in zip(shape, expected, strict=True)
            )
        for name, target in step.output_map.items():
            made[target] = (outputs[name].dtype, (*batch, *outputs[name].dims))
    assert {output.name for output in ensemble.output} <= set(made)
