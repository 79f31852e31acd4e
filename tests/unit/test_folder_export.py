"""What `spork pki export` writes is taken by a folder as it is, and declares the same tree."""

from __future__ import annotations

from pathlib import Path

import pytest
from folder_world import Folder, ref_to, there

from spork.cli.main import run
from spork.controller.conversion import declared_hierarchy
from spork.controller.manifests import load_object
from spork.controller.models import Hierarchy
from spork.hierarchy.load import load_hierarchy

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "hierarchy" / "presets").glob("*.toml")), ROOT / "examples" / "quickstart" / "hierarchy.toml"]


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
async def test_an_export_loads_in_a_folder(
    file: Path, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pki", "export", str(file), "-o", form]) == 0
    folder = Folder(tmp_path / "dir", tmp_path / "home")
    folder.write(f"tree.{form}", text=capsys.readouterr().out)
    cluster = await folder.open()
    assert cluster.faults == ()
    resource = load_object(there(cluster, ref_to("Hierarchy", "hierarchy")))
    assert isinstance(resource, Hierarchy)
    assert declared_hierarchy(resource) == load_hierarchy(file).of("Hierarchy/hierarchy")
