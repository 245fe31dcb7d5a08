"""The table of addresses: rows by rows, and against Python's own idea of what is global."""

import ipaddress
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outbound.addresses import PREFIXES, Reach, is_private_network, reach_of
from gateway.outbound.policy import CallersHosts, OperatorsHosts, is_this_machine
from gateway.settings import CHECKOUT

REACHES = {
    Reach.PUBLIC: """
        1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
        169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0
        198.17.255.255 198.20.0.0 223.255.255.255 168.63.129.15 2606:4700:4700::1111 2a00:1450::1
        2400:: 2620:0:1::1
    """,
    Reach.PRIVATE: """
        10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 172.16.0.0 172.31.255.255 192.168.0.0
        192.168.255.255 fc00:: fdff:ffff::1
    """,
    Reach.LOOPBACK: "127.0.0.0 127.0.0.1 127.255.255.255 ::1",
    Reach.NEVER: """
        0.0.0.0 0.255.255.255 169.254.0.0 169.254.169.254 169.254.170.2 192.0.0.192 192.0.2.1
        192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255
        240.0.0.1 255.255.255.255 100.100.100.200 168.63.129.16 :: ::2 ::7f00:1 ::169.254.169.254
        ::ffff:169.254.169.254
        ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:8.8.8.8
        ::ffff:0:7f00:1 64:ff9b::7f00:1 64:ff9b::8.8.8.8 64:ff9b:1::a9fe:a9fe
        100::1 100:0:0:1::1 2001::1 2001:0:7f00:1:: 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::
        2002:a9fe:a9fe::1 2002:808:808::1 3fff::1 3ffe::1 5f00::1 fd00:ec2::254 fd20:ce::254 fe80::1
        febf::1 fec0::1 ff02::1 ff0e::1 4000::1 8000::1 e000::1 fe00::1 1000::1 fe80::1%eth0
        2606:4700::5efe:7f00:1 2606:4700::200:5efe:10.0.0.1 2606:4700::1%1
    """,
}


@pytest.mark.parametrize(
    ("text", "reach"), [(text, reach) for reach, texts in REACHES.items() for text in texts.split()]
)
def test_who_is_reached(text, reach):
    assert reach_of(ipaddress.ip_address(text)) is reach


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@settings(max_examples=500, deadline=None)
@given(ADDRESSES)
def test_nothing_is_public_that_python_calls_private(address):
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert reach_of(address) is not Reach.PUBLIC


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([row for row in PREFIXES if row.network.version == 4]), st.data())
def test_no_notation_of_ipv6_hides_an_ipv4_address(row, data):
    number = data.draw(st.integers(0, row.network.num_addresses - 1))
    plain = row.network[number]
    assert reach_of(plain) is not Reach.PUBLIC
    value = int(plain)
    for hidden in (
        value,
        (0xFFFF << 32) + value,
        (0x64FF9B << 96) + value,
        (0x2002 << 112) + (value << 80),
        (0x2001 << 112) + (value << 64),
        (0xFFFF << 48) + value,
        (0x26064700 << 96) + (0x5EFE << 32) + value,
    ):
        assert reach_of(ipaddress.IPv6Address(hidden)) in (Reach.NEVER, Reach.LOOPBACK)


def test_lists_open_private_networks_and_nothing_else():
    networks = [ipaddress.ip_network(each) for each in ("10.1.0.0/16", "100.64.0.0/10", "fd00::/8")]
    hosts = CallersHosts(networks)
    for allowed in ("10.1.2.3", "100.64.1.1", "fd00::1", "8.8.8.8"):
        assert hosts.allows("a.test", ipaddress.ip_address(allowed)), allowed
    for refused in ("10.2.0.1", "100.100.100.200", "fd00:ec2::254", "127.0.0.1", "fc00::1"):
        assert not hosts.allows("a.test", ipaddress.ip_address(refused)), refused


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("10.0.0.0/8", True),
        ("192.168.7.0/24", True),
        ("100.64.0.0/10", True),
        ("fd12::/16", True),
        ("10.0.0.0/7", False),
        ("0.0.0.0/0", False),
        ("127.0.0.0/8", False),
        ("169.254.0.0/16", False),
        ("8.8.8.0/24", False),
        ("::/0", False),
        ("fe80::/10", False),
        ("::ffff:10.0.0.0/104", False),
    ],
)
def test_what_an_operator_may_list(text, private):
    assert is_private_network(ipaddress.ip_network(text)) is private


@pytest.mark.parametrize(
    ("host", "address", "allowed"),
    [
        ("hooks.example.com", "93.184.216.34", True),
        ("hooks.example.com", "10.0.0.7", True),
        ("hooks.example.com", "fd00::7", True),
        ("hooks.example.com", "127.0.0.1", False),
        ("hooks.example.com", "169.254.169.254", False),
        ("hooks.example.com", "100.100.100.200", False),
        ("hooks.example.com", "0.0.0.0", False),
        ("localhost", "127.0.0.1", True),
        ("localhost", "::1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::1", True),
        ("localhost", "169.254.169.254", False),
    ],
)
def test_where_the_hosts_of_an_operator_may_lead(host, address, allowed):
    assert OperatorsHosts().allows(host, ipaddress.ip_address(address)) is allowed


def test_which_hosts_are_this_machine():
    assert all(map(is_this_machine, ("localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "[::1]")))
    others = ("localhost.evil.test", "127.0.0.1.nip.io", "0.0.0.0", "10.0.0.1", "", "127.1")
    assert not any(map(is_this_machine, others))


def test_the_documented_table_is_the_table():
    page = (CHECKOUT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| `([0-9a-f:./]+)` \| (\w+) \| (.+) \|$", page, re.MULTILINE)
    assert rows == [(str(row.network), row.reach.value, row.what) for row in PREFIXES]
