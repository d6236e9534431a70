"""Text as every reader of a report takes it."""

from __future__ import annotations


def plain(text: str, most: int) -> str:
    """`text` without surrogates; past `most` characters its head and tail, with a line between them."""
    text = str.__str__(text)  # of a subclass too, which may have its own ideas of slices
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()
