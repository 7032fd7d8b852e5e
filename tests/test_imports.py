"""The direction of the house: app -> model <- training, read from the import statements."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"app", "model", "training", "benchmarks", "examples", "tests"}
ALLOWED = {
    "model": {"model"},
    "app": {"app", "model"},
    "training": {"training", "model"},
    "benchmarks": {"benchmarks", "model", "training"},
    "examples": set[str](),
}
WITHOUT_WEB_FRAMEWORK = ["batcher", "errors", "metrics", "settings"]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_in_the_allowed_direction(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        wrong = imported(path) & PACKAGES - ALLOWED[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}"


@pytest.mark.parametrize("module", WITHOUT_WEB_FRAMEWORK)
def test_the_inner_modules_know_no_web_framework(module: str) -> None:
    path = ROOT / "app" / f"{module}.py"
    assert not imported(path) & {"fastapi", "starlette", "uvicorn"}
