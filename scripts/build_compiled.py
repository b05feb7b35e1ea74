"""Build build/compiled: the package with its hot rooms compiled, beside which src/ stays plain Python.

Put it first to use it: ``PYTHONPATH=build/compiled .venv/bin/python -m headgate ...``. The tree is complete
(modules, data files and, where a compiler works, extension modules), is rebuilt only when a source changed in
content, and is swapped in whole, so that a program starting meanwhile sees the old tree or the new one.

``--require`` fails when the result is not compiled. Without it, a machine that has no compiler gets a
plain tree.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows builds one at a time
    fcntl = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
TREE = BUILD / "compiled"
STAMP = BUILD / "compiled.stamp"
# Kept between builds: setuptools then recompiles only when the generated C changed.
LIB = BUILD / "compiled.lib"
LOG = BUILD / "compiled.log"


def say(text: str) -> None:
    print(f"compiled: {text}", file=sys.stderr, flush=True)


def sources() -> list[Path]:
    package = [path for path in (ROOT / "src").rglob("*") if path.is_file()]
    kept = (
        path
        for path in package
        if "__pycache__" not in path.parts and not any(p.endswith(".egg-info") for p in path.parts)
    )
    return sorted(
        [*kept, ROOT / "setup.py", ROOT / "pyproject.toml", ROOT / "requirements/build.txt"]
    )


def fingerprint() -> str:
    """What the tree depends on: the interpreter, the names and the contents of the sources."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sources():
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def extension_modules(tree: Path) -> list[Path]:
    return [path for path in tree.rglob("*") if path.suffix in {".so", ".pyd"}]


def is_compiled(tree: Path) -> bool:
    return bool(extension_modules(tree))


def hot_modules() -> set[Path]:
    """The modules that setup.py compiles, as paths without a suffix, below src/."""
    spec = importlib.util.spec_from_file_location("headgate_setup", ROOT / "setup.py")
    if spec is None or spec.loader is None:
        sys.exit("compiled: setup.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {Path(name).relative_to("src").with_suffix("") for name in module.hot_files()}


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "compiled.lock").open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def forget_plain_files() -> None:
    """Keep the extension modules for reuse; a module deleted from src/ must not live on in the tree."""
    for path in LIB.rglob("*") if LIB.exists() else ():
        if path.is_file() and path.suffix not in {".so", ".pyd"}:
            path.unlink()


def forget_cooled_modules(*, compiled: bool) -> None:
    """Drop the extension of a module that is no longer compiled, or all of them when nothing was."""
    hot = hot_modules() if compiled else set()
    for path in extension_modules(LIB):
        name = path.relative_to(LIB)
        is_group = len(name.parts) == 1  # the shared library that all of them are in
        if not compiled or not (is_group or name.with_name(name.name.split(".", 1)[0]) in hot):
            path.unlink()


def run_setup(*, require: bool) -> bool:
    """Build into LIB; true when that compiled the hot rooms."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if require:
        environment |= {"HEADGATE_REQUIRE_COMPILED": "1", "HEADGATE_PURE": ""}
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-lib", str(LIB)]
    with LOG.open("wb") as log:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False
        )
    text = LOG.read_text(errors="replace")
    if done.returncode:
        sys.exit(f"{text}\ncompiled: the build failed; build/compiled.log has the whole output")
    plain = [line for line in text.splitlines() if line.startswith("headgate: building uncompiled")]
    for line in plain:
        say(f"{line} (see build/compiled.log)")
    return not plain


def swap_in() -> None:
    fresh, old = BUILD / "compiled.new", BUILD / "compiled.old"
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(LIB, fresh)
    compileall.compile_dir(fresh, quiet=2, workers=1)
    if TREE.exists():
        TREE.rename(old)
    fresh.rename(TREE)
    shutil.rmtree(old, ignore_errors=True)


def build(*, require: bool) -> None:
    wanted = fingerprint()
    current = STAMP.read_text() if STAMP.exists() and TREE.exists() else ""
    if current == wanted and (is_compiled(TREE) or not require):
        STAMP.touch()
        return
    say("building build/compiled (about a minute when the hot rooms changed)")
    forget_plain_files()
    forget_cooled_modules(compiled=run_setup(require=require))
    swap_in()
    STAMP.write_text(wanted)
    outcome = "compiled" if is_compiled(TREE) else "but NOT compiled: it runs, several times slower"
    say(f"ready, {outcome}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--require", action="store_true", help="fail if not compiled")
    arguments = parser.parse_args()
    with only_one():
        build(require=arguments.require)


if __name__ == "__main__":
    main()
