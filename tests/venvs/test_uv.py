from pathlib import Path

import pytest

from mcp_python_executor.venvs import uv
from mcp_python_executor.venvs.uv import Uv, index_environment, without_credentials
from tests.venvs.conftest import no_walls


def test_only_the_way_to_the_index_reaches_uv():
    environment = {
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": "localhost",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_INDEX": "inner=https://inner.example/simple",
        "UV_INDEX_INNER_USERNAME": "me",
        "UV_INDEX_INNER_PASSWORD": "secret",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON_INSTALL_MIRROR": "https://inner.example/pythons",
    }
    others = {"AWS_SECRET_ACCESS_KEY": "x", "UV_PYTHON": "/evil", "UV_CACHE_DIR": "/evil", "LD_PRELOAD": "/evil.so"}
    assert index_environment(environment | others) == environment


def test_what_pip_calls_the_index_is_told_to_uv_in_its_words():
    assert index_environment({"PIP_INDEX_URL": "https://a/simple", "PIP_EXTRA_INDEX_URL": "https://b/simple"}) == {
        "UV_DEFAULT_INDEX": "https://a/simple",
        "UV_INDEX": "https://b/simple",
    }
    assert index_environment({"UV_INDEX_URL": "https://a/simple"}) == {"UV_DEFAULT_INDEX": "https://a/simple"}
    assert index_environment({"REQUESTS_CA_BUNDLE": "/ca.pem"}) == {"SSL_CERT_FILE": "/ca.pem"}


def test_uvs_own_setting_goes_before_pips():
    both = {"PIP_INDEX_URL": "https://pip/simple", "UV_DEFAULT_INDEX": "https://uv/simple"}
    assert index_environment(both) == {"UV_DEFAULT_INDEX": "https://uv/simple"}


def test_a_build_gets_no_credentials():
    environment = {
        "UV_DEFAULT_INDEX": "https://me:secret@inner.example/simple",
        "UV_INDEX": "https://token@a.example/simple https://b.example/simple",
        "HTTPS_PROXY": "http://me:secret@proxy:3128",
        "UV_INDEX_INNER_PASSWORD": "secret",
        "SSL_CLIENT_CERT": "/home/me/key.pem",
    }
    assert without_credentials(environment) == {
        "UV_DEFAULT_INDEX": "https://inner.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "HTTPS_PROXY": "http://proxy:3128",
    }


@pytest.mark.parametrize(
    ("spelled", "passed"),
    [
        ("me:secret@proxy:3128", "proxy:3128"),
        ("http://me:sec@ret@proxy:3128/", "http://proxy:3128/"),
        ("http:me:secret@proxy", "proxy"),
        (
            "inner=https://me:sec@ret@a.example/simple https://b.example",
            "inner=https://a.example/simple https://b.example",
        ),
        ("http://proxy:3128", "http://proxy:3128"),
        ("file:///home/me@example.com/simple", "file:///home/me@example.com/simple"),
        ("/home/me@example.com/simple", "/home/me@example.com/simple"),
        *[
            (doubtful, None)
            for doubtful in (
                "http://me:sec/ret@proxy:3128",
                "me:sec/ret@proxy",
                "http://me:sec?ret@proxy",
                "http://me:sec#ret@proxy",
                "http://me:sec\\ret@proxy",
                "http:/me:secret@proxy",
                "http:///me:secret@proxy",
                "//me:secret@proxy",
                "http://me:sec ret@proxy",
                "https://proxy/simple@secret",
            )
        ],
    ],
)
def test_a_build_gets_no_credentials_however_they_are_spelled(spelled: str, passed: str | None):
    assert without_credentials({"HTTP_PROXY": spelled}).get("HTTP_PROXY") == passed


def test_a_build_is_told_where_certificates_lie():
    where = {"SSL_CERT_FILE": "/home/me@example.com/ca.pem", "SSL_CERT_DIR": "/home/me@example.com/certs"}
    assert without_credentials(where) == where


def test_files_that_the_index_settings_name_can_be_read(tmp_path: Path):
    certificate, index = tmp_path / "ca.pem", tmp_path / "simple"
    certificate.touch()
    index.mkdir()
    uv = Uv.found(tmp_path, {"SSL_CERT_FILE": str(certificate), "UV_DEFAULT_INDEX": f"file://{index}"}, no_walls)
    assert set(uv.configured_files()) == {certificate, index}
    ways = {"UV_PYTHON_INSTALL_MIRROR": f"file://{index}", "UV_PYTHON_DOWNLOADS_JSON_URL": str(certificate)}
    assert set(Uv.found(tmp_path, ways, no_walls).configured_files()) == {certificate, index}


def test_no_command_downloads_an_interpreter_unasked(tmp_path: Path):
    uv = Uv.found(tmp_path, {"UV_PYTHON_DOWNLOADS": "automatic"}, no_walls)
    assert {**uv.index, **uv.environment(None)}["UV_PYTHON_DOWNLOADS"] == "never"
    assert uv.may_download
    assert not Uv.found(tmp_path, {"UV_PYTHON_DOWNLOADS": "never"}, no_walls).may_download


def test_the_certificates_that_the_system_trusts_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for bundle, said in ((tmp_path / "bundle", "1"), (tmp_path / "missing", "0")):
        (tmp_path / "bundle").touch()
        monkeypatch.setattr(uv, "_TRUSTED", (bundle,))
        assert dict(Uv.found(tmp_path, {}, no_walls).environment(None))["UV_SYSTEM_CERTS"] == said
    chosen = Uv.found(tmp_path, {"UV_SYSTEM_CERTS": "1"}, no_walls)
    assert chosen.environment(None)["UV_SYSTEM_CERTS"] == "1"
