"""What every test shares: how a missing program is named, and a summary that says what this machine could not run.

Set SPORK_TEST_REQUIRE_ALL=1 where everything must run: there a missing program fails the test that needs it.
"""

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

# The plugins are files beside this one. The folder of the tests is no package, and the root of the checkout stays out of the path,
# because the folders at its top would then be importable under their bare names.
sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["postgres", "control_plane"]

REQUIRE_ALL = os.environ.get("SPORK_TEST_REQUIRE_ALL") == "1"

MISSING = "SPORK_TEST_REQUIRE_ALL is set, and the test cannot run: "


def skip_or_fail(reason: str) -> None:
    """Leave the running test out by name, or fail it where everything must run."""
    if REQUIRE_ALL:
        pytest.fail(MISSING + reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cannot_run() -> Callable[[str], None]:
    """Call it with a reason to leave a test out, as in `cannot_run("there is no network namespace to use")`."""
    return skip_or_fail


@pytest.fixture(scope="session")
def system_program() -> Callable[[str], str]:
    """Find a client or tool of the operating system, as in `system_program("dehydrated")`, which returns its path."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            skip_or_fail(f"the program {name} is not installed")
            raise AssertionError("unreachable: skip_or_fail raises")
        return path

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Turn every other skip into a failure as well where everything must run, so that none can hide.

    A test says with the marker `expected_skip` that it may be left out even there, and why.
    """
    report = yield
    if (
        REQUIRE_ALL
        and report.skipped
        and not hasattr(report, "wasxfail")
        and not item.get_closest_marker("expected_skip")
    ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = MISSING + reason.removeprefix("Skipped: ")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List by name what could not run on this machine, and why. Tests with the same reason stand together."""
    names_of_reason: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        names_of_reason[reason.removeprefix("Skipped: ")].append(report.nodeid)
    terminalreporter.section("what could not run here")
    if not names_of_reason:
        terminalreporter.write_line("nothing: every collected test ran")
    for reason, names in sorted(names_of_reason.items()):
        terminalreporter.write_line(f"{reason}:")
        for name in sorted(names):
            terminalreporter.write_line(f"  {name}")
