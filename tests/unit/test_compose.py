"""The compose files and the Dockerfiles: the shape that all share, and what operation asks of
every service.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from restmcts.adapters.sql.roles import RIGHTS
from restmcts.adapters.storage.bucket_setup import ACCESS
from restmcts.errors import InputError
from restmcts.settings import EXAMPLE_SECRET, load_settings

ROOT = Path(__file__).parents[2]
FOLDERS = [*sorted(path.parent for path in ROOT.glob("services/*/Dockerfile")), ROOT / "cli"]
WITH_TORCH = {"policy_generator", "prm_scorer", "trainer"}
WORKERS = {"coordinator", "policy-generator", "prm-scorer", "tree-search", "value-labeler", "trainer"}
SERVERS = {"postgres", "redis", "minio"}
PAGES = {"dashboard"}
OBSERVABILITY = {"prometheus", "grafana", "flower"}
ONE_SHOT = {"migrate", "bucket-setup"}


def compose(name: str = "docker-compose.yml") -> dict[str, Any]:
    data = yaml.load((ROOT / name).read_text(encoding="utf-8"), yaml.CSafeLoader)
    assert isinstance(data, dict)
    return data


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def extras_of(dockerfile: str) -> list[str]:
    return re.findall(r"^RUN python install\.py (\w+)$", dockerfile, flags=re.MULTILINE)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_dockerfiles_differ_only_in_name_and_extras(folder: Path) -> None:
    def shape(of: Path) -> str:
        text = (of / "Dockerfile").read_text(encoding="utf-8")
        folder = str(of.relative_to(ROOT))
        text = text.replace(f"COPY {folder} {folder}\n", "COPY FOLDER\n").replace(
            f"./shared ./{folder} &&", "./shared ./FOLDER &&"
        )
        text = re.sub(r"^RUN python install\.py (?!stack)\w+\n", "", text, flags=re.MULTILINE)
        return re.sub(r"^ENTRYPOINT .*restmcts.*$|^CMD .*celery.*$", "COMMAND", text, flags=re.MULTILINE)

    assert shape(folder) == shape(FOLDERS[0])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_images_install_the_extras_that_their_distribution_asks_for(folder: Path) -> None:
    text = (folder / "Dockerfile").read_text(encoding="utf-8")
    asked = re.search(r'"restmcts\[([\w,]+)\]"', (folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert asked is not None
    extras = extras_of(text)
    assert set(asked.group(1).split(",")) <= set(extras)
    assert ("torch" in extras) == (folder.name in WITH_TORCH)
    order = ["stack", "torch", "http", "verification", "data", "training", "reporting"]
    assert extras == sorted(extras, key=order.index), "another order shares fewer layers"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_images_run_as_another_user_in_exec_form_and_build_without_buildkit(folder: Path) -> None:
    lines = (folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert "USER 10001:10001" in lines
    assert lines[-1].startswith(("CMD [", "ENTRYPOINT ["))
    assert [line for line in lines if "--mount" in line or "<<" in line or line.startswith("# syntax")] == []


def test_every_service_is_there() -> None:
    assert set(SERVICES) == WORKERS | SERVERS | PAGES | ONE_SHOT | OBSERVABILITY | {"cli"}
    assert SERVICES["cli"]["profiles"] == ["cli"]
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["observability"]} == OBSERVABILITY
    built = {service["build"]["dockerfile"] for service in SERVICES.values() if "build" in service}
    assert built == {f"{folder.relative_to(ROOT)}/Dockerfile" for folder in FOLDERS}


@pytest.mark.parametrize("name", sorted(WORKERS | SERVERS | PAGES))
def test_what_runs_on_restarts_is_checked_and_has_time_to_stop(name: str) -> None:
    service = SERVICES[name]
    assert {"restart", "healthcheck", "stop_grace_period", "mem_limit"} <= set(service)
    assert "celery" not in " ".join(service["healthcheck"]["test"]), "inspect ping fails on a busy solo worker"


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_workers_wait_for_servers_tables_and_accounts(name: str) -> None:
    conditions = {other: asked["condition"] for other, asked in SERVICES[name]["depends_on"].items()}
    done = "service_completed_successfully"
    assert conditions == {"migrate": done, "bucket-setup": done, "redis": "service_healthy"}
    assert SERVICES[name]["init"] is True


def test_the_dashboard_waits_for_its_account_and_keeps_training_data_out_of_its_memory() -> None:
    dashboard = SERVICES["dashboard"]
    assert dashboard["depends_on"]["bucket-setup"] == {"condition": "service_completed_successfully"}
    assert "dashboard-cache:/var/lib/restmcts/cache" in dashboard["volumes"]
    assert not any("/cache" in place for place in dashboard["tmpfs"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_can_be_scaled_and_open_ports_to_this_machine_alone(name: str) -> None:
    service = SERVICES[name]
    assert "container_name" not in service
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_each_service_sees_its_own_key_alone() -> None:
    keys = {
        name: {volume.split(":")[0] for volume in service.get("volumes", []) if "/secrets" in volume}
        for name, service in SERVICES.items()
    }
    expected = {name: {f"{name}-key"} if name in RIGHTS else set() for name in SERVICES}
    expected["bucket-setup"] = {f"{name}-key" for name in ACCESS}
    expected["migrate"] = {f"{name}-key" for name in RIGHTS}
    assert keys == expected
    with_root = {name for name, service in SERVICES.items() if "MINIO_ROOT" in str(service)}
    assert with_root == {"minio", "bucket-setup"}


def test_the_owner_of_the_database_is_known_where_it_is_needed_alone() -> None:
    with_owner = {name for name, service in SERVICES.items() if "POSTGRES_PASSWORD" in str(service)}
    assert with_owner == {"postgres", "migrate"}


@pytest.mark.parametrize("name", sorted(WORKERS | PAGES | ONE_SHOT | {"cli"}))
def test_containers_of_ours_gain_nothing_and_write_to_their_volumes_alone(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert not any(volume.endswith("/secrets") for volume in service.get("volumes", [])), "keys are read only"


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_servers_keep_the_rights_alone_that_they_begin_with(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert set(service["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0


def test_a_worker_without_progress_turns_unhealthy() -> None:
    for name in WORKERS:
        assert "--max-stuck" in SERVICES[name]["healthcheck"]["test"], name


def test_the_queue_is_kept_and_never_evicted() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    for part in ("--appendonly yes", "--maxmemory-policy noeviction", "--requirepass ${REDIS_PASSWORD:?"):
        assert part in command


def test_no_secret_stands_in_a_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    values = re.findall(r"(?:PASSWORD|SECRET_KEY|AUTH): (.*)", text)
    assert values
    assert all(value.startswith("${") and ":?" in value for value in values)


@pytest.mark.parametrize("name", ["docker-compose.gpu.yml", "docker-compose.seaweedfs.yml"])
def test_overrides_change_services_that_are_there(name: str) -> None:
    assert set(compose(name)["services"]) <= set(SERVICES)


def test_one_inference_server_runs_unless_another_is_asked_for() -> None:
    services = compose("docker-compose.inference.yml")["services"]
    servers = {name: service for name, service in services.items() if "serve.sh" in str(service.get("entrypoint"))}
    assert {name for name, service in servers.items() if "profiles" not in service} == {"vllm"}
    for service in (*servers.values(), services["weights"]):
        assert {"restart", "mem_limit"} <= set(service)
        assert "ports" not in service, "nobody but the generator asks it"
    assert all(re.search(r":-[^:]+:v?\d+\.\d+\.\d+\}$", service["image"]) for service in servers.values()), "pinned"
    assert "//vllm:8000/v1" in services["policy-generator"]["environment"]["RESTMCTS_POLICY_SERVER"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("docker-compose*.yml")), ids=lambda path: path.name)
def test_old_and_new_compose_understand_the_files(path: Path) -> None:
    data = compose(path.name)
    assert set(data) - {"services", "volumes"} <= {key for key in data if key.startswith("x-")}
    assert all("develop" not in service for service in data["services"].values())


def test_variables_are_explained_in_the_example() -> None:
    used = set()
    for path in ROOT.glob("docker-compose*.yml"):
        used |= set(re.findall(r"\$\{([A-Z_]+)", path.read_text(encoding="utf-8")))
    explained = set(
        re.findall(r"^#?([A-Z_0-9]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert used - explained == set()


def make_env(folder: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    for name in ("Makefile", ".env.example"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return subprocess.run(["make", "-s", "env"], cwd=folder, capture_output=True, text=True, **options)


def test_make_env_writes_random_secrets_once(tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        make_env(tmp_path, check=True)
        written.append((tmp_path / ".env").read_text(encoding="utf-8"))
    secrets = re.findall(r"^\w+=([0-9a-f]{40})$", written[0], flags=re.MULTILINE)
    assert written[0] == written[1]
    assert EXAMPLE_SECRET not in written[0]
    assert len(set(secrets)) == (ROOT / ".env.example").read_text(encoding="utf-8").count(f"={EXAMPLE_SECRET}\n")
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    threads = max(1, os.sysconf("SC_NPROCESSORS_ONLN") // 3)
    assert f"\nMODEL_THREADS={threads}\n" in written[0], "three kinds of worker compute"
    assert f"\nCLI_UID={os.getuid()}\n" in written[0], "the cli container writes as whoever made it, root too"


def test_make_env_adds_what_a_file_lacks_and_keeps_what_it_says(tmp_path: Path) -> None:
    own = "API_ENABLED=true\nREDIS_PASSWORD=mine\n#MODEL_THREADS=1\nRESTMCTS_S3_ENDPOINT=other:1"
    (tmp_path / ".env").write_text(own)
    said = []
    for _ in range(2):
        done = make_env(tmp_path, check=True)
        said.append((done.stdout, (tmp_path / ".env").read_text(encoding="utf-8")))
    (added, written), (nothing, again) = said
    assert written == again and written.startswith(f"{own}\n") and EXAMPLE_SECRET not in written
    assert re.search(r"^POSTGRES_PASSWORD=[0-9a-f]{40}$", written, flags=re.MULTILINE)
    assert "POSTGRES_PASSWORD" in added and "REDIS_PASSWORD" not in added and "all that it needs" in nothing
    keys = re.findall(r"^([A-Z_0-9]+)=", written, flags=re.MULTILINE)
    assert len(keys) == len(set(keys)) and "MODEL_THREADS" not in keys
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", ".env.example", "Makefile"]


@pytest.mark.parametrize(
    "line",
    [
        "export POSTGRES_PASSWORD=mine",
        "POSTGRES_PASSWORD = mine",
        "POSTGRES_PASSWORD: mine",
        "\t POSTGRES_PASSWORD='mine'",
        "\ufeffPOSTGRES_PASSWORD=mine",
        "POSTGRES_PASSWORD=mine\r\nREDIS_PASSWORD=x\r\n",
        "POSTGRES_PASSWORD",
    ],
)
def test_make_env_gives_nothing_a_second_value_however_it_is_written(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(line, encoding="utf-8")
    done = make_env(tmp_path, check=True)
    assert "MINIO_ROOT_PASSWORD" in done.stdout and "POSTGRES_PASSWORD" not in done.stdout
    assert "\nPOSTGRES_PASSWORD=" not in (tmp_path / ".env").read_text(encoding="utf-8")


def test_make_env_does_not_say_that_it_wrote_what_it_could_not(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    done = make_env(tmp_path)
    assert done.returncode != 0 and not done.stdout and len(list(tmp_path.iterdir())) == 3
    (tmp_path / ".env").rmdir()
    (tmp_path / ".env.partial").mkdir()
    done = make_env(tmp_path)
    assert done.returncode != 0 and not done.stdout and not (tmp_path / ".env").exists()


def test_make_env_says_where_the_example_was_copied(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes((ROOT / ".env.example").read_bytes())
    done = make_env(tmp_path)
    assert done.returncode != 0 and "change-me" in done.stderr and not done.stdout


def test_settings_read_what_make_env_writes_and_refuse_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    monkeypatch.setenv("RESTMCTS_ENV_FILE", str(tmp_path / "env"))
    (tmp_path / "env").write_text(example, encoding="utf-8")
    with pytest.raises(InputError, match="make env"):
        load_settings()
    (tmp_path / "env").write_text(example.replace(EXAMPLE_SECRET, "s3cret"), encoding="utf-8")
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "postgresql+psycopg://restmcts:s3cret@127.0.0.1:5432/restmcts"
    assert settings.s3_secret_key.get_secret_value() == "s3cret"


def test_secrets_may_be_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"database_url": "d", "redis_url": "r", "s3_endpoint": "e", "s3_access_key": "key"}.items():
        (tmp_path / f"restmcts_{name}").write_text(value)
    monkeypatch.setenv("RESTMCTS_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("RESTMCTS_ENV_FILE", "/dev/null")
    assert load_settings().s3_access_key == "key"
