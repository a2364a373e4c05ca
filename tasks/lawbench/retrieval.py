"""What the retrieval tools say of each case: scores of every charge by kernel ridge, SVC, centroid and neighbours.

Invariant: no score of a train case depends on its own label. Ridge, centroid and neighbours leave the case out
exactly (closed forms); the SVC is fitted on the other folds. The sources of select are the train cases, those of
sealed train and select; no select label reaches a train or select score, no sealed label any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Scores = NDArray[np.float32]
"""[cases, classes], each row with mean 0 and deviation 1."""
Labels = NDArray[np.int64]

TOOLS = ("kernel", "svc", "centroid", "nearest")
GRAMS = (1, 2, 3, 4)
RIDGE = 0.1
NEIGHBOURS = 3
FOLDS = 5
SEED = 20260527
LONGEST = 3000
"""Characters of a text that count; one case in a hundred is longer."""


class Known(NamedTuple):
    """Cases whose charge is known, as sparse features."""

    grams: tuple[csr_matrix, ...]
    plain: csr_matrix
    """1-grams and 2-grams together, as the SVC has them."""
    labels: Labels


def vectorizers() -> tuple[list[Any], Any]:
    """Return the unfitted TF-IDF of each length of n-gram, and the one of the baseline."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    def tfidf(low: int, high: int) -> Any:
        return TfidfVectorizer(analyzer="char", ngram_range=(low, high), sublinear_tf=True, min_df=2, dtype=np.float32)

    return [tfidf(n, n) for n in GRAMS], tfidf(1, 2)


def scores(known: Sequence[str], labels: Labels, unknown: Sequence[str], classes: int) -> dict[str, Scores]:
    """Return the scores of `unknown` texts by what is known: tool -> [cases, classes]."""
    grams, plain, others, other = _features(known, unknown)
    kernel = _kernel(grams, grams)
    across = _kernel(others, grams)
    return _standard(
        {
            "kernel": across @ _ridge(kernel, labels, classes)[0],
            "svc": svc(plain, labels, other, classes),
            "centroid": _centroid(other, plain, labels, classes),
            "nearest": _nearest(across, labels, classes),
        }
    )


def held_out(texts: Sequence[str], labels: Labels, classes: int) -> dict[str, Scores]:
    """Return the scores of the known cases themselves, each as if its label were not known."""
    grams, plain, _, _ = _features(texts, ())
    kernel = _kernel(grams, grams)
    weights, inverse = _ridge(kernel, labels, classes)
    own = np.eye(classes, dtype=np.float32)[labels] * 2 - 1
    # Leave-one-out of a linear smoother: y_i - alpha_i / (K + ridge)^-1_ii.
    ridge = own - weights / inverse[:, None]
    np.fill_diagonal(kernel, -1.0)
    return _standard(
        {
            "kernel": ridge,
            "svc": _folded_svc(plain, labels, classes),
            "centroid": _centroid_without_self(plain, labels, classes),
            "nearest": _nearest(kernel, labels, classes),
        }
    )


def svc(known: csr_matrix, labels: Labels, unknown: csr_matrix, classes: int) -> Scores:
    """Return the margins of a linear SVC, [cases, classes]; -9 for a charge that it has not seen."""
    from sklearn.svm import LinearSVC

    model = LinearSVC(random_state=0).fit(known, labels)
    found = np.full((unknown.shape[0], classes), -9.0, dtype=np.float32)
    margins = model.decision_function(unknown)
    found[:, model.classes_] = np.stack([-margins, margins], axis=1) if margins.ndim == 1 else margins
    return found


def folds(labels: Labels) -> NDArray[np.int64]:
    """Return the fold of each case: those of a charge are dealt out in turn, in a fixed random order."""
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) % FOLDS
    return found


def _features(
    known: Sequence[str], unknown: Sequence[str]
) -> tuple[tuple[csr_matrix, ...], csr_matrix, tuple[csr_matrix, ...], csr_matrix | None]:
    known, unknown = [t[:LONGEST] for t in known], [t[:LONGEST] for t in unknown]
    separate, together = vectorizers()
    grams = tuple(v.fit_transform(known) for v in separate)
    plain = together.fit_transform(known)
    if not unknown:
        return grams, plain, (), None
    return grams, plain, tuple(v.transform(unknown) for v in separate), together.transform(unknown)


def _kernel(left: Sequence[csr_matrix], right: Sequence[csr_matrix]) -> Scores:
    found = np.zeros((left[0].shape[0], right[0].shape[0]), dtype=np.float32)
    for mine, other in zip(left, right, strict=True):
        found += (mine @ other.T).toarray() / len(left)
    return found


def _ridge(kernel: Scores, labels: Labels, classes: int) -> tuple[Scores, NDArray[np.float32]]:
    """Return the weights (K + ridge)^-1 Y, Y of -1 and 1, and the diagonal of the inverse."""
    from scipy.linalg import lapack

    system = kernel.copy()
    system[np.diag_indices(len(system))] += RIDGE
    factor, _ = lapack.spotrf(system, lower=1, overwrite_a=True)
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=True)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    target = np.eye(classes, dtype=np.float32)[labels] * 2 - 1
    return inverse @ target, np.ascontiguousarray(np.diag(inverse))


def _folded_svc(plain: csr_matrix, labels: Labels, classes: int) -> Scores:
    found = np.zeros((plain.shape[0], classes), dtype=np.float32)
    fold = folds(labels)
    for number in range(FOLDS):
        inside, outside = fold == number, fold != number
        found[inside] = svc(plain[outside], labels[outside], plain[inside], classes)
    return found


def _centroid(unknown: csr_matrix, plain: csr_matrix, labels: Labels, classes: int) -> Scores:
    sums = _indicator(labels, classes) @ plain
    norms = np.sqrt(np.asarray(sums.multiply(sums).sum(axis=1)).ravel())
    return np.asarray((unknown @ sums.T).toarray() / np.maximum(norms, 1e-6), dtype=np.float32)


def _centroid_without_self(plain: csr_matrix, labels: Labels, classes: int) -> Scores:
    """Return cosines with the centroids, each case taken out of its own; rows have length 1."""
    sums = _indicator(labels, classes) @ plain
    squares = np.asarray(sums.multiply(sums).sum(axis=1)).ravel()
    dots = (plain @ sums.T).toarray()
    found = dots / np.sqrt(np.maximum(squares, 1e-6))
    rows = np.arange(len(labels))
    own = dots[rows, labels]
    left = np.sqrt(np.maximum(squares[labels] - 2 * own + 1, 1e-6))
    found[rows, labels] = (own - 1) / left
    return np.asarray(found, dtype=np.float32)


def _indicator(labels: Labels, classes: int) -> csr_matrix:
    from scipy.sparse import csr_matrix as sparse

    ones = np.ones(len(labels), dtype=np.float32)
    return sparse((ones, (labels, np.arange(len(labels)))), shape=(classes, len(labels)))


def _nearest(kernel: Scores, labels: Labels, classes: int) -> Scores:
    """Return the mean similarity of a charge's nearest known cases."""
    found = np.zeros((len(kernel), classes), dtype=np.float32)
    for number in range(classes):
        members = kernel[:, labels == number]
        if members.shape[1]:
            count = min(NEIGHBOURS, members.shape[1])
            top = -np.partition(-members, count - 1, axis=1)[:, :count]
            found[:, number] = np.maximum(top, 0).mean(axis=1)
    return found


def _standard(found: dict[str, NDArray[Any]]) -> dict[str, Scores]:
    """Bring each row to mean 0 and deviation 1; three decimals, which the order of a sum does not move."""
    out: dict[str, Scores] = {}
    for name, values in found.items():
        centred = values - values.mean(axis=1, keepdims=True)
        deviation = np.maximum(centred.std(axis=1, keepdims=True), 1e-6)
        out[name] = np.round(centred / deviation, 3).astype(np.float32)
    return out
