"""Wording: what a command advises, in the words of the pages. Whoever sits in a browser has fields and pages, no options and verbs."""

from __future__ import annotations

import re

SAID: tuple[tuple[str, str], ...] = (
    # whole phrases first
    (r"or leave the column aside with --split chance", "or choose “by chance” under “Test rows”"),
    (r"name the text column with inputs \(.*?\)", "tick the text column under “What to read”"),
    (r", or name the labels in the file of --config:.*", ""),
    (r"name it with \w+=, on the command line --split \S+", "choose it under “Test rows”"),
    (r"or split again with --split", "or choose other test rows"),
    (r"name it with --target", "choose it under “What to predict”"),
    (
        r'say what the rows are licensed under: --data-licence (\S+), or own with --by "Your Name"',
        r"fill in “Licence of the rows”: \1, or own with your name under “Who answers for it”",
    ),
    (
        r'mend it, or answer for it: --override "(.*?)" --by "Your Name"',
        r"mend it, or fill in “Override” (\1) and “Who answers for it”",
    ),
    (r'give both: --override ".*?" --by "Your Name"', "fill in “Override” and “Who answers for it”"),
    (r'give it: --by "Your Name"', "fill in “Who answers for it”"),
    (r"use --weights alone", "choose the weights without the base"),
    (r"(choose another folder) with --to", r"\1"),
    (r"give (another )?--to", "give another name"),
    (r"give another --(\w+)", r"give another \1"),
    (r"then run: basewise bases pull \S+ --accept-terms", "then accept them on its page under Bases"),
    (r"convert the weights with: basewise bases pull, and", "fetch the base anew under Bases, and"),
    (r"(fetch it|get the same weights) with: basewise bases pull \S+", r"\1 on its page under Bases"),
    (r"list the bases with: basewise bases list", "see what each can do under Bases"),
    (r"(a base that is here): basewise bases list", r"\1, as Bases says"),
    (r"run `basewise choose` to its end", "let the run go on to its end"),
    (r"run `basewise audit` or `basewise choose` first", "start it under New run"),
    (r"give (the|a run) folder that `basewise choose`.*", "start it under New run"),
    (r"make one with: basewise keys new", "make one under Releases"),
    (r"make one with: basewise release RUN --to DIR", "make one under Releases"),
    (r"give an admin key: `basewise access add NAME --admin`", "give an admin key of it"),
    (r"start one with `basewise serve`", "start one below"),
    (r"the same command goes on from here", "it can go on from here"),
    (r"(run|give) the same command again( where it was started)?", r"start it again\2"),
)
RULES = tuple((re.compile(pattern), words) for pattern, words in SAID)


def for_pages(text: str) -> str:
    """A line of a command with the fields and pages that do what its options and verbs do."""
    if not any(sign in text for sign in ("--", "basewise", "inputs (", "same command")):
        return text
    for pattern, words in RULES:
        text = pattern.sub(words, text)
    return text
