"""KServe manifests on a real platform: applied as they are, they answer V1 and V2 and are shown back."""

import time
from typing import Any

import pytest
import yaml
from tests.acceptance.interop.conftest import (
    ROWS,
    applied,
    as_yaml,
    ask,
    kubectl_like,
    manifest,
    refused,
    sample,
    shown_ready,
    v1,
    v2,
)
from tests.platform import Platform

from mlaas.client import Client


def test_the_blocks_before_model_are_taken_and_named_as_deprecated(platform: Platform, client: Client) -> None:
    text = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: old-style}
spec:
  predictor:
    sklearn: {storageUri: "file://FILES/sklearn"}
"""
    (item,) = applied(client, manifest(text, platform))
    assert [warning["field"] for warning in item["warnings"]] == ["spec.predictor.sklearn"]
    assert "deprecated" in item["warnings"][0]["message"]
    assert v1(platform, shown_ready(client, "inferenceservices", "old-style")) == {"predictions": [0, 2]}


def test_a_canary_gets_its_share_and_promote_and_rollback_show_in_the_manifest(
    platform: Platform, client: Client
) -> None:
    text = manifest(sample("canary", "sklearn", "sklearn"), platform)
    applied(client, text)
    shown_ready(client, "inferenceservices", "canary")
    second = text.replace("/sklearn\n", "/second\n").replace(
        "  predictor:\n", "  predictor:\n    canaryTrafficPercent: 20\n"
    )
    (item,) = applied(client, second)
    assert item["action"] == "configured"
    end = time.monotonic() + 60
    while True:
        shown = shown_ready(client, "inferenceservices", "canary")
        traffic = shown["status"]["components"]["predictor"]["traffic"]
        if [side["percent"] for side in traffic] == [80, 20]:
            break
        assert time.monotonic() < end, traffic
    assert [side.get("tag") for side in traffic] == ["prev", None]
    assert shown["spec"]["predictor"]["canaryTrafficPercent"] == 20
    url = f"{shown['status']['url']}/v1/models/canary:predict"
    while ask(platform, url, {"instances": ROWS}, mlaas_revision=traffic[1]["revisionName"]) != {
        "predictions": [10, 12]
    }:
        assert time.monotonic() < end

    said = kubectl_like(platform, "service", "promote", "canary")
    assert (said.returncode, said.stdout.strip()) == (0, "service/canary promoted"), said.stderr
    shown = client.get("inferenceservices", "canary")
    assert "canaryTrafficPercent" not in shown["spec"]["predictor"]
    assert shown["spec"]["predictor"]["model"]["storageUri"].endswith("/second")
    while v1(platform, shown) != {"predictions": [10, 12]}:
        assert time.monotonic() < end + 60

    said = kubectl_like(platform, "service", "rollback", "canary")
    assert (said.returncode, said.stdout.strip()) == (0, "service/canary rolled back"), said.stderr
    assert client.get("inferenceservices", "canary")["spec"]["predictor"]["model"]["storageUri"].endswith("/sklearn")
    said = kubectl_like(platform, "service", "promote", "canary")
    assert said.returncode == 5
    assert "has no canary" in said.stderr


def test_named_canaries_and_a_dark_launch(platform: Platform, client: Client) -> None:
    text = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: named}
spec:
  predictor:
    name: stable
    model: {modelFormat: {name: sklearn}, storageUri: "file://FILES/sklearn"}
  canary:
    - trafficPercent: 0
      predictor:
        name: next
        model: {modelFormat: {name: sklearn}, storageUri: "file://FILES/second"}
"""
    applied(client, manifest(text, platform))
    shown = shown_ready(client, "inferenceservices", "named")
    assert {tuple(v1(platform, shown)["predictions"]) for _ in range(20)} == {(0, 2)}
    end = time.monotonic() + 60
    while (
        not (states := client.get("inferenceservices", "named")["status"].get("canaryStatuses"))
        or not states[0]["ready"]
    ):
        assert time.monotonic() < end, states
    assert (states[0]["name"], states[0]["trafficPercent"]) == ("next", 0)
    dark = client.get("services", "named")["status"]["traffic"][1]["revision"]
    url = f"{shown['status']['url']}/v1/models/named:predict"
    assert ask(platform, url, {"instances": ROWS}, mlaas_revision=dark) == {"predictions": [10, 12]}


GRAPH = """
apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata: {name: all-nodes}
spec:
  nodes:
    root:
      routerType: Switch
      steps:
        - {nodeName: both, condition: "parameters.both"}
        - {nodeName: split, condition: "parameters.split"}
        - {nodeName: chain, condition: "instances"}
    both:
      routerType: Ensemble
      steps:
        - {name: first, serviceName: node-a}
        - {name: second, serviceUrl: "http://node-b-predictor.default.svc.cluster.local/v1/models/node-b:predict"}
    split:
      routerType: Splitter
      steps:
        - {serviceName: node-a, weight: 0}
        - {serviceName: node-b, weight: 100}
    chain:
      routerType: Sequence
      steps:
        - {serviceName: node-a, data: $request, dependency: Hard}
        - {serviceName: node-b, data: $request}
"""


def test_a_graph_with_every_kind_of_node(platform: Platform, client: Client) -> None:
    both = manifest(sample("node-a", "sklearn", "sklearn"), platform)
    both += "---\n" + manifest(sample("node-b", "sklearn", "second"), platform)
    *_, graph = applied(client, f"{both}---\n{GRAPH}")
    assert [warning["field"] for warning in graph["warnings"]] == ["spec.nodes.both.steps[1].serviceUrl"]
    for name in ("node-a", "node-b"):
        shown_ready(client, "inferenceservices", name)
    shown = shown_ready(client, "inferencegraphs", "all-nodes")
    assert shown["spec"] == yaml.safe_load(GRAPH)["spec"]
    url = shown["status"]["url"]
    body: dict[str, Any] = {"instances": ROWS}
    assert ask(platform, url, body) == {"predictions": [10, 12]}
    assert ask(platform, url, {**body, "parameters": {"both": 1}}) == {
        "first": {"predictions": [0, 2]},
        "second": {"predictions": [10, 12]},
    }
    assert ask(platform, url, {**body, "parameters": {"split": 1}}) == {"predictions": [10, 12]}
    tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP64", "data": ROWS}
    base = url.partition("/v1/models/")[0]
    answer = ask(platform, f"{base}/v2/models/all-nodes/infer", {"inputs": [tensor], "parameters": {"split": 1}})
    assert answer["outputs"][0]["data"] == [10, 12]


LONELY = """
apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata: {name: lonely}
spec:
  nodes:
    root: {routerType: Sequence, steps: [{serviceName: comes-later}]}
"""


def test_a_graph_is_ready_once_the_services_of_its_steps_are_there(platform: Platform, client: Client) -> None:
    applied(client, LONELY)
    end = time.monotonic() + 30
    while (ready := _ready(client, "lonely")).get("reason") != "StepsMissing":
        assert time.monotonic() < end, ready
        time.sleep(0.05)
    assert (ready["status"], ready["message"]) == ("False", "no service is served as comes-later")
    applied(client, manifest(sample("comes-later", "sklearn", "sklearn"), platform))
    shown = shown_ready(client, "inferencegraphs", "lonely")
    assert ask(platform, shown["status"]["url"], {"instances": ROWS}) == {"predictions": [0, 2]}


def _ready(client: Client, name: str) -> dict[str, Any]:
    conditions = client.get("services", name)["status"].get("conditions") or []
    return dict(next((each for each in conditions if each["type"] == "Ready"), {}))


TRAINED = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: host}
spec:
  predictor:
    minReplicas: 1
    sklearn: {name: sklearn-predictor, protocolVersion: v1}
---
apiVersion: serving.kserve.io/v1alpha1
kind: TrainedModel
metadata: {name: model1}
spec:
  inferenceService: host
  model: {storageUri: "file://FILES/sklearn", framework: sklearn, memory: 256Mi}
"""


def test_trained_models_are_served_beside_their_inference_service(platform: Platform, client: Client) -> None:
    applied(client, manifest(TRAINED, platform))
    shown_ready(client, "inferenceservices", "host")
    shown = shown_ready(client, "trainedmodels", "model1")
    assert ask(platform, shown["status"]["url"], {"instances": ROWS}) == {"predictions": [0, 2]}
    assert shown["spec"]["inferenceService"] == "host"
    conditions = {each["type"]: each["status"] for each in shown["status"]["conditions"]}
    assert conditions == {"Ready": "True", "InferenceServiceReady": "True", "FrameworkSupported": "True"}
    listed = [each["metadata"]["name"] for each in client.list("inferenceservices")["items"]]
    assert "host" in listed
    assert "model1" not in listed


RUNTIMES = """
apiVersion: serving.kserve.io/v1alpha1
kind: ClusterServingRuntime
metadata: {name: everyones}
spec:
  supportedModelFormats: [{name: sklearn, version: "1", autoSelect: true, priority: 1}]
  protocolVersions: [v1, v2]
  containers:
    - {name: kserve-container, image: "registry.example/sklearnserver:v1", args: ["--workers=1", "--model_name={{.Name}}"]}
---
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata:
  name: own-code
  annotations: {mlaas/spec: "{predictor: {trusted: true, format: custom}}"}
spec:
  supportedModelFormats: [{name: twice, autoSelect: true}]
  containers: [{name: kserve-container, image: "registry.example/mine:v3"}]
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: by-name}
spec:
  predictor:
    model: {modelFormat: {name: sklearn}, runtime: everyones, storageUri: "file://FILES/sklearn"}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: by-format}
spec:
  predictor:
    model: {modelFormat: {name: twice}, storageUri: "file://FILES/twice"}
"""


def test_serving_runtimes_are_chosen_by_name_and_by_format(platform: Platform, client: Client) -> None:
    items = applied(client, manifest(RUNTIMES, platform))
    warned = {warning["field"] for item in items for warning in item["warnings"]}
    assert "spec.containers[0].image" in warned
    assert v1(platform, shown_ready(client, "inferenceservices", "by-name")) == {"predictions": [0, 2]}
    shown = shown_ready(client, "inferenceservices", "by-format")
    assert v1(platform, shown)["predictions"] == pytest.approx([20.4, 34.6])
    assert v2(platform, shown, ROWS, "FP64")["outputs"][0]["data"] == pytest.approx([20.4, 34.6])
    assert client.get("clusterservingruntimes", "everyones")["spec"] == yaml.safe_load(RUNTIMES.split("---")[0])["spec"]
    assert client.get("servingruntimes", "own-code")["kind"] == "ServingRuntime"


def test_a_transformer_and_a_custom_container_bring_their_code_by_storage_uri(
    platform: Platform, client: Client
) -> None:
    text = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: custom
  annotations: {mlaas/spec: "{predictor: {trusted: true}, transformer: {trusted: true}, access: public}"}
spec:
  predictor:
    containers:
      - {name: kserve-container, image: "me/mine:v1", env: [{name: STORAGE_URI, value: "file://FILES/twice"}]}
  transformer:
    containers:
      - {name: kserve-container, image: "me/t:v1", env: [{name: STORAGE_URI, value: "file://FILES/scale"}]}
"""
    applied(client, manifest(text, platform))
    shown = shown_ready(client, "inferenceservices", "custom")
    assert v1(platform, shown)["predictions"] == pytest.approx([2.04, 3.46])
    assert shown["metadata"]["annotations"]["mlaas/spec"].startswith("{predictor")


def test_claims_are_folders_of_the_project(platform: Platform, client: Client) -> None:
    claim = platform.data / "files" / "volumes" / "default" / "models"
    claim.mkdir(parents=True)
    (claim / "iris").symlink_to(platform.files / "sklearn")
    text = manifest(sample("claimed", "sklearn", "sklearn"), platform)
    applied(client, text.replace(f"file://{platform.files}/sklearn", "pvc://models/iris"))
    assert v1(platform, shown_ready(client, "inferenceservices", "claimed")) == {"predictions": [0, 2]}
    text = manifest(sample("unclaimed", "sklearn", "sklearn"), platform)
    error = refused(client, text.replace(f"file://{platform.files}/sklearn", "pvc://nothing/iris"))
    assert error["errors"][0]["field"] == "spec.predictor.model.storageUri"


def test_scaling_batching_and_logging_are_taken(platform: Platform, client: Client) -> None:
    text = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: dressed
  annotations: {autoscaling.knative.dev/window: 90s, team: physics}
spec:
  predictor:
    minReplicas: 0
    maxReplicas: 2
    scaleTarget: 4
    scaleMetric: concurrency
    containerConcurrency: 8
    timeout: 30
    batcher: {maxBatchSize: 8, maxLatency: 20}
    logger: {url: "file://FILES/log.jsonl", mode: all, metadataAnnotations: [team]}
    model: {modelFormat: {name: sklearn}, storageUri: "file://FILES/sklearn"}
"""
    applied(client, manifest(text, platform))
    spec = client.get("services", "dressed")["spec"]
    assert spec["scaling"] == {
        "min_replicas": 0,
        "max_replicas": 2,
        "scale_target": 4.0,
        "scale_metric": "concurrency",
        "container_concurrency": 8,
        "stable_window": 90.0,
    }
    assert spec["logger"]["metadata"] == {"team": "physics"}
    assert v1(platform, shown_ready(client, "inferenceservices", "dressed")) == {"predictions": [0, 2]}
    end = time.monotonic() + 30
    log = platform.files / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= 2):
        assert time.monotonic() < end
    assert "physics" in log.read_text()


def test_the_command_line_applies_and_shows_the_same_manifest(platform: Platform, client: Client) -> None:
    text = manifest(sample("by-hand", "sklearn", "sklearn"), platform)
    said = kubectl_like(platform, "apply", "-f", "-", text=text)
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() == "inferenceservice/by-hand created as service/by-hand"
    assert "warning: spec.predictor.model.resources.limits.cpu: not used" in said.stderr
    shown_ready(client, "inferenceservices", "by-hand")
    for kind in ("inferenceservice", "InferenceService", "isvc"):
        found = yaml.safe_load(kubectl_like(platform, "get", kind, "by-hand", "-o", "yaml").stdout)
        assert (found["kind"], found["spec"]) == ("InferenceService", yaml.safe_load(text)["spec"])
    listed = kubectl_like(platform, "get", "inferenceservices").stdout.splitlines()
    assert listed[0].split()[:4] == ["NAME", "URL", "READY", "REVISION"]
    assert any(line.split()[0] == "by-hand" and "True" in line.split() for line in listed)
    # What is shown can be applied again, server-set metadata and all: nothing changes.
    again = kubectl_like(platform, "apply", "-f", "-", text=as_yaml(found))
    assert again.stdout.strip() == "inferenceservice/by-hand unchanged as service/by-hand", again.stderr
    assert again.stderr.count("dropped what a server sets") == 1
    described = kubectl_like(platform, "describe", "inferenceservice", "by-hand").stdout
    assert "service by-hand  Ready" in described
    gone = kubectl_like(platform, "delete", "inferenceservice", "by-hand", "--wait")
    assert gone.returncode == 0, gone.stderr


CANARIES = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: with-canaries}
spec:
  predictor:
    model: {modelFormat: {name: sklearn}, storageUri: "file://FILES/sklearn"}
  canary:
    - trafficPercent: 30
      predictor: {name: next, model: {modelFormat: {name: sklearn}, storageUri: "file://FILES/second"}}
    - trafficPercent: 0
      predictor: {name: dark, model: {modelFormat: {name: sklearn}, storageUri: "file://FILES/second"}, timeout: 20}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(CANARIES, ("isvc", "with-canaries"), id="canaries"),
        pytest.param(GRAPH, ("ig", "all-nodes"), id="graph"),
        pytest.param(TRAINED, ("trainedmodel", "model1"), id="trained-model"),
        pytest.param(RUNTIMES, ("clusterservingruntime", "everyones"), id="cluster-runtime"),
        pytest.param(RUNTIMES, ("servingruntime", "own-code"), id="runtime"),
    ],
)
def test_every_kind_is_shown_as_it_was_written(platform: Platform, text: str, words: tuple[str, str]) -> None:
    text = manifest(text, platform)
    said = kubectl_like(platform, "apply", "-f", "-", text=text)
    assert said.returncode == 0, said.stderr
    (written,) = [each for each in yaml.safe_load_all(text) if each["metadata"]["name"] == words[1]]
    shown = yaml.safe_load(kubectl_like(platform, "get", *words, "-o", "yaml").stdout)
    for key in ("apiVersion", "kind", "spec"):
        assert shown[key] == written[key]
    assert shown["metadata"]["name"] == words[1]
    assert shown["metadata"].get("annotations") == written["metadata"].get("annotations")


def test_canaries_by_name_get_their_shares_and_the_dark_one_none(platform: Platform, client: Client) -> None:
    applied(client, manifest(CANARIES, platform))
    shown_ready(client, "inferenceservices", "with-canaries")
    end = time.monotonic() + 60
    while True:
        shown = shown_ready(client, "inferenceservices", "with-canaries")
        if [each["ready"] for each in shown["status"].get("canaryStatuses", [])] == [True, True]:
            break
        assert time.monotonic() < end, shown["status"]
        time.sleep(0.05)
    assert [(each["name"], each["trafficPercent"]) for each in shown["status"]["canaryStatuses"]] == [
        ("next", 30),
        ("dark", 0),
    ]
    traffic = shown["status"]["components"]["predictor"]["traffic"]
    assert [side["percent"] for side in traffic] == [70, 30, 0]
    url = f"{shown['status']['url']}/v1/models/with-canaries:predict"
    for side, expected in zip(traffic, ([0, 2], [10, 12], [10, 12]), strict=True):
        answer = ask(platform, url, {"instances": ROWS}, mlaas_revision=side["revisionName"])
        assert answer == {"predictions": expected}
    firsts = [ask(platform, url, {"instances": ROWS[:1]})["predictions"][0] for _ in range(60)]
    assert set(firsts) == {0, 10}


def test_a_manifest_is_taken_at_kubernetes_paths_and_where_services_are_posted(
    platform: Platform, client: Client
) -> None:
    import httpx2

    text = manifest(sample("posted", "sklearn", "sklearn"), platform)
    headers = {"authorization": f"Bearer {platform.token}", "content-type": "application/yaml"}
    made = httpx2.post(f"{platform.url}/api/v1/projects/default/services", content=text, headers=headers)
    assert made.status_code == 201, made.text
    assert made.json()["kind"] == "service"
    assert "299 - " in made.headers["warning"]
    base = f"{platform.url}/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices"
    twice = httpx2.post(base, content=text, headers=headers)
    assert twice.status_code == 409
    other = httpx2.post(base, content=text.replace("name: posted", "name: posted-too"), headers=headers)
    assert (other.status_code, other.json()["kind"]) == (201, "InferenceService")
    change = {"spec": {"predictor": {"minReplicas": 0}}}
    patched = httpx2.patch(
        f"{base}/posted-too", json=change, headers=headers | {"content-type": "application/merge-patch+json"}
    )
    assert patched.status_code == 200, patched.text
    assert patched.json()["spec"]["predictor"]["minReplicas"] == 0
    assert httpx2.delete(f"{base}/posted-too", headers=headers).status_code in (200, 202)


def test_generated_names_make_a_new_service_each_time(platform: Platform, client: Client) -> None:
    text = manifest(sample("x", "sklearn", "sklearn"), platform).replace("name: x\n", "generateName: many-\n")
    names = {applied(client, text)[0]["resource"]["meta"]["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("many-") for name in names)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (("name: sklearn\n", "name: paddle\n"), "spec.predictor.model.modelFormat.name", "'paddle' is not served"),
        (("file://FILES/sklearn", "gs://bucket/model"), "spec.predictor.model.storageUri", "'gs://'"),
        (("file://FILES/sklearn", "file:///etc"), "spec.predictor.model.storageUri", "outside the folders"),
        (("protocolVersion", "protocolVersions"), "spec.predictor.model.protocolVersions", "did you mean"),
        (("  predictor:\n", "  predictor:\n    minReplicas: three\n"), "spec.predictor.minReplicas", "whole number"),
        (("predictor:\n", "predictor:\n    canaryTrafficPercent: 120\n"), "spec.predictor.canaryTrafficPercent", "at most 100"),
        (("  predictor:\n", "  transformer: {containers: [{image: x}]}\n  predictor:\n"), "spec.transformer", "no image is run"),
        (("  predictor:\n", "  predictor:\n    sklearn: {storageUri: s3://a/b}\n"), "spec.predictor", "exactly one"),
        (("v1beta1", "v1alpha2"), "apiVersion", "not read here"),
        (("kind: InferenceService", "kind: LLMInferenceService"), "kind", "not taken here"),
        (("name: refused", "name: Refused"), "metadata.name", "lower-case letters"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_with_its_field(
    platform: Platform, client: Client, change: tuple[str, str], field: str, words: str
) -> None:
    text = sample("refused", "sklearn", "sklearn").replace(*change)
    error = refused(client, manifest(text, platform))
    assert field in [item["field"] for item in error["errors"]], error
    assert words in error["detail"] or any(words in item["message"] for item in error["errors"]), error


def test_two_kinds_of_manifests_cannot_have_one_name(platform: Platform, client: Client) -> None:
    applied(client, manifest(sample("taken", "sklearn", "sklearn"), platform))
    error = refused(client, GRAPH.replace("all-nodes", "taken"))
    assert error["code"] == "exists"
    assert "InferenceService 'taken'" in error["detail"]


@pytest.mark.parametrize("kind", ["InferenceService", "InferenceGraph", "TrainedModel", "ServingRuntime"])
def test_a_manifest_without_a_spec_is_refused(client: Client, kind: str) -> None:
    version = "v1beta1" if kind == "InferenceService" else "v1alpha1"
    error = refused(client, f"apiVersion: serving.kserve.io/{version}\nkind: {kind}\nmetadata: {{name: empty}}\n")
    assert error["errors"], error
    assert all(item["field"].split(".")[0] == "spec" for item in error["errors"]), error
