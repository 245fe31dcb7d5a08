# The gateway, the worker of jobs and the commands of `aurum`, with the versions of
# requirements/run.txt. `deploy/docker/build.sh` builds it; tests/e2e/test_container_images.py
# starts it.
#
# BASE is Debian 12. Pin it by digest where you build for others; `docker pull debian:12.11-slim`
# prints the digest of today:
#     make images BASE=debian:12.11-slim@sha256:…
ARG BASE=debian:12.11-slim

# what both stages below need
FROM ${BASE} AS python
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin aurum \
    && install --directory --owner 10001 --group 10001 /var/lib/aurum

# what installs packages stays in this stage: uv, which needs a tenth of pip's time
FROM python AS uv
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip-whl \
    && rm -rf /var/lib/apt/lists/*
# a mirror of PyPI, and a proxy with an authority of its own: docs/compose.md
ARG PIP_INDEX_URL
ARG PIP_CERT
COPY requirements/uv.txt /opt/
RUN PYTHONPATH="$(echo /usr/share/python-wheels/pip-*.whl)" \
    python3 -m pip install --no-cache-dir --no-compile --no-deps --require-hashes --target /opt/uv \
        --requirement /opt/uv.txt

FROM python
SHELL ["/bin/sh", "-eu", "-c"]
ARG UV_DEFAULT_INDEX
ARG SSL_CERT_FILE
WORKDIR /opt/aurum
COPY requirements requirements
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    /opt/uv/bin/uv venv --no-cache --python /usr/bin/python3 /opt/venv \
    && VIRTUAL_ENV=/opt/venv /opt/uv/bin/uv pip install --no-cache --no-deps --require-hashes \
        --requirement requirements/run.txt
COPY pyproject.toml README.md LICENSE THIRD_PARTY.md ./
COPY clients/python/src clients/python/src
COPY gateway gateway
COPY tools tools
COPY triton_python_backend triton_python_backend
# editable: settings find the checkout's folders beside the code
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    export VIRTUAL_ENV=/opt/venv UV_NO_CACHE=1 PATH="/opt/uv/bin:$PATH" \
    && uv pip install --no-deps --require-hashes --requirement requirements/build.txt \
    && uv pip install --no-deps --no-build-isolation --editable . \
    && uv pip uninstall setuptools

ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="aurum-gateway" \
      org.opencontainers.image.description="Aurum's gateway, and its worker for jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

ENV PATH=/opt/venv/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    AURUM_HOME=/var/lib/aurum
# what the image holds: docker run --rm aurum-gateway cat /opt/aurum/sbom.json
RUN python /opt/aurum/tools/sbom.py aurum-gateway "${VERSION}" /opt/aurum/sbom.json
WORKDIR /var/lib/aurum
VOLUME /var/lib/aurum
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "gateway.health_check"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["python", "-m", "gateway"]
