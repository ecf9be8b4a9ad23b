"""`report.html` of a run of `experiments.mseqa`: metrics, and reports with the answers highlighted, right and wrong."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from xdeepint_ext.data.qa.questions import Question, by_number_of_answers
from xdeepint_ext.experiments.page import document, section, table
from xdeepint_ext.experiments.run_directory import flag_lines, write_atomically
from xdeepint_ext.serving.span_reader import Found

if TYPE_CHECKING:
    from xdeepint_ext.experiments.mseqa_running import MseqaRun

__all__ = ["highlighted", "write"]

SHOWN = 6
"""Questions of each kind that are shown right, and as many wrong."""

NAMES = {
    "questions": "questions",
    "exact_precision": "exact match: precision",
    "exact_recall": "exact match: recall",
    "exact_f1": "exact match: F1",
    "partial_f1": "partial match: F1",
    "drop_em": "DROP exact match",
    "drop_f1": "DROP F1",
    "squad_em": "SQuAD exact match",
    "squad_f1": "SQuAD F1",
}
PARTS = {"": "all", "none.": "no answer", "single.": "one answer", "multi.": "several answers"}
STYLE = """<style>
.report { border-left: 3px solid #dde2e7; padding: .1em .9em; margin: .9em 0; }
mark { padding: 0 .15em; border-radius: 3px; }
mark.right { background: #c5ebcd; } mark.wrong { background: #f7cfcf; }
mark.missed { background: none; box-shadow: inset 0 -2px #d08a00; }
</style>"""
LEGEND = (
    '<p class="hint"><mark class="right">found, right</mark> <mark class="wrong">found, wrong</mark> '
    '<mark class="missed">missed</mark></p>'
)


def write(run: MseqaRun, path: str) -> None:
    """Writes the report of a finished run.

    Args:
      run: the run.
      path: of the file; replaced as a whole.
    """
    sections = [STYLE, _summary(run), section("Metrics", "".join(_metrics(run))), section("Training", _history(run))]
    for split in ("test", "valid"):
        if split in run.found:
            sections.append(section(f"Answers on {split}", LEGEND + "".join(_answers(run, split))))
            break
    sections.append(section("Flags", f"<pre>{html.escape(chr(10).join(flag_lines(run.config)))}</pre>"))  # type: ignore[arg-type]
    write_atomically(path, document(f"mseqa ({run.config.heads}) on {run.metrics['dataset']}", sections))


def highlighted(question: Question, found: Sequence[Found]) -> str:
    """A context as HTML, its gold and found answers marked: where both are, one is, or the other.

    Args:
      question: with gold answers.
      found: the answers that a model gave.

    Example:
      >>> highlighted(Question("1", "Who?", "Tom & Ann", ()), [Found("Tom", 0, 3, 0.9)])
      '<mark class="wrong">Tom</mark> &amp; Ann'
    """
    spans = {(answer.start, answer.end) for answer in found}
    # Of an answer that may stand in several places those count where it was found, or the first.
    golds = [[span for span in answer.spans if span in spans] or answer.spans[:1] for answer in question.answers]
    gold = {place for places in golds for span in places for place in range(*span)}
    given = {place for answer in found for place in range(answer.start, answer.end)}

    def kind(place: int) -> str:
        return {(True, True): "right", (True, False): "missed", (False, True): "wrong"}.get(
            (place in gold, place in given), ""
        )

    parts = []
    for name, places in itertools.groupby(range(len(question.context)), kind):
        text = html.escape("".join(question.context[place] for place in places))
        parts.append(f'<mark class="{name}">{text}</mark>' if name else text)
    return "".join(parts)


def _summary(run: MseqaRun) -> str:
    found = run.metrics
    lines = [
        *found["notes"],
        f"{found['steps']:,} training steps of {run.config.batch_size:,} windows ({found['finished']}); the weights "
        f"are those of step {found['best_step']:,}; {found['parameters']:,} parameters; seed {run.config.seed}.",
    ]
    return f"<p>{'<br>'.join(map(html.escape, lines))}</p>"


def _metrics(run: MseqaRun) -> Iterator[str]:
    for split in run.found:
        present = {key: name for key, name in PARTS.items() if f"{split}.{key}questions" in run.metrics}
        rows = []
        for metric, name in NAMES.items():
            values = [run.metrics.get(f"{split}.{part}{metric}", math.nan) for part in present]
            digits = 0 if metric == "questions" else 4
            rows.append([name, *("–" if math.isnan(value) else f"{value:,.{digits}f}" for value in values)])
        yield f"<p>{html.escape(split)}</p>" + table(["", *present.values()], rows, text=1)


def _history(run: MseqaRun) -> str:
    columns = ("step", "train_loss", "valid_exact_f1", "valid_partial_f1")
    shown = [name for name in columns if any(name in entry for entry in run.state.now.history)]
    rows = [
        [f"{entry['step']:,.0f}", *(f"{entry.get(name, math.nan):.4f}" for name in shown[1:])]
        for entry in run.state.now.history
    ]
    return table([name.replace("_", " ") for name in shown], rows, text=0)


def _answers(run: MseqaRun, split: str) -> Iterator[str]:
    questions, found = run.questions[split], run.found[split]
    for name, rows in by_number_of_answers(questions).items():
        for right in (True, False):
            chosen = [row for row in rows if _is_right(questions[row], found[row]) == right]
            if chosen:
                title = f"{PARTS[f'{name}.']}, {'right' if right else 'wrong'}: {len(chosen):,} of {len(rows):,}"
                yield f"<h3>{html.escape(title)}</h3>"
            for row in chosen[:SHOWN]:
                yield _card(questions[row], found[row])


def _is_right(question: Question, found: Sequence[Found]) -> bool:
    return {answer.text for answer in found} == set(question.answer_texts)


def _card(question: Question, found: Sequence[Found]) -> str:
    scores = ", ".join(f"{answer.text} ({answer.score:.2f})" for answer in found) or "no answer"
    # dir=auto: a right-to-left text reads as it should.
    return (
        f'<div class="report"><p dir="auto"><b>{html.escape(question.question)}</b></p>'
        f'<p dir="auto">{highlighted(question, found)}</p><p class="hint" dir="auto">{html.escape(scores)}</p></div>'
    )
