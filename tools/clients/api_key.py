"""The key that commands send to a gateway, as the settings or an option name it."""

from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.secret_files import read_secret_file
from gateway.settings import Settings


def key_headers(settings: Settings, file: Path | None = None) -> dict[str, str]:
    """Return the header with the key; none without one.

    file: of `--api-key-file`; None uses AURUM_API_KEY or AURUM_API_KEY_FILE.

    Raises ConfigurationError for a file that cannot be read or holds no key.
    """
    file = file or (settings.api_key_file if settings.api_key is None else None)
    if file is not None:
        key = read_secret_file(file, "AURUM_API_KEY_FILE").strip()
        source = str(file)
    elif settings.api_key is not None:
        key, source = settings.api_key.get_secret_value().strip(), "AURUM_API_KEY"
    else:
        return {}
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        # without the text, which may be a key all the same
        raise ConfigurationError(f"{source} does not contain an API key or a token")
    return {"Authorization": f"Bearer {key}"}
