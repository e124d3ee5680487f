"""Writes `estimators.json`, the table of estimators that can be fitted, from the libraries that are installed here:

    python -m mlaas.runtimes.tabular.survey

Run it after an upgrade of scikit-learn, XGBoost or LightGBM; a test fails while the table and the libraries differ. Left out
is what cannot answer new rows, needs another estimator as an argument, or takes a Python object, a path or an address.
"""

import inspect
import json
import warnings
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("estimators.json")

_OUTLIERS = ("ensemble.IsolationForest", "svm.OneClassSVM", "neighbors.LocalOutlierFactor", "covariance.EllipticEnvelope",
             "linear_model.SGDOneClassSVM")  # fmt: skip
_DECOMPOSITIONS = (
    "PCA", "IncrementalPCA", "KernelPCA", "SparsePCA", "MiniBatchSparsePCA", "TruncatedSVD", "FastICA", "FactorAnalysis",
    "NMF", "MiniBatchNMF", "LatentDirichletAllocation", "DictionaryLearning", "MiniBatchDictionaryLearning",
)  # fmt: skip
_LEFT_OUT = {
    "LabelPropagation", "LabelSpreading", "SelfTrainingClassifier", "CCA", "PLSCanonical", "TransformedTargetRegressor",
    "PassiveAggressiveClassifier", "PassiveAggressiveRegressor", "MultiTaskElasticNet", "MultiTaskElasticNetCV",
    "MultiTaskLasso", "MultiTaskLassoCV",
    "Birch",  # skops does not write it
}  # fmt: skip
_OBJECTS = {
    "estimator",
    "base_estimator",
    "memory",
    "callback",
    "callbacks",
    "optimizer",
    "is_data_valid",
    "is_model_valid",
}
# What LightGBM would read, write, listen on or connect to, and what only its own command line knows.
_LIGHTGBM_OUT = (
    "alpha auc_mu_weights config convert_model convert_model_language data eval_at forcedbins_filename forcedsplits_filename "
    "group_column header ignore_column input_model label_column label_gain local_listen_port machine_list_filename machines "
    "num_machines output_model output_result parser_config_file pre_partition predict_contrib predict_disable_shape_check "
    "predict_leaf_index predict_raw_score pred_early_stop pred_early_stop_freq pred_early_stop_margin num_iteration_predict "
    "start_iteration_predict precise_float_parser refit_decay_rate save_binary saved_feature_importance_type snapshot_freq "
    "task time_out two_round valid weight_column num_class early_stopping_round early_stopping_min_delta metric metric_freq "
    "is_provide_training_metric first_metric_only gpu_device_id gpu_device_id_list gpu_platform_id gpu_use_dp num_gpu "
    "tree_learner objective boosting num_iterations learning_rate num_leaves max_depth bagging_fraction bagging_freq "
    "feature_fraction lambda_l1 lambda_l2 min_data_in_leaf min_gain_to_split min_sum_hessian_in_leaf bin_construct_sample_cnt "
    "num_threads seed verbosity device_type interaction_constraints categorical_feature lambdarank_norm "
    "lambdarank_position_bias_regularization lambdarank_truncation_level bagging_by_query multi_error_top_k"
)


def survey() -> dict[str, dict[str, Any]]:
    """Import name -> `{problem, weights, missing, parameters: {name: default}}`, by name. `weights`: whether rows can be
    weighted; `missing`: whether missing values can be in the features. Defaults that JSON cannot say are null."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {**_scikit_learn(), **_xgboost(), **_lightgbm()}
    return dict(sorted(found.items()))


def _scikit_learn() -> dict[str, dict[str, Any]]:
    import importlib

    from sklearn.utils import all_estimators

    found = {}
    for problem, kind in (("classification", "classifier"), ("regression", "regressor"), ("clustering", "cluster")):
        for name, estimator in all_estimators(type_filter=kind):
            if name not in _LEFT_OUT and hasattr(estimator, "predict") and not _required(estimator):
                found[f"{_public(estimator)}.{name}"] = _entry(estimator, problem)
    for name in _OUTLIERS:
        module, _, short = name.rpartition(".")
        found[f"sklearn.{name}"] = _entry(getattr(importlib.import_module(f"sklearn.{module}"), short), "outliers")
    mixture = importlib.import_module("sklearn.mixture")
    for short in ("GaussianMixture", "BayesianGaussianMixture"):
        found[f"sklearn.mixture.{short}"] = _entry(getattr(mixture, short), "clustering")
    decomposition = importlib.import_module("sklearn.decomposition")
    for short in _DECOMPOSITIONS:
        found[f"sklearn.decomposition.{short}"] = _entry(getattr(decomposition, short), "decomposition")
    return found


def _public(estimator: type) -> str:
    """`sklearn.linear_model` of what lives in `sklearn.linear_model._glm.glm`."""
    return ".".join(estimator.__module__.split(".")[:2])


def _required(estimator: type) -> bool:
    return any(
        parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self"
        for name, parameter in inspect.signature(estimator.__init__).parameters.items()  # type: ignore[misc]
    )


def _entry(estimator: Any, problem: str, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    from sklearn.utils import get_tags

    made = estimator()
    parameters = {name: value for name, value in made.get_params(deep=False).items() if name not in _OBJECTS}
    return {
        "problem": problem,
        "weights": "sample_weight" in inspect.signature(made.fit).parameters,
        "missing": bool(get_tags(made).input_tags.allow_nan),
        "parameters": {name: _plain(value) for name, value in sorted({**(extra or {}), **parameters}.items())},
    }


def _xgboost() -> dict[str, dict[str, Any]]:
    import xgboost

    out = ("early_stopping_rounds", "enable_categorical", "feature_types", "device", "validate_parameters", "missing",
           "feature_weights")  # fmt: skip
    found = {}
    for name in ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor"):
        entry = _entry(getattr(xgboost, name), "classification" if "Classifier" in name else "regression")
        entry["missing"] = True
        entry["parameters"] = {key: value for key, value in entry["parameters"].items() if key not in out}
        found[f"xgboost.{name}"] = entry
    return found


def _lightgbm() -> dict[str, dict[str, Any]]:
    import lightgbm
    from lightgbm.basic import _ConfigAliases

    known = set(_ConfigAliases._get_all_param_aliases()) - set(_LIGHTGBM_OUT.split())
    extra = dict.fromkeys(known)
    found = {}
    for name in ("LGBMClassifier", "LGBMRegressor"):
        entry = _entry(getattr(lightgbm, name), "classification" if "Classifier" in name else "regression", extra)
        entry["missing"] = True
        found[f"lightgbm.{name}"] = entry
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None


def main() -> None:
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in survey().items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
