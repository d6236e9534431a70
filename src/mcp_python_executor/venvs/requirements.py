"""What a person typed, as requirements: PEP 508 names with specifiers, extras and markers, and nothing else."""

import json
import re
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mcp_python_executor.errors import InvalidArgument

# A piece that starts so belongs to the requirement before it: in 'numpy>=1.20,<2' the comma separates no requirements.
_GOES_ON = re.compile(r"\s*[<>=!~]")
_PATH = re.compile(r"^[.~/\\]|[/\\]|\.(whl|zip|tar\.gz|tgz|toml|txt)$", re.IGNORECASE)
_URL = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_WAY_OUT = "give names as on the package index, like 'numpy>=1.20,<2' or 'pandas[excel]'"
_MOST = 1000


def parse(value: list[str] | str) -> list[Requirement]:
    """The requirements in `value`, a list or one string separated by commas, in their order.

    Raises:
        InvalidArgument: names the first one that is refused, and why.
    """
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
            raise InvalidArgument(f"{str(requirement)!r} is more than a name; give {requirement.name!r}")
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
            loaded = json.loads(value)
        except ValueError:
            loaded = None
        if isinstance(loaded, list):
            return [part for item in loaded for part in split(str(item))]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return split(value)


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
    if text.startswith("-"):
        raise InvalidArgument(f"{text!r} is an option, and no package; {_WAY_OUT}")
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise InvalidArgument(_refusal(text, error)) from None
    if _PATH.search(requirement.name):
        raise InvalidArgument(f"{text!r} is a file, and no package; {_WAY_OUT}")
    if requirement.url:
        raise InvalidArgument(f"{text!r} names a place to download from; {_WAY_OUT}")
    return requirement


def _refusal(text: str, error: InvalidRequirement) -> str:
    if _URL.match(text):
        return f"{text!r} is a URL, and no package; {_WAY_OUT}"
    if _PATH.search(text):
        return f"{text!r} is a path, and no package; {_WAY_OUT}"
    if len(text.split()) > 1 and all(re.fullmatch(r"[\w.\[\]-]+", word) for word in text.split()):
        return f"{text!r} is no requirement; separate packages with commas"
    reason = str(error).splitlines()[0] if str(error) else "it can't be read"
    return f"{text!r} is no requirement: {reason[:1].lower()}{reason[1:]}; {_WAY_OUT}"
