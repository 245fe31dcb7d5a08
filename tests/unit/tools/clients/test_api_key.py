import pytest
from pydantic import SecretStr

from gateway.checkout import LOCAL_KEY, SECRETS, without_secrets
from gateway.errors import ConfigurationError
from gateway.settings import PREFIX, Settings
from tools.clients.api_key import key_headers
from tools.clients.local_key import local_key_headers


def test_without_a_key_nothing_is_sent():
    assert key_headers(Settings()) == {}


def test_an_option_comes_before_the_variables(tmp_path):
    given, named = tmp_path / "given", tmp_path / "named"
    given.write_text("aur_given\n")
    named.write_text("aur_named\n")
    settings = Settings(api_key="aur_variable", api_key_file=named)
    assert key_headers(settings, given) == {"Authorization": "Bearer aur_given"}
    assert key_headers(settings) == {"Authorization": "Bearer aur_variable"}
    named_only = Settings(api_key_file=named)
    assert key_headers(named_only) == {"Authorization": "Bearer aur_named"}


@pytest.mark.parametrize("text", ["", "two words", "a\nb", "\x7f"])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path, text):
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="does not contain") as caught:
        key_headers(Settings(), file)
    assert not text or text not in str(caught.value)
    with pytest.raises(ConfigurationError, match="AURUM_API_KEY_FILE"):
        key_headers(Settings(), tmp_path / "none")


def test_the_key_of_this_machine(tmp_path):
    assert local_key_headers(tmp_path) == {}
    (tmp_path / LOCAL_KEY).parent.mkdir()
    (tmp_path / LOCAL_KEY).write_text("aur_local\n")
    assert local_key_headers(tmp_path) == {"Authorization": "Bearer aur_local"}


def test_every_secret_setting_is_kept_from_other_processes():
    secret = {
        PREFIX + name.upper()
        for name, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *getattr(field.annotation, "__args__", ()))
    }
    assert secret == SECRETS
    environment = {"PATH": "/bin", "AURUM_PORT": "1", **dict.fromkeys(SECRETS, "secret")}
    assert without_secrets(environment) == {"PATH": "/bin", "AURUM_PORT": "1"}
    assert without_secrets({"aurum_api_key": "secret"}) == {}
