# The gateway, the worker of jobs and the commands of `aurum`, with the versions of
# requirements/run.txt. `make images` builds it; tests/e2e/test_images.py builds and starts it.
#
# BASE is Debian 12. Pin it by digest where you build for others; `docker pull debian:12.11-slim`
# prints the digest of today:
#     make images BASE=debian:12.11-slim@sha256:…
ARG BASE=debian:12.11-slim

# what is needed to build stays in this stage
FROM ${BASE} AS build
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/aurum
COPY requirements requirements
# the files list every package: pip need not ask each for what it needs
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-compile --no-deps --require-hashes \
        --requirement requirements/run.txt --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE THIRD_PARTY.md ./
COPY clients/python/src clients/python/src
COPY gateway gateway
COPY tools tools
COPY triton_python_backend triton_python_backend
# editable: settings find the checkout's folders beside the code. The image needs no pip
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && /opt/venv/bin/pip uninstall --yes setuptools pip

FROM ${BASE}
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin aurum \
    && install --directory --owner 10001 --group 10001 /var/lib/aurum
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/aurum /opt/aurum

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
