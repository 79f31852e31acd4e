"""How a plan reads on the terminal."""

from __future__ import annotations

import pytest

from spork.cli.hierarchy_view import differences
from spork.cli.pki import _show_plan
from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.fields import FieldChange
from spork.hierarchy.steps import Action, Plan, Step, Target


def test_only_what_differs_in_a_table_is_shown() -> None:
    before = {"interval_s": 43200, "overlap_s": 518400, "delta_interval_s": None}
    after = {"overlap_s": 518400, "interval_s": 21600, "delta_interval_s": None}
    assert list(differences("crl", before, after)) == [("crl.interval_s", 43200, 21600)]


def test_an_entry_that_comes_or_goes_is_shown() -> None:
    assert list(differences("urls", {"ocsp": ["http://a.test"]}, {"crl": ["http://b.test"]})) == [
        ("urls.ocsp", ["http://a.test"], None),
        ("urls.crl", None, ["http://b.test"]),
    ]


def test_a_plan_that_needs_another_key_offers_no_command_that_would_be_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    field = FieldChange("algorithm", "ecdsa-p256", "ecdsa-p384", ChangeClass.REKEY, "another key.")
    step = Step(Target.AUTHORITY, "web", ChangeClass.REKEY, next(iter(Action)), "another key.", (field,))
    _show_plan(Plan((step,)), "table")
    shown = capsys.readouterr().out
    assert "It cannot be carried out" in shown
    assert "--approve" not in shown
