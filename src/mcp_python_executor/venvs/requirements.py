"""What a person typed, as requirements: PEP 508 names with specifiers, extras and markers, and nothing else.

This is the one place where they are judged: what passes is written into a project's TOML, and read by uv, as it is.
"""

import json
import re
from collections.abc import Iterator
from typing import cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import Specifier
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from mcp_python_executor.errors import InvalidArgument, shown

# A piece that starts so belongs to the requirement before it: in 'numpy>=1.20,<2' the comma separates no requirements.
_GOES_ON = re.compile(r"\s*[<>=!~]")
_PATH = re.compile(r"^[.~/\\]|[/\\]|\.(whl|zip|tar\.gz|tgz|toml|txt)$", re.IGNORECASE)
_URL = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_WAY_OUT = "give names as on the package index, like 'numpy>=1.20,<2' or 'pandas[excel]'"
_MOST = 1000
_MOST_CHARACTERS = 100_000
# The longest that packages on the index declare have some 300; the parser's time grows with the square of a long one.
_MOST_OF_ONE = 1000
_MOST_OF_REASON = 200
# The parser and uv's both descend once for each parenthesis.
_MOST_PARENTHESES = 20
# uv keeps each number of a version in 64 bits.
_LONG_NUMBER = re.compile(r"[0-9]{19}")


def parse(value: list[str] | str) -> list[Requirement]:
    """The requirements in `value`, a list or one string separated by commas, in their order.

    Raises:
        InvalidArgument: names the first one that is refused, and why.
    """
    characters = len(value) if isinstance(value, str) else sum(map(len, value))
    if characters > _MOST_CHARACTERS:
        raise InvalidArgument(f"packages of {characters} characters are too many; give at most {_MOST_CHARACTERS}")
    texts = _from_string(value) if isinstance(value, str) else [part for text in value for part in split(text)]
    if not texts:
        raise InvalidArgument(f"no package is named; {_WAY_OUT}")
    if len(texts) > _MOST:
        raise InvalidArgument(f"{len(texts)} packages at once are too many; give at most {_MOST}")
    return [_requirement(text) for text in texts]


def parse_names(value: list[str] | str) -> list[str]:
    """The normalized names in `value`, without doubles, in their order.

    Raises:
        InvalidArgument: one of them is more than a name.
    """
    requirements = parse(value)
    for requirement in requirements:
        if requirement.specifier or requirement.extras or requirement.marker:
            raise InvalidArgument(f"{shown(str(requirement))} is more than a name; give {shown(requirement.name)}")
    return list(dict.fromkeys(canonicalize_name(requirement.name) for requirement in requirements))


def split(text: str) -> list[str]:
    """`text` at the commas (and line ends) that separate requirements, as a person means them."""
    texts: list[str] = []
    for piece in _outer_pieces(text):
        if _GOES_ON.match(piece) and texts:
            texts[-1] += "," + piece.strip()
        elif piece.strip():
            texts.append(piece.strip())
    return texts


def _from_string(value: str) -> list[str]:
    """Models at times send a list as its JSON text: it means the list."""
    if value.lstrip().startswith("["):
        try:
            loaded: object = json.loads(value)
        except (ValueError, RecursionError):
            loaded = None
        if isinstance(loaded, list):
            items = enumerate(cast("list[object]", loaded))
            return [part for number, item in items for part in split(_string(number, item))]
    return split(value)


def _string(number: int, item: object) -> str:
    if isinstance(item, str):
        return item
    # One of these may be nested deeper than could be shown.
    given = "a list" if isinstance(item, list) else "an object" if isinstance(item, dict) else json.dumps(item)
    raise InvalidArgument(f"packages[{number}] is {given}, and must be a string; {_WAY_OUT}")


def _outer_pieces(text: str) -> Iterator[str]:
    """`text` cut at commas outside brackets, parentheses and quotes, and at line ends."""
    depth, quote, start = 0, "", 0
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[(":
            depth += 1
        elif character in "])":
            depth = max(0, depth - 1)
        elif character == "\n" or (character == "," and not depth):
            yield text[start:index]
            start, depth = index + 1, 0
    yield text[start:]


def _requirement(text: str) -> Requirement:
    text = text.replace("\t", " ")
    if text.startswith("-"):
        raise InvalidArgument(f"{shown(text)} is an option, and no package; {_WAY_OUT}")
    if reason := _unreadable(text):
        raise InvalidArgument(_refusal(text, reason))
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        # The lines that follow show the text again, with a mark below it.
        reason = next(iter(str(error).splitlines()), "it can't be read")
        raise InvalidArgument(_refusal(text, reason[:1].lower() + reason[1:_MOST_OF_REASON])) from None
    if _PATH.search(requirement.name):
        raise InvalidArgument(f"{shown(text)} is a file, and no package; {_WAY_OUT}")
    if requirement.url:
        raise InvalidArgument(f"{shown(text)} names a place to download from; {_WAY_OUT}")
    if reason := _unknown_to_uv(requirement):
        raise InvalidArgument(_refusal(text, reason))
    return requirement


def _unreadable(text: str) -> str:
    """What keeps a parser from reading `text`: PEP 508 is printable ASCII, and its strings know no escapes."""
    if len(text) > _MOST_OF_ONE:
        return f"it has {len(text)} characters, and may have {_MOST_OF_ONE}"
    if text.count("(") > _MOST_PARENTHESES:
        return f"it has {text.count('(')} parentheses, and may have {_MOST_PARENTHESES}"
    odd = next((character for character in text if not " " <= character <= "~" or character == "\\"), "")
    return f"it has the character {odd!r}, and may have letters, digits and signs of ASCII" if odd else ""


def _unknown_to_uv(requirement: Requirement) -> str:
    """What of `requirement` uv reads otherwise than we do."""
    try:
        for name in (requirement.name, *requirement.extras):
            canonicalize_name(name, validate=True)
        for specifier in requirement.specifier:
            _version(specifier)
    except InvalidName:
        return "a name begins and ends with a letter or digit"
    except InvalidVersion as error:
        return str(error)
    return ""


def _version(specifier: Specifier) -> None:
    """`===` compares whatever follows it as text, and uv takes versions alone."""
    if _LONG_NUMBER.search(specifier.version):
        raise InvalidVersion("a number of a version has at most 18 digits")
    if specifier.operator == "===":
        try:
            Version(specifier.version)
        except InvalidVersion:
            raise InvalidVersion(f"{shown(specifier.version)} is no version") from None


def _refusal(text: str, reason: str) -> str:
    if _URL.match(text):
        return f"{shown(text)} is a URL, and no package; {_WAY_OUT}"
    if _PATH.search(text.split(";")[0]):
        return f"{shown(text)} is a path, and no package; {_WAY_OUT}"
    if len(text.split()) > 1 and all(re.fullmatch(r"[\w.\[\]-]+", word) for word in text.split()):
        return f"{shown(text)} is no requirement; separate packages with commas"
    return f"{shown(text)} is no requirement: {reason}; {_WAY_OUT}"
