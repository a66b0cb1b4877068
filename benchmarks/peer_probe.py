"""The plain probe and the plain words, as anyone would write them; runs in .venv-peers: peer_probe.py job.json answer.json.

probe: sentence-transformers `encode` (mean-pooled last layer, not normalised) and scikit-learn's logistic regression, C = 10.
words: TF-IDF of 1-2-grams and the same regression. No layer, no setting is chosen on the rows.
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time


def main(job_path: str, answer_path: str) -> None:
    """Fit the one that job["what"] names, predict, write the answer."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    from sentence_transformers import SentenceTransformer, models
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    began = time.perf_counter()
    if job["what"] == "probe":
        network = models.Transformer(job["folder"])
        pooling = models.Pooling(network.get_word_embedding_dimension(), pooling_mode="mean")
        model = SentenceTransformer(modules=[network, pooling], device="cpu")
        features = lambda texts: model.encode(texts, show_progress_bar=False)  # noqa: E731
        train = features(job["train_texts"])
    else:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        train, features = vectorizer.fit_transform(job["train_texts"]), vectorizer.transform
    head = LogisticRegression(C=float(job.get("C", 10.0)), max_iter=1000).fit(train, job["train_labels"])
    trained = time.perf_counter()
    predicted = [str(x) for x in head.predict(features(job["test_texts"]))]
    answer = {
        "predicted": predicted,
        "seconds": trained - began,
        "predict_seconds": time.perf_counter() - trained,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {
            n: importlib.metadata.version(n) for n in ("sentence-transformers", "scikit-learn", "torch")
        },
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
