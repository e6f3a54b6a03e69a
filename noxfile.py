# /// script
# dependencies = ["nox>=2025.5.1"]
# ///
"""What can be run. `nox -s compat` is the one to know; arguments after `--` go to pytest."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
# A missing Python skips `versions`, with a message; CI says which Pythons it has.
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)

# The dependency group that each subject from the package index needs. The others are given with their interpreter:
# `--subject openpi=PYTHON`.
SUBJECT_GROUPS = {
    "peft": "subject-transformers",
    "transformers": "subject-transformers",
    "transformers-paligemma": "subject-transformers",
}

# Versions around known breaks, oldest first: `nox -s versions -- --subject NAME`.
VERSION_SETS = {
    # 0.11.22 changed what metadata() gives; flax 0.12 is the reference's first.
    "reference": [
        ("orbax-checkpoint==0.11.21", "flax==0.12.0"),
        ("orbax-checkpoint==0.11.22", "flax==0.12.0"),
        ("orbax-checkpoint==0.12.8", "flax==0.12.8"),
    ],
    # 5.6 moved SigLIP's names in the model.
    "transformers": [
        ("transformers==5.5.4",),
        ("transformers==5.6.0",),
        ("transformers==5.23.0",),
        ("transformers==5.24.0",),
    ],
}

# The same device and the same compilation cache in every session, unless the user says otherwise.
# Tiny models compile in less than jax's default threshold for caching, one second.
JAX_ENV = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
}
# One process more than cores, as some tests mostly wait; more than a few only compile the same programs again.
WORKERS = min((os.cpu_count() or 1) + 1, 4)
IN_PARALLEL = ("-n", str(WORKERS), "--dist", "worksteal")


def starts(python: str) -> bool:
    """Whether an interpreter starts: a version manager's shim may not."""
    return subprocess.run([python, "-V"], check=False, capture_output=True).returncode == 0


def newest_python() -> str:
    """The newest supported Python on this machine."""
    for version in reversed(PYTHONS):
        python = shutil.which(f"python{version}")
        if python and starts(python):
            return version
    return PYTHONS[0]


def install(session: nox.Session, lock: str) -> None:
    """Install a lock, unless it is installed: pip would take seconds to find that out.

    Packages only: the project runs in place (`pythonpath` in pyproject.toml).
    """
    wanted, installed = (ROOT / "locks" / f"{lock}.txt").read_text(), stamp(session)
    if installed.is_file() and installed.read_text() == wanted:
        return
    installed.unlink(missing_ok=True)
    session.install("--require-hashes", "-r", f"locks/{lock}.txt")
    installed.write_text(wanted)


def stamp(session: nox.Session) -> Path:
    """The file in a session's environment that has a copy of the lock that is installed there."""
    return Path(session.virtualenv.location) / "installed.txt"


def run_pytest(session: nox.Session, *args: str, success_codes: Sequence[int] = (0,)) -> None:
    session.run("python", "-m", "pytest", *IN_PARALLEL, *args, env=jax_env(), success_codes=success_codes)


def files_with(marker: str) -> list[str]:
    """The test files that use a marker: collecting all the others takes eight seconds."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [
        str(file.relative_to(ROOT)) for file in files if f"pytest.mark.{marker}" in file.read_text(encoding="utf-8")
    ]


def jax_env() -> dict[str, str]:
    return {name: os.environ.get(name, default) for name, default in JAX_ENV.items()}


def with_interpreters(session: nox.Session, arguments: Sequence[str]) -> list[str]:
    """The arguments, with an interpreter for each `--subject NAME` that has a dependency group; `all` has them all."""
    words = as_words(arguments)
    asked = asked_subjects(words)
    if "all" in asked:
        named = {name.partition("=")[0] for name in asked}
        words += [word for name in SUBJECT_GROUPS if name not in named for word in ("--subject", name)]
    return [
        f"{word}={subject_python(session, word)}" if option == "--subject" and word in SUBJECT_GROUPS else word
        for option, word in itertools.pairwise(["", *words])
    ]


def as_words(arguments: Sequence[str]) -> list[str]:
    """The arguments with every `--subject=NAME` as two words, as `--subject NAME` is."""
    words: list[str] = []
    for argument in arguments:
        words += argument.split("=", 1) if argument.startswith("--subject=") else [argument]
    return words


def asked_subjects(words: Sequence[str]) -> list[str]:
    """What follows each `--subject`."""
    return [word for option, word in itertools.pairwise(words) if option == "--subject"]


def subject_python(session: nox.Session, name: str, *pins: str) -> str:
    """The interpreter of an environment with a subject's dependency group; ``pins`` replace its versions."""
    group = SUBJECT_GROUPS[name]
    chosen = {pin.partition("==")[0]: pin for pin in (*nox.project.dependency_groups(PROJECT, group), *pins)}
    folder = ROOT / ".nox" / "-".join([group, *pins])
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted, installed = "\n".join(chosen.values()), folder / "installed.txt"
    if not installed.is_file() or installed.read_text() != wanted:
        # Installing, as `nox --install-only` does it too.
        session.run_install("python", "-m", "venv", "--clear", str(folder))
        # By pip: where the index has a torch for the CPU only, it is found.
        session.run_install(str(python), "-m", "pip", "install", "--quiet", *chosen.values(), external=True)
        installed.write_text(wanted)
    return str(python)


@nox.session
def compat(session: nox.Session) -> None:
    """Ask subjects to keep the contracts: the reference, or `-- --subject NAME`.

    `-- --reproduce NAME "contract[case]"` writes one silent failure as a script and an issue.
    """
    install(session, "test")
    if session.posargs[:1] == ["--reproduce"]:
        reproduce(session, session.posargs[1:])
        return
    arguments = with_interpreters(session, session.posargs)
    run_pytest(session, "suite/contracts", "--results", ".results/compat.jsonl", *arguments)


def reproduce(session: nox.Session, arguments: Sequence[str]) -> None:
    """Write one silent failure of a subject as a script and an issue."""
    if len(arguments) < 2:
        session.error('give the subject and the law: --reproduce NAME[=PYTHON] "contract[case]"')
    name, *others = arguments
    subject = f"{name}={subject_python(session, name)}" if name in SUBJECT_GROUPS else name
    session.run("python", "-m", "suite.reproduce", subject, *others, env=jax_env())


@nox.session
def tests(session: nox.Session) -> None:
    """Test the suite itself, the reference's parts, and that contracts catch the faults that name them."""
    install(session, "test")
    # The benchmarks too, each once, so that they cannot rot.
    run_pytest(session, *(session.posargs or ("tests", "benchmarks", "-m", "not (undisturbed or browser)")))
    if not session.posargs:
        # What is timed there needs a core for itself.
        session.run("python", "-m", "pytest", *files_with("undisturbed"), "-m", "undisturbed", env=jax_env())
        session.run("python", "-m", "suite.mutation", "--named", *IN_PARALLEL, env=jax_env())


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Show every fault to every contract; `-- --fuzz N` gives a subject N randomly damaged checkpoints instead."""
    install(session, "test")
    arguments = session.posargs or ["--write", ".results/faults.jsonl", *IN_PARALLEL]
    session.run("python", "-m", "suite.mutation", *arguments, env=jax_env())


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure loads, adapters, training steps and sampling; `-- --size full --subject openpi=PYTHON` and more."""
    install(session, "test")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(default=False)
def gate(session: nox.Session) -> None:
    """Compare the loader with the merge base's: slower, larger or wrong? `-- --baseline REVISION` and more."""
    install(session, "test")
    session.run("python", "-m", "benchmarks.gate", *session.posargs, env=jax_env())


@nox.session(default=False)
def report(session: nox.Session) -> None:
    """Generate reports/, and parts of the README and docs/, from the result files; `-- --check` only compares."""
    install(session, "pages")
    session.run("python", "-m", "reports", *session.posargs)


@nox.session(default=False)
def pages(session: nox.Session) -> None:
    """Open the pages in Chromium, headless: do they filter, open, switch, and stay within a second?"""
    install(session, "pages")
    # Not the suite's options: they need its packages, and a page is no contract.
    options = ("-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider")
    session.run("python", "-m", "pytest", *options, "tests/reports/test_browser.py", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build docs/ into .site/, offline; a broken link or anchor fails it."""
    install(session, "docs")
    session.run(
        "python", "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "docs", ".site", *session.posargs
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, types, and who imports whom."""
    install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session(default=False)
@nox.parametrize(("python", "lock"), [(PYTHONS[0], "oldest"), (newest_python(), "test")], ids=["oldest", "newest"])
def versions(session: nox.Session, lock: str) -> None:
    """Run all tests on the oldest and newest packages; `-- --subject NAME`: which version broke which contract."""
    if asked := asked_subjects(as_words(session.posargs)):
        if lock == "test":
            session.skip("the versions of a subject are compared in versions(oldest)")
        compare_versions(session, asked[0])
        return
    install(session, lock)
    tests = ("tests", "suite/contracts", "-m", "not (undisturbed or browser)")
    run_pytest(session, *tests, "--subject", "reference", *session.posargs)


def compare_versions(session: nox.Session, name: str) -> None:
    """Ask a subject in each of its version sets; fail if a contract that held in one is broken in the next."""
    if name not in VERSION_SETS:
        session.error(f"no versions are known for {name}; there are sets for {', '.join(VERSION_SETS)}")
    files = []
    for pins in VERSION_SETS[name]:
        files.append(f".results/versions/{name}-{'-'.join(pins)}.jsonl")
        install(session, "test" if name in SUBJECT_GROUPS else "oldest")
        if name in SUBJECT_GROUPS:
            subject = f"{name}={subject_python(session, name, *pins)}"
        else:
            # What is installed is no longer the lock.
            stamp(session).unlink(missing_ok=True)
            session.install(*pins)
            subject = name
        # A broken contract is a result, not an end.
        arguments = ("suite/contracts", "--subject", subject, "--results", files[-1])
        run_pytest(session, *arguments, success_codes=(0, 1))
    session.run("python", "-m", "reports.drift", *files)


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Remake locks/, for every supported Python at once; `-- --upgrade` moves the pins."""
    session.install("uv")
    compile_lock = [
        *("uv", "pip", "compile", "--universal", "--python-version", PYTHONS[0]),
        *("--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--quiet"),
        *("--custom-compile-command", "nox -s lock", *session.posargs),
    ]
    with_tests = ["pyproject.toml", "--all-extras", "--group", "test"]
    lowest = ["--resolution", "lowest-direct"]
    session.run(*compile_lock, *with_tests, "--output-file", "locks/test.txt")
    session.run(*compile_lock, *with_tests, *lowest, "--output-file", "locks/oldest.txt")
    for group in ("docs", "lint", "pages"):
        session.run(*compile_lock, "--group", group, "--output-file", f"locks/{group}.txt")


if __name__ == "__main__":
    nox.main()
