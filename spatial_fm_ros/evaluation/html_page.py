"""A self-contained HTML report put together piece by piece."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.writing import write_text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1120px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } td, th { padding: .15em 1em .15em 0; text-align: left; vertical-align: top; }
th { font-weight: 600; color: #555; } img { max-width: 100%; height: auto; display: block; margin: .4em 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 1em; }
figure { margin: 0; } figcaption, .note { color: #666; font-size: .9em; }
details { margin-top: 1em; } pre { background: #f6f6f6; padding: 1em; overflow: auto; font-size: .85em; }
.warn { background: #fff4de; padding: .4em .8em; border-left: 4px solid #edae49; margin: .4em 0; }
"""


class Page:
    """HTML put together piece by piece; pictures are embedded."""

    def __init__(self, title: str) -> None:
        safe = _safe(title)
        self._parts = [f"<h1>{safe}</h1>"]
        self._head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{safe}</title><style>{STYLE}</style>'

    def title(self, text: str) -> None:
        self._parts.append(f"<h2>{_safe(text)}</h2>")

    def note(self, text: str) -> None:
        self._parts.append(f'<p class="warn">{_safe(text)}</p>')

    def table(self, rows: list[tuple[str, str]]) -> None:
        cells = "".join(f"<tr><th>{_safe(a)}</th><td>{_safe(b)}</td></tr>" for a, b in rows)
        self._parts.append(f"<table>{cells}</table>")

    def picture(self, png: bytes, caption: str) -> None:
        self._parts.append(_figure(png, caption))

    def pictures(self, captioned: list[tuple[str, bytes]]) -> None:
        self._parts.append('<div class="grid">' + "".join(_figure(png, words) for words, png in captioned) + "</div>")

    def details(self, title: str, text: str) -> None:
        self._parts.append(f"<details><summary>{_safe(title)}</summary><pre>{_lines(text)}</pre></details>")

    def write(self, path: Path) -> None:
        """Raises OutputError when the file cannot be written."""
        write_text(path, self.text(), "report")

    def text(self) -> str:
        return self._head + "<body>" + "\n".join(self._parts) + "</body></html>\n"


def _safe(text: str) -> str:
    """Text from anywhere, as text: no markup, no control characters, only what UTF-8 has."""
    return html.escape(shown(text, 10_000))


def _lines(text: str) -> str:
    return "\n".join(map(_safe, text.split("\n")))


def _figure(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    words = f"<figcaption>{_safe(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{_safe(caption)}" src="data:image/png;base64,{data}">{words}</figure>'
