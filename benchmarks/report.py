"""Rows as a terminal, a page and a program read them."""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.curves import Curve
from benchmarks.measure import Mark, Row, Spread

HEADER = f"{'':24} {'median':>10} {'quartiles':>16} {'floor':>10} {'ratio':>7} {'quartiles':>13} {'mark':>8}"


def line(name: str, row: Row) -> str:
    """The row on a terminal."""
    median, quartiles, floor, *ratio, mark, verdict = _cells(row)
    return (
        f"{name:24} {median:>10} {quartiles:>16} {floor:>10} {ratio[0]:>7} {ratio[1]:>13} {mark:>8} {verdict}".rstrip()
    )


def markdown(rows: Mapping[str, Row]) -> str:
    """A table for docs/performance.md."""
    lines = [
        "| | median | quartiles | floor | ratio | quartiles | mark | | the floor is |",
        "| --- | --: | --: | --: | --: | --: | --: | --- | --- |",
    ]
    lines += [f"| {' | '.join((name, *_cells(row), row.floor_is))} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        _value(row.measured.median, row.unit),
        _quartiles(row.measured, row.unit),
        _value(row.floor.median, row.unit) if row.floor else "",
        f"{row.ratio.median:.3f}" if row.ratio else "",
        f"{row.ratio.lower:.3f}-{row.ratio.upper:.3f}" if row.ratio else "",
        _mark(row.mark),
        {True: "kept", False: "missed", None: ""}[row.is_kept],
    )


def as_json(rows: Mapping[str, Row], curves: Mapping[str, Curve], **more: Any) -> dict[str, Any]:
    """Everything that was measured, and on what."""
    machine = {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    measured = {name: asdict(row) | {"kept": row.is_kept} for name, row in rows.items()}
    drawn = {name: asdict(curve) for name, curve in curves.items()}
    return {"machine": machine, **more, "rows": measured, "curves": drawn}


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.1f} ms" if value < 10 else f"{value:.1f} s"
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _quartiles(spread: Spread, unit: str) -> str:
    if spread.lower == spread.upper:
        return ""
    factor = 1000 if unit == "s" else 1
    return f"{spread.lower * factor:.1f}-{spread.upper * factor:.1f}"


def _mark(mark: Mark | None) -> str:
    return "" if mark is None else f"{'≥' if mark.at_least else '≤'} {mark.value:g}"
