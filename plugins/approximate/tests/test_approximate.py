"""Retrievers of many references: the contract, and searches against the exact one."""

import numpy as np
import pytest
from c3po_approximate import FaissHNSW, FaissIVF
from retrievers.test_retrievers import clustered, vectors

from c3po_adaptive.errors import DataError
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.testing import RetrieverContract


class TestOfMore(RetrieverContract):
    """Each alone, as it comes, keeps it in ``tests/testing/test_findings.py``."""

    @pytest.fixture
    def retriever(self):
        return FaissHNSW(k=50)


@pytest.fixture(scope="module")
def references():
    return clustered(12_000, 0)


class TestLargeSets:
    """Beyond 10,000 references the search is approximate; what it returns is ranked and filtered exactly."""

    @pytest.mark.parametrize("retriever", [FaissIVF(k=5), FaissHNSW(k=5)], ids=repr)
    def test_recall(self, references, retriever):
        queries = clustered(50, 1)
        exact = FaissKNN(k=5).fit(references).search(queries)
        found = retriever.fit(references).search(queries)
        hits = [len({*a} & {*b}) for a, b in zip(exact.index.tolist(), found.index.tolist(), strict=True)]
        assert sum(hits) / 250 >= 0.95
        same = exact.index == found.index
        np.testing.assert_allclose(found.similarity[same], exact.similarity[same], atol=1e-6)

    @pytest.mark.parametrize("retriever", [FaissIVF(k=5), FaissHNSW(k=5)], ids=repr)
    def test_filters(self, references, retriever):
        queries = references[:20]
        exclude = [{b, b + 1} for b in range(20)]
        hits = retriever.fit(references).search(queries, exclude=exclude, max_similarity=0.98)
        assert (hits.index >= 0).all()
        assert (hits.similarity <= 0.98).all()
        assert all(not {*row} & banned for row, banned in zip(hits.index.tolist(), exclude, strict=True))
        assert (np.diff(hits.similarity) <= 0).all()

    @pytest.mark.parametrize("retriever", [FaissIVF(), FaissHNSW()], ids=repr)
    def test_small_sets_are_searched_exactly(self, retriever):
        references, queries = vectors(500, 0), vectors(10, 1)
        expected = FaissKNN().fit(references).search(queries)
        assert np.array_equal(retriever.fit(references).search(queries).index, expected.index)


class TestKept:
    """Indexes in a folder are written once, read back, and found out when cut short."""

    @pytest.mark.parametrize("retriever", [FaissIVF(k=5), FaissHNSW(k=5)], ids=repr)
    def test_are_built_once(self, references, retriever, tmp_path, monkeypatch):
        queries = clustered(20, 1)
        expected = retriever.fit(references).search(queries)
        for _ in range(2):
            found = retriever.fit_kept(references, tmp_path / "index").search(queries)
            assert np.array_equal(found.index, expected.index)
            assert np.array_equal(found.similarity, expected.similarity)
            monkeypatch.setattr(type(retriever), "built", None)  # from now on they must be read
        assert len(list((tmp_path / "index").iterdir())) == 1

    def test_of_other_vectors_or_settings_are_others(self, references, tmp_path):
        for retriever in (FaissHNSW(), FaissHNSW(links=16)):
            retriever.fit_kept(references, tmp_path)
        FaissIVF().fit_kept(references, tmp_path)
        FaissIVF(probes=2).fit_kept(references, tmp_path)  # no other index, only searched less
        FaissIVF().fit_kept(references[1:], tmp_path)
        assert len(list(tmp_path.iterdir())) == 4

    def test_cut_short(self, references, tmp_path):
        FaissIVF().fit_kept(references, tmp_path)
        (path,) = tmp_path.iterdir()
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(DataError, match=f"{path.name} is missing, cut short or altered; delete it"):
            FaissIVF().fit_kept(references, tmp_path)

    def test_a_folder_that_cannot_be_written(self, references, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.warns(UserWarning, match=r"Could not keep .*computed again next time"):
            index = FaissIVF().fit_kept(references, tmp_path / "file" / "index")
        assert index.search(references[:2]).index[:, 0].tolist() == [0, 1]

    def test_small_sets_leave_nothing(self, tmp_path):
        FaissIVF().fit_kept(vectors(100, 0), tmp_path / "index")
        assert not (tmp_path / "index").exists()
