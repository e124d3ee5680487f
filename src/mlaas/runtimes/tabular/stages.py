"""How far a fit has come, in per cent of its stages: reading, folds of the cross-validation, rounds of the fit, scoring."""

from mlaas.runtimes.report import Reporter
from mlaas.runtimes.tabular.spec import FitParams

_AT = {"read": 0.0, "cross-validate": 0.05, "fit": 0.05, "evaluate": 0.95}


class Stages:
    """Reports to `reporter`. With a cross-validation the fit itself is one of its folds and one more."""

    def __init__(self, reporter: Reporter, params: FitParams) -> None:
        self._reporter = reporter
        folds = params.cross_validation.folds if params.cross_validation else 0
        self._start = 0.05 + 0.9 * folds / (folds + 1)
        self._silent = False

    def reached(self, stage: str) -> None:
        self._tell(self._start if stage == "fit" else _AT[stage], {}, None)

    def fold(self, done: int, folds: int) -> None:
        self._tell(0.05 + 0.9 * done / (folds + 1), {"fold": float(done)}, None)

    def watch(self, done: int, of: int, metrics: dict[str, float]) -> None:
        """After each round or epoch."""
        if not self._silent:
            self._tell(self._start + (0.95 - self._start) * done / max(1, of), metrics, done)

    def quiet(self) -> "Stages":
        """One that says nothing of rounds: those of a fold."""
        other = object.__new__(Stages)
        other._reporter, other._start, other._silent = self._reporter, self._start, True
        return other

    def _tell(self, share: float, metrics: dict[str, float], step: int | None) -> None:
        self._reporter.progress(100 * share, 100, "per cent", metrics, step)
