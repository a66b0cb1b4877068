"""basewise corpus: build one from text, show what a built one holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="A corpus for pretraining: read, cleaned, deduplicated, tokenised, with an account of its sources.",
    no_args_is_help=True,
)
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        help="Parquet, JSON lines and text files, folders of them, or datasets:NAME; each is a source of its own."
    ),
]


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


@app.command()
def build(
    sources: Sources = None,
    to: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/corpus"),
    recipe: Annotated[
        Path | None,
        typer.Option(help="TOML file with sources, filters, mixture and vocabulary; see docs/corpus.md."),
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option(help="Tokens of the vocabulary; chosen by bits per byte when left out.")
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share of each source's documents held apart; 0.01 when left out.")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Evaluation set to decontaminate against (again for more).")
    ] = None,
) -> None:
    """Build a corpus: clean text, remove repeats, train the tokenizer, write token shards; the same command goes on after a stop."""
    from dataclasses import replace

    from basewise.cli.terminal import progress_bars
    from basewise.core.corpus_recipe import CorpusRecipe, named_sources, read_corpus_recipe
    from basewise.steps.corpus import build as run

    made = read_corpus_recipe(recipe) if recipe else CorpusRecipe()
    changes: dict[str, Any] = {"sources": made.sources + named_sources(sources or [])}
    if vocabulary is not None:
        changes["vocabulary"] = vocabulary
    if validation is not None:
        changes["validation"] = validation
    if against:
        changes["decontaminate"] = made.decontaminate + tuple(against)
    console = _console()
    with progress_bars(type(console)(stderr=True)) as progress:
        corpus = run(replace(made, **changes), to, progress)
    _show(corpus.manifest, console)
    typer.echo(f"corpus: {corpus.folder}, digest {corpus.digest[:12]}")


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="Folder written by corpus build.")]) -> None:
    """Check every shard of a corpus against its digest and print its account."""
    from basewise.engine.corpus import open_corpus

    _show(open_corpus(folder).manifest, _console())


def _show(manifest: dict[str, Any], out: Any) -> None:
    """Sources, what was removed and why, what was scrubbed, the tokenizer."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("source", "documents", "MB", "tokens", "validation", "licences"):
        table.add_column(name, justify="left" if name in ("source", "licences") else "right", overflow="fold")
    for one in manifest["sources"]:
        train, valid = one["train"], one["validation"]
        table.add_row(
            one["name"],
            f"{train['documents']:,}",
            f"{train['bytes'] / 1e6:,.1f}",
            f"{train['tokens']:,}",
            f"{valid['tokens']:,}",
            ", ".join(one["licences"]),
        )
    out.print(table)
    for one in manifest["sources"]:
        if left := one.get("passed_over"):
            kinds = ", ".join(f"{ending} {count:,}" for ending, count in left.items())
            out.print(
                f"passed over in {one['name']}: {sum(left.values()):,} files that no reader knows ({kinds})",
                markup=False,
            )
    read = manifest["totals"]["read"]["documents"]
    for why, counts in manifest["totals"]["removed"].items():
        share = 100 * counts["documents"] / max(1, read)
        out.print(
            f"removed, {why}: {counts['documents']:,} documents ({share:.1f} %), {counts['bytes']:,} bytes"
        )
    for one in manifest["sources"]:
        for kind, count in one["scrubbed"].items():
            out.print(f"scrubbed in {one['name']}, {kind}: {count:,}", markup=False)
    for one in manifest["decontaminated"]:
        out.print(
            f"matches of {one['set']}: {one['matched']:,} of {one['items']:,} items,"
            f" {one['items'] - one['long_enough']:,} too short to tell; longest {one['longest_match_words']} words",
            markup=False,
        )
    tokenizer = manifest["tokenizer"]
    for entry in tokenizer["chosen_from"]:
        out.print(
            f"vocabulary {entry['vocabulary']:,}: {entry['bits_per_byte']:.3f} bits a byte, {entry['embedding']:.3f} of it the"
            f" embedding; behind by {entry['behind']['estimate']:.3f} [{entry['behind']['low']:.3f}, {entry['behind']['high']:.3f}]",
            markup=False,
        )
    out.print(f"vocabulary: {tokenizer['vocabulary']:,} tokens")
