# aurum-cpu: everything on one image, with the Triton of the wheel and the built-in weights.
# `make images` builds it; tests/e2e/test_container_images.py builds and starts it.
#
#     docker run --rm -p 127.0.0.1:8080:8080 aurum-cpu
#     curl -F image=@photo.jpg http://127.0.0.1:8080/api/ml/score
#
# It asks nobody for a key unless AURUM_AUTHENTICATION=on: publish its port on this machine only.
# State lies in /var/lib/aurum, which may be a volume or a tmpfs; nothing else is written but /tmp
# and /dev/shm. So it also runs with less:
#
#     docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#         --shm-size 1g -p 127.0.0.1:8080:8080 aurum-cpu
#
# It grows from the gateway's image, so build that first.
ARG GATEWAY=aurum-gateway

FROM ${GATEWAY} AS build
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3002
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libpython3.11 python3-pip-whl \
    && rm -rf /var/lib/apt/lists/*
ARG PIP_INDEX_URL
ARG PIP_CERT
# Debian's pip fetches the wheel with Triton. Without a compiled backend there is no image
RUN PYTHONPATH="$(echo /usr/share/python-wheels/pip-*.whl)" \
    AURUM_TRITON_FOLDER=/opt/triton AURUM_ONNX_BACKEND=compiled python -m tools.serving.unpack

FROM ${GATEWAY}
SHELL ["/bin/sh", "-eu", "-c"]
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libpython3.11 redis-server \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/triton /opt/triton
COPY model_repository /opt/aurum/model_repository
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="aurum-cpu" \
      org.opencontainers.image.description="Aurum on one image, with Triton for processors"

# compiled: the image has no compiler, and the other backend is slower. proxy: the container's port
# is reached only as far as it is published
ENV AURUM_TRITON_FOLDER=/opt/triton \
    AURUM_ONNX_BACKEND=compiled \
    AURUM_HOST=0.0.0.0 \
    AURUM_AUTHENTICATION=proxy
RUN python /opt/aurum/tools/sbom.py aurum-cpu "${VERSION}" /opt/aurum/sbom.json
USER 10001:10001
# the first start checks the networks
HEALTHCHECK --interval=5s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-m", "gateway.health_check"]
CMD ["aurum", "serve"]
