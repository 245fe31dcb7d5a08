"""Shapes of the JSON of KServe v2, for the OpenAPI document and for answers written here."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Out(BaseModel):
    # Triton writes most of these answers, and says more in some of them
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class ServerLiveOut(_Out):
    """Triton is alive."""

    live: bool


class ServerReadyOut(_Out):
    """All models of Triton are ready."""

    ready: bool


class ModelReadyOut(_Out):
    """The model is ready."""

    name: str
    ready: bool


class ServerMetadataOut(_Out):
    """The server and the protocol extensions that the gateway offers."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadataOut(_Out):
    """A tensor; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadataOut(_Out):
    """A model, its ready versions and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadataOut]
    outputs: list[TensorMetadataOut]


class ModelConfigOut(_Out):
    """The configuration, as Triton reports it."""

    name: str


class TensorIn(BaseModel):
    """An input. Its data are JSON, or `binary_data_size` bytes that follow the JSON."""

    model_config = ConfigDict(extra="forbid")

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] | None = None


class WantedOut(BaseModel):
    """A requested output; the parameter `binary_data` requests binary form."""

    model_config = ConfigDict(extra="forbid")

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferIn(BaseModel):
    """An inference request."""

    model_config = ConfigDict(extra="forbid")

    id: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[TensorIn]
    outputs: list[WantedOut] = Field(default_factory=list)


class TensorOut(TensorMetadataOut):
    """An output. Its data are JSON, or `binary_data_size` bytes that follow the JSON."""

    data: list[Any] | None = None


class InferOut(_Out):
    """The answer of a model."""

    model_name: str
    model_version: str
    outputs: list[TensorOut]
