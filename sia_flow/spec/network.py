"""Which services scaffolds may read through the host: each named whole, nothing by a pattern.

Invariant: a grant says by itself what it opens; an address of this machine or of a private network is never opened by a
name alone.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, Strict, field_validator, model_validator
from pydantic_core import CoreSchema

from sia_flow.addresses import INNER, METADATA, AddressError, AnyNetwork, Grant, Url, is_public, parse_url
from sia_flow.spec.base import Issue, Section, repeated, rule_error

_EXAMPLE = "write for example api.example.org or https://docs.example.org:8443/v2/"


class NetworkGrant(Section):
    """A service that scaffolds may read, by GET alone. An address alone stands for a whole section."""

    url: Annotated[str, Field(min_length=1, examples=["https://docs.example.org:8443/v2/"])]
    """Host, or scheme, host, port and path; https unless http:// is written. All below the path may be read."""
    at: Annotated[tuple[str, ...], Strict(strict=False), Field(max_length=16)] = Field(
        default=(), exclude_if=lambda at: not at, examples=['["10.1.2.0/24"]']
    )
    """Private addresses, or networks of them, in which the host may lie. Not set: public addresses alone."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        """Turn an address alone into a section."""
        return {"url": value} if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _whole(cls, text: str) -> str:
        """Spell an address in the one way that all others of its meaning have."""
        if "*" in text:
            raise ValueError(f'"{text}" has a wildcard; name each host by itself: {_EXAMPLE}')
        try:
            url = parse_url(text if "://" in text else f"https://{text}")
        except AddressError as error:
            raise ValueError(f'"{text}" cannot be granted: {error}; {_EXAMPLE}') from error
        _refuse_unfit(url, text)
        return str(url)

    @field_validator("at")
    @classmethod
    def _inner(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({str(_inner_network(text)) for text in texts}))

    @model_validator(mode="after")
    def _rules(self) -> NetworkGrant:
        if self.at and parse_url(self.url).literal is not None:
            raise rule_error([Issue(("at",), "the url names its address already: drop at, or name the host in url")])
        return self

    @property
    def grant(self) -> Grant:
        """What it opens."""
        return Grant(parse_url(self.url), tuple(ip_network(text) for text in self.at))

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Accept an address alone wherever the section may stand."""
        return {"anyOf": [{"type": "string", "description": "The address alone."}, handler(core_schema)]}


def refuse_repeated(grants: tuple[NetworkGrant, ...]) -> tuple[NetworkGrant, ...]:
    """Return grants in order of their addresses. Raises the error of a rule where one stands twice."""
    twice = repeated(grant.url for grant in grants)
    if twice:
        raise rule_error([Issue((place,), f"{grants[place].url} is granted already; drop it") for place in twice])
    return tuple(sorted(grants, key=lambda grant: grant.url))


def _refuse_unfit(url: Url, text: str) -> None:
    address = url.literal
    if url.query is not None or "#" in text:
        raise ValueError(f'"{text}" goes on after its path; drop what begins with ? or #')
    if url.host == "localhost" or url.host.endswith(".localhost"):
        raise ValueError(f'"{text}" names this machine; write its address: http://127.0.0.1:{url.port}')
    if address is None or is_public(address):
        return
    if address in METADATA or not any(address in network for network in INNER):
        raise ValueError(f"{address} cannot be granted: it is no address of a service")


def _inner_network(text: str) -> AnyNetwork:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is no network of addresses; write for example 10.1.2.0/24') from error
    # A network of version 4 is never compared with one of version 6.
    if not any(network.version == inner.version and network.subnet_of(inner) for inner in INNER):  # type: ignore[arg-type]
        raise ValueError(f"{network} is no private network: public addresses are granted by the name alone")
    return network
