"""The translation by which the charts' containers run without a cluster: of all that is stored
nothing is lost, and what it does not know is refused.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from restmcts.adapters.sql.roles import RIGHTS
from restmcts.adapters.storage.bucket_setup import ACCESS
from restmcts.errors import InputError
from restmcts.messages.workers import WORKERS

from tests.charts.to_compose import Stack, translated

GOLDEN = Path(__file__).parents[1] / "golden/helm"
POD = """
automountServiceAccountToken: false
subdomain: nodes
securityContext:
  {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
containers:
  - name: node
    image: node
    command: [node, "$(JOB_COMPLETION_INDEX)", "$$(HOME)", "$(UNKNOWN)"]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""


def stored(case: str) -> list[dict[str, Any]]:
    text = (GOLDEN / f"{case}.yaml").read_text(encoding="utf-8")
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def secret(name: str, **content: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}


def secrets() -> list[dict[str, Any]]:
    """Return the secrets that the stored rendering names."""
    own = []
    for service in RIGHTS:
        keys = ["restmcts_database_url", *(f"restmcts_s3_{part}_key" for part in ("access", "secret"))]
        own.append(
            secret(f"restmcts-{service}", **{key: f"{service} {key}" for key in keys[: 3 * (service in ACCESS) or 1]})
        )
    return [
        secret("db-admin", username="admin", password="pa$$word"),
        secret("redis", url="redis://broker"),
        secret("bucket-admin", **{"access-key": "root", "secret-key": "s3"}),
        *own,
    ]


def stack_of(documents: list[dict[str, Any]]) -> Stack:
    return translated([[*secrets(), *documents]])


def test_every_container_of_the_stored_rendering_runs_with_its_image_user_and_servers() -> None:
    stack = stack_of(stored("external"))
    services = stack.compose()["services"]
    ours = {f"pod-restmcts-{name}" for name in (*WORKERS, "dashboard", "cli")}
    setup = {f"pod-restmcts-setup{part}" for part in ("", "-keys", "-database")}
    assert set(services) == ours | setup | {"kubelet-volumes"}
    for name in ours | setup:
        service = services[name]
        assert service["user"] == "10001:10001" and service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["image"].startswith("restmcts-") and service["security_opt"] == ["no-new-privileges:true"]
    for name in ours:
        assert services[name]["environment"]["RESTMCTS_REDIS_URL"] == "redis://broker"
        assert services[name]["depends_on"]["pod-restmcts-setup"]["condition"] == "service_completed_successfully"
    owner = services["pod-restmcts-setup-database"]["environment"]
    assert owner["RESTMCTS_DATABASE_URL"] == "postgresql+psycopg://db.example:5432/restmcts"
    assert owner["RESTMCTS_DATABASE_USER"] == "admin"
    assert owner["RESTMCTS_DATABASE_PASSWORD"] == "pa$$$$word", "compose reads $$ as one dollar"
    assert services["pod-restmcts-trainer"]["mem_limit"] == 12 * 2**30
    assert set(stack.not_checked) == {
        *("NetworkPolicy", "PodDisruptionBudget", "Service restmcts-dashboard", "annotations of pods"),
        *("backoffLimit", "imagePullPolicy", "requests of resources", "sizeLimit"),
    }


def test_each_container_gets_its_own_keys_read_only_and_its_folders() -> None:
    stack = stack_of(stored("external"))
    for service in RIGHTS:
        mounts = {mount["target"]: mount for mount in stack.services[f"pod-restmcts-{service}"]["volumes"]}
        keys = mounts.pop("/var/lib/restmcts/secrets")
        assert keys["read_only"] and not any(mount["read_only"] for mount in mounts.values())
        assert set(mounts) == {"/tmp", *(f"/var/lib/restmcts/{name}" for name in ("run", "cache", "hub"))}
        files = stack.volumes[keys["source"]]["files"]
        assert all(text.startswith(f"{service} ") and mode == 0o440 for text, mode in files.values())
        assert ("restmcts_s3_secret_key" in files) == (service in ACCESS) and "restmcts_database_url" in files
    given = stack.volumes["pod-restmcts-setup.given"]["files"]
    assert given["trainer/restmcts_s3_secret_key"] == ("trainer restmcts_s3_secret_key", 0o644)


def test_probes_are_checks_whose_failures_count_when_the_time_to_start_is_over() -> None:
    stack = stack_of(stored("external"))
    beats = ["python", "-m", "restmcts.adapters.workers.heartbeat", "--max-age", "30"]
    check = {"interval": "10s", "timeout": "10s", "retries": 3, "start_period": "300s"}
    trainer = stack.services["pod-restmcts-trainer"]
    assert trainer["healthcheck"] == {"test": ["CMD", *beats, "--max-stuck", "1800"], **check}
    assert trainer["x-probes"] == {"startupProbe": beats, "livenessProbe": [*beats, "--max-stuck", "1800"]}
    assert set(stack.services["pod-restmcts-dashboard"]["x-probes"]) == {"livenessProbe", "readinessProbe"}


def changed(case: str, kind: str, change: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a stored rendering with fields added to the pods of one kind."""
    documents = copy.deepcopy(stored(case))
    for document in documents:
        if document["kind"] == kind:
            document["spec"]["template"]["spec"] |= change
    return documents


@pytest.mark.parametrize(
    ("documents", "complaint"),
    [
        (stored("gpus"), "no Secret dashboard with token is rendered"),
        ([secret("dashboard", token="t"), secret("hub", token="t"), *stored("gpus")], "nvidia.com/gpu"),
        (changed("external", "Deployment", {"hostNetwork": True}), "hostNetwork"),
        (changed("external", "Job", {"automountServiceAccountToken": True}), "automountServiceAccountToken is True"),
        ([{"kind": "ConfigMap", "metadata": {"name": "more"}}, *stored("external")], "ConfigMap more"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(documents: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        stack_of(documents)


def test_links_to_services_are_variables_of_pods_that_do_not_refuse_them() -> None:
    without = stack_of(stored("external")).services["pod-restmcts-dashboard"]["environment"]
    linked = stack_of(changed("external", "Deployment", {"enableServiceLinks": True}))
    added = set(linked.services["pod-restmcts-dashboard"]["environment"]) - set(without)
    assert "RESTMCTS_DASHBOARD_PORT" in added and len(added) == 7


def test_an_indexed_job_is_a_container_an_index_with_a_name_of_its_own() -> None:
    labels = {"app": "nodes"}
    job = {
        "kind": "Job",
        "metadata": {"name": "training"},
        "spec": {
            **{"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimit": 9},
            "template": {"metadata": {"labels": labels}, "spec": yaml.safe_load(POD) | {"restartPolicy": "OnFailure"}},
        },
    }
    service = {
        "kind": "Service",
        "metadata": {"name": "nodes"},
        "spec": {"clusterIP": "None", "selector": labels, "ports": [{"port": 29400}]},
    }
    services = translated([[job, service]]).compose()["services"]
    for index in range(2):
        node = services[f"pod-training-{index}"]
        assert node["entrypoint"] == ["node", str(index), "$$(HOME)", "$$(UNKNOWN)"]
        assert node["environment"] == {"JOB_COMPLETION_INDEX": str(index)}, "a headless service has no links"
        assert node["hostname"] == f"training-{index}" and node["restart"] == "on-failure"
        assert node["networks"]["default"]["aliases"] == ["nodes", f"training-{index}.nodes"]


def test_only_the_first_of_the_machines_that_train_together_is_reached_by_the_name_of_the_trainer() -> None:
    documents = copy.deepcopy(stored("nodes"))
    for document in documents:
        if document["kind"] == "Job" and "completions" in document["spec"]:
            del document["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    services = stack_of(documents).compose()["services"]
    machines = {name: services[name] for name in sorted(services) if name.startswith("pod-restmcts-trainer")}
    assert [one["networks"]["default"]["aliases"] for one in machines.values()] == [["restmcts-trainer"], [], [], []]
    for index, one in enumerate(machines.values()):
        assert one["environment"]["JOB_COMPLETION_INDEX"] == str(index)
        assert one["environment"]["RESTMCTS_TRAINING_RENDEZVOUS"] == "restmcts-trainer:29400"
        assert {"type": "tmpfs", "target": "/dev/shm", "read_only": False} in one["volumes"]
        assert one["entrypoint"][:2] == ["sh", "-c"] and "$$JOB_COMPLETION_INDEX" in one["entrypoint"][2]
