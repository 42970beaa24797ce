"""Drawings of replays as SVG: for each policy the progress of a job's work above the machine that ran it, or
a service's ready replicas above its machines."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TypeVar

from stix.recovery.rules import IDLE, SPOT
from stix.simulate.replay import Step
from stix.simulate.service import ServiceStep

__all__ = ["draw", "draw_service"]

_WIDE, _LEFT, _RIGHT = 900, 110, 20
_ROW, _CURVE, _BAND = 130, 84, 14
_T = TypeVar("_T")
_INK, _FAINT, _SPOT, _PAID = "#222", "#bbb", "#2a9d5c", "#d1495b"


def draw(runs: Sequence[tuple[str, Sequence[Step]]], *, tick: float, work: float, deadline: float) -> str:
    """An SVG document. Lengths in seconds; a run is a policy's name and its steps of ``tick`` seconds."""
    longest = max([deadline, *(len(steps) * tick for _, steps in runs)])
    scale = (_WIDE - _LEFT - _RIGHT) / longest
    return _picture(
        _legend(
            ((_SPOT, "spot"), (_PAID, "on-demand"), ("#eee", "idle")),
            "line: work done; dashed: uniform progress",
        ),
        [
            _run(name, steps, 40 + number * _ROW, scale, tick, work, deadline)
            for number, (name, steps) in enumerate(runs)
        ],
    )


def draw_service(runs: Sequence[tuple[str, Sequence[ServiceStep]]], *, tick: float) -> str:
    """An SVG document; a run is a policy's name and its steps of ``tick`` seconds."""
    scale = (_WIDE - _LEFT - _RIGHT) / max(len(steps) for _, steps in runs)
    most = max(
        max(step.target, step.ready, step.spot + step.on_demand) for _, steps in runs for step in steps
    )
    return _picture(
        _legend(
            ((_SPOT, "spot"), (_PAID, "on-demand")), "machines paid for; line: ready replicas; dashed: wanted"
        ),
        [
            _service_run(name, steps, 40 + number * _ROW, scale, tick, max(most, 1))
            for number, (name, steps) in enumerate(runs)
        ],
    )


def _picture(legend: str, rows: Sequence[str]) -> str:
    tall = _ROW * len(rows) + 60
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{tall}" font-family="sans-serif" '
        f'font-size="12" fill="{_INK}"><rect width="{_WIDE}" height="{tall}" fill="#fff"/>'
    )
    return "\n".join([head, legend, *rows, "</svg>", ""])


def _legend(colours: Sequence[tuple[str, str]], lines: str) -> str:
    found, x = [], _LEFT
    for colour, text in colours:
        found.append(
            f'<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/>'
            f'<text x="{x + 17}" y="20">{text}</text>'
        )
        x += 100
    found.append(f'<text x="{x}" y="20" fill="#666">{lines}</text>')
    return "".join(found)


def _run(
    name: str, steps: Sequence[Step], top: int, scale: float, tick: float, work: float, deadline: float
) -> str:
    bottom, band = top + _CURVE, top + _CURVE + 6
    end = _LEFT + deadline * scale
    points = [f"{_LEFT},{bottom}"] + [
        f"{_LEFT + (at + 1) * tick * scale:.1f},{bottom - min(step.done / work, 1.0) * _CURVE:.1f}"
        for at, step in enumerate(steps)
    ]
    parts = [
        f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>',
        f'<path d="M{_LEFT} {top}V{bottom}H{_WIDE - _RIGHT}" fill="none" stroke="{_FAINT}"/>',
        f'<path d="M{_LEFT} {bottom}L{end:.1f} {top}" stroke="{_FAINT}" stroke-dasharray="4 4"/>',
        f'<path d="M{end:.1f} {top}V{band + _BAND}" stroke="{_INK}"/>',
        f'<text x="{end - 4:.1f}" y="{band + _BAND + 14}" text-anchor="end" fill="#666">deadline '
        f"{deadline / 3600:g} h</text>",
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{_INK}" stroke-width="1.5"/>',
    ]
    for first, last, kind, zone in _stretches(steps):
        colour = "#eee" if kind == IDLE else _SPOT if kind == SPOT else _PAID
        parts.append(
            f'<rect x="{_LEFT + first * tick * scale:.1f}" y="{band}" '
            f'width="{max((last - first) * tick * scale, 0.5):.1f}" height="{_BAND}" fill="{colour}">'
            f"<title>{escape(zone or ('idle' if kind == IDLE else 'on-demand'))}, "
            f"{first * tick / 3600:.1f} to {last * tick / 3600:.1f} h</title></rect>"
        )
    return "".join(parts)


def _service_run(
    name: str, steps: Sequence[ServiceStep], top: int, scale: float, tick: float, most: int
) -> str:
    height = _CURVE + _BAND
    bottom, unit = top + height, height / most
    parts = [
        f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>',
        f'<text x="{_LEFT - 8}" y="{top + 30}" text-anchor="end" fill="#666">at most {most}</text>',
    ]
    for below, height_of, colour in (
        ([0] * len(steps), [step.spot for step in steps], _SPOT),
        ([step.spot for step in steps], [step.on_demand for step in steps], _PAID),
    ):
        for first, last, (under, count) in _runs_of(list(zip(below, height_of, strict=True))):
            if count:
                parts.append(
                    f'<rect x="{_LEFT + first * scale:.1f}" y="{bottom - (under + count) * unit:.1f}" '
                    f'width="{max((last - first) * scale, 0.5):.1f}" height="{count * unit:.1f}" '
                    f'fill="{colour}" fill-opacity="0.55"/>'
                )
    for values, style in (
        ([step.target for step in steps], 'stroke-dasharray="4 4"'),
        ([step.ready for step in steps], 'stroke-width="1.5"'),
    ):
        points = [
            f"{_LEFT + at * scale:.1f},{bottom - value * unit:.1f}"
            for first, last, value in _runs_of(values)
            for at in (first, last)
        ]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{_INK}" {style}/>')
    hours = len(steps) * tick / 3600.0
    parts.append(
        f'<path d="M{_LEFT} {top}V{bottom}H{_WIDE - _RIGHT}" fill="none" stroke="{_FAINT}"/>'
        f'<text x="{_WIDE - _RIGHT}" y="{bottom + 14}" text-anchor="end" fill="#666">{hours:g} h</text>'
    )
    return "".join(parts)


def _runs_of(values: Sequence[_T]) -> list[tuple[int, int, _T]]:
    """First place, place after the last, and value of every stretch without a change."""
    found: list[tuple[int, int, _T]] = []
    for at, value in enumerate(values):
        if found and found[-1][2] == value:
            found[-1] = (found[-1][0], at + 1, value)
        else:
            found.append((at, at + 1, value))
    return found


def _stretches(steps: Sequence[Step]) -> list[tuple[int, int, int, str]]:
    """First tick, tick after the last, kind and zone of every stretch without a change."""
    runs = _runs_of([(step.kind, step.zone) for step in steps])
    return [(first, last, kind, zone) for first, last, (kind, zone) in runs]
