"""Day by day: evaluate, train, export, judge, bless. Everything is a file, so that a killed loop goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.manifest import VOCABULARY, Manifest, vocabulary_file
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.experiments.calibrating import as_served
from xdeepint_ext.experiments.config import Config, check_several_runs
from xdeepint_ext.experiments.daily_data import DayData
from xdeepint_ext.experiments.inputs import select_features
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.run_directory import write_atomically
from xdeepint_ext.experiments.run_scores import load_model, predict_run
from xdeepint_ext.experiments.running import run
from xdeepint_ext.experiments.scores import score
from xdeepint_ext.experiments.slices import check_slices, distinct_ids, id_names
from xdeepint_ext.experiments.verdicts import Judged, Thresholds, Verdict, judge
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving.blessing import BLESSING, bless
from xdeepint_ext.serving.calibration import Calibration, CalibrationError
from xdeepint_ext.serving.pruning import zeroed_values
from xdeepint_ext.serving.version_folder import version_dir, versions

__all__ = ["MODES", "DailyLoop"]

MODES = ("warm", "scratch", "never")
RESULTS = "days.csv"


@dataclasses.dataclass(frozen=True)
class DailyLoop:
    """What is done on every day.

    Args:
      output_dir: gets everything but the served versions.
      served_dir: base folder of the blessed versions; a version is the number of its day.
      days: ascending.
      data: their records.
      config: of the runs; places, exports and what follows from another run are the loop's.
      modes: `warm`, which is served, and for comparison `scratch`, trained anew on the days so far, and `never`, the
        first day's model.
      window: days that `scratch` is trained on, the last one the day itself; None = all so far.
      thresholds: for blessing.
      slices: features on whose values versions are judged, too.
      evict_zeroed: values whose rows are zero leave where no score changes by it; see `serving.pruning`.

    Raises:
      ValueError: the config is for a cluster.
    """

    output_dir: str
    served_dir: str
    days: tuple[int, ...]
    data: DayData
    config: Config
    modes: tuple[str, ...] = ("warm",)
    window: int | None = None
    thresholds: Thresholds = dataclasses.field(default_factory=Thresholds)
    slices: tuple[str, ...] = ()
    evict_zeroed: bool = True

    def __post_init__(self) -> None:
        check_several_runs(self.config.strategy)

    def run(self) -> Results:
        """Does what is not done yet.

        Returns:
          A row for each day and mode: key (`day`, `mode`), the metrics of the model before it was trained on the day,
          `model_of` which day that was, and the seconds of evaluation and training.

        Raises:
          ValueError: another process works in `output_dir`, or blesses in `served_dir`; the days, data and config do
            not fit together. DataError, a kind of it, for the data.
          FloatingPointError: training diverged.
        """
        os.makedirs(self.output_dir, exist_ok=True)
        results = Results(self._file(RESULTS))
        with self._alone():
            self._check_settings()
            for day in self.days:
                self._day(day, results)
                tf.keras.backend.clear_session()
        results.reload()  # rows that were added here have the columns of all others then
        return results

    def verdict(self, day: int) -> dict[str, Any] | None:
        """What was decided about a day's version: `blessed`, `refusals`, `checks`; None = nothing yet."""
        path = self._file("verdicts", f"{day}.json")
        blessing = os.path.join(self.served_dir, str(day), BLESSING)
        if not os.path.exists(path) and os.path.exists(blessing):  # the process was killed between the two
            with open(blessing, encoding="utf-8") as stream:
                known = json.load(stream)
            if known.get("run") == self._run_of(day):  # and no other loop's
                self._decide(day, known)
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as stream:
            found: dict[str, Any] = json.load(stream)
        return found

    def _decide(self, day: int, verdict: Mapping[str, Any]) -> None:
        os.makedirs(self._file("verdicts"), exist_ok=True)
        write_atomically(self._file("verdicts", f"{day}.json"), json.dumps(verdict, indent=1) + "\n")

    def _day(self, day: int, results: Results) -> None:
        before = self._last_blessed(day)
        if self.verdict(day) is not None and all(results.find({"day": day, "mode": mode}) for mode in self.modes):
            return
        started = time.perf_counter()
        self.data.prepared(day, before, self._zeroed(before))
        check_slices(self._schema(day), self.slices, "bless_slices")
        seconds = {"prepare_seconds": time.perf_counter() - started}
        for mode in dict.fromkeys(("warm", *self.modes)):
            key = {"day": day, "mode": mode}
            if results.find(key):
                continue
            model_of = self._model_before(day, mode)
            started = time.perf_counter()
            values = {} if model_of is None else self._progressive(day, self._config(model_of, mode), model_of)
            evaluated = time.perf_counter()
            of_mode = {**seconds, "evaluate_seconds": evaluated - started}
            if self._trains(day, mode):
                exporting = self._train(day, mode)
                training = time.perf_counter() - evaluated - exporting
                # A finished run tells of another process's export.
                of_mode |= {"export_seconds": exporting, "train_seconds": max(training, 0.0)}
            if mode in self.modes:
                results.add(key, {"model_of": model_of or "", **values, **of_mode})
            shown = [f"{name} {value:.5f}" for name, value in values.items() if name.endswith(("auc", "logloss"))]
            self._say(
                f"{day} {mode}: {'no model yet' if model_of is None else f'model of {model_of}'} {', '.join(shown)}"
            )
        found = self.verdict(day) or self._judge(day, before)
        self._say("\n  ".join([f"{day} is {'blessed' if found['blessed'] else 'not blessed:'}", *found["refusals"]]))

    # -- models -------------------------------------------------------------------------------------------------------

    def _model_before(self, day: int, mode: str) -> int | None:
        """The day whose model was in use when a day began; None on the first day."""
        earlier = [other for other in self.days if other < day]
        if not earlier:
            return None
        return {"warm": self._last_blessed(day), "scratch": earlier[-1], "never": earlier[0]}[mode]

    def _last_blessed(self, day: int) -> int | None:
        return max((other for other in self.days if other < day and self._is_blessed(other)), default=None)

    def _trains(self, day: int, mode: str) -> bool:
        """Whether a mode has a model of its own on a day: on the first, all have that of `warm`."""
        return mode == "warm" or (mode == "scratch" and day > self.days[0])

    def _config(self, day: int, mode: str) -> Config:
        """Of the run that trained a mode's model on a day."""
        mode = mode if self._trains(day, mode) else "warm"
        own: dict[str, Any] = {"data_dir": self.data.directory(day), "export": mode == "warm"}
        before = self._last_blessed(day) if mode == "warm" else None
        if before is not None:
            own["warm_start"] = self._file("runs", "warm", str(before))
        if mode == "scratch":  # is scored by its own logits, as it is never served
            own |= {"data_dir": self._file("views", f"scratch-{day}"), "calibration": "none"}
        model_dir = self._file("runs", mode, str(day))
        return self.config.replace(model_dir=model_dir, early_stopping="none", evaluate=(), **own)

    def _train(self, day: int, mode: str) -> float:
        """Trains a mode's model of a day; returns the seconds that its export took."""
        if mode == "scratch":
            so_far = [other for other in self.days if other == day or (other < day and not self.is_refused(other))]
            parts = [(other, "train") for other in so_far[-(self.window or len(so_far)) :]]
            self.data.view(f"scratch-{day}", day, {"train": parts})
        try:
            return float(run(self._config(day, mode)).get("export_seconds", 0.0))
        except CalibrationError as error:  # where a day's labels are turned round, for example
            self._decide(day, Verdict(day, self._last_blessed(day), (), reasons=(str(error),)).to_json())
            return 0.0

    def _is_blessed(self, day: int) -> bool:
        return day in self.days and (self.verdict(day) or {"blessed": False})["blessed"]

    def is_refused(self, day: int) -> bool:
        """Whether a day's version was judged and not blessed."""
        return not (self.verdict(day) or {"blessed": True})["blessed"]

    def _zeroed(self, before: int | None) -> str | None:
        """Folder of the values that the last blessed model has no use for."""
        if before is None or not self.evict_zeroed:
            return None
        folder = self._file("zeroed", str(before))
        if not os.path.isdir(folder):
            config = self._config(before, "warm")
            model, schema = load_model(config, config.data_dir)
            preprocessor = Preprocessor(schema, os.path.join(config.data_dir, VOCABULARY))
            os.makedirs(f"{folder}.part", exist_ok=True)
            for table, values in zeroed_values(model, preprocessor).items():
                with open(vocabulary_file(f"{folder}.part", table), "wb") as stream:
                    stream.writelines(value + b"\n" for value in values)
            os.rename(f"{folder}.part", folder)
        return folder

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def _progressive(self, day: int, config: Config, model_of: int) -> dict[str, float]:
        """Metrics on all of the day's records, of a model that knows days before only, under its own ids."""
        parts = [(day, "train"), (day, "valid")]
        view = self.data.view(f"{day}-under-{model_of}", model_of, {"test": parts})
        return score(predict_run(config, view, "test"))

    def _judge(self, day: int, before: int | None) -> dict[str, Any]:
        parts = tuple(self._judged(other, day, before) for other in (day, before) if other is not None)
        verdict = judge(day, before, parts, self.thresholds)
        found = verdict.to_json()
        if verdict.blessed:
            exported = os.path.join(self._config(day, "warm").model_dir, "saved_model")
            facts = {name: value for name, value in found.items() if name not in ("version", "against")}
            bless(version_dir(exported), self.served_dir, day, before, {**facts, "run": self._run_of(day)})
        self._decide(day, found)
        return found

    def _judged(self, rows_of: int, day: int, before: int | None) -> Judged:
        """A day's held-out rows under the candidate and the last blessed version."""
        candidate = self._held_out(rows_of, day)
        schema = self._schema(day)
        folder = os.path.join(self.data.directory(day), VOCABULARY)
        slices: dict[str, np.ndarray] = {}
        for name in self.slices:
            ids, names = candidate.ids[name], id_names(schema[name], folder)
            for value in np.unique(distinct_ids(ids)[1]).tolist():
                slices[f"{name}={names[value]}"] = (ids == value).any(axis=1)
        return Judged(rows_of, candidate, None if before is None else self._held_out(rows_of, before), slices)

    def _held_out(self, rows_of: int, model_of: int) -> Predictions:
        """A day's held-out rows, with the scores that a version answers with."""
        view = self.data.view(f"{rows_of}-held-out-under-{model_of}", model_of, {"valid": [(rows_of, "valid")]})
        config = self._config(model_of, "warm")
        predictions = predict_run(config, view, "valid", self.slices)
        exported = Manifest.load(version_dir(os.path.join(config.model_dir, "saved_model"))).notes["export"]
        calibrations = {task: Calibration(**found) for task, found in exported["calibration"].items()}
        return as_served(predictions, calibrations, config.negative_sampling_rate)

    # -- files --------------------------------------------------------------------------------------------------------

    def _schema(self, day: int) -> Schema:
        directory = self.data.directory(day)
        return select_features(directory, Manifest.load(directory), self.config.features)

    def _run_of(self, day: int) -> str:
        """What tells a day's version from another loop's."""
        return os.path.abspath(self._file("runs", "warm", str(day)))

    def _file(self, *names: str) -> str:
        return os.path.join(self.output_dir, *names)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with open(self._file(".lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"output_dir: another process is running in {self.output_dir}") from None
            foreign = [version for version in versions(self.served_dir) if not self._is_blessed(version)]
            if foreign:
                raise ValueError(
                    f"served_dir: {self.served_dir} has versions {foreign}, which this loop did not bless on its days, "
                    f"{self.days[0]} to {self.days[-1]}"
                )
            yield

    def _check_settings(self) -> None:
        """Refuses to go on with days that were made otherwise."""
        data = dataclasses.asdict(self.data)
        settings = {name: data[name] for name in ("dataset", "options", "holdout", "reserve", "evict_after")}
        settings |= {"evict_zeroed": self.evict_zeroed, "window": self.window, "runs": self.config.settings()}
        settings |= {"seed": self.config.seed, "first_day": self.days[0]}
        path = self._file("settings.json")
        if not os.path.exists(path):
            write_atomically(path, json.dumps(settings, indent=1) + "\n")
        with open(path, encoding="utf-8") as stream:
            stored = json.load(stream)
        for name, value in json.loads(json.dumps(settings)).items():
            if stored.get(name) != value:
                raise ValueError(
                    f"output_dir: {self.output_dir} was begun with {name}={stored.get(name)!r}, and this is {value!r}; "
                    "use another output_dir"
                )

    def _say(self, text: str) -> None:
        if self.config.progress:
            print(text, file=sys.stderr, flush=True)
