"""What follows from the declarations, for the stages there are."""

from dataclasses import replace

import pytest

from triton_python_backend import contract, needs
from triton_python_backend.contract import DETECTION, EMBEDDING_STAGE, PIPELINE, SCORING, UNSCORED
from triton_python_backend.needs import (
    Need,
    ensemble_for,
    face_outputs_for,
    need_for,
    networks_behind,
    networks_for,
    outputs_for,
)

ALL = tuple(Need(value) for value in range(2 ** len(Need)))


def test_a_network_depends_on_those_whose_outputs_it_reads():
    assert networks_behind(DETECTION.name) == (DETECTION.name,)
    assert networks_behind(contract.ALIGNMENT.name) == (DETECTION.name,)
    assert networks_behind(EMBEDDING_STAGE.name) == (DETECTION.name, EMBEDDING_STAGE.name)
    assert networks_behind(SCORING.name) == (DETECTION.name, EMBEDDING_STAGE.name, SCORING.name)


def test_what_a_network_depends_on_is_followed_to_its_end(monkeypatch):
    third = replace(SCORING, name="face_third", inputs=SCORING.outputs, outputs=())
    monkeypatch.setattr(needs, "STAGES", (*contract.STAGES, third))
    monkeypatch.setattr(needs, "ONNX_STAGES", (*contract.ONNX_STAGES, third))
    assert networks_behind("face_third") == (*networks_behind(SCORING.name), "face_third")


@pytest.mark.parametrize(
    ("need", "last"),
    [
        (Need.NOTHING_MORE, DETECTION),
        (Need.CROPS, DETECTION),
        (Need.EMBEDDING, EMBEDDING_STAGE),
        (Need.SCORE, SCORING),
        (Need.SCORE | Need.CROPS, SCORING),
    ],
)
def test_a_need_takes_the_networks_behind_its_outputs(need, last):
    assert networks_for(need) == networks_behind(last.name)


@pytest.mark.parametrize("need", ALL)
def test_an_ensemble_has_all_outputs_and_ids_that_are_asked_of_it(need):
    (ensemble,) = (stage for stage in contract.STAGES if stage.name == ensemble_for(need))
    asked = set(outputs_for(need))
    assert asked <= contract.names_of(ensemble.outputs)
    assert {contract.ID_OUTPUT[stage] for stage in networks_for(need)} <= asked


@pytest.mark.parametrize("need", ALL)
def test_the_ensemble_without_scores_answers_embeddings_alone(need):
    alone = Need.EMBEDDING in need and Need.SCORE not in need
    assert ensemble_for(need) == (UNSCORED if alone else PIPELINE).name


def test_a_field_is_asked_for_by_its_name():
    assert need_for(["embedding", "crop"]) == Need.EMBEDDING | Need.CROPS
    assert need_for([]) == Need.NOTHING_MORE
    assert [output.name for output in face_outputs_for(Need.SCORE)] == ["score"]


def test_each_output_of_a_face_is_an_output_of_the_ensemble():
    rows = {tensor.name: tensor for tensor in PIPELINE.outputs}
    for output in contract.FACE_OUTPUTS:
        assert output.dtype == rows[output.tensor].dtype
        assert len(rows[output.tensor].dims) in (1 + len(output.dims), 2)
