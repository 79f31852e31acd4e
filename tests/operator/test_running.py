"""The operator as a whole: it starts, reconciles what is there, comes to rest, and another one takes over."""

from __future__ import annotations

import pytest
from operator_running import RunningOperator

pytestmark = pytest.mark.operator


async def test_an_operator_with_nothing_to_do_reads_each_kind_once_and_writes_nothing(operator: RunningOperator) -> None:
    await operator.quiet()
    counted = operator.counted()
    assert not [one for one in operator.requests() if one.writes]
    assert counted["list certificates"] == 1
