"""A self-contained HTML report put together piece by piece."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from spatial_fm_ros.core.errors import OutputError

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
        safe = html.escape(title)
        self._parts = [f"<h1>{safe}</h1>"]
        self._head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{safe}</title><style>{STYLE}</style>'

    def title(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def note(self, text: str) -> None:
        self._parts.append(f'<p class="warn">{html.escape(text)}</p>')

    def table(self, rows: list[tuple[str, str]]) -> None:
        cells = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
        self._parts.append(f"<table>{cells}</table>")

    def picture(self, png: bytes, caption: str) -> None:
        self._parts.append(_figure(png, caption))

    def pictures(self, captioned: list[tuple[str, bytes]]) -> None:
        self._parts.append('<div class="grid">' + "".join(_figure(png, words) for words, png in captioned) + "</div>")

    def details(self, title: str, text: str) -> None:
        self._parts.append(f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>")

    def write(self, path: Path) -> None:
        """Raises OutputError when the file cannot be written."""
        try:
            path.write_text(self.text(), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"The report {path} cannot be written: {error.strerror or error}.") from error

    def text(self) -> str:
        return self._head + "<body>" + "\n".join(self._parts) + "</body></html>\n"


def _figure(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">{words}</figure>'
