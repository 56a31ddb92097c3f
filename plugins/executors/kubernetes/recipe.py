"""What a job is made of in the cluster: one Secret and one Job. Everything that holds a build is said here."""

from dataclasses import dataclass
from typing import Any, Final

from plugins.executors.kubernetes.config import OUR_PREFIX, KubernetesConfig
from scalemesh.values import BuildJob, DeploymentId, JobRef

OWNER: Final = f"{OUR_PREFIX}owner"
DEPLOYMENT: Final = f"{OUR_PREFIX}deployment"
ATTEMPT: Final = f"{OUR_PREFIX}attempt"
NETWORK: Final = f"{OUR_PREFIX}network"  #: by which NetworkPolicies choose
CONTAINER: Final = "builder"
TMP: Final = "tmp"  #: the volume at /tmp
STOP_S: Final = 2  #: between asking the processes of a job to end and killing them
SPARE_MIB: Final = 256  #: more than the builder lets its build write, so that its words come first
LOG_MIB: Final = 64  #: what a container prints counts as storage of its pod
USER: Final = 1000
FOLDER: Final = "/run/scalemesh"
Made = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Knows the settings; describes what is to be made in the words of the API."""

    config: KubernetesConfig
    grace_s: float  #: how much longer than the build's time limit, which the builder keeps itself, its pod may be there

    def name(self, deployment: DeploymentId, attempt: int) -> str:
        """Of Job and Secret alike; at most 63 characters, as a label's value must be."""
        return f"scalemesh-{self.config.owner}-{deployment.lower().replace('_', '-')}-{attempt}"

    def selector(self, deployment: DeploymentId | None = None, attempt: int | None = None) -> str:
        """Finds what is ours, or of one deployment, or of one attempt."""
        words = {OWNER: self.config.owner, DEPLOYMENT: deployment, ATTEMPT: attempt}
        return ",".join(f"{name}={value}" for name, value in words.items() if value is not None)

    def secret(self, job: BuildJob, authorities: str) -> Made:
        """The token, and the authorities that a builder is to trust, where there are any of its own."""
        files = {"token": str(job.token), **({"ca.pem": authorities} if authorities else {})}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": self._metadata(job), "stringData": files}

    def owned(self, job: Made | None) -> Made:
        """The patch by which the Secret goes away with its Job; None: with none."""
        if job is None:
            return {"metadata": {"ownerReferences": None}}
        found = job["metadata"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": found["name"], "uid": found["uid"]}
        return {"metadata": {"ownerReferences": [owner]}}

    def job(self, job: BuildJob, *, words: tuple[str, ...] = (), trusts: bool = False) -> Made:
        """The Job. *words*: for the builder; *trusts*: whether the Secret holds authorities."""
        deadline_s = max(1, int(job.limits.time_s + self.grace_s))
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": self._metadata(job),
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": deadline_s + self.config.start_timeout_s,  # counts from before its pod
                "ttlSecondsAfterFinished": self.config.keep_s,
                "template": {"metadata": self._words(job), "spec": self._pod(job, words, trusts, deadline_s)},
            },
        }

    def _metadata(self, job: BuildJob) -> Made:
        return {"name": self.name(job.deployment, job.attempt), **self._words(job)}

    def _words(self, job: BuildJob) -> Made:
        ours = {
            OWNER: self.config.owner,
            DEPLOYMENT: job.deployment,
            ATTEMPT: str(job.attempt),
            NETWORK: str(job.network),
        }
        return {"labels": {**self.config.labels, **ours}, "annotations": {**self.config.annotations, **ours}}

    def _pod(self, job: BuildJob, words: tuple[str, ...], trusts: bool, deadline_s: int) -> Made:
        config = self.config
        chosen = {
            "serviceAccountName": config.service_account,
            "priorityClassName": config.priority_class,
            "nodeSelector": config.node_selector,
            "imagePullSecrets": [{"name": name} for name in config.image_pull_secrets],
        }
        return {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": deadline_s,  # the kubelet keeps it, from before it pulls the image
            "terminationGracePeriodSeconds": STOP_S,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "tolerations": self._tolerations(),
            "containers": [self._container(job, words, trusts)],
            "volumes": [
                {"name": "work", "emptyDir": {"sizeLimit": f"{_mib(job.limits.disk_bytes) + SPARE_MIB}Mi"}},
                {"name": TMP, "emptyDir": {"sizeLimit": f"{config.tmp_mib}Mi"}},
                {
                    "name": "token",
                    "secret": {"secretName": self.name(job.deployment, job.attempt), "defaultMode": 0o440},
                },
            ],
            **{name: value for name, value in chosen.items() if value},
        }

    def _tolerations(self) -> list[Made]:
        """The operator's, and for how long a build bears with a node that is not heard."""
        away = [
            {
                "key": f"node.kubernetes.io/{what}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": self.config.node_lost_s,
            }
            for what in ("not-ready", "unreachable")
        ]
        chosen = [
            {"key": each.key, "operator": each.operator, "value": each.value, "effect": each.effect}
            for each in self.config.tolerations
        ]
        return [*away, *({name: value for name, value in each.items() if value} for each in chosen)]

    def _container(self, job: BuildJob, words: tuple[str, ...], trusts: bool) -> Made:
        return {
            "name": CONTAINER,
            "image": self.config.image,
            "imagePullPolicy": self.config.image_pull_policy,
            "args": list(words),
            "env": [{"name": name, "value": value} for name, value in self._environment(job, trusts).items()],
            "resources": self._resources(job),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "work", "mountPath": "/work"},
                {"name": TMP, "mountPath": "/tmp"},  # noqa: S108 - inside the container
                {"name": "token", "mountPath": FOLDER, "readOnly": True},
            ],
        }

    def _environment(self, job: BuildJob, trusts: bool) -> dict[str, str]:
        found = {
            "SCALEMESH_URL": job.url or "",
            "SCALEMESH_TOKEN_FILE": f"{FOLDER}/token",
            "SCALEMESH_WORK": "/work",
            "SCALEMESH_SANDBOX": "container",
            "HOME": "/work/home",
            "TMPDIR": "/work/tmp",  # counts as the build's disk; /tmp has a small limit of its own
        }
        return {**found, "SCALEMESH_CA": f"{FOLDER}/ca.pem"} if trusts else found

    def _resources(self, job: BuildJob) -> Made:
        """Memory and storage are set aside whole: a node that lends them twice would end builds by chance."""
        storage_mib = _mib(job.limits.disk_bytes) + SPARE_MIB + self.config.tmp_mib + LOG_MIB
        fixed = {"memory": str(job.limits.memory_bytes), "ephemeral-storage": f"{storage_mib}Mi"}
        limit = {"cpu": _cpu(self.config.cpu_limit)} if self.config.cpu_limit else {}
        return {"requests": {**fixed, "cpu": _cpu(self.config.cpu_request)}, "limits": {**fixed, **limit}}


def ref_of(job: Made) -> JobRef | None:
    """What finds *job* again; None for one that carries no words of ours."""
    labels = job["metadata"].get("labels", {})
    if DEPLOYMENT not in labels or not labels.get(ATTEMPT, "").isdigit():
        return None
    where = f"{job['metadata']['name']} {job['metadata']['uid']}"
    return JobRef(deployment=DeploymentId(labels[DEPLOYMENT]), attempt=int(labels[ATTEMPT]), where=where)


def _cpu(processors: float) -> str:
    return f"{round(processors * 1000)}m"


def _mib(count: int) -> int:
    return -(-count // (1 << 20))
