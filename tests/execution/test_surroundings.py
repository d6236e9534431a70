from pathlib import Path

import pytest

from mcp_python_executor.execution.model import Interpreter
from mcp_python_executor.execution.surroundings import surroundings
from mcp_python_executor.settings import NetworkAccess, Settings

INTERPRETER = Interpreter("g", Path("/venv/bin/python"), Path("/venv"), Path("/usr"), "3.11.2")


def environment(settings: Settings, **server: str) -> dict[str, str]:
    return dict(surroundings(settings, INTERPRETER, None, server).policy.environment)


def test_a_program_gets_its_environments_own_path_first():
    told = environment(Settings())
    assert told["PATH"].startswith("/venv/bin:")
    assert (told["VIRTUAL_ENV"], told["LANG"]) == ("/venv", "C.UTF-8")
    assert told["TZ"]


def test_nothing_of_the_servers_environment_passes_but_what_is_named():
    told = environment(Settings(pass_env=("API_KEY", "MISSING")), API_KEY="k", OTHER="s", HTTPS_PROXY="p")
    assert told["API_KEY"] == "k"
    constant = {"JE_ARROW_MALLOC_CONF", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "LANG", "MPLBACKEND"}
    assert set(told) == {"PATH", "VIRTUAL_ENV", "TZ", "API_KEY"} | constant


def test_proxies_and_certificates_come_with_the_network_alone():
    told = environment(Settings(network_access=NetworkAccess.FULL), HTTPS_PROXY="p", SSL_CERT_FILE="c")
    assert (told["HTTPS_PROXY"], told["SSL_CERT_FILE"]) == ("p", "c")


def test_read_paths_that_are_missing_are_left_out(tmp_path: Path):
    settings = Settings(read_paths=(tmp_path, tmp_path / "missing"))
    read = surroundings(settings, INTERPRETER, None, {}).policy.read
    assert tmp_path in read
    assert tmp_path / "missing" not in read


def test_the_environments_are_private_wherever_read_paths_show_them(tmp_path: Path):
    (tmp_path / "house" / "venvs").mkdir(parents=True)
    (tmp_path / "link").symlink_to("house")
    for base in (tmp_path / "house" / "venvs", tmp_path / "link" / "venvs"):
        settings = Settings(venvs_base_path=base, read_paths=(tmp_path, tmp_path / "link", tmp_path / "house" / "x"))
        private = surroundings(settings, INTERPRETER, None, {}).policy.private
        assert private == (tmp_path / "house" / "venvs", tmp_path / "link" / "venvs")


def test_a_script_and_inline_code_have_surroundings_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    script = tmp_path / "project" / "x.py"
    script.parent.mkdir()
    script.touch()
    around = surroundings(Settings(venvs_base_path=tmp_path / "venvs"), INTERPRETER, script, {})
    assert around.directory == script.parent
    assert script.parent in around.policy.read
    assert surroundings(Settings(), INTERPRETER, None, {}).directory is None
