"""What the local engine needs."""

import sys

import pytest
from aurum_client.local import LocalEngine


def test_the_local_engine_needs_the_server(monkeypatch, tmp_path):
    # as if nothing had imported it yet
    monkeypatch.delitem(sys.modules, "aurum_client._ensemble", raising=False)
    monkeypatch.setitem(sys.modules, "gateway.inference.local", None)
    with pytest.raises(ImportError, match=r"pip install 'aurum\[gateway,models\]'"):
        LocalEngine(tmp_path)


def test_the_local_engine_needs_networks(tmp_path):
    with pytest.raises(ValueError, match="has no version"):
        LocalEngine(tmp_path)
