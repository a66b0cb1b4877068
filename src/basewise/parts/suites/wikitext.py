"""WikiText-2: how many bits a byte of running text takes, article by article (Merity et al. 2016).

Articles begin at " = Title = " lines. Bits are counted over the text as it stands, so that they do not depend on a
tokeniser; the markers of the set ("<unk>", " @-@ ") are part of it. An article is an item, read from its own beginning.
"""

from __future__ import annotations

import re

from basewise.core.suite import BITS, LOW, ROLLING, BenchTask, Data, Item, columns_of

FILES = ("wikitext2/test.parquet",)
# an article has thousands of tokens: --limit 100 reads ten
SHARE = 0.1
_TITLE = re.compile(r"^ = (?!=).*? = $", re.M)


def tasks(data: Data) -> list[BenchTask]:
    """One task over the articles of the test split."""
    rows = data.rows(FILES[0])
    columns_of(rows, FILES[0], ("text",))
    articles = [article for row in rows for article in split(row["text"])]
    items = tuple(Item(context=article, text=article) for article in articles)
    about = "running text, whole articles"
    return [
        BenchTask(
            name="wikitext/wikitext2",
            items=items,
            about=about,
            kind=ROLLING,
            measure=BITS,
            better=LOW,
            share=SHARE,
            shotless=True,
        )
    ]


def split(text: str) -> list[str]:
    """Articles of a text, each from its title to the next; what stands before the first title is one of its own."""
    starts = [0, *(match.start() for match in _TITLE.finditer(text))]
    pieces = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [piece for piece in pieces if piece.strip()]
