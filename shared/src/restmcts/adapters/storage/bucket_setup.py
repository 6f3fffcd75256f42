"""Makes the bucket, and for each service an account that can do no more than the service needs; run
once before the services start.

    python -m restmcts.adapters.storage.bucket_setup

reads the administrator's key as a service would read its own (RESTMCTS_S3_*), and leaves each
service's key in a folder of its own below RESTMCTS_SECRETS_DIR, as files that Settings reads. Run
again, it fixes what is missing and changes no key. With `--given` the keys there are what services
already have: a server that makes no accounts with them is refused.
"""

import argparse
import hashlib
import json
import logging
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, MinioException, S3Error
from minio.minioadmin import MinioAdmin
from minio.signer import sign_v4_sts
from minio.time import to_amz_date, utcnow

from restmcts.errors import RestMctsError, StorageError
from restmcts.settings import BucketSettings, load_bucket_settings, load_dashboard_settings, secrets_folder

log = logging.getLogger(__name__)

WAIT_SECONDS = 60.0
REFUSALS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
REGION = "us-east-1"
KEY_FILES = ("restmcts_s3_access_key", "restmcts_s3_secret_key")
Keys = dict[str, tuple[str, str]]
Policies = dict[str, dict[str, Any]]
"""By service."""


@dataclass(frozen=True, slots=True)
class Access:
    """The kinds of artifacts that a service reads, writes and removes, and the folder in which it
    may do all that.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    own: str | None = None

    def policy(self, bucket: str) -> dict[str, Any]:
        """Return the policy document: without the right to list, an absent object looks like a
        forbidden one.
        """
        statements = [
            _allow(["s3:ListBucket"], [bucket]),
            _allow(["s3:GetObject"], [f"{bucket}/{kind}/*" for kind in self.reads]),
        ]
        if self.writes:
            write = ["s3:PutObject", "s3:AbortMultipartUpload"]
            statements.append(_allow(write, [f"{bucket}/{kind}/*" for kind in self.writes]))
        if self.removes:
            statements.append(_allow(["s3:DeleteObject"], [f"{bucket}/{kind}/*" for kind in self.removes]))
        if self.own is not None:
            statements.append(_allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], [f"{bucket}/{self.own}/*"]))
        return {"Version": "2012-10-17", "Statement": statements}


# who stores an artifact looks first whether it is there; coordinator and tree search have no
# account
ACCESS = {
    "policy-generator": Access(reads=("checkpoints",)),
    "prm-scorer": Access(reads=("checkpoints",)),
    "value-labeler": Access(reads=("datasets",), writes=("datasets",)),
    "trainer": Access(
        reads=("checkpoints", "datasets", "training-logs"),
        writes=("checkpoints", "training-logs"),
        own="training-states",
    ),
    "dashboard": Access(reads=("datasets",)),
    "cli": Access(
        reads=("checkpoints", "datasets", "training-logs", "trees"),
        writes=("checkpoints", "trees"),
        removes=("checkpoints", "datasets", "training-logs", "training-states", "trees"),
        own="doctor",
    ),
}
SERVING = Access(reads=("checkpoints", "datasets"))
"""The dashboard's, where it serves the HTTP API: projects fetch what their runs made."""


def set_up(
    settings: BucketSettings, folder: Path, *, dashboard_serves: bool = False, keys_are_given: bool = False
) -> None:
    """Make the bucket, the accounts and their key files.

    Args:
        keys_are_given: to the services, which read no others.

    Raises:
        StorageError: if the server does not come up, or refuses; if keys are given and it manages
            no accounts.
    """
    accounts = ACCESS | ({"dashboard": SERVING} if dashboard_serves else {})
    keys = {service: _key_of(service, folder / service) for service in accounts}
    lost = [service for service in accounts if not (folder / service / KEY_FILES[1]).is_file()]
    try:
        _make_bucket(settings)
        policies = {service: access.policy(settings.s3_bucket) for service, access in accounts.items()}
        if not (_make_minio_users(settings, keys, policies) or _make_iam_users(settings, keys, policies, lost)):
            if keys_are_given:
                raise StorageError(
                    f"{settings.s3_endpoint} makes no accounts for the services' keys; let them use the "
                    "administrator's key instead (values of the chart: s3.accounts=false)"
                )
            log.warning("%s manages no accounts: every service gets the administrator's key", settings.s3_endpoint)
            keys = dict.fromkeys(keys, _administrator(settings))
    except (MinioException, MinioAdminException, urllib3.exceptions.HTTPError) as error:
        raise StorageError(
            f"bucket {settings.s3_bucket} at {settings.s3_endpoint}: {str(error).splitlines()[0]}"
        ) from error
    for service, key in keys.items():
        _write_key(folder / service, key)


def _key_of(service: str, folder: Path) -> tuple[str, str]:
    """Return the service's key as it was given out, else a new one."""
    access_key, secret_file = "svc" + service.replace("-", ""), folder / KEY_FILES[1]
    known = (
        (folder / KEY_FILES[0]).is_file()
        and (folder / KEY_FILES[0]).read_text() == access_key
        and secret_file.is_file()
    )
    return access_key, secret_file.read_text() if known else secrets.token_hex(20)


def _write_key(folder: Path, key: tuple[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(KEY_FILES, key, strict=True):
        path = folder / name
        path.touch()
        # the command line runs as the person who calls it, in the group of all services
        path.chmod(0o640)
        path.write_text(value)


def _administrator(settings: BucketSettings) -> tuple[str, str]:
    return settings.s3_access_key, settings.s3_secret_key.get_secret_value()


def _make_bucket(settings: BucketSettings) -> None:
    client = Minio(
        settings.s3_endpoint, *_administrator(settings), secure=settings.s3_secure, region=REGION, http_client=_pool()
    )
    if not _once_up(lambda: client.bucket_exists(settings.s3_bucket)):
        client.make_bucket(settings.s3_bucket)


def _once_up(ask: Callable[[], bool]) -> bool:
    """Return the server's answer, asked until it is up."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return ask()
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            if time.monotonic() > deadline or (
                isinstance(error, S3Error) and error.code in ("AccessDenied", "SignatureDoesNotMatch")
            ):
                raise
            time.sleep(1.0)


def _make_minio_users(settings: BucketSettings, keys: Keys, policies: Policies) -> bool:
    """Make users by MinIO's administration API; return False if the server has none."""
    provider = StaticProvider(*_administrator(settings))
    admin = MinioAdmin(
        endpoint=settings.s3_endpoint, credentials=provider, secure=settings.s3_secure, http_client=_pool()
    )
    try:
        admin.user_list()
    except MinioAdminException as error:
        if " 404" in str(error):
            return False
        raise
    for service, (access_key, secret_key) in keys.items():
        admin.policy_add(f"restmcts-{service}", policy=policies[service])
        admin.user_add(access_key, secret_key)
        admin.policy_set(f"restmcts-{service}", user=access_key)
    return True


def _make_iam_users(settings: BucketSettings, keys: Keys, policies: Policies, lost: Sequence[str]) -> bool:
    """Make users by the IAM API (SeaweedFS); return False if the server has none that writes. It
    keeps a key that it knows, so a key whose file is lost is deleted before the new one is made.
    """
    for service, (access_key, secret_key) in keys.items():
        policy = json.dumps(policies[service])
        if not _iam(settings, Action="CreateUser", UserName=access_key):
            return False
        if service in lost:
            _iam(settings, Action="DeleteAccessKey", UserName=access_key, AccessKeyId=access_key)
        _iam(
            settings, Action="CreateAccessKey", UserName=access_key, AccessKeyId=access_key, SecretAccessKey=secret_key
        )
        _iam(settings, Action="PutUserPolicy", UserName=access_key, PolicyName="restmcts", PolicyDocument=policy)
    return True


def _iam(settings: BucketSettings, **fields: str) -> bool:
    """Return whether the IAM API has done it, or had before; False if it takes no changes.

    Raises:
        StorageError: if it refuses for another reason.
    """
    body = urlencode({"Version": "2010-05-08", **fields}).encode()
    url = f"{'https' if settings.s3_secure else 'http'}://{settings.s3_endpoint}/"
    response = _pool().request("POST", url, body=body, headers=_signed(settings, url, body))
    code = "" if response.status == 200 else _error_code(response.data)
    if code in ("", "EntityAlreadyExists", "NoSuchEntity"):
        return True
    if fields["Action"] == "CreateUser":
        return False
    raise StorageError(f"{settings.s3_endpoint}: account {fields['UserName']}: {fields['Action']} refused ({code})")


def _signed(settings: BucketSettings, url: str, body: bytes) -> Any:
    digest, date = hashlib.sha256(body).hexdigest(), utcnow()
    headers = {
        "Host": settings.s3_endpoint,
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "X-Amz-Content-Sha256": digest,
        "X-Amz-Date": to_amz_date(date),
    }
    return sign_v4_sts(
        method="POST",
        url=urlsplit(url),
        region=REGION,
        headers=headers,  # type: ignore[arg-type]
        credentials=Credentials(*_administrator(settings)),
        content_sha256=digest,
        date=date,
    )


def _error_code(document: bytes) -> str:
    try:
        codes = (
            element.text
            for element in ElementTree.fromstring(document).iter()
            if element.tag.rpartition("}")[2] == "Code"
        )
        return next(codes, None) or "no reason given"
    except ElementTree.ParseError:
        return "no reason given"


def _pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(timeout=urllib3.Timeout(connect=5.0, read=30.0), retries=False)


def _allow(actions: list[str], names: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{name}" for name in names]}


def main() -> None:
    """Set up; end with 1 or 2 and one line if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m restmcts.adapters.storage.bucket_setup", description="Set up.")
    parser.add_argument("--given", action="store_true", help="services already have the keys, and read no others")
    given = parser.parse_args().given
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        serves = load_dashboard_settings().api_enabled
        set_up(load_bucket_settings(), secrets_folder(), dashboard_serves=serves, keys_are_given=given)
    except RestMctsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
