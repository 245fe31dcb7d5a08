from benchmarks.peers.measure import Plan
from benchmarks.peers.run import PEERS, measure


def test_without_peers_nothing_is_measured_and_each_has_its_reason(tmp_path, capsys):
    measure(tmp_path, [], Plan(), cache=tmp_path / "cache", out=tmp_path / "peers.json")
    said = capsys.readouterr().out
    assert "peers: skipped" in said
    for peer in PEERS:
        assert f"{peer.name}: no checkout of {peer.repository}" in said
    assert not (tmp_path / "peers.json").exists()
