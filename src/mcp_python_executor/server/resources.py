"""What an execution left, by URI: the whole of a long output, and the files it wrote."""

from __future__ import annotations

import mimetypes
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp_types import ResourceTemplate

from mcp_python_executor.errors import ExecutorError, InvalidArgument
from mcp_python_executor.execution.records import LEAST_PAGE_BYTES, MOST_PAGE_BYTES
from mcp_python_executor.server.render import clean

if TYPE_CHECKING:
    from mcp_python_executor.execution.records import Page
    from mcp_python_executor.service import Service

# What is longer is read by pages: a client holds the whole of an answer, and many a host its model's context.
_WHOLE_BYTES = MOST_PAGE_BYTES
_PAGES = "Longer than 4 MiB, read by pages: offset and limit are bytes."

TEMPLATES = [
    ResourceTemplate(
        uri_template="execution://{executionId}/stdout{?offset,limit}",
        name="stdout",
        title="Standard output of an execution",
        description=f"The whole of what a program printed, also where a result shows it cut. {_PAGES}",
        mime_type="text/plain",
    ),
    ResourceTemplate(
        uri_template="execution://{executionId}/stderr{?offset,limit}",
        name="stderr",
        title="Standard error of an execution",
        description=f"The whole of what a program wrote to standard error, also where a result shows it cut. {_PAGES}",
        mime_type="text/plain",
    ),
    ResourceTemplate(
        uri_template="execution://{executionId}/files/{+path}{?offset,limit}",
        name="file",
        title="File that an execution wrote",
        description=f"The content of a file in a result's list of files, whose entries give the URI. {_PAGES}",
    ),
]

_URI = re.compile(
    r"execution://(?P<id>[A-Za-z0-9_-]+)/(?:(?P<stream>stdout|stderr)|files/(?P<path>[^?]+))(?:\?(?P<page>.*))?"
)
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript", "image/svg+xml")


async def read(service: Service, uri: str) -> ReadResourceContents:
    """The content that `uri` names, or the page of it: text as text, the rest as bytes.

    Raises:
        ResourceNotFoundError: there is none, or it is too long to be read in one.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        templates = ", ".join(template.uri_template for template in TEMPLATES)
        raise ResourceNotFoundError(f"no resource {clean(uri)!r}; there are {templates}")
    source = found["stream"] or unquote(found["path"], errors="surrogateescape")
    try:
        offset, limit = _page_of(found["page"] or "")
        page = await service.read(found["id"], source, offset or 0, limit or _WHOLE_BYTES)
    except ExecutorError as error:
        raise ResourceNotFoundError(clean(str(error))) from error
    if page.next_offset is not None and offset is None and limit is None:
        whole = uri.partition("?")[0]
        raise ResourceNotFoundError(
            f"{clean(source)!r} has {page.total} bytes, too many for one answer; read it by pages, the first is "
            f"{clean(whole)}?offset=0&limit={_WHOLE_BYTES}"
        )
    return _content(page, "text/plain" if found["stream"] else _mime_type(source))


def _page_of(query: str) -> tuple[int | None, int | None]:
    """Offset and limit in a URI's query, where it gives them."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    numbers = {name: given.pop(name, None) for name in ("offset", "limit")}
    wrong = [name for name, text in numbers.items() if text is not None and not re.fullmatch("[0-9]{1,15}", text)]
    if wrong or given:
        raise InvalidArgument(f"a page is given by offset and limit, whole numbers of bytes, and not by {query!r}")
    offset, limit = (int(text) if text else None for text in numbers.values())
    if limit is not None and not LEAST_PAGE_BYTES <= limit <= MOST_PAGE_BYTES:
        raise InvalidArgument(f"limit={limit} must be between {LEAST_PAGE_BYTES} and {MOST_PAGE_BYTES} bytes")
    return offset, limit


def _mime_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or ""


def _content(page: Page, mime_type: str) -> ReadResourceContents:
    """What no ending tells the type of is text where it reads as text."""
    if page.is_text and (not mime_type or mime_type.startswith(_TEXT_TYPES)):
        return ReadResourceContents(page.data.decode("utf-8", "replace"), mime_type or "text/plain")
    return ReadResourceContents(page.data, mime_type or "application/octet-stream")
