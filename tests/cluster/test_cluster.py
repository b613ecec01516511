"""The files in `cluster/` are valid for KubeRay, Ray, AWS and Docker, and the paths that they name exist."""

import copy
import fnmatch
import importlib.metadata
import itertools
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import ray
import yaml
from botocore.validate import ParamValidator
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start as ray_start

from galaxy_batch.config import CatalogConfig
from galaxy_batch.settings import load_config
from tests.support.repository import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
MANIFESTS = {"rayjob.yaml": "rayjobs", "raycluster.yaml": "rayclusters"}
YAMLS = [*MANIFESTS, "ray-up.yaml"]
FREE_FORM = {"metadata", "nodeSelector", "rayStartParams", "requests", "limits"}  # mappings with arbitrary keys


def read(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text())


def documents(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """All mappings of a document, with their paths."""
    if isinstance(value, dict):
        yield path, value
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from documents(inner, (*path, key))


def misspelt(document: Any) -> Iterator[tuple[str, Any]]:
    """Copies of the document, each with one key misspelt."""
    for path, mapping in documents(document):
        if FREE_FORM & set(path):
            continue
        for key in mapping:
            changed = copy.deepcopy(document)  # an alias changes everywhere
            place = changed
            for step in path:
                place = place[step]
            place[f"{key}s"] = place.pop(key)
            yield ".".join(map(str, (*path, key))), changed


# --- Kubernetes ---


def closed(schema: Any) -> Any:
    """The schema without additional fields, as the API server applies it."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(inner) for key, inner in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string") is True:
        result["type"] = ["integer", "string"]
    return result


@pytest.fixture(scope="module")
def definitions() -> dict[str, jsonschema.Draft7Validator]:
    """Validators of KubeRay's own resource definitions; tests are skipped if these do not exist."""
    folder = Path(os.environ.get("GALAXY_BATCH_CRDS", REPOSITORY.parent / "shared" / "kuberay_crds"))
    if not folder.is_dir():
        pytest.skip(f"no definitions of KubeRay's resources at {folder}; set GALAXY_BATCH_CRDS")
    validators = {}
    for name in MANIFESTS.values():
        text = (folder / f"ray.io_{name}.yaml").read_text()
        versions = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
        (schema,) = (v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
        validators[name] = jsonschema.Draft7Validator(closed(schema))
    return validators


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_manifests_are_valid_for_kuberay(name: str, definitions: dict[str, jsonschema.Draft7Validator]) -> None:
    manifest = read(name)
    assert manifest["apiVersion"] == "ray.io/v1"
    assert f"{manifest['kind'].lower()}s" == MANIFESTS[name]
    assert [f"{error.json_path}: {error.message}" for error in definitions[MANIFESTS[name]].iter_errors(manifest)] == []


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_misspelt_field_is_invalid_for_kuberay(
    name: str, definitions: dict[str, jsonschema.Draft7Validator]
) -> None:
    validator, manifest, tried = definitions[MANIFESTS[name]], read(name), 0
    for path, changed in misspelt(manifest["spec"]):
        tried += 1
        assert not validator.is_valid({**manifest, "spec": changed}), f"a misspelt {path} is not noticed"
    assert tried > 100


def cluster_spec(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(name: str) -> dict[str, Any]:
    """Pod specs of a manifest by group."""
    spec = cluster_spec(name)
    specs = {"head": spec["headGroupSpec"]["template"]["spec"]}
    specs |= {group["groupName"]: group["template"]["spec"] for group in spec["workerGroupSpecs"]}
    if "submitterPodTemplate" in read(name)["spec"]:
        specs["submitter"] = read(name)["spec"]["submitterPodTemplate"]["spec"]
    return specs


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_are_unprivileged_and_contain_no_secrets(name: str) -> None:
    for group, pod in pods(name).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, group
        assert pod["securityContext"]["runAsUser"] == int(image_user()), group
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, group
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"], group
        assert "env" not in container, "credentials come from a Secret or the service account"
        assert pod.get("automountServiceAccountToken") is False or group == "head", group
    assert cluster_spec(name)["authOptions"]["mode"] == "token"


@pytest.mark.parametrize("name", MANIFESTS)
def test_memory_requests_equal_limits_and_fit_the_object_store(name: str) -> None:
    gibi = {"Gi": 1.0, "Mi": 1 / 1024}
    for group, pod in pods(name).items():
        resources = pod["containers"][0]["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"], group
        if group == "submitter":
            continue
        assert resources["requests"] == resources["limits"], group
        (shared,) = (v["emptyDir"] for v in pod["volumes"] if v["name"] == "shared-memory")
        assert shared["medium"] == "Memory"
        assert {"name": "shared-memory", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
        memory, store = (
            float(text[:-2]) * gibi[text[-2:]] for text in (resources["limits"]["memory"], shared["sizeLimit"])
        )
        assert memory * 0.3 <= store < memory / 2, group


def test_the_head_runs_no_tasks_and_only_the_gpu_group_has_gpus() -> None:
    for name in MANIFESTS:
        spec = cluster_spec(name)
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert spec["enableInTreeAutoscaling"] is True
        for group in spec["workerGroupSpecs"]:
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            assert ("nvidia.com/gpu" in limits) == (group["groupName"] == "gpu")
            assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            tolerated = {toleration["key"] for toleration in group["template"]["spec"]["tolerations"]}
            assert {"nvidia.com/gpu", "spot"} <= tolerated


def test_a_failed_job_is_retried_and_the_cluster_is_removed() -> None:
    spec = read("rayjob.yaml")["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] < 3600
    assert spec["activeDeadlineSeconds"] > 0


def test_the_two_manifests_describe_the_same_cluster() -> None:
    job, standing = cluster_spec("rayjob.yaml"), cluster_spec("raycluster.yaml")
    for spec in (job, standing):
        for group in spec["workerGroupSpecs"]:
            del group["replicas"]
    assert job == standing


def test_options_of_ray_start_exist() -> None:
    known = {option for parameter in ray_start.params for option in parameter.opts}
    for name in MANIFESTS:
        spec = cluster_spec(name)
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert {f"--{key}" for key in group["rayStartParams"]} <= known
    launcher = read("ray-up.yaml")
    starts = [c for c in launcher["head_start_ray_commands"] + launcher["worker_start_ray_commands"] if "start" in c]
    assert len(starts) == 2
    for line in starts:
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line


# --- the cluster launcher ---


def launcher_schema() -> Any:
    return json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def test_the_config_is_valid_for_ray_up() -> None:
    config = read("ray-up.yaml")
    jsonschema.validate(config, launcher_schema())
    filled = prepare_config(copy.deepcopy(config))
    validate_config(filled)
    commands = [key for key in filled if key.endswith("setup_commands") or key == "initialization_commands"]
    assert len(commands) == 4
    assert [filled[key] for key in commands] == [[]] * 4, "nothing is installed when a node starts"
    assert filled["available_node_types"]["head"]["resources"]["CPU"] == 0
    assert filled["head_node_type"] in filled["available_node_types"]


def test_every_misspelt_field_is_invalid_for_ray_up() -> None:
    config, validator = read("ray-up.yaml"), jsonschema.Draft7Validator(launcher_schema())
    open_to_all = {"provider", "node_config", "resources"}  # mappings with arbitrary keys
    tried = 0
    for path, changed in misspelt(config):
        steps = path.split(".")
        if open_to_all & set(steps[:-1]) or path in {f"available_node_types.{n}" for n in ("head", "gpu", "cpu")}:
            continue
        tried += 1
        assert not validator.is_valid(changed), f"a misspelt {path} is not noticed"
    assert tried > 25


@pytest.mark.parametrize("kind", ["head", "gpu", "cpu"])
def test_the_nodes_are_valid_for_aws(kind: str) -> None:
    node = read("ray-up.yaml")["available_node_types"][kind]
    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    request = {**node["node_config"], "MinCount": 1, "MaxCount": 1}
    assert not ParamValidator().validate(request, shape).has_errors()
    for key in node["node_config"]:
        wrong = {**request, f"{key}s": request[key]}
        assert ParamValidator().validate(wrong, shape).has_errors(), key
    spot = node["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    assert spot == (kind != "head")
    assert ("GPU" in node["resources"]) == (kind == "gpu") == ("docker" in node)


# --- the image ---


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (CLUSTER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def image_user() -> str:
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    return user.partition(":")[0]


def test_the_base_image_is_pinned_and_the_user_is_not_root() -> None:
    (base,) = [rest for word, rest in instructions() if word == "FROM"]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    assert SpecifierSet(wanted).contains(base.partition(":")[2].partition("-")[0])
    assert int(image_user()) > 0
    created = [rest for word, rest in instructions() if word == "RUN" and "useradd" in rest]
    assert f"--uid {image_user()} " in created[0]


def test_nothing_is_installed_when_the_image_starts() -> None:
    words = [word for word, _ in instructions()]
    assert "RUN" not in words[words.index("USER") :]
    for word, rest in instructions():
        if word in ("CMD", "ENTRYPOINT"):
            assert not {"pip", "uv", "apt-get", "sh", "bash"} & set(json.loads(rest)), rest
        if word == "RUN" and "pip install" in rest:
            assert rest.count("pip install") == rest.count("--no-deps")
    assert "://" not in (CLUSTER / "Dockerfile").read_text()


def ignored(path: str) -> bool:
    """Whether Dockerfile.dockerignore excludes a path: the last matching rule decides."""
    excluded = False
    for rule in (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = rule.removeprefix("!").removeprefix("**/")
        if rule and not rule.startswith("#") and (fnmatch.fnmatch(path, pattern) or path.startswith(f"{pattern}/")):
            excluded = not rule.startswith("!")
    return excluded


def test_files_copied_into_the_image_exist_and_are_sent_to_the_builder() -> None:
    copied = [name for word, rest in instructions() if word == "COPY" for name in rest.split()[:-1]]
    assert {"galaxy_batch", "train", "jobs", "pyproject.toml"} <= set(copied)
    for name in copied:
        assert (REPOSITORY / name).exists(), name
        assert not ignored(name), name
    assert ignored(".venv")
    assert ignored("tests/cluster/test_cluster.py")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"]} <= set(copied), "needed to build the package"


def locked() -> dict[str, str]:
    """Versions of the packages in the image."""
    (installs,) = [rest for word, rest in instructions() if word == "RUN" and "--requirement" in rest]
    (name,) = re.findall(r"--requirement (\S+)", installs)
    return dict(line.split("==") for line in (REPOSITORY / name).read_text().splitlines())


def test_the_image_and_the_cluster_have_the_same_ray() -> None:
    for name in MANIFESTS:
        assert cluster_spec(name)["rayVersion"] == locked()["ray"]


def test_the_packages_of_the_image_are_complete_and_compatible() -> None:
    """They are installed without dependencies, so the lock must list all that their metadata require."""
    versions, checked = locked(), 0
    extras = {"ray": {"default", "data", "train"}}
    place = {"python_version": "3.12", "python_full_version": "3.12.12", "sys_platform": "linux", "os_name": "posix",
             "platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython",
             "platform_python_implementation": "CPython"}  # fmt: skip
    for name, version in versions.items():
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if package.version != version:
            continue
        checked += 1
        for requirement in map(Requirement, package.requires or []):
            wanted = [{**place, "extra": extra} for extra in ("", *extras.get(name, ()))]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in wanted):
                locked_version = versions.get(canonicalize_name(requirement.name))
                assert locked_version is not None, f"{name} needs {requirement}"
                assert requirement.specifier.contains(locked_version, prereleases=True), (
                    f"{name} needs {requirement}, not {locked_version}"
                )
    assert checked > 60


# --- images and paths ---


def test_all_files_name_the_same_image() -> None:
    images = {
        container["image"] for name in MANIFESTS for pod in pods(name).values() for container in pod["containers"]
    }
    images.add(read("ray-up.yaml")["docker"]["image"])
    (image,) = images
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert image.rpartition(":")[2] == version
    assert f"-t {image} " in (CLUSTER / "Dockerfile").read_text()


def commands() -> list[str]:
    """All commands that run a job, in the entrypoint and in comments."""
    lines = [read("rayjob.yaml")["spec"]["entrypoint"]]
    for name in (*YAMLS, "Dockerfile"):
        comments = re.findall(r"^#\s+(.*python -m jobs\..*)$", (CLUSTER / name).read_text(), re.MULTILINE)
        lines += comments
    return lines


def test_commands_name_existing_jobs_configs_and_settings() -> None:
    assert len(commands()) >= 3
    for command in commands():
        words = shlex.split(command)
        module = words[words.index("-m") + 1]
        assert (REPOSITORY / f"{module.replace('.', '/')}.py").is_file(), command
        config = words[words.index("-m") + 2]
        overrides = [word for flag, word in itertools.pairwise(words) if flag == "--set"]
        assert overrides, command
        assert load_config(CatalogConfig, REPOSITORY / config, overrides).runtime.device == "cuda"
    (start,) = [json.loads(rest) for word, rest in instructions() if word == "CMD"]
    assert (REPOSITORY / f"{start[2].replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("name", [*YAMLS, "Dockerfile"])
def test_named_files_exist(name: str) -> None:
    text = (CLUSTER / name).read_text()
    named = set(re.findall(r"(?<![\w/.])((?:cluster|jobs)/[\w./-]+\w)", text))
    assert named
    for path in named:
        assert (REPOSITORY / path).exists(), path
    assert name == "Dockerfile" or "change:" in text
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|password", text)
