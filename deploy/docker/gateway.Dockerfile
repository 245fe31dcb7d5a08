# The gateway from this checkout, with the versions of constraints.txt.
# tests/contract/test_compose.py checks this file; nobody has built the image yet.
FROM python:3.11.11-slim-bookworm

WORKDIR /opt/aurum
COPY pyproject.toml constraints.txt README.md LICENSE THIRD_PARTY.md ./
COPY gateway gateway
COPY tools tools
COPY triton_python_backend triton_python_backend
# editable, because the settings expect the folders of the checkout beside the code
RUN pip install --no-cache-dir --constraint constraints.txt --editable . \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin aurum \
    && install --directory --owner 10001 --group 10001 /var/lib/aurum

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

USER 10001:10001
EXPOSE 8080
CMD ["python", "-m", "gateway"]
