"""Summary of training content after the template of the European Commission (24 July 2025), where a base was trained here.

Pre-filled from the manifests of the corpora; what only a person can say is left as a question, never guessed.
"""

from __future__ import annotations

from typing import Any

from basewise.core.release import Release

FILE = "training_summary.md"
ASK = "_to be filled in by the provider_"


def text(release: Release) -> str | None:
    """None where nothing was pretrained."""
    about = release.training
    if not about:
        return None
    sections = [
        f"# Public summary of training content: {release.name}\n",
        _general(release, about),
        _sources(about),
        _processing(about),
    ]
    return "\n".join(sections)


def _general(release: Release, about: dict[str, Any]) -> str:
    return (
        "## 1. General information\n\n"
        f"- Provider: {about.get('provider') or ASK}\n"
        f"- Model: {release.name}, version {release.id[:12]}\n"
        f"- Modality: text\n"
        f"- Training data size: {_count(about.get('tokens'))} tokens in {_count(about.get('documents'))} documents"
        f" (tokens learned from, repeats included: {_count(about.get('seen'))})\n"
        f"- Training compute: {about.get('flop', ASK)} FLOP\n"
        f"- Regime (by compute, a reading aid): {about.get('regime') or ASK}\n"
        f"- Owed: {', '.join(about.get('duties', [])) or 'nothing by compute'}\n"
        f"- Latest date of acquisition: {about.get('latest') or ASK}\n"
        f"- Languages: {', '.join(about.get('languages', [])) or ASK}\n"
    )


def _count(number: int | None) -> str:
    return ASK if number is None else f"{number:,}"


def _sources(about: dict[str, Any]) -> str:
    lines = [
        f"| {c.get('name', '?')} | {c.get('licence') or ASK} | {_count(c.get('documents'))} | {_count(c.get('tokens'))} |"
        for c in about.get("corpora", [])
    ]
    table = "| source | licence | documents | tokens |\n|---|---|---|---|\n" + "\n".join(lines)
    return (
        f"## 2. Data sources\n\nAll of them, from the manifest of the corpus (sha256 {about.get('corpus_digest') or 'not known'}); under which of the"
        f" headings below each belongs, only the provider can say.\n\n{table}\n\n### 2.1 Publicly available data sets\n\n{ASK}\n\n"
        f"### 2.2 Private data sets of third parties\n\n{ASK}\n\n"
        f"### 2.3 Data crawled by the provider\n\n{ASK}\n\n### 2.4 User data\n\n{ASK}\n\n### 2.5 Synthetic data\n\n{ASK}\n"
    )


def _processing(about: dict[str, Any]) -> str:
    steps = "\n".join(f"- {step}" for step in about.get("processing", [])) or ASK
    return (
        f"## 3. Data processing\n\n### 3.1 Respect of rights reserved (opt-outs)\n\n{about.get('opt_outs') or ASK}\n\n"
        f"### 3.2 Removal of illegal content and other steps\n\n{steps}\n"
    )
