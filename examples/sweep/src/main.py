"""One task of the sweep: train one model on the handwritten digits, and score it on those it has not seen."""

import json
import os
import time
from pathlib import Path

from blaxel.core.jobs import bl_start_job
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

SEED = 20
MODELS = {
    "bayes": GaussianNB,
    "extra_trees": ExtraTreesClassifier,
    "forest": RandomForestClassifier,
    "knn": KNeighborsClassifier,
    "logistic": LogisticRegression,
    "mlp": MLPClassifier,
    "svc": SVC,
    "tree": DecisionTreeClassifier,
}


def make_model(name: str, parameters: dict[str, object]) -> ClassifierMixin:
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(MODELS)}")
    model = MODELS[name](**parameters)
    if "random_state" in model.get_params():
        model.set_params(random_state=SEED)
    return model


def train(model: str, **arguments: object) -> None:
    parameters = {name: parse(value) for name, value in arguments.items()}
    classifier = make_pipeline(StandardScaler(), make_model(model, parameters))
    images, digits = load_digits(return_X_y=True)
    seen, unseen, seen_digits, unseen_digits = train_test_split(
        images, digits, test_size=0.3, random_state=SEED, stratify=digits
    )
    started = time.perf_counter()
    classifier.fit(seen, seen_digits)
    seconds = time.perf_counter() - started
    score = classifier.score(unseen, unseen_digits)
    print(f"{model} {parameters}: {score:.4f} of {len(unseen)} digits right, trained in {seconds:.2f} s")
    write_result({"model": model, "parameters": parameters, "score": round(score, 4), "seconds": round(seconds, 3)})


def parse(value: object) -> object:
    """Run by hand, every argument is a string: ``--C 0.5`` is meant as a number. In a task they have their types."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def write_result(result: dict[str, object]) -> None:
    text = json.dumps(result)
    path = os.environ.get("TIDEMILL_RESULT_FILE")
    if path:
        Path(path).write_text(text)
    else:
        print(text)


bl_start_job.start(train)
