"""Addresses: one reading or none, and a grant that covers what it names."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.addresses import AddressError, Grant, is_public, parse_url


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("https://API.Example.org", "https://api.example.org/"),
        ("HTTPS://api.example.org:443/a?b#c", "https://api.example.org/a?b"),
        ("http://api.example.org:443/", "http://api.example.org:443/"),
        ("http://127.0.0.1:80/%41;x", "http://127.0.0.1/%41;x"),
        ("http://[::0001]:8000/x", "http://[::1]:8000/x"),
        ("https://xn--bcher-kva.example/?a[]=%20", "https://xn--bcher-kva.example/?a[]=%20"),
        ("https://a.example?q=https://b.example/", "https://a.example/?q=https://b.example/"),
        ("https://a.example//b.example/", "https://a.example//b.example/"),
    ],
)
def test_an_address_has_one_spelling(text: str, spelt: str) -> None:
    assert str(parse_url(text)) == spelt
    assert parse_url(spelt) == parse_url(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begin with https"),
        ("api.example.org", "begin with https"),
        ("//api.example.org/", "begin with https"),
        ("file:///etc/passwd", "begin with https"),
        ("gopher://a.example/", "begin with https"),
        ("https:/a.example/", "begin with https"),
        ("https://", "host is missing"),
        ("https://:80/", "no host name"),
        ("https://user@a.example/", "before @"),
        ("https://a.example@b.example/", "before @"),
        ("https://a.example:0/", "no port"),
        ("https://a.example:/", "no port"),
        ("https://a.example:65536/", "no port"),
        ("https://a.example:80:80/", "no port"),
        ("https://a.example:+80/", "no port"),
        ("https://a.example./", "drop the dot"),
        ("https://a..example/", "no host name"),
        ("https://-a.example/", "no host name"),
        ("https://a_b.example/", "no host name"),
        ("https://a%2eexample/", "no host name"),
        ("https://b\u00fccher.example/", "ASCII form"),
        ("https://a.example\\@b.example/", "escaped"),
        ("https://a.example/\\b", "escaped"),
        ("https://a.example/a b", "escaped"),
        ("https://a.example/\r\nX-A: b", "escaped"),
        ("https://a.example/\x00", "escaped"),
        ("https://a.example/%", "broken escape"),
        ("https://a.example/%0d%0a", "control"),
        ("https://a.example/a/../b", "segment"),
        ("https://a.example/a/%2E%2e/b", "segment"),
        ("https://a.example/.", "segment"),
        ("https://a.example/?%zz", "broken escape"),
        ("http://127.1/", "four plain numbers"),
        ("http://2130706433/", "four plain numbers"),
        ("http://0x7f000001/", "four plain numbers"),
        ("http://127.0.0.01/", "four plain numbers"),
        ("http://0177.0.0.1/", "four plain numbers"),
        ("http://[::1", "IPv6"),
        ("http://[fe80::1%25eth0]/", "IPv6"),
        ("http://[127.0.0.1]/", "IPv6"),
        ("https://a.example/" + "a" * 4096, "at most 4096"),
    ],
)
def test_what_could_be_read_in_two_ways_is_no_address(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        parse_url(text)


@given(st.text(st.sampled_from("aA1.:/@[]%2eE\\?#;&= \u00fc\u3002-_hts"), max_size=30))
def test_any_text_is_one_address_or_none(tail: str) -> None:
    try:
        url = parse_url(f"https://{tail}")
    except AddressError:
        return
    assert parse_url(str(url)) == url
    assert str(url).isascii()


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        ("/docs", True),
        ("/docs/", True),
        ("/docs/a%20b/c.html", True),
        ("/docs/gr%C3%BCn", True),
        ("/docs?q=../x%2f", True),
        ("/docsx", False),
        ("/Docs/", False),
        ("/%64ocs/", False),
        ("/", False),
        ("/docs/..;/secret", False),
        ("/docs/..%2fsecret", False),
        ("/docs/%2e%2e%5csecret", False),
        ("/docs/%252e%252e/secret", False),
        ("/docs/%c0%ae%c0%ae/secret", False),
        ("/docs/%ef%bc%8e%ef%bc%8e%ef%bc%8fsecret", False),
    ],
)
def test_a_grant_covers_its_path_and_what_is_below(path: str, *, covered: bool) -> None:
    for granted in ("https://a.example/docs", "https://a.example/docs/"):
        assert Grant(parse_url(granted)).covers(parse_url(f"https://a.example{path}")) is covered


@pytest.mark.parametrize(
    "other",
    [
        "http://a.example/",
        "https://a.example:444/",
        "https://b.a.example/",
        "https://example/",
        "https://a.example.org/",
    ],
)
def test_a_grant_covers_no_other_scheme_host_or_port(other: str) -> None:
    assert Grant(parse_url("https://a.example/")).covers(parse_url("https://a.example/any/..%2f;x"))
    assert not Grant(parse_url("https://a.example/")).covers(parse_url(other))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("64:ff9b::5db8:d70e", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.0.2.1", False),
        ("224.0.1.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", False),
        ("fc00::1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("ff0e::1", False),
        ("fd00:ec2::254", False),
    ],
)
def test_only_addresses_of_the_open_internet_are_public(address: str, *, public: bool) -> None:
    assert is_public(ip_address(address)) is public
    assert Grant(parse_url("https://a.example/")).admits(ip_address(address)) is public


def test_inner_addresses_are_admitted_where_they_are_named_and_metadata_never() -> None:
    named = Grant(parse_url("https://a.example/"), (ip_network("10.1.0.0/16"), ip_network("100.64.0.0/10")))
    assert named.admits(ip_address("10.1.2.3"))
    assert not named.admits(ip_address("10.2.2.3"))
    assert not named.admits(ip_address("100.100.100.200"))
    assert Grant(parse_url("http://[::1]/")).admits(ip_address("::1"))
    assert not Grant(parse_url("http://169.254.169.254/")).admits(ip_address("169.254.169.254"))
