"""Examples of KServe v2 for the OpenAPI document."""

from typing import Any, Final

_NAME: Final = "/v2/models/{model}"
_VERSION: Final = "/v2/models/{model}/versions/{version}"
_METADATA: Final = {
    "name": "face_embedding",
    "versions": ["1"],
    "platform": "",
    "inputs": [{"name": "CROPS", "datatype": "UINT8", "shape": [-1, 112, 112, 3]}],
    "outputs": [
        {"name": "EMBEDDING", "datatype": "FP32", "shape": [-1, -1]},
        {"name": "SPACE", "datatype": "INT64", "shape": [-1, 1]},
    ],
}
_CONFIG: Final = {"name": "face_embedding", "backend": "onnxruntime", "max_batch_size": 32}
_READY: Final = {"name": "face_embedding", "ready": True}
_ANSWER: Final = {
    "model_name": "face_pipeline",
    "model_version": "1",
    "outputs": [
        {"name": "CONFIDENCE", "datatype": "FP32", "shape": [1], "data": [0.91]},
        {"name": "SCORE", "datatype": "FP32", "shape": [1], "data": [6.4]},
    ],
}

KSERVE_EXAMPLES: Final[dict[tuple[str, str, int], dict[str, Any]]] = {
    ("GET", "/v2", 200): {
        "name": "triton",
        "version": "2.51.0",
        "extensions": ["model_configuration", "binary_tensor_data", "parameters"],
    },
    ("GET", "/v2/health/live", 200): {"live": True},
    ("GET", "/v2/health/ready", 200): {"ready": True},
    **{("GET", path, 200): _METADATA for path in (_NAME, _VERSION)},
    **{("GET", f"{path}/ready", 200): _READY for path in (_NAME, _VERSION)},
    **{("GET", f"{path}/config", 200): _CONFIG for path in (_NAME, _VERSION)},
    **{("POST", f"{path}/infer", 200): _ANSWER for path in (_NAME, _VERSION)},
}
