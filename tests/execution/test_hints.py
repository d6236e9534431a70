import errno
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mcp_python_executor.execution.hints import hint, may_be_hidden, of_hidden_path
from mcp_python_executor.execution.report import ReportedError
from tests.bench import OpenBench


def error(kind: str, **told: object) -> ReportedError:
    return ReportedError.model_validate({"type": kind, "message": "m", "traceback": "t", **told})


@pytest.mark.parametrize(("module", "package"), [("sklearn", "scikit-learn"), ("yaml", "pyyaml")])
def test_a_missing_module_names_its_distribution(module: str, package: str):
    told = hint(error("ModuleNotFoundError", name=module), "ml")
    assert told == f"install it with install_packages(packages=['{package}'], venvName='ml')"


def test_a_module_that_nobody_knows_may_have_a_package_of_its_name():
    told = hint(error("ModuleNotFoundError", name="rich"), "ml")
    assert (
        told == "if a package of that name has it, install it with install_packages(packages=['rich'], venvName='ml')"
    )


def test_display_is_a_built_in():
    assert "built-in" in hint(error("ModuleNotFoundError", name="IPython"), "v")


@pytest.mark.parametrize("module", ["numpy.foo", "google", "google.cloud"])
def test_what_no_package_of_that_name_brings_has_no_hint(module: str):
    assert hint(error("ModuleNotFoundError", name=module), "v") == ""


@pytest.mark.parametrize("sibling", ["helper.py", "helper/__init__.py"])
def test_a_module_beside_the_script_is_not_to_be_installed(tmp_path: Path, sibling: str):
    (tmp_path / sibling).parent.mkdir(exist_ok=True)
    (tmp_path / sibling).touch()
    missing = error("ModuleNotFoundError", name="helper")
    assert hint(missing, "v", script=tmp_path / "job.py") == ""
    assert "install_packages" in hint(missing, "v", script=tmp_path / "elsewhere" / "job.py")


def test_a_path_of_the_hosts_names_the_settings(tmp_path: Path):
    for number, name in ((errno.ENOENT, "new"), (errno.EACCES, "")):
        hidden = error("OSError", filename=str(tmp_path / name), errno=number)
        assert may_be_hidden(hidden, [])
        told = of_hidden_path(hidden)
        assert told.startswith(f"'{tmp_path}' exists on the host")
        assert "READ_PATHS" in told
        assert "OUTPUT_PATH" in told


@pytest.mark.parametrize("name", ["/missing", "/nul\0", f"/{'long' * 1000}", "/tmp/missing", "/etc/missing"])
def test_a_path_that_the_host_has_not_has_no_hint(name: str):
    assert of_hidden_path(error("FileNotFoundError", filename=name, errno=errno.ENOENT)) == ""


@pytest.mark.parametrize(
    "name", ["relative", "/dev/kvm", "/proc/1/environ", "/usr/bin/x", "/seen/x", "/seen/../dev/kvm"]
)
def test_other_paths_are_not_looked_for(name: str):
    assert not may_be_hidden(error("FileNotFoundError", filename=name, errno=errno.ENOENT), [Path("/seen")])


def test_other_errors_about_a_path_are_not_its_absence():
    assert not may_be_hidden(error("OSError", filename="/full", errno=errno.ENOSPC), [])
    assert not may_be_hidden(error("OSError", errno=errno.ENOENT), [])


def test_a_closed_place_names_the_open_ones():
    assert "OUTPUT_PATH" in hint(error("OSError", filename="/usr/x", errno=errno.EROFS), "v")


@pytest.mark.parametrize(
    "told",
    [
        error("PermissionError", whole='File "/usr/lib/python3.11/socket.py"', errno=errno.EACCES),
        error("URLError", whole="socket.gaierror: [Errno -3] Temporary failure in name resolution"),
        error("ConnectionError", whole="urllib3.exceptions.NameResolutionError: ..."),
    ],
)
def test_what_reaches_for_the_network_is_told_the_setting(told: ReportedError):
    assert "NETWORK_ACCESS" in hint(told, "v")
    assert hint(told, "v", network=True) == ""


def test_a_file_that_is_merely_called_so_is_no_network():
    assert hint(error("ValueError", whole='File "/s/my_socket.py", line 1'), "v") == ""


def test_a_module_of_the_standard_library_is_not_to_be_installed():
    assert hint(error("ModuleNotFoundError", name="_tkinter"), "v") == ""


def test_an_input_that_is_missing_is_asked_for():
    assert "inputData" in hint(error("EOFError", message="EOF when reading a line"), "v")
    assert hint(error("EOFError", message="Ran out of input"), "v") == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("!pip install -q numpy pandas>=2", "install_packages(packages=['numpy', 'pandas>=2'], venvName='v')"),
        ("%pip install numpy", "install_packages(packages=['numpy'], venvName='v')"),
        ("!pip install 'pandas>=2' --upgrade", "install_packages(packages=['pandas>=2'], venvName='v')"),
        ("!pip install -r requirements.txt", "call install_packages, which takes names"),
        ("!pip install --index-url https://x/simple y", "call install_packages, which takes names"),
        ("!pip install 'open", "call install_packages, which takes names"),
        ("!ls -l", "subprocess.run('ls -l', shell=True)"),
        ("%matplotlib inline", "leave it out"),
        ("%%time", "magic"),
        ("x = = 1", ""),
    ],
)
def test_a_notebooks_line_is_told_another_way(line: str, expected: str):
    told = hint(error("SyntaxError", traceback=f'  File "main.py", line 1\n    {line}\n    ^\nSyntaxError: no'), "v")
    assert expected in told
    assert bool(told) is bool(expected)


@pytest.mark.parametrize(
    ("name", "kind", "message", "hidden"),
    [
        ("random", "AttributeError", "module 'random' has no attribute 'random' (consider renaming ...)", True),
        ("email", "ModuleNotFoundError", "No module named 'email.mime'; 'email' is not a package", True),
        (
            "numpy",
            "AttributeError",
            "partially initialized module 'numpy' has no attribute 'a' (most likely due to a circular import)",
            True,
        ),
        ("job", "AttributeError", "module 'math' has no attribute 'x'", False),
        ("math", "ValueError", "module 'math'", False),
    ],
)
def test_a_script_that_hides_a_module_is_told(name: str, kind: str, message: str, hidden: bool):
    told = hint(error(kind, message=message, name=name), "v", script=Path(f"/s/{name}.py"))
    assert (f"rename {name}.py" in told) is hidden


def test_other_errors_have_no_hint():
    assert hint(error("ValueError"), "v") == ""


@pytest.mark.anyio
@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize(
    "code",
    [
        "import multiprocessing\nmultiprocessing.Lock()",
        "import multiprocessing\nmultiprocessing.Pool(2)",
        "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True, size=100)",
    ],
)
async def test_where_nothing_is_shared_that_is_told(open_bench: OpenBench, code: str):
    async with open_bench(isolation="landlock") as bench:
        result = await bench.run(code)
    assert result.error
    assert "no /dev/shm of its own" in result.error.hint


@pytest.mark.anyio
@pytest.mark.usefixtures("walls")
async def test_a_script_that_hides_a_module_is_told_so_when_it_runs(open_bench: OpenBench, tmp_path: Path):
    script = tmp_path / "scripts" / "random.py"
    script.parent.mkdir()
    script.write_text("import random\nrandom.randint(1, 2)\n")
    async with open_bench(script=script) as bench:
        result = await bench.run("", script=script)
    assert result.error
    assert result.error.hint == "the script's own name hides the module 'random' from imports; rename random.py"


@pytest.mark.anyio
@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize(
    "code", ["open('own', 'w').close()\nimport os\nos.chmod('own', 0)\nos.execv('./own', ['own'])", "open('none')"]
)
async def test_a_file_of_its_own_is_not_hidden_from_a_program(open_bench: OpenBench, isolation: str, code: str):
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
    assert result.error
    assert result.error.hint == ""


@pytest.mark.anyio
@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize("name", ["canary", "new"])
async def test_a_place_of_the_hosts_is_told_to_whoever_writes_there(open_bench: OpenBench, isolation: str, name: str):
    with TemporaryDirectory(dir=Path.home()) as place:  # programs may have a /tmp of their own
        (Path(place) / "canary").write_text("as it was")
        async with open_bench(isolation=isolation) as bench:
            result = await bench.run(f"open({f'{place}/{name}'!r}, 'w')")
    if isolation == "none":
        assert result.error is None
    else:
        assert result.error
        assert "OUTPUT_PATH" in result.error.hint


@pytest.mark.anyio
@pytest.mark.usefixtures("walls")
async def test_a_fork_server_is_told_another_way(open_bench: OpenBench):
    code = """
import multiprocessing
if __name__ == "__main__":
    multiprocessing.get_context("forkserver").Process(target=print).start()
"""
    async with open_bench() as bench:
        result = await bench.run(code)
    assert result.error
    assert "get_context('spawn')" in result.error.hint
