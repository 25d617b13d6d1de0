"""`spatial-fm weights list | get | check`."""

from __future__ import annotations

from typing import Annotated

import typer

from spatial_fm_ros.commands.console import in_sentences, out, table

app = typer.Typer(no_args_is_help=True, help="Weights of the foundation models: which there are, get them, check them.")

#: Longest path or value that is printed, in characters.
_WHOLE = 5000

Sha256 = Annotated[str, typer.Option("--sha256", help="The SHA-256 the file must have.")]


@app.command("list")
@in_sentences
def list_command() -> None:
    """The published checkpoints, their licences, and which of them are on this computer."""
    from spatial_fm_ros.core.models.weights.hub import HubId, cached
    from spatial_fm_ros.core.models.weights.licences import DEFAULT, PUBLISHED
    from spatial_fm_ros.core.models.weights.reporting import size

    for model, default in DEFAULT.items():
        rows = []
        for known in (p for p in PUBLISHED if p.model == model):
            name = f"{known.id} (default)" if known.id == default else known.id
            rows.append([name, size(known.size), known.licence.name, "yes" if cached(HubId(known.id)) else "no"])
        table(f"model:={model}", ["checkpoint", "size", "licence", "here"], rows)
        out.print()
    for licence in sorted({known.licence for known in PUBLISHED}, key=lambda licence: licence.name):
        out.print(licence.sentence, soft_wrap=True)


@app.command()
@in_sentences
def get(
    checkpoint: Annotated[str, typer.Argument(help="Hub id (owner/name, with /file and @revision where wanted).")],
    sha256: Sha256 = "",
) -> None:
    """Download weights into the cache (again only where the hub has newer ones) and print where they are.

    An interrupted download goes on where it ended. HF_HOME chooses the cache, HF_TOKEN gives access to weights whose
    licence has to be accepted.
    """
    from spatial_fm_ros.core.io.names import shown
    from spatial_fm_ros.core.models.weights.source import resolve

    out.print(shown(resolve(checkpoint, "", sha256, refresh=True).path, _WHOLE), soft_wrap=True, markup=False)


@app.command()
@in_sentences
def check(
    checkpoint: Annotated[str, typer.Argument(help="File, folder, or hub id.")],
    sha256: Sha256 = "",
) -> None:
    """Say what a checkpoint is, whether it is whole and fits its network, and its SHA-256."""
    from spatial_fm_ros.core.io.names import shown
    from spatial_fm_ros.core.models.weights.checksum import sha256_of
    from spatial_fm_ros.core.models.weights.files import read
    from spatial_fm_ros.core.models.weights.fitting import fit
    from spatial_fm_ros.core.models.weights.reporting import size
    from spatial_fm_ros.core.models.weights.source import resolve

    file = resolve(checkpoint, "", sha256)
    held = read(file.path)
    found, fits = fit(held.shapes)
    rows = [
        ["file", str(file.path)],
        ["size", size(file.path.stat().st_size)],
        ["looks like", found.note],
        ["tensors", f"{len(held.tensors)} with {held.parameters:,} parameters, {', '.join(held.dtypes)}"],
        ["fits", fits],
        ["use as", f"model:={found.model} checkpoint:={file.source}" if found.model else "no model of this package"],
        ["SHA-256", sha256 or sha256_of(file.path)],
    ]
    for name, value in rows:
        out.print(f"{name:<11}{shown(value, _WHOLE)}", soft_wrap=True, markup=False)
