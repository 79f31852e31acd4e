"""What Argo CD and Flux make of recorded states: the Lua checks and the CEL expressions as they are shipped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cel
import lupa.lua51
import pytest
import yaml

from spork.controller import annotations, reasons
from spork.controller.models import KINDS

ROOT = Path(__file__).resolve().parents[2]
ARGOCD = ROOT / "manifests" / "argocd"
SCRIPTS = ARGOCD / "resource_customizations" / "spork-ca.org"
STATES = yaml.safe_load((ROOT / "tests" / "recorded_health.yaml").read_text())
REASONS = {one.name for one in vars(reasons).values() if isinstance(one, reasons.Reason)}
# What scripts get from Argo CD: the basics, tables, and the time; no texts, files, or modules.
_TAKEN = ("string", "io", "debug", "package", "require", "dofile", "loadfile", "load", "loadstring", "python")


def _condition(name: str, status: str, reason: str, observed: int) -> dict[str, Any]:
    said = {"type": name, "status": status, "reason": reason, "message": f"{name} is {status}: {reason}."}
    return {**said, "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z"}


def _object(state: dict[str, Any]) -> dict[str, Any]:
    generation = state.get("generation", 1)
    observed = state.get("observed", generation)
    metadata: dict[str, Any] = {"name": "one", "generation": generation}
    if state.get("deleting"):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    item = {"apiVersion": "spork-ca.org/v1alpha1", "kind": state["kind"], "metadata": metadata, "spec": {}}
    said = {**({"Ready": state["ready"]} if "ready" in state else {}), **state.get("more", {})}
    if said:
        conditions = [_condition(name, status, reason, observed) for name, (status, reason) in said.items()]
        item["status"] = {"observedGeneration": observed, "conditions": conditions}
        if "phase" in state:
            item["status"]["phase"] = state["phase"]
    return item


def _run(script: Path, item: dict[str, Any]) -> Any:
    lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=True)
    table = lua.table_from(item, recursive=True)
    for name in _TAKEN:
        lua.globals()[name] = None
    lua.globals()["obj"] = table
    return lua.execute(script.read_text())


def _plain(value: Any) -> Any:
    return {key: _plain(one) for key, one in value.items()} if lupa.lua51.lua_type(value) == "table" else value


def _id(state: dict[str, Any]) -> str:
    return f"{state['kind']}: {state['state']}"


@pytest.mark.parametrize("state", STATES, ids=_id)
def test_argo_cd_sees_the_health(state: dict[str, Any]) -> None:
    found = _plain(_run(SCRIPTS / state["kind"] / "health.lua", _object(state)))
    assert found["status"] == state["argocd"]
    assert found["message"]


@pytest.mark.parametrize("state", STATES, ids=_id)
def test_flux_sees_the_health(state: dict[str, Any]) -> None:
    tree = yaml.safe_load((ROOT / "manifests" / "flux" / "tree.yaml").read_text())
    (check,) = [one for one in tree["spec"]["healthCheckExprs"] if one["kind"] == state["kind"]]
    # Flux waits while an expression names what is not there yet, so the object is given a status at least.
    values = {"status": {}, **_object(state)}
    verdict = "inProgress"
    if cel.evaluate(check["current"], values):
        verdict = "current"
    elif cel.evaluate(check["failed"], values):
        verdict = "failed"
    assert verdict == state["flux"]


def test_every_kind_has_a_check_and_recorded_states() -> None:
    assert {path.parent.name for path in SCRIPTS.glob("*/health.lua")} == KINDS.keys()
    assert {state["kind"] for state in STATES} == KINDS.keys()
    assert (SCRIPTS / "Issuer" / "health.lua").read_text() == (SCRIPTS / "ClusterIssuer" / "health.lua").read_text()


def test_the_checks_name_only_reasons_that_the_operator_gives() -> None:
    for script in SCRIPTS.glob("*/health.lua"):
        assert set(re.findall(r"^  (\w+) = true,$", script.read_text(), re.MULTILINE)) <= REASONS, script
    expressions = (ROOT / "manifests" / "flux" / "tree.yaml").read_text()
    for listed in re.findall(r"c\.reason in \[(.*?)\]", expressions):
        assert {name.strip("' ") for name in listed.split(",")} <= REASONS
    assert {state["ready"][1] for state in STATES if "ready" in state} <= REASONS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reason", sorted(REASONS))
def test_any_reason_gives_one_of_the_words_of_argo_cd(kind: str, reason: str) -> None:
    found = _run(SCRIPTS / kind / "health.lua", _object({"kind": kind, "ready": ["False", reason]}))
    assert found["status"] in {"Progressing", "Degraded", "Suspended"}


def test_approval_is_offered_while_a_plan_waits_for_it_and_names_its_hash() -> None:
    waiting = _object({"kind": "Hierarchy", "ready": ["False", "NeedsApproval"]})
    waiting["status"]["plan"] = {"hash": "ab" * 32}
    scripts = SCRIPTS / "Hierarchy" / "actions"
    ready = _object({"kind": "Hierarchy", "ready": ["True", "Ready"]})

    assert _plain(_run(scripts / "discovery.lua", waiting)) == {"approve": {"disabled": False}}
    assert _plain(_run(scripts / "discovery.lua", ready)) == {"approve": {"disabled": True}}
    approved = _plain(_run(scripts / "approve" / "action.lua", waiting))
    assert approved["metadata"]["annotations"] == {annotations.APPROVE: "ab" * 32}


def test_renewal_keeps_the_other_annotations() -> None:
    item = _object({"kind": "Certificate", "ready": ["True", "Issued"]})
    item["metadata"]["annotations"] = {"kept": "yes"}
    scripts = SCRIPTS / "Certificate" / "actions"

    assert _plain(_run(scripts / "discovery.lua", item)) == {"renew": {"disabled": False}}
    found = _plain(_run(scripts / "renew" / "action.lua", item))["metadata"]["annotations"]
    assert found.keys() == {"kept", annotations.RENEW}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found[annotations.RENEW])


def test_the_config_map_has_each_script_as_it_is() -> None:
    data = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())["data"]
    for kind in KINDS:
        assert (
            data[f"resource.customizations.health.spork-ca.org_{kind}"] == (SCRIPTS / kind / "health.lua").read_text()
        )
        ignored = yaml.safe_load(data[f"resource.customizations.ignoreDifferences.spork-ca.org_{kind}"])
        assert ignored == {"managedFieldsManagers": ["spork-controller"], "jsonPointers": ["/status"]}
    for kind, action in (("Hierarchy", "approve"), ("Certificate", "renew")):
        actions = yaml.safe_load(data[f"resource.customizations.actions.spork-ca.org_{kind}"])
        folder = SCRIPTS / kind / "actions"
        assert actions["discovery.lua"] == (folder / "discovery.lua").read_text()
        text = (folder / action / "action.lua").read_text()
        assert actions["definitions"] == [{"name": action, "action.lua": text}]


# What their schemas require, from the documentation of Argo CD and Flux.
REQUIRED = {
    "Application": ("spec.project", "spec.source.repoURL", "spec.source.path", "spec.destination"),
    "AppProject": ("spec.sourceRepos", "spec.destinations"),
    "GitRepository": ("spec.interval", "spec.url"),
    "Kustomization": ("spec.interval", "spec.sourceRef.kind", "spec.sourceRef.name", "spec.path"),
}


@pytest.mark.parametrize(
    "path",
    [
        *sorted(ARGOCD.glob("application-*.yaml")),
        ARGOCD / "project.yaml",
        *sorted((ROOT / "manifests" / "flux").glob("*.yaml")),
    ],
    ids=lambda path: path.stem,
)
def test_the_examples_have_what_their_kinds_require_and_lead_to_folders_that_are_there(path: Path) -> None:
    for item in yaml.safe_load_all(path.read_text()):
        for required in REQUIRED[item["kind"]]:
            value: Any = item
            for key in required.split("."):
                value = value[key]
            assert value
        folder = item["spec"].get("path") or item["spec"].get("source", {}).get("path")
        assert folder is None or (ROOT / folder).is_dir()


def test_trees_and_issuers_of_the_examples_are_never_pruned() -> None:
    for path in sorted((ROOT / "examples" / "gitops").glob("*.yaml")):
        for item in yaml.safe_load_all(path.read_text()):
            if item["kind"] not in {"Hierarchy", "Issuer", "ClusterIssuer"}:
                continue
            said = item["metadata"]["annotations"]
            assert said["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false", f"{path}: {item['kind']}"
            assert said["kustomize.toolkit.fluxcd.io/prune"] == "disabled", f"{path}: {item['kind']}"
