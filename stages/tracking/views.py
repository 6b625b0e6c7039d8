"""The experiment as it opens in MLflow: what it is, and the table of systems as a saved view."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping

from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from stages.tracking.registry import VERSION
from stages.tracking.runs import KIND, STUDY
from stages.tracking.store import Store

SYSTEMS = "systems"  # a view's key in its address
_KIND = "mlflow.experimentKind"  # unset, the page says that there are no data
_VIEW = "mlflow.sharedViewState."  # as MLflow's page of runs stores what one saves there
_TRACES = "mlflow.tracesV4ViewState.episodes"  # likewise, of traces
_NOTE = """\
Every row is a system of a study, measured on a frozen panel of tasks: `base` is the agent alone, `rag` the agent with hints, `random`,
`constant` and `rag_wrong` are controls of that, `oracle` has hints written by hand. `sft`, `distilled`, `distilled_random` and `on_policy` are students,
which play without hints, `hinted` and those in `_rag` are students that play with hints. `result` is success with its 95 % interval,
`tokens` are those billed an episode.

- The saved view **Systems** compares them all, grouped by study. A system that a study left as it was stands in the study that first
  measured it; `tags.studies LIKE '%|NAME|%'` finds all of a study.
- A run has its learning curve, all its figures as tables, its panels and its adapter. A sample of its episodes are its traces: one session
  a task, so that systems stand side by side.
- `tags.kind = 'study'` finds the studies: their settings, contrasts, funnel and report.
"""


def address(base: str, experiment_id: str) -> str:
    """Where the table of systems is, on a server at `base`."""
    return f"{base}/#/experiments/{experiment_id}/runs?viewStateShareKey={SYSTEMS}"


def describe(store: Store) -> None:
    """Set what the experiment's pages show, where it is not set so already. A note of the user's stays."""
    wanted = {
        **{_KIND: "custom_model_development", MLFLOW_RUN_NOTE: _NOTE},
        **{f"{_VIEW}{SYSTEMS}": _systems(), _TRACES: _episodes()},
    }
    tags = store.client.get_experiment(store.experiment_id).tags
    for tag, value in wanted.items():
        if tags.get(tag) != value and not (tag == MLFLOW_RUN_NOTE and tag in tags):
            store.client.set_experiment_tag(store.experiment_id, tag, value)


def _systems() -> str:
    """The state of MLflow's page of runs. Figures are shown as text: of metrics, the page would put the largest into a group's own row."""
    widths = {
        **{
            "attributes.`Run Name`": 380,
            "tags.`result`": 135,
            "tags.`score`": 60,
            "tags.`tokens`": 75,
            "tags.`steps`": 60,
        },
        **{"tags.`known skills`": 100, "tags.`withheld skills`": 110, "tags.`panel`": 110},
    }
    widths |= {f"tags.`{VERSION}`": 105, "attributes.`Models`": 320}
    state: Mapping[str, object] = {
        "searchFilter": f"tags.{KIND} = 'system'",
        "orderByKey": "metrics.`success`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(widths),
        "columnOrder": list(widths),
        "columnWidths": widths,
        "groupBy": {
            "aggregateFunction": "max",
            "groupByKeys": [{"mode": "tag", "groupByData": STUDY}, {"mode": "tag", "groupByData": "cell"}],
        },
    }
    return _view("Systems", state)


def _episodes() -> str:
    """The state of MLflow's page of traces: of all times, where it would show a week."""
    columns = "input,output,run_name,session,tokens,state"
    return _view("Episodes", {"single": {"pageSize": "100", "startTimeLabel": "ALL", "cols": columns}, "multi": {}})


def _view(name: str, state: Mapping[str, object]) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": 0, "state": f"deflate;{packed}"})
