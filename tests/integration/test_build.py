"""setup.py compiles when it can, and otherwise goes on; tried on a package of two modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import require_program

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

# Every module of algorithms/ is hot; which others are is tuned over time.
TWO = "def two() -> int:\n    return 2\n"
FOUR = "from headgate.algorithms.two import two\n\n\ndef four() -> int:\n    return two() + two()\n"


@pytest.fixture
def project(tmp_path):
    """The build's own files around a small headgate."""
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    package = tmp_path / "src/headgate"
    (package / "algorithms").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "algorithms/__init__.py").write_text("")
    (package / "algorithms/two.py").write_text(TWO)
    (package / "algorithms/four.py").write_text(FOUR)
    (package / "queries.sql").write_text("-- data goes along\n")
    (tmp_path / "README.md").write_text("")
    return tmp_path


def build(project, *arguments, **environment):
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("HEADGATE", "PYTHON"))}
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", *(arguments or ("build", "--build-lib", "out"))],
        cwd=project,
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def extensions(directory):
    return sorted(path.name.split(".")[0] for path in directory.rglob("*.so"))


def answer(project):
    """What the built package computes, whichever way it was built."""
    code = "from headgate.algorithms.four import four; print(four())"
    environment = {**os.environ, "PYTHONPATH": str(project / "out")}
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip()


def test_the_hot_modules_are_compiled(project):
    require_program("cc", "gcc", "clang")
    done = build(project)
    assert done.returncode == 0, done.stderr
    assert extensions(project / "out") == ["four", "headgate__mypyc", "two"]
    assert (project / "out/headgate/queries.sql").exists()
    assert answer(project) == "4"


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"CC": "/bin/false"}, "the C compiler failed"),
        ({"CC": "/no/such/compiler"}, "the C compiler failed"),
        ({"HEADGATE_PURE": "1"}, ""),
    ],
)
def test_it_goes_on_uncompiled(project, environment, reason):
    done = build(project, **environment)
    assert done.returncode == 0, done.stderr
    assert reason in done.stderr
    assert extensions(project / "out") == []
    assert answer(project) == "4"


def test_it_goes_on_without_mypyc(project):
    broken = project / "broken/mypyc"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('not on this machine')\n")
    done = build(project, PYTHONPATH=str(broken.parent))
    assert done.returncode == 0, done.stderr
    assert "mypyc is not usable (not on this machine)" in done.stderr
    assert answer(project) == "4"


def test_it_goes_on_when_mypyc_refuses_a_module(project):
    (project / "src/headgate/algorithms/four.py").write_text("def four() -> int:\n    return '4'\n")
    done = build(project)
    assert done.returncode == 0, done.stderr
    assert "mypyc gave up" in done.stderr
    assert answer(project) == "4"


def test_a_release_wants_to_know(project):
    done = build(project, CC="/bin/false", HEADGATE_REQUIRE_COMPILED="1")
    assert done.returncode != 0
    assert "HEADGATE_REQUIRE_COMPILED is set" in done.stderr


def test_nothing_is_compiled_into_the_source(project):
    done = build(project, "build_ext", "--inplace")
    assert done.returncode == 0, done.stderr
    assert "never put into src/" in done.stderr
    assert extensions(project / "src") == []
