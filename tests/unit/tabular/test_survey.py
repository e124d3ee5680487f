"""The table of estimators against the libraries that are installed."""

from mlaas.runtimes.tabular.spec import METRICS, estimators
from mlaas.runtimes.tabular.survey import survey


def test_the_table_is_what_the_libraries_say() -> None:
    assert survey() == estimators()


def test_nothing_in_it_takes_an_object_a_path_or_an_address() -> None:
    table = estimators()
    assert {entry["problem"] for entry in table.values()} == set(METRICS)
    words = {word for entry in table.values() for name in entry["parameters"] for word in name.split("_")}
    assert not words & {"file", "filename", "callback", "callbacks", "memory", "machines", "port", "snapshot"}
    assert not [name for name, entry in table.items() if "estimator" in entry["parameters"]]
