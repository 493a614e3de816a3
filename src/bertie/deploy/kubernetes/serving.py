"""Serving with what Kubernetes has itself: Deployment, Service, scaling, and what protects them."""

from __future__ import annotations

from bertie.deploy.kubernetes.pod import PORT, Object, Service, container, pod, probe

QUEUE = "bertie_queue_tokens"
"""The metric of `serve/metrics.py` that pods are added by."""


def deployment(service: Service) -> Object:
    """Return the pods. Their number is the autoscaler's business where there is one."""
    settings = service.settings
    fixed = {} if scales(service) else {"replicas": settings.replicas}
    first = container(service, "bertie") | {
        "envFrom": [{"configMapRef": {"name": f"{service.name}-settings"}}],
        "startupProbe": probe(
            "/ping", periodSeconds=2, timeoutSeconds=2, failureThreshold=settings.startup_seconds // 2
        ),
        "readinessProbe": probe("/v2/health/ready", periodSeconds=5, timeoutSeconds=2, failureThreshold=2),
        "livenessProbe": probe("/v2/health/live", periodSeconds=10, timeoutSeconds=5, failureThreshold=3),
        # The pod leaves the Service's list while it still answers, so that no request meets a closed door.
        "lifecycle": {"preStop": {"sleep": {"seconds": settings.pre_stop_seconds}}},
    }
    if not settings.pre_stop_seconds:
        del first["lifecycle"]
    template = {
        "metadata": {"labels": dict(service.labels), "annotations": service.annotations},
        "spec": pod(service, first) | {"topologySpreadConstraints": _spread(service)},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": service.metadata(),
        "spec": {
            **fixed,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": dict(service.labels)},
            # A new pod is ready before an old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }


def _spread(service: Service) -> list[Object]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(service.labels)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def front(service: Service) -> Object:
    """Return the Service, at port 80."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": service.metadata(),
        "spec": {
            "selector": dict(service.labels),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def scales(service: Service) -> bool:
    """Whether the number of pods changes."""
    return service.settings.max_replicas > service.settings.replicas


def autoscaler(service: Service) -> Object:
    """Return what adds and removes pods: by tokens that wait, and by the CPU where that is not known.

    Of several metrics the one that asks for most pods counts; one that cannot be read only keeps pods from being
    removed. https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/
    """
    settings = service.settings
    queue = {"metric": {"name": QUEUE}, "target": {"type": "AverageValue", "averageValue": str(settings.queue_tokens)}}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": settings.cpu_percent}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": service.metadata(),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name},
            "minReplicas": settings.replicas,
            "maxReplicas": settings.max_replicas,
            "metrics": [{"type": "Pods", "pods": queue}, {"type": "Resource", "resource": cpu}],
            "behavior": {
                "scaleUp": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}]},
                "scaleDown": {
                    "stabilizationWindowSeconds": 300,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                },
            },
        },
    }


def adapter_rule(service: Service) -> Object:
    """Return values for prometheus-adapter's chart with which Kubernetes knows how many tokens wait in a pod.

    The queue empties within milliseconds, so that one reading says little: it is averaged over a minute.
    """
    averaged = "avg_over_time(<<.Series>>{<<.LabelMatchers>>}[1m])"
    rule = {
        "seriesQuery": f'{QUEUE}{{namespace!="",pod!=""}}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
        "name": {"matches": f"^{QUEUE}$", "as": QUEUE},
        # One series for each model; they wait for the same processors.
        "metricsQuery": f"sum({averaged}) by (<<.GroupBy>>)",
    }
    return {"rules": {"custom": [rule]}}


def budget(service: Service) -> Object:
    """Return how many pods may be taken away at a time, for example to drain a node."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": service.metadata(),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(service.labels)},
        },
    }


def network_policy(service: Service) -> Object:
    """Return who may talk: pods of this namespace and Prometheus to the server, the server to nobody."""
    monitoring = {"kubernetes.io/metadata.name": service.settings.metrics_namespace}
    sources: list[Object] = [{"podSelector": {}}]
    if service.settings.metrics_namespace:
        sources.append({"namespaceSelector": {"matchLabels": monitoring}})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": service.metadata(),
        "spec": {
            "podSelector": {"matchLabels": dict(service.labels)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": sources, "ports": [{"port": PORT, "protocol": "TCP"}]}],
            "egress": [],
        },
    }


def monitor(service: Service) -> Object:
    """Return what tells the Prometheus operator to read /metrics, with a key where the server wants one."""
    keys = service.settings.api_keys
    credentials = {"authorization": {"type": "Bearer", "credentials": {"name": keys, "key": "metrics"}}} if keys else {}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": service.metadata(),
        "spec": {
            "selector": {"matchLabels": dict(service.labels)},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": "15s", **credentials}],
        },
    }
