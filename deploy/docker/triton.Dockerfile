# NVIDIA's server with the library that the Python stages import; `make images ARGS=triton` builds it.
# Written from the documentation of NVIDIA's image, which nobody has built on yet: docs/compose.md
# says what was tried. BASE is pinned by digest as in gateway.Dockerfile:
#     make images ARGS=triton TRITON_BASE=nvcr.io/nvidia/tritonserver:24.10-py3@sha256:…
ARG BASE=nvcr.io/nvidia/tritonserver:24.10-py3

FROM ${BASE}
SHELL ["/bin/sh", "-eu", "-c"]
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="aurum-triton" \
      org.opencontainers.image.description="NVIDIA's Triton with what Aurum's stages need" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# the versions of the project, of which NumPy and Pillow still have files for this image's Python 3.10
COPY requirements/triton.txt /opt/aurum/
RUN python3 -m pip install --no-cache-dir --no-deps --require-hashes \
        --requirement /opt/aurum/triton.txt

# copied into the interpreter's packages, because the stub ignores PYTHONPATH
COPY triton_python_backend /opt/aurum/triton_python_backend
COPY tools/sbom.py /opt/aurum/
RUN packages="$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && mv /opt/aurum/triton_python_backend "$packages/" \
    && chmod -R a+rX "$packages/triton_python_backend" \
    && python3 -I -c 'import triton_python_backend.adapter, triton_python_backend.stages' \
    && python3 /opt/aurum/sbom.py aurum-triton "${VERSION}" /opt/aurum/sbom.json

ENV PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1

USER 1000:1000
EXPOSE 8000 8001 8002
# TensorRT may build engines at the first start
HEALTHCHECK --interval=5s --timeout=5s --start-period=300s --retries=3 \
    CMD ["python3", "-m", "triton_python_backend.liveness", "http://127.0.0.1:8000/v2/models/face_pipeline/ready", "--end"]
