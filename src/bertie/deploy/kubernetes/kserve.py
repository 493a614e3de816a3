"""Serving with KServe: one object, whose controller makes the rest. The server speaks its Open Inference Protocol."""

from __future__ import annotations

from bertie.deploy.kubernetes.pod import Object, Service, container, pod, probe


def inference_service(service: Service) -> Object:
    """Return the InferenceService.

    Its pods may be Knative's, which takes no start-up probe and no preStop: it stops sending requests by itself.
    """
    settings = service.settings
    first = container(service, "kserve-container") | {
        "readinessProbe": probe("/v2/health/ready", periodSeconds=5, timeoutSeconds=2, failureThreshold=3),
        "livenessProbe": probe("/v2/health/live", periodSeconds=10, timeoutSeconds=5, failureThreshold=3)
        | {"initialDelaySeconds": 10},
    }
    # Knative's webhook takes ports that are called http1 or h2c only.
    first["ports"] = [{"name": "http1", **{key: value for key, value in first["ports"][0].items() if key != "name"}}]
    for one in ("readinessProbe", "livenessProbe"):
        first[one]["httpGet"]["port"] = "http1"
    inner = pod(service, first)
    # KServe has its own names for these two: a time for a whole request, and none for the end.
    inner.pop("terminationGracePeriodSeconds")
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": service.metadata() | {"annotations": service.annotations},
        "spec": {"predictor": {"minReplicas": settings.replicas, "maxReplicas": settings.max_replicas, **inner}},
    }
