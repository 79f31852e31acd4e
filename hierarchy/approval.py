"""Whether a plan may be carried out: nothing in it is forbidden, and whoever has to has approved it by its hash."""

from __future__ import annotations

from spork.errors import Code, SporkError
from spork.hierarchy.classes import ChangeClass
from spork.hierarchy.steps import Plan


def require_executable(steps: Plan, approve: str | None) -> None:
    """Raises SporkError(PRECONDITION_FAILED) that names every step in the way."""
    if steps.forbidden:
        reasons = "; ".join(f"{step.id}: {step.reason.rstrip('.')}" for step in steps.forbidden)
        raise SporkError(Code.PRECONDITION_FAILED, f"The declaration asks for what must not change: {reasons}.")
    if approve is not None and approve != steps.hash:
        raise SporkError(
            Code.PRECONDITION_FAILED,
            f"The approved plan is not the one that would be carried out now ({steps.hash}); look at `spork pki plan` again.",
        )
    if rekeyed := [step.id for step in steps.changes if step.change is ChangeClass.REKEY]:
        raise SporkError(
            Code.PRECONDITION_FAILED,
            f"New keys for existing CAs are not part of this version ({', '.join(rekeyed)}); declare a new CA with another id.",
        )
    wanting = [step.id for step in steps.changes if step.needs_approval]
    if wanting and approve is None:
        raise SporkError(
            Code.PRECONDITION_FAILED,
            f"The plan needs approval, because of {', '.join(wanting)}; look at it, then add `--approve {steps.hash}`.",
        )
