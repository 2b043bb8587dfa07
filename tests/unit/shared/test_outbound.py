"""Which addresses we send to, and which rule refuses the others. Names resolve as the test says."""

from ipaddress import ip_address

import pytest

from shared.outbound import Address, Outbound, UrlRefused, rule_against
from tests.unit.shared.http.kit import settings

PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
URL = "https://hooks.example/in"


def outbound(*answers: list[str], environment_name: str = "production") -> Outbound:
    """Resolves every name to the next of `answers`, the last one for ever."""
    left = list(answers)

    def resolve(_host: str, _port: int) -> list[Address]:
        return [ip_address(text) for text in (left.pop(0) if len(left) > 1 else left[0])]

    return Outbound(settings(environment_name=environment_name), resolve)


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("0.0.0.0", "this_network"),  # noqa: S104
        ("0.255.255.255", "this_network"),
        ("10.0.0.1", "private"),
        ("100.64.0.1", "carrier_grade_nat"),
        ("100.100.100.200", "carrier_grade_nat"),  # a cloud's metadata
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.169.254", "link_local"),  # other clouds' metadata
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.8", "protocol_assignment"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "6to4_relay"),
        ("192.168.1.1", "private"),
        ("198.18.0.1", "benchmarking"),
        ("198.51.100.7", "documentation"),
        ("203.0.113.7", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::127.0.0.1", "reserved"),
        ("::10.0.0.1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:169.254.169.254", "link_local"),
        ("::ffff:0:7f00:1", "reserved"),
        ("::5efe:10.0.0.1", "isatap"),
        ("2600::5efe:10.0.0.1", "isatap"),
        ("2600::200:5efe:a00:1", "isatap"),
        ("64:ff9b::10.0.0.1", "nat64"),
        ("64:ff9b:1::10.0.0.1", "nat64"),
        ("100::1", "reserved"),
        ("2001::1", "protocol_assignment"),  # Teredo
        ("2001:2::1", "protocol_assignment"),
        ("2001:20::1", "protocol_assignment"),
        ("2001:db8::1", "documentation"),
        ("2002:a00:1::1", "6to4"),
        ("2002:7f00:1::1", "6to4"),
        ("3fff::1", "documentation"),
        ("4000::1", "reserved"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "private"),
        ("fe80::1", "link_local"),
        ("fe80::1%eth0", "link_local"),
        ("febf::1", "link_local"),
        ("fec0::1", "site_local"),
        ("ff02::1", "multicast"),
    ],
)
async def test_address_that_is_not_public_is_refused_by_its_rule(address: str, rule: str) -> None:
    assert rule_against(ip_address(address)) == rule
    with pytest.raises(UrlRefused) as by_name:
        await outbound([address]).check(URL)
    assert by_name.value.rule == rule


@pytest.mark.parametrize(
    "address",
    [
        PUBLIC,
        PUBLIC_6,
        "1.1.1.1",
        "223.255.255.255",
        "172.32.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "::ffff:1.1.1.1",
        "2a00:1450:4001::1",
        "2001:4860:4860::8888",
    ],
)
async def test_public_address_is_spoken_to(address: str) -> None:
    await outbound([address]).check(URL)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://hooks.example/in", "https_only"),
        ("ftp://hooks.example/in", "https_only"),
        ("file:///etc/passwd", "malformed"),
        ("hooks.example/in", "malformed"),
        ("//hooks.example/in", "https_only"),
        ("https://", "malformed"),
        ("https:///in", "malformed"),
        ("https://hooks.example:99999/", "malformed"),
        ("https://hooks.example:x/", "malformed"),
        ("https://user:secret@hooks.example/", "credentials"),
        ("https://10.0.0.1@hooks.example/", "credentials"),
        ("https://hooks.example/ in", "malformed"),
        ("https://hooks.example/\nin", "malformed"),
        ("https://höoks.example/", "malformed"),
        ("https://127.0.0.1/", "loopback"),
        ("https://[::1]/", "loopback"),
        ("https://[::ffff:7f00:1]/", "loopback"),
        ("https://[::ffff:10.0.0.1]:8443/", "private"),
        ("https://[fe80::1%25eth0]/", "link_local"),
        ("https://[64:ff9b::a00:1]/", "nat64"),
        ("https://169.254.169.254/latest/meta-data", "link_local"),
        ("https://192.168.0.1:443/", "private"),
        ("https://2130706433/", "malformed"),
        ("https://017700000001/", "malformed"),
        ("https://0x7f000001/", "malformed"),
        ("https://0x7f.1/", "malformed"),
        ("https://127.1/", "malformed"),
        ("https://127.0.0.1./", "malformed"),
        ("https://0/", "malformed"),
    ],
)
async def test_url_is_refused_by_its_rule(url: str, rule: str) -> None:
    checker = outbound([PUBLIC])

    with pytest.raises(UrlRefused) as refused:
        await checker.check(url)

    assert refused.value.rule == rule
    assert (await checker.post(url, b"{}", {})).error == f"refused: {refused.value}"


async def test_one_address_of_a_name_is_enough_to_refuse_it() -> None:
    with pytest.raises(UrlRefused) as refused:
        await outbound([PUBLIC, PUBLIC_6, "10.1.2.3"]).check(URL)

    assert refused.value.rule == "private"
    assert "10.1.2.3" in str(refused.value)


async def test_name_that_changes_its_address_after_the_check_is_refused_when_it_is_used() -> None:
    rebound = outbound([PUBLIC], ["169.254.169.254"])
    await rebound.check(URL)

    reply = await rebound.post(URL, b"{}", {})
    await rebound.aclose()

    assert reply.status is None
    assert reply.error == "refused: 169.254.169.254 is not a public address: link local"


async def test_name_that_does_not_resolve_yet_may_be_stored() -> None:
    def unknown(_host: str, _port: int) -> list[Address]:
        raise OSError("unknown name")

    checker = Outbound(settings(environment_name="production"), unknown)

    await checker.check(URL)

    assert (await checker.post(URL, b"{}", {})).error == "name not resolved"
    await checker.aclose()


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", "." * 3])
async def test_name_that_no_resolver_takes_is_malformed(host: str) -> None:
    checker = Outbound(settings(environment_name="production"))

    with pytest.raises(UrlRefused) as refused:
        await checker.check(f"https://{host}/")

    assert refused.value.rule == "malformed"
    await checker.aclose()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/in", "http://localhost:9000/in", "http://[::1]:9000/"]
)
async def test_loopback_is_spoken_to_locally_and_nowhere_else(url: str) -> None:
    await outbound(["127.0.0.1"], environment_name="local").check(url)

    with pytest.raises(UrlRefused):
        await outbound(["127.0.0.1"], environment_name="staging").check(url)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://hooks.example/", "https_only"),
        ("http://10.0.0.1/", "https_only"),
        ("https://10.0.0.1/", "private"),
        ("https://[fd00::1]/", "private"),
    ],
)
async def test_being_local_opens_loopback_only(url: str, rule: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        await outbound([PUBLIC], environment_name="local").check(url)

    assert refused.value.rule == rule
