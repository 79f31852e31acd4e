"""The command line answers at once, and ends in words and documented codes."""

import json
import os
import resource
import subprocess
import sys

import click
import pytest

from spork.cli import main as program
from spork.cli.exits import EXIT_OF_CODE, Exit
from spork.cli.lazy import LazyCommand, LazyGroup
from spork.errors import Code, ConfigurationError, SporkError

HEAVY = (
    "aiohttp",
    "cel",
    "cryptography",
    "fastapi",
    "httpx",
    "kubernetes",
    "psycopg",
    "pydantic",
    "rich",
    "structlog",
    "uvicorn",
    "yaml",
)


def spork(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spork", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def ends_with(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command that ends in the given exception; return its exit code and what it said on standard error."""

    def run(error: BaseException) -> tuple[int, str]:
        @click.command
        def broken() -> None:
            raise error

        monkeypatch.setitem(program.cli.commands, "broken", broken)
        code = program.run(["broken"])
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, captured.err

    return run


def test_help_imports_no_command_and_nothing_heavy() -> None:
    probe = (
        "import sys, json\n"
        "from spork.cli.main import run\n"
        "code = run(['--help'])\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert "Commands:" in done.stdout
    assert {name.partition(".")[0] for name in modules} & set(HEAVY) == set()
    ours = {name for name in modules if name.startswith("spork")}
    assert ours == {"spork", "spork.cli", "spork.cli.main", "spork.cli.lazy"}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["controller"], id="the operator"),
        pytest.param(["up"], id="everything on one machine"),
        pytest.param(["get"], id="resources of a folder"),
        pytest.param(["annotate"], id="annotations of a folder's resources"),
        pytest.param(["prune"], id="what vanished from a folder"),
        pytest.param(["pki", "work"], id="work for sealed keys"),
        pytest.param(["pki", "approve"], id="approval"),
        pytest.param(["cert", "enrol"], id="enrolment with a token"),
        pytest.param(["admin", "token", "create"], id="one-time tokens"),
        pytest.param(["migrate"], id="the schema"),
    ],
)
def test_the_help_of_a_command_imports_nothing_heavy(command: list[str]) -> None:
    probe = (
        "import sys, json\n"
        "from spork.cli.main import run\n"
        "code = run(sys.argv[1:])\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe, *command, "--help"], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert {name.partition(".")[0] for name in modules} & set(HEAVY) == set()


def test_help_lists_every_command_with_its_line() -> None:
    done = spork("--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for name, lazy in program.COMMANDS.items():
        assert any(line.split()[:1] == [name] and lazy.summary in line for line in lines), name


def test_help_states_what_it_costs(record_property) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert spork("--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Recorded and not asserted: a busy machine must not fail the tests. The imports above are what the cost comes from.
    record_property("help_cpu_s", after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def test_version_is_the_version_of_the_package() -> None:
    import spork as package

    done = spork("--version")
    assert (done.returncode, done.stdout) == (0, f"spork {package.__version__}\n")


@pytest.mark.parametrize("name", program.COMMANDS)
def test_a_command_that_exists_loads_and_one_that_does_not_says_so(name: str) -> None:
    done = spork(name, "--help")
    assert "Traceback" not in done.stderr
    if done.returncode != 0:
        assert done.returncode == Exit.FAILURE
        assert done.stderr == f"spork: The command '{name}' is not part of this version of SPORK CA.\n"


def test_a_missing_python_package_is_named_only_when_its_command_is_used(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "needs_something.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    group = LazyGroup(name="x", lazy_commands={"it": LazyCommand("needs_something:it", "Do it.")})
    group.main(["--help"], standalone_mode=False)
    assert "Do it." in capsys.readouterr().out
    with pytest.raises(click.ClickException, match="needs the Python package 'surely_not_installed'"):
        group.main(["it"], standalone_mode=False)


def test_an_unknown_command_is_refused_with_the_nearest_one() -> None:
    done = spork("revok")
    assert done.returncode == Exit.USAGE
    assert "There is no command 'revok'. Did you mean 'revoke'?" in done.stderr


def test_an_unknown_option_is_wrong_usage() -> None:
    done = spork("--bogus")
    assert done.returncode == Exit.USAGE
    assert "Traceback" not in done.stderr


def test_completion_offers_commands_without_importing_them() -> None:
    done = spork(_SPORK_COMPLETE="bash_complete", COMP_WORDS="spork cr", COMP_CWORD="1")
    assert done.stdout == "plain,crl\n"
    assert done.stderr == ""


def test_every_error_code_has_an_exit_code() -> None:
    assert set(EXIT_OF_CODE) == set(Code)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(Code.POLICY_REFUSED, 3, id="a refusal by policy is 3"),
        pytest.param(Code.NOT_FOUND, 4, id="nothing found is 4"),
        pytest.param(Code.CONFLICT, 5, id="a conflict is 5"),
        pytest.param(Code.UNAVAILABLE, 6, id="try again later is 6"),
        pytest.param(Code.INTERNAL, 1, id="any other failure is 1"),
    ],
)
def test_a_refusal_is_one_sentence_and_its_exit_code(ends_with, code: Code, expected: int) -> None:
    assert ends_with(SporkError(code, "The name is not permitted.")) == (
        expected,
        "spork: The name is not permitted.\n",
    )


def test_a_single_refusal_inside_a_task_group_keeps_its_sentence(ends_with) -> None:
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ConfigurationError("There is no key 'nmae'.")])
    assert ends_with(group) == (1, "spork: There is no key 'nmae'.\n")


def test_an_unforeseen_error_withholds_its_text(ends_with) -> None:
    code, said = ends_with(RuntimeError("the passphrase is hunter2"))
    assert code == 1
    assert "hunter2" not in said
    assert "internal error (RuntimeError)" in said
    assert said.count("\n") == 1


def test_a_missing_file_is_named(ends_with) -> None:
    assert ends_with(FileNotFoundError(2, "No such file or directory", "tree.toml")) == (
        1,
        "spork: No such file or directory: tree.toml\n",
    )


def test_the_traceback_is_shown_on_request_only(ends_with, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPORK_DEBUG", "1")
    _, said = ends_with(RuntimeError("deep inside"))
    assert "Traceback (most recent call last)" in said
    assert said.endswith("to see where.\n")


def test_words_from_outside_cannot_steer_the_terminal(ends_with) -> None:
    _, said = ends_with(SporkError(Code.DNS, "The server said \x1b[2J\r\nspork: all is well"))
    assert "\x1b" not in said
    assert said.count("\n") == 1


def test_an_interrupted_command_ends_as_shells_expect(ends_with) -> None:
    code, said = ends_with(KeyboardInterrupt())
    # The empty line before it ends the line on which the terminal showed ^C.
    assert (code, said) == (130, "\nspork: interrupted\n")
