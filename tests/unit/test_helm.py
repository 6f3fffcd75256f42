"""The charts, rendered by the real helm: valid by the schemas of Kubernetes, equal to what is
stored, and in step with the compose file, the roles and the accounts that they repeat.
"""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from restmcts.adapters.sql.reads.demand import DEMAND
from restmcts.adapters.sql.roles import RIGHTS, role_of
from restmcts.adapters.storage.bucket_setup import ACCESS
from restmcts.messages.workers import WORKERS

from tests.unit.test_compose import SERVICES

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "infra/helm"
GOLDEN = ROOT / "tests/golden/helm"
CASES = sorted(path.name.removesuffix(".values.yaml") for path in GOLDEN.glob("*.values.yaml"))
OWN_KINDS = {"ScaledObject", "TriggerAuthentication"}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("helm")), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHARTS,
    )


def template(case: str, *more: str) -> subprocess.CompletedProcess[str]:
    return helm("template", "restmcts", "restmcts", "--values", str(GOLDEN / f"{case}.values.yaml"), *more)


@cache
def rendered(case: str, *more: str) -> str:
    done = template(case, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def documents(text: str) -> list[dict[str, Any]]:
    """Return what the text holds; it is read once, so leave it as it is."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def named(text: str, kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in documents(text) if found["kind"] == kind}


def container_of(deployment: dict[str, Any]) -> dict[str, Any]:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


@pytest.mark.parametrize("case", CASES)
def test_charts_render_as_stored(case: str) -> None:
    """A change of the chart is looked at as a change of what a cluster gets. To store it:
    helm template restmcts infra/helm/restmcts --values CASE.values.yaml > CASE.yaml
    """
    assert rendered(case) == (GOLDEN / f"{case}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_valid_and_may_do_little(case: str) -> None:
    found = documents(rendered(case))
    for document in found:
        if document["kind"] not in OWN_KINDS:
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    pods = [document["spec"]["template"]["spec"] for document in found if document["kind"] in ("Deployment", "Job")]
    assert len(pods) == len(WORKERS) + 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        assert pod["enableServiceLinks"] is False, "RESTMCTS_DASHBOARD_PORT would be one"
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] and rights["capabilities"] == {"drop": ["ALL"]}
            assert not rights["allowPrivilegeEscalation"]


@pytest.mark.parametrize("chart", ["restmcts", "trial-servers"])
def test_charts_pass_the_linter(chart: str) -> None:
    values = ["--values", str(GOLDEN / "external.values.yaml")] if chart == "restmcts" else []
    done = helm("lint", "--strict", chart, *values)
    assert done.returncode == 0, done.stdout


def test_servers_for_trying_are_valid_and_their_passwords_random() -> None:
    done = [helm("template", "trial", "trial-servers").stdout for _ in range(2)]
    for document in documents(done[0]):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    assert set(named(done[0], "StatefulSet")) == {"trial-postgres", "trial-redis", "trial-minio"}
    secrets = [named(text, "Secret")["trial-servers"]["stringData"]["password"] for text in done]
    assert secrets[0] != secrets[1] and len(secrets[0]) == 40


def test_workers_run_as_in_the_compose_stack() -> None:
    text = rendered("external")
    deployments = named(text, "Deployment")
    assert set(deployments) == {f"restmcts-{name}" for name in (*WORKERS, "dashboard", "cli")}
    for worker in WORKERS:
        container = container_of(deployments[f"restmcts-{worker}"])
        compose = SERVICES[worker]
        assert container["image"].rpartition(":")[0] == compose["image"]
        check = compose["healthcheck"]["test"][1:]
        probe = container["livenessProbe"]["exec"]["command"]
        assert probe[:-1] == check[:-1] and probe[-1] == "1800"
        grace = deployments[f"restmcts-{worker}"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert f"{grace}s" == compose["stop_grace_period"]
        assert {"RESTMCTS_REDIS_URL", "RESTMCTS_S3_ENDPOINT", "RESTMCTS_METRICS_PORT"} <= set(variables(container))


def test_each_service_gets_its_own_keys_and_the_setup_job_the_same() -> None:
    text = rendered("external", "--set", "serviceSecrets.existingPrefix=")
    keys = named(text, "Secret")
    assert set(keys) == {f"restmcts-key-{service}" for service in RIGHTS}
    for service in RIGHTS:
        content = keys[f"restmcts-key-{service}"]["stringData"]
        assert content["restmcts_database_url"].startswith(
            f"postgresql+psycopg://{role_of(service)}:{content['password']}@db.example:5432/"
        )
        assert ("restmcts_s3_secret_key" in content) == (service in ACCESS)
        assert content.get("restmcts_s3_access_key", "svc" + service.replace("-", "")) == "svc" + service.replace(
            "-", ""
        )
        if service in named(text, "Deployment"):
            [mounted] = [
                volume["secret"]["secretName"]
                for volume in named(text, "Deployment")[f"restmcts-{service}"]["spec"]["template"]["spec"]["volumes"]
                if "secret" in volume
            ]
            assert mounted == f"restmcts-key-{service}"
    assert len({content["stringData"]["password"] for content in keys.values()}) == len(keys)

    job = named(text, "Job")["restmcts-setup"]
    [given] = [
        volume["projected"]["sources"] for volume in job["spec"]["template"]["spec"]["volumes"] if "projected" in volume
    ]
    paths = {item["path"] for source in given for item in source["secret"]["items"]}
    assert paths == {f"{service}/restmcts_database_url" for service in RIGHTS} | {
        f"{service}/restmcts_s3_{part}_key" for service in ACCESS for part in ("access", "secret")
    }
    weights = {found["metadata"]["annotations"]["helm.sh/hook-weight"] for found in keys.values()}
    assert weights == {"-10"}, "the keys are there before the job"


def test_without_accounts_of_its_own_the_bucket_is_used_with_the_key_that_is_named() -> None:
    deployments = named(rendered("gpus"), "Deployment")
    for service in RIGHTS:
        given = variables(container_of(deployments[f"restmcts-{service}"])).get("RESTMCTS_S3_SECRET_KEY")
        assert (given is not None) == (service in ACCESS)
        if given is not None:
            assert given["secretKeyRef"]["name"] == "bucket-admin"


def bytes_of_cache_and_volume(text: str, component: str) -> tuple[int, str]:
    deployment = named(text, "Deployment")[f"restmcts-{component}"]
    [size] = [
        volume["emptyDir"]["sizeLimit"]
        for volume in deployment["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "scratch"
    ]
    return int(variables(container_of(deployment))["RESTMCTS_CACHE_BYTES"]), size


@pytest.mark.parametrize("component", [*WORKERS, "dashboard", "cli"])
def test_what_a_pod_keeps_of_the_bucket_takes_half_of_its_volume(component: str) -> None:
    kept, size = bytes_of_cache_and_volume(rendered("external"), component)
    assert kept * 2 == int(size.removesuffix("Gi")) * 2**30


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("workers.trainer.cacheSize=1.5Ti", 3 * 2**38),
        ("workers.trainer.cacheSize=300G", 150 * 10**9),
        ("workers.trainer.cacheSize=70000", 35_000),
        ("workers.trainer.settings.RESTMCTS_CACHE_BYTES=7", 7),
        ("settings.RESTMCTS_CACHE_BYTES=8", 8),
    ],
)
def test_the_bytes_of_a_cache_follow_its_size_unless_they_are_named(values: str, expected: int) -> None:
    assert bytes_of_cache_and_volume(rendered("external", "--set-string", values), "trainer")[0] == expected


def test_gpus_are_asked_for_where_they_are_named() -> None:
    deployments = named(rendered("gpus"), "Deployment")
    asked = {
        worker: container_of(deployments[f"restmcts-{worker}"])["resources"]["limits"].get("nvidia.com/gpu")
        for worker in WORKERS
    }
    assert {worker: number for worker, number in asked.items() if number} == {"policy-generator": 1, "trainer": 4}
    pod = deployments["restmcts-policy-generator"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"node.example/gpu": "h100"} and pod["tolerations"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("values", "processes"),
    [
        ("workers.trainer.gpus=4", "4"),
        ("workers.trainer.gpus=0,workers.trainer.resources.limits.nvidia\\.com/gpu=4", "4"),
        ("workers.trainer.gpus=1", None),
        ("workers.trainer.gpus=0", None),
        ("workers.trainer.gpus=4,workers.trainer.settings.RESTMCTS_TRAINING_PROCESSES=2", "2"),
        ("workers.trainer.gpus=4,settings.RESTMCTS_TRAINING_PROCESSES=3", "3"),
    ],
)
def test_all_gpus_of_a_trainer_train_together_unless_another_number_is_named(
    values: str, processes: str | None
) -> None:
    numbers = [part for part in values.split(",") if "settings" not in part]
    texts = [part for part in values.split(",") if "settings" in part]
    more = [argument for part in numbers for argument in ("--set", part)]
    text = rendered("external", *more, *(argument for part in texts for argument in ("--set-string", part)))
    trainer = container_of(named(text, "Deployment")["restmcts-trainer"])
    assert variables(trainer).get("RESTMCTS_TRAINING_PROCESSES") == processes


def test_pods_with_gpus_have_shared_memory_of_more_than_64_mb() -> None:
    deployments = named(rendered("gpus"), "Deployment")
    shared = {
        name
        for name, found in deployments.items()
        for mount in container_of(found)["volumeMounts"]
        if mount["mountPath"] == "/dev/shm"
    }
    assert shared == {"restmcts-policy-generator", "restmcts-trainer"}
    for name in shared:
        volumes = deployments[name]["spec"]["template"]["spec"]["volumes"]
        assert {"name": "shared-memory", "emptyDir": {"medium": "Memory"}} in volumes


def test_machines_that_train_together_are_an_indexed_job_whose_first_pod_is_found_by_the_others() -> None:
    text = rendered("nodes")
    assert "restmcts-trainer" not in named(text, "Deployment") | named(text, "PodDisruptionBudget")
    jobs = named(text, "Job")
    [name] = jobs.keys() - {"restmcts-setup"}
    spec = jobs[name]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    container, given = container_of(jobs[name]), variables(container_of(jobs[name]))
    assert (given["RESTMCTS_TRAINING_NODES"], given["RESTMCTS_TRAINING_PROCESSES"]) == ("4", "8")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
    host, _, port = given["RESTMCTS_TRAINING_RENDEZVOUS"].partition(":")
    service = named(text, "Service")[host]["spec"]
    assert service["ports"][0]["port"] == int(port) and service["clusterIP"] == "None"
    index = {"batch.kubernetes.io/job-completion-index": "0"}
    labels = spec["template"]["metadata"]["labels"]
    assert service["selector"] == labels | index
    policy = named(text, "NetworkPolicy")["restmcts-trainer"]["spec"]
    assert {"from": [{"podSelector": {"matchLabels": labels}}]} in policy["ingress"]
    assert {"to": [{"podSelector": {"matchLabels": labels}}]} in policy["egress"]
    [command] = re.findall(r"^CMD (.*)$", (ROOT / "services/trainer/Dockerfile").read_text(), re.MULTILINE)
    assert f"  {' '.join(json.loads(command))} &\n" in container["command"][-1]
    [other] = named(rendered("nodes", "--set", "image.tag=next"), "Job").keys() - {"restmcts-setup"}
    assert name != other, "its pods cannot be changed"


def test_the_scaler_asks_the_queries_of_the_command_line_and_replicas_are_its_own() -> None:
    stored = json.loads((CHARTS / "restmcts/files/demand.json").read_text(encoding="utf-8"))
    assert stored == DEMAND, "python -m restmcts.adapters.sql.reads.demand > infra/helm/restmcts/files/demand.json"
    text = rendered("gpus")
    scaled = named(text, "ScaledObject")
    assert set(scaled) == {f"restmcts-{worker}" for worker in DEMAND}
    for worker, query in DEMAND.items():
        spec = scaled[f"restmcts-{worker}"]["spec"]
        assert spec["scaleTargetRef"]["name"] in named(text, "Deployment")
        [trigger] = spec["triggers"]
        assert trigger["metadata"]["query"] == query and trigger["metadata"]["userName"] == role_of("dashboard")
        assert trigger["authenticationRef"]["name"] in named(text, "TriggerAuthentication")
        assert "replicas" not in named(text, "Deployment")[f"restmcts-{worker}"]["spec"]
    assert named(text, "Deployment")["restmcts-coordinator"]["spec"]["replicas"] == 1


def test_every_key_that_is_read_of_the_services_secrets_is_named_where_they_are_made_by_hand() -> None:
    text = rendered("gpus", "--set", "s3.accounts=true")
    [authentication] = named(text, "TriggerAuthentication").values()
    [password] = authentication["spec"]["secretTargetRef"]
    assert password["name"] == "restmcts-dashboard"
    volumes = named(text, "Job")["restmcts-setup"]["spec"]["template"]["spec"]["volumes"]
    [sources] = [volume["projected"]["sources"] for volume in volumes if "projected" in volume]
    keys = {password["key"]} | {item["key"] for source in sources for item in source["secret"]["items"]}
    values = (CHARTS / "restmcts/values.yaml").read_text(encoding="utf-8")
    [said] = re.findall(r"((?:#.*\n)+)serviceSecrets:", values)
    assert keys <= set(re.findall(r"\w+", said)) and len(keys) == 4


def test_pods_reach_their_servers_and_who_needs_no_bucket_does_not_reach_it() -> None:
    policies = named(rendered("external"), "NetworkPolicy")
    assert set(policies) == {f"restmcts-{name}" for name in (*RIGHTS, "setup")}
    for service in RIGHTS:
        ports = {port["port"] for rule in policies[f"restmcts-{service}"]["spec"]["egress"] for port in rule["ports"]}
        assert {53, 5432, 6379} <= ports
        assert (9000 in ports) == (service in ACCESS)
        assert (443 in ports) == (service in ("policy-generator", "prm-scorer", "value-labeler", "trainer"))


@pytest.mark.parametrize("given", ["a.example, b.example", '["a.example", "b.example"]'])
@pytest.mark.parametrize("where", ["settings", "dashboard.settings"])
def test_names_of_the_dashboard_are_allowed_besides_those_of_the_chart(where: str, given: str) -> None:
    text = rendered("gpus", "--namespace", "team", "--set-literal", f"{where}.RESTMCTS_DASHBOARD_NAMES={given}")
    container = container_of(named(text, "Deployment")["restmcts-dashboard"])
    assert [entry["name"] for entry in container["env"]].count("RESTMCTS_DASHBOARD_NAMES") == 1
    service = "restmcts-dashboard"
    assert json.loads(variables(container)["RESTMCTS_DASHBOARD_NAMES"]) == [
        *("127.0.0.1", "localhost", service, f"{service}.team", f"{service}.team.svc"),
        *("restmcts.example", "a.example", "b.example"),
    ]


@pytest.mark.parametrize("where", ["settings", "dashboard.settings", "workers.trainer.settings"])
def test_no_setting_is_accepted_beside_the_charts_own(where: str) -> None:
    api = ("--set", "dashboard.api=true")
    containers = [container_of(found) for found in named(rendered("gpus", *api), "Deployment").values()]
    values = yaml.safe_load((CHARTS / "restmcts/values.yaml").read_text(encoding="utf-8"))
    workers = [*values["workers"].values(), values["dashboard"], values]
    defaults = {"RESTMCTS_DASHBOARD_NAMES", "RESTMCTS_CACHE_BYTES", "RESTMCTS_TRAINING_PROCESSES"}
    free = defaults.union(*(worker["settings"] for worker in workers))
    own = {name for container in containers for name in variables(container)} - free
    assert {"RESTMCTS_REDIS_URL", "RESTMCTS_METRICS_PORT", "RESTMCTS_API_ENABLED", "HF_TOKEN"} < own
    for name in own:
        done = template("gpus", *api, "--set-string", f"{where}.{name}=1")
        assert done.returncode and f"{where}.{name}: the chart sets it itself" in done.stderr


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ("dashboard.api=false", "/"),
        ("dashboard.api=true", "/api/v1"),
        ("dashboard.api=true,dashboard.ingress.path=/", "/"),
    ],
)
def test_from_outside_only_the_api_is_reached_where_it_is_served_unless_a_path_is_named(values: str, path: str) -> None:
    [rule] = named(rendered("gpus", "--set", values), "Ingress")["restmcts-dashboard"]["spec"]["rules"]
    assert [one["path"] for one in rule["http"]["paths"]] == [path]


@pytest.mark.parametrize(
    "values",
    [
        "image.registry=localhost:5000/team/ai",
        "postgresql.host=10.0.0.7",
        "postgresql.host=[fd00::7]",
        "dashboard.ingress.host=*.example",
        "workers.trainer.settings.RESTMCTS_TRAINING_NODES=2:4",
        "workers.trainer.settings.RESTMCTS_TRAINING_NODES=4:4",
        "autoscaling.workers.prm-scorer.min=4",
        "autoscaling.workers.prm-scorer=null",
    ],
)
def test_values_at_the_bounds_of_what_is_right_are_taken(values: str) -> None:
    rendered("nodes", "--set", values)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ("postgresql.host=", "postgresql.host"),
        ("workers.trainer.replicas=many", "workers.trainer.replicas"),
        ("workers.trainr.replicas=1", "trainr"),
        ("s3.endpoint=http://s3", "s3.endpoint"),
        ("settings.lower=1", "settings"),
        ("workers.trainer.settings.RESTMCTS_TRAINING_RENDEZVOUS=a:1", "workers.trainer.nodes"),
        ("workers.trainer.nodes=0", "workers.trainer.nodes"),
        ("workers.trainer.nodes=2,workers.trainer.replicas=2", "workers.trainer.replicas"),
        ("workers.trainer.nodes=2,autoscaling.enabled=true", "autoscaling.workers.trainer"),
        ("autoscaling.workers.prm-scorer.min=5", "autoscaling.workers.prm-scorer: min (5) is above max (4)"),
        ("postgresql.host=postgresql://db", "postgresql.host"),
        ("postgresql.host=db:5432", "postgresql.host"),
        ("image.registry=https://registry.example/", "image.registry"),
        ("image.registry=registry.example/", "image.registry"),
        ("dashboard.ingress.host=https://restmcts.example", "dashboard.ingress.host"),
        ("dashboard.ingress.path=api", "dashboard.ingress.path"),
        ("workers.trainer.nodes=4,workers.trainer.settings.RESTMCTS_TRAINING_NODES=5:9", "workers.trainer.nodes"),
        ("workers.trainer.nodes=4,workers.trainer.settings.RESTMCTS_TRAINING_NODES=5:4", "workers.trainer.nodes"),
        ("workers.trainer.settings.RESTMCTS_TRAINING_NODES=2:4", "workers.trainer.nodes"),
        ("workers.prm-scorer.settings.RESTMCTS_TRAINING_NODES=1:1", "workers.trainer.nodes"),
    ],
)
def test_wrong_values_are_refused_by_name(values: str, complaint: str) -> None:
    done = template("external", "--set", values)
    assert done.returncode != 0
    assert complaint in done.stderr
