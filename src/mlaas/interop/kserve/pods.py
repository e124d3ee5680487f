"""Fields of pods and containers. A model here is no pod: they are named as not used."""

from mlaas.interop.block import Block

POD = (
    "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy", "enableServiceLinks",
    "ephemeralContainers", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "hostUsers", "hostname", "hostnameOverride",
    "imagePullSecrets", "initContainers", "nodeName", "nodeSelector", "os", "overhead", "preemptionPolicy", "priority",
    "priorityClassName", "readinessGates", "resourceClaims", "restartPolicy", "runtimeClassName", "schedulerName",
    "schedulingGates", "securityContext", "serviceAccount", "serviceAccountName", "setHostnameAsFQDN",
    "shareProcessNamespace", "subdomain", "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints",
    "volumes",
)  # fmt: skip
CONTAINER = (
    "confidential", "imagePullPolicy", "lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy",
    "restartPolicy", "restartPolicyRules", "securityContext", "startupProbe", "stdin", "stdinOnce",
    "terminationMessagePath", "terminationMessagePolicy", "tty", "volumeDevices", "volumeMounts", "workingDir",
)  # fmt: skip

NO_POD = "a model here runs in no pod"
NO_IMAGE = "no image is run on one machine; the platform's own server serves the model"


def pod(block: Block) -> None:
    """Name the fields of a pod."""
    block.unused(NO_POD, *POD)


def container(block: Block) -> None:
    """Name the fields of a container that say how it is run, but not what it runs."""
    block.unused(NO_POD, *CONTAINER)


def environment(block: Block) -> dict[str, str]:
    """The plain variables of a container; those that come from elsewhere are named."""
    found: dict[str, str] = {}
    for item in block.blocks("env"):
        name, value = item.text("name"), item.text("value")
        if item.raw("valueFrom") is not None:
            item.notes.warn(item.path, f"not used: {name or 'a variable'} comes from a secret or a field of a pod")
        elif name:
            found[name] = value
        item.end()
    block.unused(NO_POD, "envFrom")
    return found


def arguments(block: Block, key: str = "args") -> dict[str, tuple[str, str]]:
    """Flag -> (its value, its path), of `--flag=value`, `--flag value` and `--flag`."""
    found: dict[str, tuple[str, str]] = {}
    flag = ""
    for place, word in enumerate(block.texts(key)):
        where = f"{block.at(key)}[{place}]"
        if word.startswith("-"):
            flag, _, value = word.lstrip("-").partition("=")
            found[flag.replace("-", "_")] = (value, where)
        elif flag and not found[flag.replace("-", "_")][0]:
            found[flag.replace("-", "_")] = (word, found[flag.replace("-", "_")][1])
        else:
            found[word] = ("", where)
    return found
