"""The test run says by name what it could not run, and fails for it where everything must run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1]

TESTS = """
import pytest

def test_needs_a_client(system_program):
    system_program("no-such-client")

def test_leaves_itself_out():
    pytest.skip("there is no tunnel")

@pytest.mark.expected_skip("tunnels are rare")
def test_may_be_left_out():
    pytest.skip("there is no tunnel")

def test_runs():
    pass
"""


@pytest.fixture
def session(tmp_path: Path):
    """Run the tests above in a session of their own, with or without the demand that everything runs."""
    # The whole of what tests share, because conftest.py loads its neighbours as plugins.
    for source in SHARED.glob("*.py"):
        (tmp_path / source.name).write_text(source.read_text())
    (tmp_path / "test_inner.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    expected_skip(reason): may be left out\n")

    def run(require_all: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SPORK_TEST_REQUIRE_ALL": require_all, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        environment.pop("PYTEST_ADDOPTS", None)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def test_what_could_not_run_is_named_with_its_reason(session) -> None:
    done = session("")
    assert done.returncode == 0
    _, _, summary = done.stdout.partition("what could not run here")
    assert "the program no-such-client is not installed:\n  test_inner.py::test_needs_a_client" in summary
    assert "there is no tunnel:\n  test_inner.py::test_leaves_itself_out" in summary
    assert "1 passed, 3 skipped" in summary


def test_where_everything_must_run_a_missing_client_fails(session) -> None:
    done = session("1")
    assert done.returncode == 1
    assert "SPORK_TEST_REQUIRE_ALL is set, and the test cannot run: the program no-such-client" in done.stdout
    assert "FAILED test_inner.py::test_leaves_itself_out" in done.stdout
    assert "2 failed, 1 passed, 1 skipped" in done.stdout
