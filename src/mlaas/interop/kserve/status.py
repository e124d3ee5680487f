"""The status of a service in KServe's words: url, conditions, modelStatus, components (v1beta1's InferenceServiceStatus)."""

from mlaas.kernel.resource import Json, Resource, condition
from mlaas.kinds.service.schema import ServiceSpec

_MODEL_STATES = {"Ready": "Loaded", "Cold": "Standby", "Loading": "Loading", "Failed": "FailedToLoad"}


def base_url(status: Json) -> str:
    """What a client appends `/v1/models/NAME:predict` to."""
    full = str((status.get("address") or {}).get("v1", ""))
    return full.partition("/v1/models/")[0]


def of_service(resource: Resource, spec: ServiceSpec) -> Json:
    """Of an InferenceService."""
    status = resource.status
    found = _common(resource)
    found["deploymentMode"] = "Standard"
    latest, stable = str(status.get("latest") or ""), str((status.get("stable") or {}).get("revision") or "")
    units = {str(unit.get("revision")): unit for unit in status.get("units") or []}
    ready = condition(status, "Ready")
    if ready is not None:
        served = ready["status"] == "True"
        loaded = condition(status, "PredictorReady") or ready
        found["conditions"] += [
            _condition("PredictorReady", loaded),
            {**_condition("IngressReady", ready), "reason": "" if served else "PredictorNotReady"},
            _condition("LatestDeploymentReady", loaded),
            *(
                _condition(f"{part.title()}Ready", ready)
                for part in ("transformer", "explainer")
                if getattr(spec, part)
            ),
        ]
    if spec.predictor is None:
        return found
    found["modelStatus"] = _model_status(status, units.get(latest, {}), units.get(stable, {}))
    traffic = [
        {"revisionName": side["revision"], "percent": side["percent"], "latestRevision": side["revision"] == latest}
        | ({"tag": "prev"} if side["revision"] != latest else {})
        for side in status.get("traffic") or []
    ]
    earlier = [each["revision"] for each in status.get("revisions") or [] if each["revision"] != latest]
    component: Json = {
        "url": base_url(status),
        "restUrl": base_url(status),
        "grpcUrl": str((status.get("address") or {}).get("grpc", "")),
        "latestCreatedRevision": latest,
        "latestReadyRevision": latest if _phase(units.get(latest, {})) in ("Loaded", "Standby") else stable,
        "latestRolledoutRevision": stable,
        "traffic": traffic,
    }
    if earlier:
        component["previousRolledoutRevision"] = earlier[-1]
    found["components"] = {"predictor": {key: value for key, value in component.items() if value}}
    canaries = _canaries(spec, status, units)
    if canaries:
        found["canaryStatuses"] = canaries
    return found


def of_graph(resource: Resource) -> Json:
    """Of an InferenceGraph."""
    found = _common(resource)
    found["deploymentMode"] = "Standard"
    name = resource.meta.name
    if "url" in found:  # a graph is posted to as it is; here it has a name like every model
        found["url"] = f"{found['url']}/v1/models/{name}:predict"
    return found


def of_trained_model(resource: Resource) -> Json:
    """Of a TrainedModel."""
    found, status = _common(resource), resource.status
    if "url" in found:
        found["url"] = str(status["address"]["v1"])
        found["address"] = {"url": found["url"]}
    ready = condition(status, "Ready")
    if ready is not None:
        found["conditions"] += [_condition("InferenceServiceReady", ready), _condition("FrameworkSupported", ready)]
    return found


def _common(resource: Resource) -> Json:
    status = resource.status
    found: Json = {"observedGeneration": status.get("observed_generation", 0), "conditions": []}
    url = base_url(status)
    if url:
        found |= {"url": url, "address": {"url": url}}
    ready = condition(status, "Ready")
    if ready is not None:
        found["conditions"].append(_condition("Ready", ready))
    elif status.get("phase"):
        found["conditions"].append({"type": "Ready", "status": "Unknown", "reason": str(status["phase"])})
    resolved = condition(status, "Resolved")
    if resolved is not None and resolved["status"] != "True":
        found["conditions"].append(_condition("PredictorConfigurationReady", resolved))
    return found


def _condition(kind: str, of: Json) -> Json:
    shown = {"type": kind, "status": of["status"], "lastTransitionTime": of.get("last_transition_time", "")}
    return shown | {key: of[key] for key in ("reason", "message") if of.get(key)}


def _phase(unit: Json) -> str:
    return _MODEL_STATES.get(str(unit.get("phase")), "Pending")


def _model_status(status: Json, latest: Json, stable: Json) -> Json:
    """States of what answers and of what shall answer. A service that cannot be resolved has an invalid spec."""
    target, error = _phase(latest), status.get("error")
    active = _phase(stable) if stable else target
    if error:
        transition = "InvalidSpec"
    elif target == "FailedToLoad":
        transition = "BlockedByFailedLoad"
    elif target in ("Loaded", "Standby"):
        transition = "UpToDate"
    else:
        transition = "InProgress"
    found: Json = {
        "transitionStatus": transition,
        "states": {"activeModelState": active, "targetModelState": target},
        "copies": {"failedCopies": int(target == "FailedToLoad"), "totalCopies": int(status.get("replicas") or 0)},
    }
    if error:
        found["lastFailureInfo"] = {"reason": "InvalidPredictorSpec", "message": error["message"]}
    elif target == "FailedToLoad":
        found["lastFailureInfo"] = {
            "reason": "ModelLoadFailed",
            "message": str(latest.get("reason", "")),
            "modelRevisionName": str(latest.get("revision", "")),
        }
    return found


def _canaries(spec: ServiceSpec, status: Json, units: dict[str, Json]) -> list[Json]:
    """`canaryStatuses`, in the order of `spec.canary`: sides of the traffic after the first are the canaries."""
    found = []
    for canary, side in zip(spec.rollout.canary, (status.get("traffic") or [])[1:], strict=False):
        state = _phase(units.get(str(side["revision"]), {}))
        found.append(
            {
                "name": canary.name,
                "trafficPercent": side["percent"],
                "ready": state in ("Loaded", "Standby"),
                "modelStatus": {
                    "transitionStatus": "BlockedByFailedLoad" if state == "FailedToLoad" else "UpToDate",
                    "states": {"activeModelState": state, "targetModelState": state},
                },
            }
        )
    return found
