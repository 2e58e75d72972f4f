"""The manifests as `kubectl kustomize` renders them, against the schemas of their kinds."""

import importlib
import importlib.util
import json
import lzma
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from configs.load import load_job
from configs.schema import ServeSpec

DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = sorted(path.name for path in (DEPLOY / "kubernetes/overlays").iterdir())
KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
KINDS = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl (requirements.txt here)")


@lru_cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    assert KUBECTL is not None
    folder = DEPLOY / "kubernetes/overlays" / overlay
    run = subprocess.run(
        [KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return [one for one in yaml.safe_load_all(run.stdout) if one]


def ray_kind(overlay: str) -> dict[str, Any]:
    (found,) = (one for one in rendered(overlay) if one["kind"] in KINDS)
    return found


def pod_templates(overlay: str) -> list[dict[str, Any]]:
    found = ray_kind(overlay)
    cluster = found["spec"][KINDS[found["kind"]]]
    templates = [group["template"] for group in cluster["workerGroupSpecs"]]
    return [cluster["headGroupSpec"]["template"], *templates]


def closed(schema: Any) -> Any:
    """The schema with properties that it does not name forbidden, as the API server has it."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    free = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not free:
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


@lru_cache
def schemas() -> dict[str, Any]:
    data = lzma.decompress((Path(__file__).parent / "kuberay-1.6.2.json.xz").read_bytes())
    found = json.loads(data)
    for schema in found.values():
        schema["properties"]["metadata"] = {"x-kubernetes-preserve-unknown-fields": True}
    return {kind: closed(schema) for kind, schema in found.items()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_they_are_what_kuberay_takes(overlay: str) -> None:
    found = ray_kind(overlay)
    validator = jsonschema.Draft7Validator(schemas()[found["kind"]])
    validator.validate(found)
    broken = json.loads(json.dumps(found))
    broken["spec"][KINDS[found["kind"]]]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        validator.validate(broken)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_else_is_what_kubernetes_takes(overlay: str) -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("needs kubernetes-validate (requirements.txt here)")
    import kubernetes_validate

    plain = [one for one in rendered(overlay) if one["kind"] not in KINDS]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        for template in pod_templates(overlay)
    ]
    for one in [*plain, *pods]:
        kubernetes_validate.validate(one, "1.31", strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_closed_pinned_and_watched(overlay: str) -> None:
    for template in pod_templates(overlay):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["terminationGracePeriodSeconds"] >= 60
        (container,) = pod["containers"]
        assert re.fullmatch(r"[^:]+:\d+\.\d+\.\d+(-cuda)?", container["image"])
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"readinessProbe", "livenessProbe", "resources"} <= set(container)
        # Nothing of a secret stands in a manifest.
        assert not any("KEY" in one["name"] or "SECRET" in one["name"] for one in container["env"])
    names = {one["kind"] for one in rendered(overlay)}
    assert {"NetworkPolicy", "ServiceAccount"} <= names
    assert "Secret" not in names


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_they_start_what_there_is(overlay: str) -> None:
    found = ray_kind(overlay)
    cluster = found["spec"][KINDS[found["kind"]]]
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["authOptions"] == {"mode": "token"}
    (group,) = cluster["workerGroupSpecs"]
    if found["kind"] == "RayJob":
        assert group["minReplicas"] == 0
        (settings,) = (one for one in rendered(overlay) if one["kind"] == "ConfigMap")
        (text,) = settings["data"].values()
        job = load_job(None, yaml.safe_load(text))
        assert job.run.keys.wait
        words = found["spec"]["entrypoint"].split()
        assert words[:3] == ["takestream", "extract", "--job"]
        assert ("--device" in words) == ("gpu" in overlay)
        (volume,) = (
            one
            for one in cluster["headGroupSpec"]["template"]["spec"]["volumes"]
            if one["name"] == "job"
        )
        assert volume["configMap"]["name"] == settings["metadata"]["name"]
    else:
        serve = yaml.safe_load(found["spec"]["serveConfigV2"])
        (application,) = serve["applications"]
        module, _, function = application["import_path"].partition(":")
        assert hasattr(importlib.import_module(module), function)
        ServeSpec.model_validate(application["args"])
