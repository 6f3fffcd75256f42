"""Renderings of the charts as a compose file: each pod's containers as a cluster starts them.

Names of compose's services begin with `pod-`: as in a cluster, a pod is reached by the name of a
Service alone. What only a cluster has is in `Stack.not_checked`.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from restmcts.errors import InputError

from tests.charts.pods import (
    CONTAINER,
    CONTAINER_RIGHTS,
    PLACEMENT,
    POD,
    POD_RIGHTS,
    PROBES,
    Pod,
    expanded,
    health,
    in_bytes,
    known,
    pods_of,
    required,
)

CLUSTER_ONLY = ("NetworkPolicy", "PodDisruptionBudget", "ScaledObject", "TriggerAuthentication", "Ingress")
READ_BY_GROUP, OPEN_FOLDER, GROUPS_FOLDER = 0o440, 0o2777, 0o2775
DONE, STARTED, HEALTHY = "service_completed_successfully", "service_started", "service_healthy"

# What the kubelet does before a pod's containers start: volumes with their groups and modes; the
# files of secrets are links into a folder that is replaced as a whole.
LAY_OUT = """
import json, os, pathlib
for name, plan in json.loads(os.environ["PLAN"]).items():
    root = pathlib.Path("/volumes", name)
    for path, (text, mode) in plan["files"].items():
        file = root / "..1" / path
        if file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.chown(file, 0, plan["group"])
        file.chmod(mode)
        first = path.split("/")[0]
        for link, target in ((root / "..data", "..1"), (root / first, f"..data/{first}")):
            if not link.is_symlink():
                link.symlink_to(target)
    os.chown(root, 0, plan["group"])
    root.chmod(plan["mode"])
"""
# and what its probes of kind tcpSocket do.
CONNECT = """
import socket, sys, time
for address in sys.argv[1:]:
    host, port = address.split(":")
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            break
        except OSError:
            time.sleep(1)
"""


@dataclass
class Stack:
    """What is translated so far: compose's services, the volumes that are laid out, and, by what
    they concern, the reasons why parts of a rendering are not checked.
    """

    image_with_python: str
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    not_checked: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    addresses: list[Mapping[str, Any]] = field(default_factory=list)

    def compose(self) -> dict[str, Any]:
        """Return the compose file, of which every text is meant as it is."""
        lay_out = self._helper(LAY_OUT, ())
        lay_out["environment"] = {"PLAN": json.dumps(self.volumes)}
        lay_out["volumes"] = [_mount(name, f"/volumes/{name}", read_only=False) for name in self.volumes]
        services = {"kubelet-volumes": lay_out, **self.services}
        return {"services": _literal(services), "volumes": {name: {} for name in self.volumes}}

    def install(self, documents: Iterable[Mapping[str, Any]], after: Mapping[str, str]) -> dict[str, str]:
        """Add what one chart renders, whose pods start when those in `after` are there.

        Returns:
            Its own services, with the condition under which each is ready.

        Raises:
            InputError: something in it cannot be translated.
        """
        pods = self._read(list(documents))
        done: dict[str, str] = {}
        for pod in sorted(pods, key=lambda pod: not pod.is_hook):
            last = self._add(pod, {**after, **({} if pod.is_hook else done)})
            if pod.is_hook:
                done[last] = DONE
        return done | self._ready([pod for pod in pods if not pod.is_job])

    def _read(self, documents: Sequence[Mapping[str, Any]]) -> list[Pod]:
        pods: list[Pod] = []
        for document in documents:
            kind, name = document["kind"], document["metadata"]["name"]
            if kind in CLUSTER_ONLY:
                self.not_checked[kind] = "only a cluster has it"
            elif kind == "Secret":
                known(f"Secret {name}", document, "apiVersion", "kind", "metadata", "type", "stringData", "data")
                coded = {key: base64.b64decode(text).decode() for key, text in document.get("data", {}).items()}
                self.secrets[name] = coded | dict(document.get("stringData", {}))
            elif kind in ("Deployment", "StatefulSet", "Job"):
                pods += pods_of(document)
                if "annotations" in document["spec"]["template"]["metadata"]:
                    self.not_checked["annotations of pods"] = "what reads them is not here"
            elif kind != "Service":
                raise InputError(f"{kind} {name}: cannot translate this kind; teach it to tests/charts")
        for document in documents:
            if document["kind"] == "Service":
                self._read_service(document, pods)
        return pods

    def _read_service(self, document: Mapping[str, Any], pods: Sequence[Pod]) -> None:
        name, spec = document["metadata"]["name"], document["spec"]
        known(f"Service {name}", spec, "selector", "ports", "clusterIP", "publishNotReadyAddresses")
        behind = [pod for pod in pods if spec["selector"].items() <= pod.labels.items()]
        if not behind:
            raise InputError(f"Service {name}: no pod has its labels {spec['selector']}")
        self.addresses.append(document)
        for port in spec.get("ports", ()):
            known(f"Service {name}, port", port, "name", "port", "targetPort", "protocol")
            target = port.get("targetPort", port["port"])
            if isinstance(target, str):
                [container] = behind[0].spec["containers"]
                target = {entry["name"]: entry["containerPort"] for entry in container["ports"]}[target]
            if target != port["port"]:
                self.not_checked[f"Service {name}"] = f"its port {port['port']} is {target} here"
            if spec.get("clusterIP") != "None":
                self._link(name, port)

    def _link(self, name: str, port: Mapping[str, Any]) -> None:
        """Note the variables by which the kubelet announces a Service to every pod."""
        prefix, number, protocol = name.upper().replace("-", "_"), port["port"], port.get("protocol", "TCP")
        url, one = f"{protocol.lower()}://{name}:{number}", f"{prefix}_PORT_{number}_{protocol}"
        self.links |= {f"{prefix}_SERVICE_HOST": name, f"{prefix}_SERVICE_PORT": str(number), f"{prefix}_PORT": url}
        self.links |= {one: url, f"{one}_PROTO": protocol.lower(), f"{one}_PORT": str(number), f"{one}_ADDR": name}

    def _add(self, pod: Pod, after: Mapping[str, str]) -> str:
        """Add a pod's containers; return the name of its last."""
        spec = known(pod.service, pod.spec, *POD, *PLACEMENT)
        required(pod.service, spec, automountServiceAccountToken=False)
        self.not_checked |= dict.fromkeys(set(PLACEMENT) & set(spec), "only a cluster has it")
        if len(spec["containers"]) != 1:
            raise InputError(f"{pod.service}: cannot translate several containers in one pod")
        restart = {"Always": "always", "OnFailure": "on-failure", "Never": "no"}[spec.get("restartPolicy", "Always")]
        if pod.is_hook:
            restart = "no"
            self.not_checked["backoffLimit"] = "what runs before an installation has one attempt here"
        waits = {"kubelet-volumes": DONE, **after}
        for container in spec.get("initContainers", ()):
            name = f"{pod.service}-{container['name']}"
            self.services[name] = self._container(pod, container) | {"restart": "no", "depends_on": _conditions(waits)}
            waits[name] = DONE
        service = self._container(pod, spec["containers"][0]) | {"restart": restart, "depends_on": _conditions(waits)}
        service["stop_grace_period"] = f"{spec.get('terminationGracePeriodSeconds', 30)}s"
        aliases = [
            document["metadata"]["name"]
            for document in self.addresses
            if document["spec"]["selector"].items() <= pod.labels.items()
        ]
        if "subdomain" in spec:
            if spec["subdomain"] not in aliases:
                raise InputError(f"{pod.service}: subdomain {spec['subdomain']} is no Service of its pods")
            aliases.append(f"{pod.hostname}.{spec['subdomain']}")
        service["networks"] = {"default": {"aliases": aliases}}
        self.services[pod.service] = service
        return pod.service

    def _container(self, pod: Pod, given: Mapping[str, Any]) -> dict[str, Any]:
        where = f"{pod.service}, container {given['name']}"
        known(where, given, *CONTAINER, *PROBES)
        if "imagePullPolicy" in given:
            self.not_checked["imagePullPolicy"] = "images are there"
        variables = self._variables(where, pod, given)
        service: dict[str, Any] = {"image": given["image"], "hostname": pod.hostname, "environment": variables}
        for ours, theirs in (("entrypoint", "command"), ("command", "args")):
            if theirs in given:
                service[ours] = [expanded(text, variables) for text in given[theirs]]
        service |= self._rights(where, pod, given) | self._limits(where, given)
        service["volumes"] = [self._volume(where, pod, mount) for mount in given.get("volumeMounts", ())]
        return service | health(where, given)

    def _variables(self, where: str, pod: Pod, container: Mapping[str, Any]) -> dict[str, str]:
        # what runs before an installation runs before upgrades too, when all Services are there
        found = dict(self.links) if pod.spec.get("enableServiceLinks", True) else {}
        if pod.index is not None:
            found["JOB_COMPLETION_INDEX"] = str(pod.index)
        for entry in container.get("env", ()):
            known(where, entry, "name", "value", "valueFrom")
            if "valueFrom" in entry:
                [reference] = known(where, entry["valueFrom"], "secretKeyRef").values()
                found[entry["name"]] = self._secret(where, known(where, reference, "name", "key"))
            else:
                found[entry["name"]] = expanded(entry.get("value", ""), found)
        return found

    def _secret(self, where: str, reference: Mapping[str, str]) -> str:
        try:
            return self.secrets[reference["name"]][reference["key"]]
        except KeyError:
            raise InputError(
                f"{where}: no Secret {reference['name']} with {reference['key']} is rendered; give it as YAML too"
            ) from None

    def _rights(self, where: str, pod: Pod, container: Mapping[str, Any]) -> dict[str, Any]:
        everyone = known(where, pod.spec["securityContext"], *POD_RIGHTS)
        own = known(where, container["securityContext"], *CONTAINER_RIGHTS)
        required(where, everyone, runAsNonRoot=True, seccompProfile={"type": "RuntimeDefault"})
        required(where, own, allowPrivilegeEscalation=False)
        group = f":{everyone['runAsGroup']}" if "runAsGroup" in everyone else ""
        return {
            "user": f"{everyone['runAsUser']}{group}",
            "group_add": [str(everyone["fsGroup"])],
            "read_only": own.get("readOnlyRootFilesystem", False),
            "cap_drop": list(known(where, own["capabilities"], "drop")["drop"]),
            "security_opt": ["no-new-privileges:true"],
        }

    def _limits(self, where: str, container: Mapping[str, Any]) -> dict[str, Any]:
        resources = known(where, container.get("resources", {}), "requests", "limits")
        if "requests" in resources:
            self.not_checked["requests of resources"] = "only a cluster places pods by them"
        limits = known(f"{where}, limits", resources.get("limits", {}), "memory", "cpu")
        memory = {"mem_limit": in_bytes(limits["memory"])} if "memory" in limits else {}
        return memory | ({"cpus": float(limits["cpu"])} if "cpu" in limits else {})

    def _volume(self, where: str, pod: Pod, mount: Mapping[str, Any]) -> dict[str, Any]:
        known(where, mount, "name", "mountPath", "readOnly", "subPath")
        name, below = mount["name"], mount.get("subPath")
        if {"name": name, "emptyDir": {"medium": "Memory"}} in pod.spec.get("volumes", ()):
            return {"type": "tmpfs", "target": mount["mountPath"], "read_only": mount.get("readOnly", False)}
        containers = [*pod.spec.get("initContainers", ()), *pod.spec["containers"]]
        mounts = [entry for container in containers for entry in container.get("volumeMounts", ())]
        others = {entry.get("subPath") is None for entry in mounts if entry["name"] == name}
        if len(others) > 1:
            raise InputError(f"{where}: cannot mount {name} both as a whole and in part")
        full = ".".join([pod.service, name, *([below] if below else [])])
        self.volumes[full] = self._plan(where, pod, name)
        return _mount(full, mount["mountPath"], read_only=mount.get("readOnly", False))

    def _plan(self, where: str, pod: Pod, name: str) -> dict[str, Any]:
        """Return group, mode and files of a volume."""
        if name in pod.claims:
            self.not_checked["volumeClaimTemplates"] = "a volume has no class and no size here"
            return {"group": pod.group, "mode": GROUPS_FOLDER, "files": {}}
        [volume] = [entry for entry in pod.spec["volumes"] if entry["name"] == name]
        known(where, volume, "name", "secret", "projected", "emptyDir")
        files: dict[str, tuple[str, int]] = {}
        if "emptyDir" in volume:
            if known(where, volume["emptyDir"], "sizeLimit"):
                self.not_checked["sizeLimit"] = "a volume may grow here"
            return {"group": pod.group, "mode": OPEN_FOLDER, "files": files}
        if "secret" in volume:
            secret = known(where, volume["secret"], "secretName", "defaultMode")
            keys = self.secrets.get(secret["secretName"], {})
            mode = secret.get("defaultMode", 0o644) | READ_BY_GROUP
            names = [(secret["secretName"], key, key) for key in sorted(keys)] or [(secret["secretName"], "a key", "")]
        else:
            mode = 0o644
            sources = [source["secret"] for source in known(where, volume["projected"], "sources")["sources"]]
            names = [(source["name"], item["key"], item["path"]) for source in sources for item in source["items"]]
        for owner, key, path in names:
            files[path] = (self._secret(where, {"name": owner, "key": key}), mode)
        return {"group": pod.group, "mode": GROUPS_FOLDER, "files": files}

    def _ready(self, pods: Sequence[Pod]) -> dict[str, str]:
        """Return by what it is seen that pods are ready: healthy, or connected to by a service."""
        conditions, addresses = {}, []
        for pod in pods:
            probe = pod.spec["containers"][0].get("readinessProbe", {})
            if "tcpSocket" in probe:
                addresses.append(f"{pod.service}:{probe['tcpSocket']['port']}")
            conditions[pod.service] = HEALTHY if "healthcheck" in self.services[pod.service] else STARTED
        if not addresses:
            return conditions
        name = f"kubelet-ready-{len(self.services)}"
        self.services[name] = self._helper(CONNECT, addresses) | {"depends_on": _conditions(conditions)}
        return {name: DONE}

    def _helper(self, program: str, arguments: Sequence[str]) -> dict[str, Any]:
        return {
            "image": self.image_with_python,
            "user": "0:0",
            "entrypoint": ["python", "-c", program, *arguments],
            "restart": "no",
        }


def _mount(volume: str, target: str, *, read_only: bool) -> dict[str, Any]:
    # without nocopy an empty volume gets what the image has there, and its owner
    return {
        "type": "volume",
        "source": volume,
        "target": target,
        "read_only": read_only,
        "volume": {"nocopy": True},
    }


def _conditions(after: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {name: {"condition": condition} for name, condition in after.items()}


def _literal(value: Any) -> Any:
    """Return it with every dollar doubled: compose has variables of its own."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _literal(one) for key, one in value.items()}
    return [_literal(one) for one in value] if isinstance(value, list | tuple) else value


def translated(renderings: Sequence[Sequence[Mapping[str, Any]]]) -> Stack:
    """Return the stack of several charts, each installed when the one before is ready.

    Args:
        renderings: the documents of each chart, as `helm template` writes them.

    Raises:
        InputError: something in them cannot be translated.
    """
    jobs = [document for documents in renderings for document in documents if document["kind"] == "Job"]
    if not jobs:
        raise InputError("no Job is rendered, whose image could lay out the volumes")
    stack = Stack(jobs[0]["spec"]["template"]["spec"]["containers"][0]["image"])
    ready: dict[str, str] = {}
    for documents in renderings:
        ready = stack.install(documents, ready)
    return stack
