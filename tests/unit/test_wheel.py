"""The wheel holds all of SPORK: the linked packages and every data file, without a network to build it from."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("spork", "api", "controller", "hierarchy")

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    # The build runs in the environment of the tests, so that nothing is fetched; PYTHONPATH would let the checkout leak in.
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([*command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


def build_wheel(source: Path, into: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir")
    return run(sys.executable, "-m", "pip", "wheel", *options, into, source, cwd=into, check=check)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with its links as links, so that building leaves nothing in the real checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    build_wheel(checkout, into)
    return next(into.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the wheel, and sees the dependencies installed for the tests."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=environment)
    # A path file alone, and not addsitedir: the editable installation of the checkout must stay behind.
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=environment).stdout.strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_installed_program_runs(python: Path, tmp_path: Path) -> None:
    import spork

    done = run(python.parent / "spork", "--version", cwd=tmp_path)
    assert done.stdout == f"spork {spork.__version__}\n"


def test_the_linked_packages_are_imported_from_the_installation(python: Path, tmp_path: Path) -> None:
    code = (
        "import spork.api, spork.controller, spork.hierarchy\n"
        "print(spork.api.__file__, spork.controller.__file__, spork.hierarchy.__file__, sep='\\n')"
    )
    environment = python.parent.parent
    files = run(python, "-c", code, cwd=tmp_path).stdout.splitlines()
    assert len(files) == 3
    assert all(Path(file).is_relative_to(environment) for file in files), files


@pytest.mark.parametrize("name", ["api", "controller", "hierarchy"])
def test_no_package_with_a_general_name_is_installed(python: Path, tmp_path: Path, name: str) -> None:
    done = run(python, "-c", f"import {name}", cwd=tmp_path, check=False)
    assert "ModuleNotFoundError" in done.stderr


def test_the_wheel_holds_every_module_and_data_file_of_the_sources(wheel: Path, tmp_path: Path) -> None:
    done = run(sys.executable, ROOT / "scripts" / "list-wheel", wheel, cwd=tmp_path)
    listed = {line.split()[-1] for line in done.stdout.splitlines()}
    migrations = {f"spork/store/migrations/{path.name}" for path in (ROOT / "spork/store/migrations").glob("*.sql")}
    presets = {f"spork/hierarchy/presets/{path.name}" for path in (ROOT / "hierarchy/presets").glob("*.toml")}
    assert migrations
    assert listed >= migrations | presets | {"spork/py.typed", "spork/api/__init__.py"}


def test_a_wheel_without_a_linked_package_is_refused(wheel: Path, tmp_path: Path) -> None:
    import zipfile

    poorer = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(poorer, "w") as part:
        for entry in whole.infolist():
            if not entry.filename.startswith("spork/hierarchy/"):
                part.writestr(entry, whole.read(entry))
    done = run(sys.executable, ROOT / "scripts" / "list-wheel", poorer, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "missing from the wheel: spork/hierarchy/__init__.py" in done.stderr


def test_a_checkout_without_links_is_refused_with_a_sentence(checkout: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkout, broken, symlinks=True)
    (broken / "spork" / "api").unlink()
    (broken / "spork" / "api").write_text("../api")  # What Git writes where it may not make a link.
    done = build_wheel(broken, tmp_path, check=False)
    assert done.returncode != 0
    assert "this checkout was made without symbolic links" in done.stdout + done.stderr


def test_make_refuses_a_checkout_without_links(checkout: Path, tmp_path: Path, system_program) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkout, broken, symlinks=True)
    shutil.copy(ROOT / "Makefile", broken / "Makefile")
    (broken / "spork" / "api").unlink()
    (broken / "spork" / "api").write_text("../api")
    done = run(system_program("make"), "help", cwd=broken, check=False)
    assert done.returncode != 0
    assert "made without symbolic links (spork/api)" in done.stderr
