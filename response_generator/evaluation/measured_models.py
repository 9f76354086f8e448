"""What is measured of each model, and its estimates with intervals over prompts and training runs."""

import numpy as np

from response_generator.evaluation.metric import Metric
from response_generator.evaluation.predictions_file import Prediction, group_by_run
from response_generator.evaluation.statistics import distinct
from response_generator.evaluation.statistics.corrected import CORRECTED, measure_corrected
from response_generator.evaluation.statistics.estimates import (
    Estimate,
    Measurements,
    estimate_difference,
    estimate_metrics,
    resample_metrics,
)
from response_generator.evaluation.statistics.metric_totals import MetricTotals
from response_generator.evaluation.statistics.training_seeds import widen_estimate
from response_generator.labels import Labels


def measure_models(
    rows: dict[str, list[Prediction]], labels: Labels, metrics: dict[str, Metric], resamples: int, seed: int
) -> tuple[dict[str, Measurements], dict[str, int]]:
    """What was measured of each model, and the number of n-grams at which each distinct-n is compared."""
    runs = {model: group_by_run(each) for model, each in rows.items()}
    by_order = {name: distinct.measure_distinct(runs, n) for name, n in distinct.ORDERS.items()}
    totals = {model: [MetricTotals.of(run, labels, metrics) for run in found] for model, found in runs.items()}
    replicates = resample_metrics(totals, resamples, seed)
    measured = {}
    for model, found in totals.items():
        computed = [run.compute(np.ones((1, run.prompts))) for run in found]
        values = {name: np.concatenate([each[name] for each in computed]) for name in computed[0]}
        of_model = {name: by_model[model] for name, (by_model, _) in by_order.items()}
        if CORRECTED in metrics:
            of_model[CORRECTED] = measure_corrected([run.confusion for run in found], found[0].gold_confusion)
        values |= {name: each.values for name, each in of_model.items()}
        measured[model] = Measurements(MetricTotals.mean(found), values, replicates[model], of_model)
    return measured, {name: size for name, (_, size) in by_order.items()}


def estimate_model(metrics: dict[str, Metric], model: Measurements) -> dict[str, Estimate]:
    """Its estimates, with intervals over prompts and training runs."""
    return {
        name: widen_estimate(
            estimate,
            model.totals.count_prompts(name),
            [model.values[name]],
            0.0 if metrics[name].is_bounded else -np.inf,
        )
        for name, estimate in estimate_metrics(metrics, model).items()
    }


def subtract_models(metric: Metric, first: Measurements, second: Measurements, seed: int) -> Estimate:
    """The second minus the first model, with an interval over prompts and training runs."""
    estimate = estimate_difference(metric, first, second, seed)
    prompts = min(model.totals.count_prompts(metric.name) for model in (first, second))
    runs = [model.values[metric.name] for model in (first, second)]
    return widen_estimate(estimate, prompts, runs, -1.0 if metric.is_bounded else -np.inf)
