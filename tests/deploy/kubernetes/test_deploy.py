from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from bertie.bundle.manifest import FILE, Manifest
from bertie.config import ServeSettings, TrainSettings
from bertie.deploy.kubernetes.deploy import deploy_kubernetes
from bertie.deploy.kubernetes.pod import Service, grace_seconds, memory
from bertie.deploy.kubernetes.serving import QUEUE
from bertie.deploy.kubernetes.settings import KubernetesSettings
from bertie.deploy.kubernetes.training import learned
from bertie.errors import BundleNotFound, OutputError, UsageError
from bertie.pipeline.launch import launch_here
from bertie.serve.limits import GRACE_SECONDS
from bertie.serve.metrics import Metrics
from bertie.talk import Talk
from tests.conftest import Bertie, last_json
from tests.environments import python_of

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "kubernetes.md"
BUNDLE = Path(__file__).parents[2] / "bundles" / "v2" / "bundle"
EVERYTHING: dict[str, Any] = {
    "namespace": "texts",
    "api_keys": "tone-keys",
    "model_claim": "models",
    "pull_secret": "registry",
    "trainjob": "pvc://data/messages/all.csv",
    "checkpoints": "pvc://kept/tone",
    "nodes": 2,
    "gpus": 1,
    "train": "--text-column message",
}


def manifests(out: Path, **flags: Any) -> dict[str, Any]:
    settings = KubernetesSettings.load({"image": "registry.example/tone:1", "name": "tone"} | flags, environment={})
    facts = deploy_kubernetes(BUNDLE, out, settings, Talk(quiet=True))
    assert facts["files"] == {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()}
    return {name: yaml.safe_load(text) for name, text in facts["files"].items()}


def objects(documents: dict[str, Any]) -> list[dict[str, Any]]:
    """What an API server gets."""
    return [one for name, one in documents.items() if name not in {"kustomization.yaml", "prometheus-adapter.yaml"}]


def wrong(documents: Sequence[dict[str, Any]]) -> list[list[str]]:
    schemas = Path(__file__).with_name("schemas.py")
    done = subprocess.run(
        [python_of("kubernetes"), schemas], input=json.dumps(documents), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("flags", [{}, EVERYTHING, {"kserve": True, **EVERYTHING}, {"replicas": 3, "max_replicas": 3}])
def test_everything_written_holds_the_real_schemas(tmp_path: Path, flags: dict[str, Any]) -> None:
    written = objects(manifests(tmp_path / "k", **flags))
    assert wrong(written) == [[] for _ in written]


Damage = Callable[[dict[str, Any]], object]
DAMAGES: list[tuple[str, Damage]] = [
    ("Deployment", lambda one: one["spec"]["template"]["spec"]["containers"][0].update(readynessProbe={})),
    ("Deployment", lambda one: one["spec"].update(replicas="three")),
    ("Service", lambda one: one["spec"]["ports"][0].update(targetport=1)),
    ("HorizontalPodAutoscaler", lambda one: one["spec"].update(maxReplica=2)),
    ("HorizontalPodAutoscaler", lambda one: one["spec"].pop("maxReplicas")),
    ("PodDisruptionBudget", lambda one: one["spec"].update(maxUnavailible=1)),
    ("NetworkPolicy", lambda one: one["spec"].update(ingres=[])),
    ("ServiceMonitor", lambda one: one["spec"]["endpoints"][0].update(intervall="1s")),
    ("ServiceMonitor", lambda one: one["spec"].update(endpoints="http")),
    ("InferenceService", lambda one: one["spec"]["predictor"].update(minReplica=1)),
    ("InferenceService", lambda one: one["spec"]["predictor"]["containers"][0].update(imag="x")),
    ("InferenceService", lambda one: one["spec"]["predictor"].update(minReplicas="1")),
    ("TrainJob", lambda one: one["spec"]["trainer"].update(numNode=1)),
    ("TrainJob", lambda one: one["spec"]["trainer"].update(numNodes="1")),
    ("TrainJob", lambda one: one["spec"]["runtimePatches"][0].update(spec={})),
]


def test_what_is_misspelt_or_of_a_wrong_type_would_be_seen(tmp_path: Path) -> None:
    plain, kserve = manifests(tmp_path / "a", **EVERYTHING), manifests(tmp_path / "b", kserve=True)
    known = {one["kind"]: one for one in [*objects(kserve), *objects(plain)]}
    assert set(known) == {kind for kind, _ in DAMAGES}
    damaged = []
    for kind, damage in DAMAGES:
        damaged.append(copy.deepcopy(known[kind]))
        damage(damaged[-1])
    found = wrong(damaged)
    assert all(found), [kind for (kind, _), one in zip(DAMAGES, found, strict=True) if not one]


def kustomized(folder: Path) -> dict[str, dict[str, Any]]:
    """What kubectl would apply, by kind."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}


def test_kustomize_builds_the_base(tmp_path: Path) -> None:
    documents = manifests(tmp_path / "base", **EVERYTHING)
    built = kustomized(tmp_path / "base")
    listed = {documents[name]["kind"] for name in documents["kustomization.yaml"]["resources"]}
    assert set(built) == {*listed, "ConfigMap"}
    assert all(one["metadata"]["namespace"] == "texts" for one in built.values())
    pod = built["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert pod["envFrom"] == [{"configMapRef": {"name": built["ConfigMap"]["metadata"]["name"]}}]
    (tmp_path / "base" / "service.yaml").unlink()
    with pytest.raises(ValueError, match=r"service\.yaml"):
        kustomized(tmp_path / "base")


def test_the_overlay_of_the_guide_changes_the_base(tmp_path: Path) -> None:
    manifests(tmp_path / "k8s", name="first", image="registry.example/first:1")
    (overlay,) = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "production").mkdir()
    (tmp_path / "production" / "kustomization.yaml").write_text(overlay)
    built = kustomized(tmp_path / "production")
    pod = built["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert pod["image"] == "registry.example/first:2"
    assert built["ConfigMap"]["data"] == {"BERTIE_SERVE_LOG_FORMAT": "json", "BERTIE_SERVE_WORKERS": "2"}
    assert pod["envFrom"][0]["configMapRef"]["name"] == built["ConfigMap"]["metadata"]["name"]
    assert "ServiceMonitor" not in built


def test_the_objects_find_each_other(tmp_path: Path) -> None:
    documents = manifests(tmp_path / "k")
    pods = documents["deployment.yaml"]["spec"]["template"]
    wanted = pods["metadata"]["labels"].items()
    selectors = [
        documents["deployment.yaml"]["spec"]["selector"]["matchLabels"],
        documents["service.yaml"]["spec"]["selector"],
        documents["budget.yaml"]["spec"]["selector"]["matchLabels"],
        documents["network-policy.yaml"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= wanted for selector in selectors)
    monitored = documents["monitor.yaml"]["spec"]
    assert monitored["selector"]["matchLabels"].items() <= documents["service.yaml"]["metadata"]["labels"].items()
    (port,) = documents["service.yaml"]["spec"]["ports"]
    assert {one["port"] for one in monitored["endpoints"]} == {port["name"]}
    assert port["targetPort"] in {one["name"] for one in pods["spec"]["containers"][0]["ports"]}
    target = documents["autoscaler.yaml"]["spec"]["scaleTargetRef"]
    assert target["name"] == documents["deployment.yaml"]["metadata"]["name"]


def test_pods_are_added_by_a_metric_that_the_server_has(tmp_path: Path) -> None:
    documents = manifests(tmp_path / "k")
    metrics = Metrics()
    metrics.of("m", "b")
    assert re.search(rf"^{QUEUE}\{{", metrics.page().decode(), re.MULTILINE)
    (rule,) = documents["prometheus-adapter.yaml"]["rules"]["custom"]
    assert rule["name"]["as"] == documents["autoscaler.yaml"]["spec"]["metrics"][0]["pods"]["metric"]["name"] == QUEUE


def test_a_pod_has_time_to_end(tmp_path: Path) -> None:
    pod = manifests(tmp_path / "k", pre_stop_seconds=7)["deployment.yaml"]["spec"]["template"]["spec"]
    drain = ServeSettings().drain_seconds
    assert pod["terminationGracePeriodSeconds"] > 7 + drain + GRACE_SECONDS
    assert pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == 7
    without = manifests(tmp_path / "w", pre_stop_seconds=0)["deployment.yaml"]["spec"]["template"]["spec"]
    assert "lifecycle" not in without["containers"][0]
    assert grace_seconds(KubernetesSettings(pre_stop_seconds=0)) == pod["terminationGracePeriodSeconds"] - 7


def test_the_pod_has_no_rights(tmp_path: Path) -> None:
    for flags in ({}, {"kserve": True}):
        documents = manifests(tmp_path / f"k{len(flags)}", **flags)
        one = documents.get("inference-service.yaml") or documents["deployment.yaml"]
        pod = one["spec"].get("predictor") or one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]  # noqa: S108


def test_the_memory_follows_the_model() -> None:
    manifest = Manifest.from_file(BUNDLE / FILE)
    size = 100 * 2**20
    heavy = {name: record.model_copy(update={"bytes": size}) for name, record in manifest.files.items()}
    settings = KubernetesSettings()
    small = memory(Service("x", "", manifest, settings))
    files = len(manifest.variant().files)
    large = memory(Service("x", "", manifest.model_copy(update={"files": heavy}), settings))
    assert (small, large) == ("640Mi", f"{-(-(512 + 300 * files) // 128) * 128}Mi")
    assert memory(Service("x", "", manifest, KubernetesSettings(memory="3Gi"))) == "3Gi"


def test_the_training_job_runs_bertie_train_as_the_model_was_trained(tmp_path: Path, bertie: Bertie) -> None:
    job = manifests(tmp_path / "k", **EVERYTHING)["train-job.yaml"]["spec"]
    words = job["trainer"]["args"]
    assert words[:5] == ["train", "/mnt/data/messages/all.csv", "--out", "/mnt/data/runs/tone", "--auto-resume"]
    assert words[words.index("--checkpoints") + 1] == "/mnt/kept/tone"
    assert words[-2:] == ["--text-column", "message"]
    (patch,) = job["runtimePatches"]
    spec = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    places = {one["name"]: one["mountPath"] for one in spec["containers"][0]["volumeMounts"]}
    claims = {one["persistentVolumeClaim"]["claimName"]: places[one["name"]] for one in spec["volumes"]}
    assert claims == {"data": "/mnt/data", "kept": "/mnt/kept"}
    # The command knows these flags, and takes them with their values.
    done = bertie(*words, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 3, done.stderr
    assert "/mnt/data/messages/all.csv" in done.stderr


def test_what_the_job_sets_starts_torchrun() -> None:
    kubeflow = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": "tone-train-node-0-0.tone-train",
        "PET_MASTER_PORT": "29500",
    }
    assert launch_here(kubeflow) is not None


def test_settings_of_the_first_training_become_flags() -> None:
    manifest = Manifest.from_file(BUNDLE / FILE)
    usual = TrainSettings().model_dump()

    def flags(source: str, **changed: object) -> list[str]:
        provenance = {"base": {"name": "minilm", "source": source}, "settings": usual | changed}
        changed_manifest = manifest.model_copy(update={"provenance": provenance})
        return learned(Service("x", "", changed_manifest, KubernetesSettings()))

    assert flags("folder") == []
    assert flags("hub", long="windows", freeze_embeddings=False) == [
        *("--base", "minilm", "--long", "windows", "--no-freeze-embeddings"),
    ]
    assert flags("folder", checkpoints="s3://elsewhere", token_cache=False) == []
    assert learned(Service("x", "", manifest.model_copy(update={"provenance": {}}), KubernetesSettings())) == []


@pytest.mark.parametrize("uri", ["s3://bucket/data.csv", "data.csv", "pvc:///data.csv", "pvc://claim/../etc/passwd"])
def test_data_that_pods_cannot_mount_are_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UsageError, match="--trainjob cannot be"):
        manifests(tmp_path / "k", trainjob=uri)
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    "flags",
    [{"name": "Tone"}, {"name": "tone.x"}, {"replicas": 0}, {"cpu": "many"}, {"api_keys": "A B"}],
)
def test_what_kubernetes_would_refuse_is_refused_here(flags: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        KubernetesSettings.load({"image": "x", **flags}, environment={})


def test_an_image_a_model_and_an_empty_folder_are_needed(tmp_path: Path) -> None:
    quiet = Talk(quiet=True)
    with pytest.raises(UsageError, match="no image"):
        deploy_kubernetes(BUNDLE, tmp_path / "k", KubernetesSettings(), quiet)
    with pytest.raises(UsageError, match="--max-replicas 1 is less"):
        deploy_kubernetes(BUNDLE, tmp_path / "k", KubernetesSettings(image="x", max_replicas=1), quiet)
    with pytest.raises(BundleNotFound):
        deploy_kubernetes(tmp_path / "nothing", tmp_path / "k", KubernetesSettings(image="x"), quiet)
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "mine.yaml").write_text("kept")
    with pytest.raises(OutputError, match="not empty"):
        deploy_kubernetes(BUNDLE, tmp_path / "k", KubernetesSettings(image="x"), quiet)
    deploy_kubernetes(BUNDLE, tmp_path / "k", KubernetesSettings(image="x"), quiet, overwrite=True)
    assert not (tmp_path / "k" / "mine.yaml").exists()


def test_the_command_shows_writes_and_says_what_comes_next(bertie: Bertie, tmp_path: Path) -> None:
    words = ("deploy", "kubernetes", BUNDLE, "--image", "registry.example/tone:1", "--out", tmp_path / "k")
    dry = bertie(*words, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert not (tmp_path / "k").exists()
    facts = last_json(bertie(*words, "--json").stdout)
    kinds = [one["kind"] for one in yaml.safe_load_all(dry.stdout) if one and "kind" in one]
    assert kinds == [yaml.safe_load(text)["kind"] for text in facts["files"].values() if "\nkind:" in text]
    again = bertie(*words, "--overwrite")
    assert again.stdout.splitlines()[-1] == f"next: kubectl apply -k {tmp_path / 'k'}"
    assert (tmp_path / "k" / "deployment.yaml").read_text() == facts["files"]["deployment.yaml"]
    refused = bertie(*words, "--replicas", "0")
    assert refused.returncode == 2
    assert "bertie deploy kubernetes --help" in refused.stderr
