"""A drawing of replays as SVG: for each policy the progress of the work, above the machine that ran it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from stix.recovery.rules import IDLE, SPOT
from stix.simulate.replay import Step

__all__ = ["draw"]

_WIDE, _LEFT, _RIGHT = 900, 110, 20
_ROW, _CURVE, _BAND = 130, 84, 14
_INK, _FAINT, _SPOT, _PAID = "#222", "#bbb", "#2a9d5c", "#d1495b"


def draw(runs: Sequence[tuple[str, Sequence[Step]]], *, tick: float, work: float, deadline: float) -> str:
    """An SVG document. Lengths in seconds; a run is a policy's name and its steps of ``tick`` seconds."""
    longest = max([deadline, *(len(steps) * tick for _, steps in runs)])
    scale = (_WIDE - _LEFT - _RIGHT) / longest
    tall = _ROW * len(runs) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{tall}" font-family="sans-serif" '
        f'font-size="12" fill="{_INK}"><rect width="{_WIDE}" height="{tall}" fill="#fff"/>',
        _legend(),
    ]
    for number, (name, steps) in enumerate(runs):
        parts.append(_run(name, steps, 40 + number * _ROW, scale, tick, work, deadline))
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> str:
    found, x = [], _LEFT
    for colour, text in ((_SPOT, "spot"), (_PAID, "on-demand"), ("#eee", "idle")):
        found.append(
            f'<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/>'
            f'<text x="{x + 17}" y="20">{text}</text>'
        )
        x += 100
    found.append(f'<text x="{x}" y="20" fill="#666">line: work done; dashed: uniform progress</text>')
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


def _stretches(steps: Sequence[Step]) -> list[tuple[int, int, int, str]]:
    """First tick, tick after the last, kind and zone of every stretch without a change."""
    found: list[tuple[int, int, int, str]] = []
    for at, step in enumerate(steps):
        if found and found[-1][2:] == (step.kind, step.zone):
            found[-1] = (found[-1][0], at + 1, step.kind, step.zone)
        else:
            found.append((at, at + 1, step.kind, step.zone))
    return found
