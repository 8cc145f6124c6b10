"""Small pieces of HTML that stay readable where styles are taken away. Pure.

No style sheets, scripts or ids: an output may be shown by JupyterLab, nbviewer, GitHub or a mail program, and many
times in one page. Colours follow the reader's theme: Jupyter's variables where there are some, else the text's own.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FONT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.45"
INK = "var(--jp-ui-font-color1,currentColor)"
LINE = "var(--jp-border-color2,rgba(128,128,128,0.45))"
FAINT = "opacity:0.75"
CELL = (
    "padding:3px 14px 3px 0;line-height:1.5;white-space:nowrap;text-align:left;vertical-align:top;border:0;"
    f"border-bottom:1px solid {LINE}"
)
RIGHT = CELL.replace("text-align:left", "text-align:right") + ";font-variant-numeric:tabular-nums"


def esc(text: str) -> str:
    """Text for between tags and inside double-quoted attributes."""
    return html.escape(text, quote=True)


def block(*parts: str) -> str:
    """The outermost element of a view."""
    return f'<div style="{FONT};color:{INK};overflow-x:auto">{"".join(parts)}</div>'


def line(text: str, *, faint: bool = False, bold: bool = False) -> str:
    """One line of text, escaped here."""
    style = "margin:2px 0" + (f";{FAINT}" if faint else "")
    inner = f"<b>{esc(text)}</b>" if bold else esc(text)
    return f'<div style="{style}">{inner}</div>'


def bullets(sentences: Sequence[str]) -> str:
    """A list of sentences, escaped here; nothing for none."""
    if not sentences:
        return ""
    items = "".join(f"<li>{esc(sentence)}</li>" for sentence in sentences)
    return f'<ul style="margin:4px 0 4px 0;padding-left:20px">{items}</ul>'


def stacked(first: str, second: str) -> str:
    """Two lines in a cell, the second one faint; escaped here."""
    return esc(first) + (f'<br><span style="{FAINT}">{esc(second)}</span>' if second else "")


def badge(text: str) -> str:
    """A dashed frame around a word or two: something is emulated or predicted."""
    style = "border:1px dashed currentColor;border-radius:3px;padding:0 4px;white-space:nowrap"
    return f'<span style="{style}">{esc(text)}</span>'


def notice(text: str) -> str:
    """A remark that must not be overlooked."""
    style = f"margin:4px 0;padding:2px 8px;border:0 solid {LINE};border-left:3px solid #D55E00"
    return f'<div style="{style}">{esc(text)}</div>'


def grid(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """A table whose cells are HTML already; columns named in `right` are flush right; empty columns vanish."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    styles = {i: RIGHT if header[i] in right else CELL for i in kept}
    # The attributes repeat what the styles say, for readers that drop styles.
    align = {i: "right" if header[i] in right else "left" for i in kept}
    head = "".join(f'<th scope="col" align="{align[i]}" style="{styles[i]}">{esc(header[i])}</th>' for i in kept)
    body = "".join(
        '<tr style="background:transparent">'
        + "".join(f'<td align="{align[i]}" style="{styles[i]}">{row[i]}</td>' for i in kept)
        + "</tr>"
        for row in rows
    )
    title = (
        f'<caption style="text-align:left;padding:2px 0;{FAINT};color:inherit">{esc(caption)}</caption>'
        if caption
        else ""
    )
    return (
        f'<table style="border-collapse:collapse;margin:4px 0 8px 0;border:0;color:inherit;font-size:13px">{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
