"""A run's answers are read with what was asked, also where some were written and others scored."""

import pytest
from c3po_harness import answers_in
from study.comparison.test_run import place, written  # noqa: F401 (fixtures)

pytestmark = pytest.mark.usefixtures("undrawn")


def test_answers_are_read_with_what_was_asked(written):  # noqa: F811
    out, _, records = written
    found = answers_in(out)
    assert sorted(r.key for r in found.records) == sorted((r["arm"], r["dataset"], r["id"], r["seed"]) for r in records)
    assert found.questions.keys() == {(r["dataset"], r["id"]) for r in records}
    for (dataset, id_), question in found.questions.items():
        assert (question.id, found.put[dataset, id_]) == (id_, found.config.format_of(dataset).render(question))
    assert found.format_in_words("letters") == "letters, generated"
