"""What runs inside stands alone: old Pythons run it, and it brings nothing along."""

import ast
import sys
from pathlib import Path

import pytest

import mcp_python_executor

FILES = sorted((Path(mcp_python_executor.__file__).parent / "inside").glob("*.py"))
OLDEST = (3, 9)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_oldest_python_reads_it(file: Path):
    ast.parse(file.read_text(), feature_version=OLDEST)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_imports_the_standard_library_and_its_own_package_only(file: Path):
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        assert all(name.split(".")[0] in sys.stdlib_module_names for name in names), names
