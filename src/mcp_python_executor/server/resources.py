"""What an execution left, by URI: the whole of a long output, and the files it wrote."""

from __future__ import annotations

import mimetypes
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp_types import ResourceTemplate

from mcp_python_executor.errors import ExecutorError
from mcp_python_executor.server.render import clean

if TYPE_CHECKING:
    from mcp_python_executor.service import Service

TEMPLATES = [
    ResourceTemplate(
        uri_template="execution://{executionId}/stdout",
        name="stdout",
        title="Standard output of an execution",
        description="The whole of what a program printed, also where a result shows it cut.",
        mime_type="text/plain",
    ),
    ResourceTemplate(
        uri_template="execution://{executionId}/stderr",
        name="stderr",
        title="Standard error of an execution",
        description="The whole of what a program wrote to standard error, also where a result shows it cut.",
        mime_type="text/plain",
    ),
    ResourceTemplate(
        uri_template="execution://{executionId}/files/{+path}",
        name="file",
        title="File that an execution wrote",
        description="The content of a file in a result's list of files, whose entries give the URI.",
    ),
]

_URI = re.compile(r"execution://(?P<id>[A-Za-z0-9_-]+)/(?:(?P<stream>stdout|stderr)|files/(?P<path>.+))")
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript", "image/svg+xml")


async def read(service: Service, uri: str) -> ReadResourceContents:
    """The content that `uri` names: text as text, the rest as bytes.

    Raises:
        ResourceNotFoundError: there is none.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        templates = ", ".join(template.uri_template for template in TEMPLATES)
        raise ResourceNotFoundError(f"no resource {clean(uri)!r}; there are {templates}")
    try:
        if found["stream"]:
            data = await service.read_stream(found["id"], found["stream"])
            return ReadResourceContents(data.decode("utf-8", "replace"), "text/plain")
        name = unquote(found["path"], errors="surrogateescape")
        return _content(await service.read_file(found["id"], name), name)
    except ExecutorError as error:
        raise ResourceNotFoundError(clean(str(error))) from error


def _content(data: bytes, name: str) -> ReadResourceContents:
    mime_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if mime_type.startswith(_TEXT_TYPES):
        try:
            return ReadResourceContents(data.decode(), mime_type)
        except UnicodeDecodeError:
            pass
    return ReadResourceContents(data, mime_type)
