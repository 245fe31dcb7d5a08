import os

import pytest
from pydantic import ValidationError

from gateway.errors import ConfigurationError
from gateway.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("AURUM_")]:
        monkeypatch.delenv(name)


def test_defaults_bind_this_machine_only():
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.triton_address == "127.0.0.1:8001"


def test_a_variable_sets_its_field(monkeypatch):
    monkeypatch.setenv("AURUM_MAX_IMAGE_BYTES", "1000")
    monkeypatch.setenv("AURUM_TRITON_GRPC_URL", "triton:9")
    settings = load_settings()
    assert settings.max_image_bytes == 1000
    assert settings.triton_address == "triton:9"


def test_the_error_names_a_misspelt_variable_and_the_right_one(monkeypatch):
    monkeypatch.setenv("AURUM_MAX_IMAGE_BYTE", "1000")
    with pytest.raises(ConfigurationError, match="AURUM_MAX_IMAGE_BYTES"):
        load_settings()


def test_variables_of_the_tests_are_ignored(monkeypatch):
    monkeypatch.setenv("AURUM_TEST_DATA", "/somewhere")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "0"), ("SCORING", "maybe"), ("MATCH_THRESHOLD", "2")]
)
def test_the_error_names_an_impossible_value(monkeypatch, name, value):
    monkeypatch.setenv(f"AURUM_{name}", value)
    with pytest.raises(ConfigurationError, match=f"AURUM_{name}: .*{value}"):
        load_settings()


def test_the_error_does_not_quote_a_secret(monkeypatch):
    monkeypatch.setenv("AURUM_WEBHOOK_SECRET", "too-short")
    with pytest.raises(ConfigurationError, match="AURUM_WEBHOOK_SECRET: ") as raised:
        load_settings()
    assert "too-short" not in f"{raised.value} {raised.value.__cause__}"


def test_settings_are_immutable():
    with pytest.raises(ValidationError):
        Settings().port = 1
    with pytest.raises(ValidationError):
        Settings(colour="red")
