"""Unpacks tritonserver and compiles its backend into a folder: `python -m tools.serving.unpack`.

For images of containers: `AURUM_TRITON_FOLDER` names the folder, and nothing is started.
"""

import sys

from gateway.errors import ConfigurationError
from gateway.settings import load_settings
from tools.serving import compiled_backend, triton_install
from tools.serving.errors import ServingError
from tools.serving.home import Home, resolve


def main() -> int:
    """Unpack and compile; return the exit status."""
    try:
        settings = resolve(load_settings())
        folder = settings.triton_folder or Home(settings.home).triton
        installation = triton_install.install(folder, report=_say)
        compiled_backend.provide(installation.compiled, settings.onnx_backend, report=_say)
    except (ConfigurationError, ServingError) as error:
        _say(f"error: {error}")
        return 1
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
