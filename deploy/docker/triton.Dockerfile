# NVIDIA's server with the library that the Python stages import.
# Written from the image's documentation. tests/contract/test_compose.py checks this file; nobody has
# built the image yet.
FROM nvcr.io/nvidia/tritonserver:24.10-py3

# numpy below 2, because the stub cannot read the arrays of newer versions; pillow: the newest version
# for the Python 3.10 of this image
RUN pip install --no-cache-dir numpy==1.26.4 opencv-python-headless==4.11.0.86 pillow==12.3.0

# copied into the interpreter's packages, because the stub ignores PYTHONPATH
COPY triton_python_backend /tmp/triton_python_backend
RUN packages="$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && cp -r /tmp/triton_python_backend "$packages/" \
    && chmod -R a+rX "$packages/triton_python_backend" \
    && python3 -I -c 'import triton_python_backend.adapter, triton_python_backend.stages'

ENV PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1

USER 1000:1000
