"""The page about trees in git shows resources that are valid and reasons that exist."""

from __future__ import annotations

import re
from pathlib import Path

from spork.controller import reasons
from spork.controller.annotations import APPROVE, CONFIRM_DELETE, LIVE_CERTIFICATES
from spork.controller.conversion import declared_hierarchy
from spork.controller.manifests import load_manifests
from spork.controller.models import Hierarchy

PAGE = Path("docs/hierarchy-resource.md").read_text()


def test_every_resource_of_the_page_is_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    resources = [resource for block in blocks for resource in load_manifests(block)]
    assert [resource.kind for resource in resources] == ["Hierarchy", "Issuer", "Hierarchy"]
    for resource in resources:
        if isinstance(resource, Hierarchy):
            assert len(declared_hierarchy(resource).authorities) == 2


def test_every_reason_of_the_page_exists() -> None:
    known = {one.name for one in vars(reasons).values() if isinstance(one, reasons.Reason)}
    named = set(re.findall(r"reason `([A-Za-z]+)`", PAGE)) | set(
        re.findall(r"^\| `([A-Z][A-Za-z]+)`", PAGE, re.MULTILINE)
    )
    assert named - {"InSync", "CRLs"} <= known
    assert {"WaitingForSealedKeys", "NeedsApproval", "CAMissing", "Conflict"} <= named | known


def test_the_page_spells_annotations_as_the_operator_does() -> None:
    assert all(word in PAGE for word in (APPROVE, CONFIRM_DELETE, LIVE_CERTIFICATES))
