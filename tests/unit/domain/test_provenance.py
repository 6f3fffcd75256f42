"""What is recorded of where a run comes from: no secret, and nothing twice."""

import pytest
from restmcts.domain.provenance import (
    HIDDEN,
    Start,
    is_secret,
    secret_values,
    with_start,
    without_secrets,
    words_without_secrets,
)

SECRET = "s3cret-Value.9"
VARIABLES = {"PATH": "/usr/bin", "PWD": "problems.jsonl", "MAX_TOKENS": "hub:openai", "A_KEY": "1024"}


@pytest.mark.parametrize(
    "words",
    [
        ["--token", SECRET],
        [f"--token={SECRET}"],
        ["--api-key", SECRET],
        ["--hf-token", f"{SECRET}"],
        [f"RESTMCTS_S3_SECRET_KEY={SECRET}"],
        ["--set", f"models.password={SECRET}"],
        ["-o", f"apiKey={SECRET}"],
        [f"openai+http://me:{SECRET}@host:8000/v1?model=m"],
        [f"postgresql+psycopg://{SECRET}@host/db"],
        [f"https://host/v1?model=m&api_key={SECRET}&x=1"],
        [f"https://host/file?X-Amz-Signature={SECRET}"],
        ["--set", f"a.b=c.token={SECRET}"],
        ["-H", f"Authorization: Bearer {SECRET}"],
        ["-H", f"authorization: {SECRET}"],
        [f'{{"password": "{SECRET}"}}'],
        [f"plain {SECRET}"],
    ],
)
def test_no_command_is_recorded_with_a_secret(words: list[str]) -> None:
    environment = {"HF_TOKEN": SECRET} if words[0].startswith("plain") else {}
    shown = " ".join(
        words_without_secrets(["restmcts", "selftrain", *words, "--seed", "1"], secret_values(environment))
    )
    assert SECRET not in shown and HIDDEN in shown
    assert shown.startswith("restmcts selftrain") and shown.endswith("--seed 1")


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "aB3" * 11,
        "sk-proj-" + "aB3" * 11,
        "ghp_" + "aB3" * 12,
        "github_pat_" + "aB3" * 12,
        "glpat-" + "aB3" * 7,
        "AKIA" + "ABCDEFGH12345678",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-DEF",
    ],
)
def test_a_token_is_known_by_its_form(token: str) -> None:
    assert token not in without_secrets(f"somewhere/{token}/else")


def test_what_is_no_secret_stays_as_it_was_typed() -> None:
    words = ["restmcts", "selftrain", "problems.jsonl", "--max-tokens", "2000", "--set", "models.key_value_bytes=1024",
             "--set=generation.max_step_tokens=40", "openai+http://host:8000/v1?model=org/name", "sk-learn",
             "hub:openai/gsm8k:main"]  # fmt: skip
    assert words_without_secrets(words, secret_values(VARIABLES)) == words
    assert [
        name for name in ("max_tokens", "key_value_bytes", "tokenizer", "monkey", "author") if is_secret(name)
    ] == []


def test_a_start_is_added_once_and_the_first_stays() -> None:
    first, second = Start("create", {"python": "3"}, {"cores": 2}), Start("work", {"python": "3"}, {"cores": 2})
    recorded = with_start([], first, "then")
    assert with_start(recorded, first, "later") == recorded
    both = with_start(recorded, second, "later")
    assert [(one["when"], one["command"]) for one in both] == [("then", "create"), ("later", "work")]
    moved = with_start(both, Start("work", {"python": "3"}, {"cores": 8}), "last")
    assert [one["machine"]["cores"] for one in moved] == [2, 2, 8]
