"""KServe's manifests (serving.kserve.io): InferenceService v1beta1, InferenceGraph, TrainedModel, ServingRuntime and
ClusterServingRuntime v1alpha1, as their CRDs of version 0.20 describe them. docs/serving.md has the table of fields."""

GROUP = "serving.kserve.io"
OVERLAY = "mlaas/spec"
"""The annotation with what KServe has no field for: a merge patch (YAML or JSON) over the service that a manifest becomes."""
