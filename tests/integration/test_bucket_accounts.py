"""A bucket whose server manages no accounts: services then use the administrator's key, unless they
were given others.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from restmcts.adapters.storage.bucket_setup import ACCESS, KEY_FILES, set_up
from restmcts.errors import StorageError
from restmcts.settings import BucketSettings
from restmcts_cli.processes.server_processes import SERVERS, free_ports

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[BucketSettings]:
    """Start a server by which no account is made."""
    ports = free_ports(SERVERS["s3"].num_ports)
    launch = SERVERS["s3"].prepare(tmp_path / "s3", ports, "password")
    command = [word for word in launch.command if word != "-s3.iam.readOnly=false"]
    assert len(command) == len(launch.command) - 1
    given = SERVERS["s3"].settings(ports[0], "password")
    environment = os.environ | launch.environment
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield BucketSettings(
            s3_endpoint=given["RESTMCTS_S3_ENDPOINT"],
            s3_access_key=given["RESTMCTS_S3_ACCESS_KEY"],
            s3_secret_key=SecretStr(given["RESTMCTS_S3_SECRET_KEY"]),
        )
        process.kill()


def test_keys_that_services_were_given_are_not_replaced_in_silence(settings: BucketSettings, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    with pytest.raises(StorageError, match=r"makes no accounts .*s3\.accounts=false"):
        set_up(settings, folder, keys_are_given=True)
    assert not folder.exists()
    set_up(settings, folder)
    keys = {tuple((folder / service / name).read_text() for name in KEY_FILES) for service in ACCESS}
    assert keys == {(settings.s3_access_key, settings.s3_secret_key.get_secret_value())}
