"""URIs of policy servers: what they say, and what they must not hold."""

import pytest
from restmcts.adapters.models.http_policy.address import is_server, parse_address
from restmcts.adapters.models.http_policy.opening import policy_address, served_name
from restmcts.errors import InputError
from restmcts.settings import PolicyServerSettings


def test_a_uri_says_protocol_place_model_and_options() -> None:
    address = parse_address(
        "chat+https://models.example:8443/v1/?model=Qwen/Qwen3-0.6B&prefill=1&concurrency=4&template=steps-zh"
    )
    assert (address.protocol, address.base_url, address.hosts) == (
        "chat",
        "https://models.example:8443/v1",
        ("models.example:8443",),
    )
    assert (address.model, address.prefill, address.concurrency, address.template) == (
        "Qwen/Qwen3-0.6B",
        True,
        4,
        "steps-zh",
    )


@pytest.mark.parametrize(
    "uri",
    [
        "openai+http://host:8000/v1?model=some/model",
        "tgi+http://host?model=m&template=few-shot&concurrency=2",
        "chat+https://host/v1?model=a%20b&prefill=1",
        "openai+http://one:8000,two:8000/v1?model=m",
        "openai+http://[::1]:8000,[::2]:8000/v1?model=m",
        "openai+http://vllm:8000/v1?model=m&replicas=dns",
    ],
)
def test_an_address_is_written_as_it_is_read(uri: str) -> None:
    assert parse_address(parse_address(uri).uri) == parse_address(uri)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("openai+ftp://host/v1?model=m", "write openai"),
        ("http://host/v1?model=m", "write openai"),
        ("openai+http:///v1?model=m", "write openai"),
        ("openai+http://host/v1", "name the model"),
        ("openai+http://host/v1?model=m&tempreature=1", "unknown option tempreature"),
        ("openai+http://host/v1?model=m&template=nosuch", "no prompt template"),
        ("openai+http://host/v1?model=m&concurrency=0", "at least 1"),
        ("openai+http://[bad/v1?model=m", "write openai"),
        ("openai+http://host:port/v1?model=m", "write openai"),
        ("openai+http://host:99999/v1?model=m", "write openai"),
        ("openai+http://one:8000,,two:8000/v1?model=m", "write openai"),
        ("openai+http://one:8000,two:x/v1?model=m", "write openai"),
        ("openai+http://one/v1?model=m&replicas=2", "write replicas=dns, or list"),
        ("openai+http://one,two/v1?model=m&replicas=dns", "for one name"),
        ("openai+https://one/v1?model=m&replicas=dns", "for one name, with http"),
    ],
)
def test_a_malformed_uri_is_refused_with_the_way_out(uri: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_address(uri)


def test_a_token_in_a_uri_is_refused_and_not_shown() -> None:
    for uri in (
        "openai+http://me:hunter2@host/v1?model=m",
        "nosuch+http://me:hunter2@host/v1",
        "openai+http://one,me:hunter2@two/v1?model=m",
        "openai+http://me:hunter2@[bad/v1?model=m",
    ):
        with pytest.raises(InputError) as caught:
            parse_address(uri)
        assert "hunter2" not in str(caught.value)


def test_several_servers_are_one_address_and_each_has_its_own() -> None:
    address = parse_address("openai+http://one:8000,two:8001/v1?model=m&concurrency=4")
    assert address.hosts == ("one:8000", "two:8001")
    assert [address.at(host).base_url for host in address.hosts] == ["http://one:8000/v1", "http://two:8001/v1"]
    assert address.at("one:8000").concurrency == 4


def test_only_uris_of_servers_are_taken_for_servers() -> None:
    assert is_server("openai+http://host/v1?model=m")
    assert is_server("http://host/v1")
    assert not any(map(is_server, ["artifact:checkpoints/abc", "/models/mine", "Qwen/Qwen3-0.6B", "C:\\models"]))


def test_a_server_of_all_policies_serves_each_under_its_own_name() -> None:
    settings = PolicyServerSettings(policy_server="openai+http://vllm:8000/v1")
    uri = "artifact:checkpoints/0123456789abcdef0123"
    address = policy_address(uri, settings)
    assert address is not None
    assert (address.base_url, address.model) == ("http://vllm:8000/v1", "restmcts-0123456789abcdef")
    assert served_name("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert served_name("/weights/mine") == "mine"
    assert policy_address(uri, PolicyServerSettings()) is None
