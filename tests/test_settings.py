"""Settings: precedence, every bad value's line, and where programs may not write."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mcp_python_executor import settings as settings_module
from mcp_python_executor.errors import SettingsError
from mcp_python_executor.limits import MEBIBYTE
from mcp_python_executor.settings import VARIABLES, Isolation, LogLevel, NetworkAccess, Settings
from tests.variables import settings_from


def load(flags: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    return settings_from(environment, flags)


def test_the_defaults_are_the_documented_ones():
    assert load({}, {}) == Settings(
        max_memory_mb=512,
        execution_timeout_ms=30_000,
        max_concurrent_executions=5,
        log_level=LogLevel.INFO,
        log_file=None,
        venvs_base_path=Path.home() / ".mcp-python-venvs",
        default_venv_name="default",
        output_path=None,
        package_timeout_ms=300_000,
        preinstalled_packages="",
        isolation=Isolation.STRICT,
        network_access=NetworkAccess.NONE,
        script_roots=(Path.home(),),
        read_paths=(),
        pass_env=(),
        max_output_bytes=32_768,
    )


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default():
    environment = {"MAX_MEMORY_MB": "64", "EXECUTION_TIMEOUT_MS": "1000"}
    settings = load({"max_memory_mb": "128"}, environment)
    assert (settings.max_memory_mb, settings.execution_timeout_ms, settings.max_output_bytes) == (128, 1000, 32_768)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_set_to_nothing_is_not_set(name: str):
    assert load({}, {VARIABLES[name].name: ""}) == Settings()


def test_an_empty_flag_puts_a_variable_back_to_its_default():
    assert load({"read_paths": ""}, {"READ_PATHS": "/data"}).read_paths == ()


@pytest.mark.parametrize(
    ("variable", "value", "accepted"),
    [
        ("MAX_MEMORY_MB", "lots", "a whole number from 16"),
        ("MAX_MEMORY_MB", "15", "a whole number from 16"),
        ("MAX_MEMORY_MB", "512.0", "a whole number from 16"),
        ("MAX_MEMORY_MB", "9" * 5000, "a whole number from 16"),
        ("EXECUTION_TIMEOUT_MS", "-1", "a whole number from 1"),
        ("EXECUTION_TIMEOUT_MS", "0", "a whole number from 1"),
        ("MAX_CONCURRENT_EXECUTIONS", "٣", "a whole number from 1"),
        ("PACKAGE_TIMEOUT_MS", "2147483648", "to 2147483647"),
        ("MAX_OUTPUT_BYTES", "1", "a whole number from 256"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "json, text"),
        ("ISOLATION", "medium", "strict, none"),
        ("NETWORK_ACCESS", "some", "none, full"),
        ("PASS_ENV", "A=1", "names of environment variables"),
        ("PASS_ENV", "A,,-", "names of environment variables"),
        ("PASS_ENV", "API_KEY,PYTHONPATH", "do not begin with GLIBC_, LD_, PYTHON"),
        ("PASS_ENV", "LD_PRELOAD", "do not begin with GLIBC_, LD_, PYTHON"),
        ("PASS_ENV", "GLIBC_TUNABLES", "do not begin with GLIBC_, LD_, PYTHON"),
        ("VENVS_BASE_PATH", "~nobody-of-this-name/venvs", "home directory"),
    ],
)
def test_a_bad_value_is_told_in_one_line_with_variable_value_and_what_is_accepted(
    variable: str, value: str, accepted: str
):
    with pytest.raises(SettingsError) as caught:
        load({}, {variable: value})
    line = str(caught.value)
    assert line.startswith(f"{variable}={value!r}: must be ")
    assert accepted in line
    assert "\n" not in line


def test_a_bad_value_given_as_a_flag_names_the_flag():
    with pytest.raises(SettingsError, match=r"^--max-memory-mb='x': must be a whole number"):
        load({"max_memory_mb": "x"}, {"MAX_MEMORY_MB": "64"})


def test_words_are_taken_in_any_case():
    settings = load({}, {"LOG_LEVEL": " INFO ", "ISOLATION": "None", "NETWORK_ACCESS": "FULL"})
    assert (settings.log_level, settings.isolation, settings.network_access) == ("info", "none", "full")


def test_paths_are_made_absolute_and_the_home_directory_is_filled_in():
    settings = load({}, {"VENVS_BASE_PATH": "venvs/../others", "READ_PATHS": "~/data: /srv/x :", "LOG_FILE": "~/log"})
    assert settings.venvs_base_path == Path.cwd() / "others"
    assert settings.read_paths == (Path.home() / "data", Path("/srv/x"))
    assert settings.log_file == Path.home() / "log"


def test_lists_of_names_are_split_at_commas_and_spaces():
    assert load({}, {"PASS_ENV": " API_KEY, TOKEN  _X,"}).pass_env == ("API_KEY", "TOKEN", "_X")


def test_the_limits_of_an_execution_follow_from_the_settings():
    limits = Settings(
        max_memory_mb=64, execution_timeout_ms=1500, max_concurrent_executions=2, max_output_bytes=1000
    ).limits
    assert limits.memory_bytes == 64 * MEBIBYTE
    assert limits.wall_seconds == 1.5
    assert limits.concurrent == 2
    assert limits.inline_output_bytes == 1000


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("{base}", "VENVS_BASE_PATH"),
        ("{base}/out", "VENVS_BASE_PATH"),
        ("{base}/..", "VENVS_BASE_PATH"),
        ("{link}", "VENVS_BASE_PATH"),
        ("~", "home directory"),
        ("/", "VENVS_BASE_PATH"),
        ("/usr/local/share", "system directory"),
        ("/lib", "system directory"),
        ("/opt", "system directory"),
        ("/var", "system directory"),
        ("~/.pyenv/versions/3.12.1", "started outside the walls"),
        ("~/.local", "started outside the walls"),
        ("{prefix}", "started outside the walls"),
        ("{package}/..", "started outside the walls"),
    ],
)
def test_programs_may_not_write_where_the_server_or_the_machine_trusts_what_it_finds(
    output: str, reason: str, tmp_path: Path
):
    base, link = tmp_path / "house" / "venvs", tmp_path / "link"
    base.mkdir(parents=True)
    link.symlink_to(base)
    places = {"base": base, "link": link, "prefix": sys.prefix, "package": Path(settings_module.__file__).parent}
    with pytest.raises(SettingsError, match=r"^OUTPUT_PATH='/.*': may not be") as caught:
        load({}, {"VENVS_BASE_PATH": str(base), "OUTPUT_PATH": output.format(**places)})
    assert reason in str(caught.value)


def test_a_folder_of_ones_own_may_be_the_output_path(tmp_path: Path):
    settings = load({"output_path": str(tmp_path / "out"), "venvs_base_path": str(tmp_path / "venvs")}, {})
    assert settings.output_path == tmp_path / "out"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/", "of which a program has its own"),
        ("/proc", "of which a program has its own"),
        ("/proc/sys", "of which a program has its own"),
        ("/dev", "of which a program has its own"),
        ("/dev/shm", "of which a program has its own"),
        ("/sys", "of which a program has its own"),
        ("{base}", "VENVS_BASE_PATH"),
        ("{base}/.runs", "VENVS_BASE_PATH"),
        ("{link}/default", "VENVS_BASE_PATH"),
        ("{out}/data", "OUTPUT_PATH"),
        ("{out}/link", "OUTPUT_PATH"),
    ],
)
def test_programs_may_not_read_what_is_anothers_or_covers_their_own(path: str, reason: str, tmp_path: Path):
    base, out, link = tmp_path / "venvs", tmp_path / "out", tmp_path / "link"
    base.mkdir()
    out.mkdir()
    link.symlink_to(base)
    (out / "link").symlink_to(tmp_path)
    named = path.format(base=base, out=out, link=link)
    variables = {"VENVS_BASE_PATH": str(base), "OUTPUT_PATH": str(out), "READ_PATHS": f"{tmp_path}:{named}"}
    with pytest.raises(SettingsError) as caught:
        load({}, variables)
    assert str(caught.value).startswith(f"READ_PATHS={named!r}: may not ")
    assert reason in str(caught.value)


def test_what_holds_the_environments_may_be_read(tmp_path: Path):
    paths = (tmp_path, tmp_path / "out", Path("/dev/shm/data"))
    read = ":".join(map(str, paths))
    settings = load({}, {"VENVS_BASE_PATH": str(tmp_path / "venvs"), "OUTPUT_PATH": str(paths[1]), "READ_PATHS": read})
    assert settings.read_paths == paths


def test_every_setting_has_a_variable_a_flag_and_a_meaning():
    assert list(VARIABLES) == list(Settings.model_fields)
    for name, variable in VARIABLES.items():
        assert variable.name == name.upper()
        assert re.fullmatch(r"--[a-z]+(-[a-z]+)*", variable.flag)
        assert variable.meaning


@pytest.mark.parametrize("name", VARIABLES)
def test_the_default_that_is_shown_is_the_default_that_is_used(name: str):
    variable = VARIABLES[name]
    assert load({name: variable.default}, {}) == Settings()


def test_the_documentation_has_every_variable_with_its_default_and_meaning():
    page = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = [
        f"| `{variable.name}` | {f'`{variable.default}`' if variable.default else 'unset'} | {variable.meaning} |"
        for variable in VARIABLES.values()
    ]
    assert "\n".join(rows) in page
