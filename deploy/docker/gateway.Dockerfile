# The gateway, from this checkout, with the versions of requirements/gateway.txt.
# Checked by tests/contract/test_compose.py; no Docker engine was at hand to build it.
FROM python:3.11.11-slim-bookworm

WORKDIR /opt/aurum
COPY pyproject.toml README.md LICENSE THIRD_PARTY.md ./
COPY requirements requirements
COPY gateway gateway
COPY tools tools
COPY triton_python_backend triton_python_backend
# editable: settings find the checkout's folders beside the code
RUN pip install --no-cache-dir --require-hashes --requirement requirements/gateway.txt \
    && pip install --no-cache-dir --no-deps --editable . \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin aurum \
    && install --directory --owner 10001 --group 10001 /var/lib/aurum

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

USER 10001:10001
EXPOSE 8080
CMD ["python", "-m", "gateway"]
