"""Settings of the stack: from the environment (prefix RESTMCTS_), else from a file, else from
secrets that are files of their own.

The file is the one that RESTMCTS_ENV_FILE names, else `.env`; the folder of secrets is
RESTMCTS_SECRETS_DIR, else /run/secrets. Read in the services' apps and the CLI only.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from restmcts.domain.runs.training_settings import Dtype, Sharding
from restmcts.domain.training_machines import TrainingMachines, host_and_port, least_and_most
from restmcts.errors import InputError

EXAMPLE_SECRET = "change-me"


def _listed(given: object) -> object:
    """Return the words of a text, between commas or in a JSON array."""
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith("["):
        return _parsed(given, 'is no list; write ONE,TWO or ["ONE", "TWO"]')
    return [word.strip() for word in given.split(",") if word.strip()]


def _mapped(given: object) -> object:
    """Return the object that a text is as JSON; none, if it is empty."""
    return _parsed(given or "{}", 'is no JSON; write {"NAME": "VALUE"}') if isinstance(given, str) else given


def _parsed(text: str, wanted: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(wanted) from error


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Secrets = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_mapped)]


class BucketSettings(BaseSettings):
    """Where the bucket is, and by which key it is used.

    Attributes:
        s3_endpoint: host and port of the S3 server.
        s3_secure: whether it speaks TLS.
        s3_access_key: of this service; empty for services that use no bucket.
        s3_secret_key: of this service.
        s3_bucket: which holds checkpoints and datasets.
    """

    model_config = SettingsConfigDict(env_prefix="RESTMCTS_", extra="ignore")

    s3_endpoint: str
    s3_access_key: str = ""
    s3_secret_key: SecretStr = SecretStr("")
    s3_secure: bool = False
    s3_bucket: str = "restmcts"

    @field_validator("database_url", "redis_url", "s3_secret_key", "dashboard_token", check_fields=False)
    @classmethod
    def _is_no_example(cls, secret: SecretStr) -> SecretStr:
        if EXAMPLE_SECRET in secret.get_secret_value():
            raise ValueError("holds the password of the example; `make env` writes a .env with random ones")
        return secret


class PolicyServerSettings(BaseSettings):
    """How policies behind HTTP are reached.

    Attributes:
        policy_server: or several, that serve every policy which is no server itself
            (restmcts.adapters.models.http_policy.address, without `model`); empty: such policies
            are loaded by the generator.
        policy_tokens: of servers, by `host:port` as their URLs write it: {"host:8000": "token"}.
        policy_concurrency: calls of one server under way at once.
        policy_timeout_seconds: of one call, from its first byte to its last.
        policy_retry_seconds: for which a call that fails is tried again, before its requests go
            back to waiting.
    """

    model_config = SettingsConfigDict(env_prefix="RESTMCTS_", extra="ignore", env_ignore_empty=True)

    policy_server: str = ""
    policy_tokens: Secrets = {}
    policy_concurrency: int = Field(default=32, ge=1)
    policy_timeout_seconds: float = Field(default=300.0, gt=0)
    policy_retry_seconds: float = Field(default=60.0, ge=0)


class DashboardSettings(BaseSettings):
    """Where a dashboard is reached, who may change what it shows, and whether it serves the API.

    Attributes:
        dashboard_host: address that the dashboard listens on.
        dashboard_port: of the dashboard.
        dashboard_token: whoever gives it may retry what failed, and annotate trees; empty: the
            dashboard only reads.
        api_enabled: whether the dashboard serves the HTTP API as well, by which projects reach
            their runs with tokens of their own.
        dashboard_names: host names under which browsers may ask for the dashboard (others would be
            another site's doing), besides 127.0.0.1 and localhost; between commas.
    """

    model_config = SettingsConfigDict(env_prefix="RESTMCTS_", extra="ignore", env_ignore_empty=True)

    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = Field(default=8600, ge=0, le=65535)
    dashboard_token: SecretStr = SecretStr("")
    api_enabled: bool = False
    dashboard_names: Words = ()


class ApiSettings(BaseSettings):
    """How the command line reaches a stack without its database.

    Attributes:
        api_url: of a dashboard that serves the API, http(s)://HOST:PORT; empty: none.
        api_token: the secret of a token of a project; it is sent to that address alone.
        database_url: where that is set, the stack is reached by its database.
    """

    model_config = SettingsConfigDict(
        hide_input_in_errors=True, env_prefix="RESTMCTS_", extra="ignore", env_ignore_empty=True
    )

    api_url: str = ""
    api_token: SecretStr = SecretStr("")
    database_url: SecretStr = SecretStr("")

    @field_validator("api_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            parts, is_one = urlsplit(""), None
        unwanted = parts.username or parts.password or parts.query or parts.fragment
        if url and (not is_one or unwanted or not url.isascii() or any(letter.isspace() for letter in url)):
            raise ValueError("is no address; write http://HOST:PORT or https://HOST, as of the dashboard")
        return url.rstrip("/")


class NotificationSettings(BaseSettings):
    """Who is notified when a run is done, failed, paused by itself, or blocked for a minute.

    Attributes:
        notify_command: a command of the shell; it gets the notification as JSON on its standard
            input, and its text in RESTMCTS_TEXT. Empty: none.
        notify_url: takes the JSON as a POST; it may hold a secret. Empty: none.
        notify_seconds: that either may take.
    """

    model_config = SettingsConfigDict(
        hide_input_in_errors=True, env_prefix="RESTMCTS_", extra="ignore", env_ignore_empty=True
    )

    notify_command: str = ""
    notify_url: SecretStr = SecretStr("")
    notify_seconds: float = Field(default=10.0, gt=0, le=60)

    @field_validator("notify_url")
    @classmethod
    def _is_web_address(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if text and not text.startswith(("http://", "https://")):
            raise ValueError("is no address that begins with http:// or https://")
        try:
            has_host = not text or (urlsplit(text).hostname and urlsplit(text).port != 0)
        except ValueError:
            has_host = False
        if not has_host or any(letter.isspace() or not letter.isprintable() for letter in text):
            raise ValueError("is no address: its host or port is wrong, or it has a blank in it")
        return url


class VllmServerSettings(BaseSettings):
    """How the engine vllm starts its server.

    Attributes:
        vllm_command: the program, by its name or path; it may live in an environment of its own.
        vllm_arguments: further arguments of `vllm serve`, as one would type them; of the policy's
            server and of the value model's.
        vllm_concurrency: calls under way at once.
        vllm_start_seconds: that the server may take until it answers.
    """

    model_config = SettingsConfigDict(env_prefix="RESTMCTS_", extra="ignore", env_ignore_empty=True)

    vllm_command: str = "vllm"
    vllm_arguments: str = ""
    vllm_concurrency: int = Field(default=64, ge=1)
    vllm_start_seconds: float = Field(default=900.0, gt=0)


class Settings(BucketSettings, DashboardSettings):
    """Where the servers are, and how workers behave.

    Attributes:
        database_url: SQLAlchemy URL of PostgreSQL.
        redis_url: broker URL, password included, with a database of its own.
        cache_dir: of this worker, for fetched artifacts.
        cache_bytes: bound on the cache; what was not used for longest goes first.
        run_dir: where this worker keeps its heartbeat and what it is making.
        device: torch device of model workers; auto: a GPU if there is one.
        dtype: of the weights in model workers: auto (a checkpoint's own where the device computes
            in it quickly, else float32), float32 or bfloat16.
        engine: that runs policies which are no servers, and value models trained here:
            transformers or vllm.
        max_trees_in_flight: searching trees of one run.
        max_requests: of one claim of a model worker.
        max_batch_tokens: of one forward pass.
        key_value_bytes: memory for the keys and values that each loaded model keeps of what it has
            read; 0: none.
        request_lease_seconds: after which another worker may take the requests of one that is
            silent; leases that are in use are renewed.
        training_processes: of this machine that train one model together, one a GPU.
        training_nodes: machines that train one model together: a number, or the least and the most
            as LEAST:MOST.
        training_rendezvous: HOST:PORT of the first of them, the trainer that takes jobs; the others
            connect to it, and each opens further ports, so that all must be of one trusted network.
        training_sharding: what each of them keeps: "none", the whole model; "full", its part of the
            weights, gradients and optimizer state, for models too large for one GPU.
        job_lease_seconds: after which another worker may take a training job whose holder is
            silent.
        reconcile_seconds: between two rounds of the reconciler; also how long something must be
            overdue to be woken.
        max_attempts: times that one tree is woken, or one job started, before it is marked as
            failed.
        verify_seconds: limit for one check of an answer.
        metrics_port: of /metrics; 0: a free one, written to `run_dir`; None: not served.
        metrics_host: address that /metrics is served on.
        log_format: "json", "text", or "auto": text on a terminal, JSON elsewhere.
        otel_endpoint: of an OpenTelemetry collector (OTLP over HTTP: http://host:4318); empty: no
            traces.
        worker_events: send Celery's events, for Flower.
    """

    database_url: SecretStr
    redis_url: SecretStr
    cache_dir: Path = Path("cache")
    cache_bytes: int = Field(default=50 * 2**30, ge=0)
    run_dir: Path = Path("run")
    device: str = "cpu"
    dtype: Dtype = "auto"
    engine: str = "transformers"
    max_trees_in_flight: int = Field(default=256, ge=1)
    max_requests: int = Field(default=256, ge=1)
    max_batch_tokens: int = Field(default=16_384, ge=1)
    key_value_bytes: int = Field(default=2**30, ge=0)
    request_lease_seconds: float = Field(default=20.0, gt=0)
    training_processes: int = Field(default=1, ge=1)
    training_nodes: str = "1"
    training_rendezvous: str = Field(default="", validate_default=True)
    training_sharding: Sharding = "none"
    job_lease_seconds: float = Field(default=60.0, gt=0)
    reconcile_seconds: float = Field(default=15.0, gt=0)
    max_attempts: int = Field(default=20, ge=1)
    verify_seconds: float = Field(default=5.0, gt=0)
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    metrics_host: str = "127.0.0.1"
    log_format: Literal["auto", "json", "text"] = "auto"
    otel_endpoint: str = ""
    worker_events: bool = False

    @field_validator("training_nodes")
    @classmethod
    def _are_counts(cls, nodes: str) -> str:
        least_and_most(nodes)
        return nodes

    @field_validator("training_rendezvous")
    @classmethod
    def _is_rendezvous(cls, written: str, others: ValidationInfo) -> str:
        if not written and least_and_most(others.data.get("training_nodes", "1"))[1] > 1:
            raise ValueError("is missing where RESTMCTS_TRAINING_NODES is above 1; write HOST:PORT of the first one")
        if written:
            host_and_port(written)
        return written

    @property
    def training_machines(self) -> TrainingMachines | None:
        """The machines that train together; None where it is this one alone."""
        return TrainingMachines.of(self.training_nodes, self.training_rendezvous)


Loaded = TypeVar("Loaded", bound=BaseSettings)


def load_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        InputError: naming the first setting that is missing or wrong; secrets are not shown.
    """
    return _load(Settings)


def load_bucket_settings() -> BucketSettings:
    """Return what is said of the bucket alone.

    Raises:
        InputError: naming the first setting that is missing or wrong; secrets are not shown.
    """
    return _load(BucketSettings)


def load_policy_server_settings() -> PolicyServerSettings:
    """Return how policies behind HTTP are reached; nothing need be set.

    Raises:
        InputError: naming the first setting that is wrong; secrets are not shown.
    """
    return _load(PolicyServerSettings)


def load_dashboard_settings() -> DashboardSettings:
    """Return how a dashboard is reached, and who may change what it shows; nothing need be set.

    Raises:
        InputError: naming the first setting that is wrong; secrets are not shown.
    """
    return _load(DashboardSettings)


def load_api_settings() -> ApiSettings:
    """Return how the API of a stack is reached; nothing need be set.

    Raises:
        InputError: naming the first setting that is wrong; secrets are not shown.
    """
    return _load(ApiSettings)


def load_vllm_server_settings() -> VllmServerSettings:
    """Return how the engine vllm starts its server; nothing need be set.

    Raises:
        InputError: naming the first setting that is wrong.
    """
    return _load(VllmServerSettings)


def load_notification_settings() -> NotificationSettings:
    """Return who is notified of runs; nothing need be set.

    Raises:
        InputError: naming the first setting that is wrong; secrets are not shown.
    """
    return _load(NotificationSettings)


def secrets_folder() -> Path:
    """Return the folder whose files are settings; it need not exist."""
    return Path(os.environ.get("RESTMCTS_SECRETS_DIR", "/run/secrets"))


def env_file() -> Path:
    """Return the file whose lines are settings; it need not exist."""
    return Path(os.environ.get("RESTMCTS_ENV_FILE", ".env"))


def _load(settings: type[Loaded]) -> Loaded:
    folder = secrets_folder()
    sources = {
        "_env_file": os.environ.get("RESTMCTS_ENV_FILE", ".env"),
        "_secrets_dir": folder if folder.is_dir() else None,
    }
    try:
        return settings(**sources)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise InputError(f"setting RESTMCTS_{name}: {first['msg']}; set it in the environment or in .env") from error
    except SettingsError as error:
        raise InputError(f"the settings cannot be read: {error}") from error
