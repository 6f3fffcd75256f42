"""Settings as people write them: lists between commas, and what cannot be read named in words."""

from collections.abc import Callable

import pytest
from pydantic_settings import BaseSettings
from restmcts import settings
from restmcts.domain.training_machines import TrainingMachines
from restmcts.errors import InputError


@pytest.fixture(autouse=True)
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTMCTS_ENV_FILE", "/dev/null")
    monkeypatch.setenv("RESTMCTS_SECRETS_DIR", "/nowhere")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("restmcts.example.org", ("restmcts.example.org",)),
        ("one.example, two.example,", ("one.example", "two.example")),
        ('["one.example", "two.example"]', ("one.example", "two.example")),
        ("", ()),
    ],
)
def test_names_are_separated_by_commas_or_json(
    written: str, read: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTMCTS_DASHBOARD_NAMES", written)
    assert settings.load_dashboard_settings().dashboard_names == read
    for name in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT"):
        monkeypatch.setenv(f"RESTMCTS_{name}", "there")
    assert settings.load_settings().dashboard_names == read


def test_tokens_of_servers_are_json_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for written, read in (('{"host:8000": "secret"}', {"host:8000": "secret"}), ("", {})):
        monkeypatch.setenv("RESTMCTS_POLICY_TOKENS", written)
        found = settings.load_policy_server_settings().policy_tokens
        assert {host: token.get_secret_value() for host, token in found.items()} == read


@pytest.mark.parametrize(
    ("name", "written", "load", "reason"),
    [
        ("DASHBOARD_NAMES", '["one.example"', settings.load_dashboard_settings, "write ONE,TWO"),
        ("DASHBOARD_NAMES", "[1]", settings.load_dashboard_settings, "valid string"),
        ("POLICY_TOKENS", "s3cret", settings.load_policy_server_settings, "is no JSON"),
        ("POLICY_TOKENS", '["s3cret"]', settings.load_policy_server_settings, "dictionary"),
        ("VLLM_CONCURRENCY", "many", settings.load_vllm_server_settings, "integer"),
        ("TRAINING_NODES", "many", settings.load_settings, "write 4, or LEAST:MOST"),
        ("TRAINING_NODES", "0", settings.load_settings, "the least is at least 1"),
        ("TRAINING_NODES", "4:2", settings.load_settings, "the most no less"),
        ("TRAINING_RENDEZVOUS", "first", settings.load_settings, "write HOST:PORT"),
        ("TRAINING_RENDEZVOUS", "first:0", settings.load_settings, "write HOST:PORT"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(
    name: str, written: str, load: Callable[[], object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needed in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT"):
        monkeypatch.setenv(f"RESTMCTS_{needed}", "there")
    monkeypatch.setenv(f"RESTMCTS_{name}", written)
    with pytest.raises(InputError, match=f"setting RESTMCTS_{name}.*{reason}") as refused:
        load()
    assert "s3cret" not in str(refused.value)


def test_what_a_source_cannot_read_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(BaseSettings):
        members: dict[str, int]

    monkeypatch.setenv("MEMBERS", "no JSON")
    with pytest.raises(InputError, match=r"the settings cannot be read: .*members"):
        settings._load(Odd)


def test_machines_that_train_together_need_the_address_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT"):
        monkeypatch.setenv(f"RESTMCTS_{name}", "there")
    assert settings.load_settings().training_machines is None
    monkeypatch.setenv("RESTMCTS_TRAINING_NODES", "2:4")
    with pytest.raises(InputError, match=r"RESTMCTS_TRAINING_RENDEZVOUS.*write HOST:PORT of the first"):
        settings.load_settings()
    for written, host in (("trainer-0:29400", "trainer-0"), ("[fd00::1]:29400", "fd00::1")):
        monkeypatch.setenv("RESTMCTS_TRAINING_RENDEZVOUS", written)
        assert settings.load_settings().training_machines == TrainingMachines(2, 4, host, 29400)
