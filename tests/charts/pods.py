"""What the charts render for pods, field by field: a field that is not known here is refused, so
that nothing is left out in silence. Of compose it knows the form of health checks.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from restmcts.errors import InputError

CONTROLLER = (
    *("replicas", "selector", "serviceName", "volumeClaimTemplates", "template"),
    *("backoffLimit", "completionMode", "completions", "parallelism"),
)
POD = (
    *("automountServiceAccountToken", "securityContext", "restartPolicy", "terminationGracePeriodSeconds"),
    *("initContainers", "containers", "volumes", "subdomain", "enableServiceLinks"),
)
PLACEMENT = ("imagePullSecrets", "nodeSelector", "tolerations")
POD_RIGHTS = ("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "seccompProfile")
CONTAINER = (
    *("name", "image", "imagePullPolicy", "command", "args", "env", "ports", "resources"),
    *("securityContext", "volumeMounts"),
)
CONTAINER_RIGHTS = ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
TIMES = {"initialDelaySeconds": 0, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3}
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def known(where: str, given: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return `given`, which may have these fields alone.

    Raises:
        InputError: there are others.
    """
    if unknown := sorted(set(given) - set(names)):
        raise InputError(f"{where}: cannot translate {', '.join(unknown)}; teach it to tests/charts")
    return given


def required(where: str, given: Mapping[str, Any], **values: object) -> None:
    """Refuse what has another value than the only one that can be translated."""
    for name, value in values.items():
        if given.get(name) != value:
            raise InputError(f"{where}: {name} is {given.get(name)!r}, and only {value!r} can be translated")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return a text of `command`, `args` or `env` with its $(VARIABLES), as Kubernetes does it."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)", value, text)


def in_bytes(quantity: str) -> int:
    number, unit = quantity[:-2], quantity[-2:]
    if unit not in UNITS:
        raise InputError(f"{quantity!r} is no size in {', '.join(UNITS)}")
    return int(number) * UNITS[unit]


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod: `service` names its containers, `index` is that of an indexed job's."""

    service: str
    hostname: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    is_job: bool
    is_hook: bool
    claims: tuple[str, ...] = ()
    index: int | None = None

    @property
    def group(self) -> int:
        return int(self.spec["securityContext"]["fsGroup"])


def pods_of(document: Mapping[str, Any]) -> Iterator[Pod]:
    """Yield the pods that a Deployment, StatefulSet or Job makes, with all its replicas."""
    kind, metadata, spec = document["kind"], document["metadata"], document["spec"]
    name, where = metadata["name"], f"{kind} {metadata['name']}"
    known(where, spec, *CONTROLLER)
    template = known(f"{where}, template", spec["template"], "metadata", "spec")
    labels = known(f"{where}, template", template["metadata"], "labels", "annotations")["labels"]
    if not spec.get("selector", {"matchLabels": {}})["matchLabels"].items() <= labels.items():
        raise InputError(f"{where}: its pods have not the labels that it selects")
    hooks = metadata.get("annotations", {}).get("helm.sh/hook", "")
    if hooks and "pre-install" not in hooks.split(","):
        raise InputError(f"{where}: only hooks before an installation can be translated, not {hooks}")
    is_indexed = spec.get("completionMode") == "Indexed"
    if is_indexed:
        required(where, spec, parallelism=spec["completions"])
    elif kind == "Job":
        required(where, spec, completions=None, parallelism=None)
    number = spec["completions"] if is_indexed else spec.get("replicas", 1)
    for index in range(number):
        alone = number == 1 and not is_indexed
        yield Pod(
            service=f"pod-{name}" if alone else f"pod-{name}-{index}",
            hostname=f"{name}-{index}" if is_indexed or kind == "StatefulSet" else name,
            labels=labels | ({INDEX_LABEL: str(index)} if is_indexed else {}),
            spec=template["spec"],
            is_job=kind == "Job",
            is_hook=bool(hooks),
            claims=tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())),
            index=index if is_indexed else None,
        )


def health(where: str, container: Mapping[str, Any]) -> dict[str, Any]:
    """Return the liveness probe as a check of the engine, whose failures before the startup probe's
    time is over do not count, and the commands of all probes.
    """
    probes = {name: container[name] for name in PROBES if name in container}
    commands = {}
    for name, probe in probes.items():
        known(f"{where}, {name}", probe, "exec", "tcpSocket", *TIMES)
        if "exec" in probe:
            commands[name] = list(known(f"{where}, {name}", probe["exec"], "command")["command"])
        elif name != "readinessProbe":
            raise InputError(f"{where}: cannot translate a {name} that runs no command")
    if "livenessProbe" not in probes:
        return {"x-probes": commands} if commands else {}
    live = TIMES | probes["livenessProbe"]
    start_seconds = live["initialDelaySeconds"]
    if "startupProbe" in probes:
        start = TIMES | probes["startupProbe"]
        start_seconds += start["initialDelaySeconds"] + start["periodSeconds"] * start["failureThreshold"]
    check = {
        "test": ["CMD", *commands["livenessProbe"]],
        "interval": f"{live['periodSeconds']}s",
        "timeout": f"{live['timeoutSeconds']}s",
        "retries": live["failureThreshold"],
        "start_period": f"{start_seconds}s",
    }
    return {"healthcheck": check, "x-probes": commands}
