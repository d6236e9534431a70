"""What uv says when it fails, cut to its point: one line with a way out."""

import re
from collections.abc import Callable, Sequence

from mcp_python_executor.venvs.distributions import near, stands_in_for
from mcp_python_executor.venvs.project import PROJECT_NAME

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_CONCLUSION = re.compile(r",? (?:and |so )*we can conclude that .*?(?=\.? And because |$)", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/\s@]*@")
# What compilers, linkers, cargo, CMake and Meson say; not what merely tells that one of them failed.
_COMPILER = re.compile(
    r"fatal error: |: error: |: undefined reference to |: cannot find -l|: ERROR: |: not found$|: command not found"
    r"|^error(?:\[E[0-9]+\])?: (?!Failed to |[Cc]ommand )|^CMake Error"
)
# uv knows what some of it means: which library or header is missing, and what a system calls it.
_TO_INSTALL = re.compile(r"need to install (.*) for `[^`@]*@[^`]*`( \(e\.g\., [^)]*\))?")
_TO_BUILD = "Failed to resolve requirements from `build-system.requires`"
_EXCEPTION = re.compile(r"(?:[a-z_]\w*\.)*[A-Z]\w*: .+")
# Whether the way to the index was never open, or closed while something came.
_UNREACHED = re.compile(
    r"error sending request|dns error|tcp connect error|Could not connect|operation timed out"
    r"|error reading a body from connection|error decoding response body"
)
_MOST = 400
_ANOTHER_PYTHON = "create an environment with another pythonVersion"
_NAME = r"([A-Za-z0-9][A-Za-z0-9._-]*)"


def unbuilt(stderr: str) -> list[str]:
    """The packages that have no usable wheel but a source to build one from."""
    return list(dict.fromkeys(re.findall(r"Wheels are required for `([^`]+)` because building", _plain(stderr))))


def reason(stderr: str) -> str:
    """One line for a person: why uv failed, and the way out."""
    text = _plain(stderr)
    for recognize in (_disk, _network, _access, _resolution):
        if line := recognize(text):
            return line
    causes = re.findall(r"^\s*(?:error|cause): (.*)$", text, re.MULTILINE)
    return _cut(causes[-1] if causes else text.strip().splitlines()[-1] if text.strip() else "uv gave no reason")


def build_reason(names: Sequence[str], stderr: str) -> str:
    """One line for a person: why building one of `names` from source failed, in the compiler's last words."""
    text = _plain(stderr)
    failed = re.search(rf"(?:build|download) `{_NAME}(?:==[^`]*)?`", text)
    name = failed.group(1) if failed else names[0]
    if line := _disk(text) or _network(text) or _access(text):
        return line
    if line := _resolution(text):
        return f"building {name!r} from source needs more: {line}" if _TO_BUILD in text else line
    return (
        f"{name!r} has no wheel for this Python and platform, and building it from source failed: "
        f"{_cut(_telling(text))}; {_way_out_of_build(name, text)}"
    )


def _telling(text: str) -> str:
    """A compiler's first error is the one that matters, of exceptions the last."""
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("hint:")]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if _COMPILER.search(line):
            return f"{line} {following}" if line.startswith("CMake") else line
    exceptions = [line for line in lines if _EXCEPTION.fullmatch(line)]
    return (exceptions or lines or ["no reason given"])[-1]


def _way_out_of_build(name: str, text: str) -> str:
    if meant := _either(stands_in_for(name)):
        return f"did you mean {meant}?"
    if missing := _TO_INSTALL.search(text):
        system = "".join(filter(None, missing.groups())).replace("`", "")
        return f"install {system} on this machine, or ask for another version of it"
    return f"ask for another version of it, or {_ANOTHER_PYTHON}"


def download_reason(stderr: str) -> str:
    """One line for a person: why an interpreter could not be downloaded."""
    text = _plain(stderr)
    if line := _disk(text):
        return line
    causes = re.findall(r"^\s*(?:error|cause): (.*)$", text, re.MULTILINE)
    address = re.search(r"(?:https?|file)://[^\s/`)]*", text)
    where = f" from {address.group()}" if address else ""
    why = re.sub(r" \(os error \d+\)$", "", causes[-1]).lower() if causes else "no reason given"
    return _cut(f"it can't be downloaded{where}: {why}")


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))


def _plain(stderr: str) -> str:
    """Without colours, and without the credentials that an address may carry."""
    return _USER_INFO.sub("", _ANSI.sub("", stderr))


def _cut(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _MOST else text[:_MOST] + "..."


def _disk(text: str) -> str:
    if "No space left on device" in text or "os error 28" in text or "Disk quota exceeded" in text:
        return "the disk is full; free some space where VENVS_BASE_PATH is, then call again: nothing was changed"
    return ""


def _network(text: str) -> str:
    if not _UNREACHED.search(text):
        return ""
    causes = re.findall(r"cause: (.*)$", text, re.MULTILINE)
    address = re.search(r"https?://[^\s/`)]+", text)
    where = f" at {address.group()}" if address else ""
    why = re.sub(r" \(os error \d+\)$", "", causes[-1]).lower() if causes else "no answer"
    return _cut(f"the package index{where} can't be reached: {why}") + "; check the network, the proxy or the index"


def _access(text: str) -> str:
    found = re.search(r"(401 Unauthorized|403 Forbidden|407 Proxy Authentication Required)", text)
    address = re.search(r"https?://[^\s/`)]+", text)
    if not found:
        return ""
    where = f" at {address.group()}" if address else ""
    return f"the package index{where} answered {found.group()}; check the credentials of the index or proxy"


def _resolution(text: str) -> str:
    """The way out depends on what is in the way; uv's own words are kept where no case of ours fits."""
    text = text.replace(PROJECT_NAME, "your project")
    found = re.search(r"cause: ((?:Because|your project depends) .*?)(?:\n\s*\n|\nhint:|\Z)", text, re.DOTALL)
    if not found:
        return ""
    because = " ".join(found.group(1).split())
    recognizers: tuple[Callable[[str, str], str], ...] = (_unknown, _too_new_for_python, _no_version, _no_wheel)
    for recognize in recognizers:
        if line := recognize(because, text):
            return line
    return f"the requirements conflict: {_shortened(because)}; loosen or leave out one of them"


def _unknown(because: str, _: str) -> str:
    found = re.search(rf"{_NAME} was not found in the (?:package registry|provided package locations)", because)
    if not found:
        return ""
    meant = _either(near(found.group(1)))
    way_out = f"did you mean {meant}?" if meant else "check how it is spelled"
    return f"package {found.group(1)!r} does not exist on the index; {way_out}"


def _too_new_for_python(because: str, _: str) -> str:
    if "does not satisfy Python" not in because:
        return ""
    needed = re.search(r"does not satisfy Python(\S+?),? ", because)
    which = re.search(rf"(?:and|that|because) (?:all of: )?{_NAME}[^;]*? depends? on Python", because)
    package = f"{which.group(1)!r}" if which else "a package"
    version = needed.group(1) if needed else "of another version"
    return f"{package} needs Python {version}; ask for another version of it, or {_ANOTHER_PYTHON}"


def _no_version(because: str, _: str) -> str:
    found = re.match(r"Because (?:there is|there are) no versions? of (\S+?) and ", because)
    only = re.match(rf"Because only ({_NAME}\S* is available) ", because)
    if found:
        return f"no version fits {found.group(1)!r}; ask for another version, or none"
    return f"no version fits: only {only.group(1)}; ask for another version, or none" if only else ""


def _no_wheel(because: str, text: str) -> str:
    pattern = rf"(?:versions of |Because |because |and ){_NAME}\S* ha(?:s|ve) no (?:usable wheels|wheels with|`)"
    found = re.findall(pattern, because)
    if not found:
        return ""
    tags = re.search(rf"Wheels are available for `{re.escape(found[-1])}` \((\S+)\).*? tags?: (.*)", text)
    there = f" (version {tags.group(1).lstrip('v')} has them for {tags.group(2)})".replace("`", "") if tags else ""
    return (
        f"{found[-1]!r} has no wheel for this Python and platform{there}; ask for another version of it, "
        f"or {_ANOTHER_PYTHON}"
    )


def _shortened(because: str) -> str:
    clauses = _CONCLUSION.sub("", because).replace("your project depends on", "this environment asks for")
    clauses = re.sub(r"\.? And because ", "; ", clauses.removeprefix("Because "))
    return _cut(clauses.replace("your project", "this environment"))
