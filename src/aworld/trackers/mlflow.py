"""MLflow: a run on the server of MLFLOW_TRACKING_URI, or in files beside the run directory's own."""

import os
from collections.abc import Sequence

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at the import

from mlflow.entities import Metric, Param, Run
from mlflow.tracking import MlflowClient

from aworld.trackers.tracker import About, Entry

TAG = "aworld.key"  # of the MLflow run, by which each process finds it
MOST_PARAMS = 100  # in one request
LONGEST_PARAM = 500  # characters, which every kind of server takes


class MLflow:
    """One MLflow run. Metrics of rounds have the round as their step, those of evaluations the policy's version."""

    def __init__(self, about: About):
        self._about = about
        if "MLFLOW_TRACKING_URI" in os.environ:
            self._client = MlflowClient()
        else:  # a database file would need locks, which many shared file systems lack
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            self._client = MlflowClient(tracking_uri=about.folder.absolute().as_uri())

    def write(self, entries: Sequence[Entry]) -> None:
        client, run_id = self._client, self._run().info.run_id
        names = sorted({name for entry in entries for name in entry.figures})
        # An earlier process can have died before it marked any of them, so each of their steps may be there already.
        there = {name: {metric.step for metric in client.get_metric_history(run_id, name)} for name in names}
        for entry in entries:
            new = [(name, value) for name, value in sorted(entry.figures.items()) if entry.step not in there[name]]
            if new:
                metrics = [Metric(name, value, entry.time * 1000, entry.step) for name, value in new]
                client.log_batch(run_id, metrics=metrics)

    def _run(self) -> Run:
        about, client = self._about, self._client
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", about.name)
        known = client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else client.create_experiment(name)
        found = client.search_runs([experiment], f"tags.`{TAG}` = '{about.key}'")
        run = found[0] if found else client.create_run(experiment, tags={TAG: about.key}, run_name=about.name)
        params = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in about.settings.items()]
        left = [param for param in params if param.key not in run.data.params]
        for begin in range(0, len(left), MOST_PARAMS):
            client.log_batch(run.info.run_id, params=left[begin : begin + MOST_PARAMS])
        return run
