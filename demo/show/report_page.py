"""A run as one page: settings, versions, pictures, tables and the timeline of a slot, all within it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from demo.console import visible

STYLE = """
:root{color-scheme:light dark;--text:#1f2328;--soft:#57606a;--back:#fff;--line:#d8dee4;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--text:#e6edf3;--soft:#9da7b1;--back:#0d1117;--line:#2f3740;--card:#151b23}}
body{margin:0 auto;max-width:72rem;padding:1rem;background:var(--back);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}p.note,figcaption{color:var(--soft);font-size:.875rem}
figure{margin:1rem 0}figure svg{max-width:100%;height:auto;background:#fff;border-radius:6px}
@media(max-width:700px){figure svg{max-width:none;width:42rem}}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.875rem}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
td.n{text-align:right;font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}ol.big li{font-size:1.1rem;margin:.3rem 0}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the page may load: its own style, nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One section, already HTML."""

    title: str
    body: str


def page(title: str, parts: Iterable[Part]) -> str:
    """A page out of its sections; all that is in it is text, and nothing is loaded."""
    sections = "\n".join(f"<section><h2>{_text(part.title)}</h2>\n{part.body}\n</section>" for part in parts)
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><h1>{_text(title)}</h1>\n'
        f"{sections}\n</body></html>\n"
    )


def _text(value: object) -> str:
    return escape(visible(value))


def paragraph(text: str, *, note: bool = False) -> str:
    """One paragraph."""
    return f'<p class="note">{_text(text)}</p>' if note else f"<p>{_text(text)}</p>"


def big_list(lines: Iterable[str]) -> str:
    """The figures that matter, numbered."""
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f'<ol class="big">{items}</ol>'


def pairs(items: Mapping[str, object]) -> str:
    """Names beside values."""
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in items.items())
    return f"<dl>{rows}</dl>"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; a heading that begins with `#` is of numbers, which stand right."""
    is_number = [head.startswith("#") for head in heads]
    top = "".join(f"<th>{_text(head.removeprefix('#'))}</th>" for head in heads)
    body = ""
    for row in rows:
        cells = zip(row, is_number, strict=True)
        body += (
            "<tr>"
            + "".join(f"<td{' class=n' if n else ''}>{_text(cell)}</td>" for cell, n in cells)
            + "</tr>"
        )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
FIGURE_FILES = (".svg", "-column.pdf", "-page.pdf")
"""Ends of the files of each picture: for the screen, for one column (3.5 inch) and for two (7.16 inch)."""


def figure(draw: Callable[[Path], Any], folder: Path, name: str, caption: str) -> str:
    """Draw a picture in all its forms into a folder, with its numbers as CSV, and give it for the page.

    Args:
        draw: Draws into the path it is given.
        folder: Where the files go.
        name: Their stem.
        caption: What is seen.
    """
    for end in FIGURE_FILES:
        draw(folder / f"{name}{end}")
        if end != ".svg":  # the numbers stand once, beside the picture for the screen
            (folder / f"{name}{end}").with_suffix(".csv").unlink(missing_ok=True)
    text = (folder / f"{name}.svg").read_text(encoding="utf-8")
    drawn = METADATA.sub("", text[text.index("<svg") :])
    files = f"{folder.name}/{name}.svg, -column.pdf, -page.pdf, .csv"
    below = f"<figcaption>{_text(caption)} ({_text(files)})</figcaption>"
    return f'<figure><div class="scroll">{drawn}</div>{below}</figure>'


def flat(value: Mapping[str, Any], path: str = "") -> dict[str, object]:
    """A tree of settings as dotted names beside plain values; long lists are cut."""
    names: dict[str, object] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            names |= flat(item, f"{path}{name}.")
        else:
            text = str(item)
            names[f"{path}{name}"] = text if len(text) <= 200 else f"{text[:200]} …"
    return names
