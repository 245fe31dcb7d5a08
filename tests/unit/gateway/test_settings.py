import os
from pathlib import Path

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


def test_files_of_a_folder_set_what_no_variable_sets(monkeypatch, tmp_path):
    (tmp_path / "AURUM_DATABASE_URL").write_text("postgresql://a:secret@b/c\n")
    (tmp_path / "AURUM_PORT").write_text("9000")
    # for others
    (tmp_path / "tls.pem").write_text("x")
    monkeypatch.setenv("AURUM_SECRETS_FOLDER", str(tmp_path))
    monkeypatch.setenv("AURUM_PORT", "9001")
    settings = load_settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://a:secret@b/c"
    assert settings.port == 9001


def test_a_misspelt_file_and_a_missing_folder_stop_the_start(monkeypatch, tmp_path):
    monkeypatch.setenv("AURUM_SECRETS_FOLDER", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match=r"AURUM_SECRETS_FOLDER.*No such file"):
        load_settings()
    monkeypatch.setenv("AURUM_SECRETS_FOLDER", str(tmp_path))
    (tmp_path / "AURUM_DATABSE_URL").write_text("secret")
    with pytest.raises(ConfigurationError, match="did you mean AURUM_DATABASE_URL") as refusal:
        load_settings()
    assert "secret" not in str(refusal.value)


def test_a_link_that_leads_out_of_the_folder_stops_the_start(monkeypatch, tmp_path):
    # pydantic would pass over it, and the gateway start without its database
    (tmp_path / "url").write_text("postgresql://a:secret@b/c")
    folder = tmp_path / "secrets"
    (folder / "..data").mkdir(parents=True)
    (folder / "AURUM_DATABASE_URL").symlink_to(tmp_path / "url")
    monkeypatch.setenv("AURUM_SECRETS_FOLDER", str(folder))
    with pytest.raises(ConfigurationError, match="AURUM_DATABASE_URL is a link that leads out"):
        load_settings()
    # as Kubernetes mounts secrets
    (folder / "AURUM_DATABASE_URL").unlink()
    (tmp_path / "url").rename(folder / "..data" / "AURUM_DATABASE_URL")
    (folder / "AURUM_DATABASE_URL").symlink_to(Path("..data") / "AURUM_DATABASE_URL")
    assert load_settings().database_url is not None


def test_a_malformed_value_in_a_file_names_the_variable(monkeypatch, tmp_path):
    (tmp_path / "AURUM_WEBHOOK_SECRET").write_text("too-short")
    monkeypatch.setenv("AURUM_SECRETS_FOLDER", str(tmp_path))
    with pytest.raises(ConfigurationError, match="AURUM_WEBHOOK_SECRET") as refusal:
        load_settings()
    assert "too-short" not in str(refusal.value)
