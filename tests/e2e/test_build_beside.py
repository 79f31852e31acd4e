"""`spork pki build` on a state folder of its own, without a server: what it leaves is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.running import RunningCA

pytestmark = pytest.mark.e2e


def test_a_built_tree_has_a_list_for_every_ca(own_ca: RunningCA, tmp_path: Path) -> None:
    passphrases = ("passphrase", "sealed-passphrase")
    own_ca.home.mkdir(mode=0o700)
    for name in passphrases:
        (own_ca.home / name).write_text("correct horse battery\n")
        (own_ca.home / name).chmod(0o600)
    declared = own_ca.declarations / "hierarchy.toml"
    built = own_ca.spork("pki", "build", str(declared), "--output", str(tmp_path / "pems"))
    assert "set SPORK_STATUS_URL before building" in built.stderr
    assert {"root.pem", "spork-tls-web-server-issuing-ca-chain.pem"} <= {p.name for p in (tmp_path / "pems").iterdir()}
    audit = own_ca.spork("pki", "plan", str(declared), "--detailed-exitcode")
    assert "Nothing to do" in audit.stdout
    # The lists were made while the sealed keys were open: the serving process finds them.
    (own_ca.home / "sealed-passphrase").unlink()
    own_ca.start()
    shown = own_ca.spork("crl", "show", "-o", "json").stdout
    for authority in ("spork-root-ca", "spork-tls-policy-ca", "spork-tls-web-server-issuing-ca"):
        assert authority in shown
