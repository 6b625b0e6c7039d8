"""How a finished pipeline is shown in MLflow: dvc.lock and the metrics, projected onto runs and model versions."""

import os

# Read by mlflow when it is imported, so they stand before any of this package's modules imports it. Values that the
# user has set win. Unchecked defaults would report usage to a server and wait minutes for a dead one.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}.items():
    os.environ.setdefault(_name, _value)
