#!/usr/bin/env python3
"""Long runs of the fuzz targets: many processes, until every target has had its executions.

  fuzz_campaign.py --programs DIRECTORY --out DIRECTORY [--seconds N] [--jobs N] [--seed N] [--anew]
                   [DIRECTORY_EXECUTIONS [OTHER_EXECUTIONS]]

Runs every fuzz_TARGET of the folder of programs, in slices: a slice is one process with a seed of
its own (fuzz_slice.sh). Whenever a processor is free it goes to the target that is furthest from its
goal: the one with the most processor seconds left, at the speed seen so far, for each process that
already works on it. All processes of a target share the inputs that cover something new. A target
ends with its first failure.

Writes into the folder `out`:

  summary.tsv, summary.json   a row for each target
  TARGET/                     inputs that cover something new: the next run begins with them
  TARGET-crash-*, -leak-*, -oom-*, -timeout-*, and TARGET.N.log     what failed, how
  logs/TARGET.N.log           of the other slices

A run goes on where the last one with the same folder stopped: with its inputs, and with its figures
except those of targets that failed. --anew: with its inputs only.

Temporary files lie in memory where the machine offers that. Exit code 1 when an input failed.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREFIX = "fuzz_"
FIRST_SLICE_SECONDS = 20  # long enough to measure a target's speed
SLICES_IN_A_RUN = 4  # each begins by reading all inputs of its target
UNLIMITED_SLICE_SECONDS = 600
SMALLEST_SLICE = 1000  # executions
COLUMNS = {
    "target": "%-18s", "executions": "%12d", "goal": "%12d", "seconds": "%8d",
    "processor_seconds": "%17d", "per_second": "%10d", "edges": "%6d", "features": "%8d",
    "rss_mib": "%8d", "slowest_seconds": "%15d", "failures": "%8d",
}


class Target:
    """What has been done for one target, and what is left."""

    def __init__(self, program, goal):
        self.program = program
        self.name = program.name[len(PREFIX):]
        self.goal = goal
        self.done = 0
        self.planned = 0  # executions of the slices that run now
        self.processes = 0
        self.slices = 0
        self.processor_seconds = 0.0
        self.begin = self.end = time.monotonic()
        self.earlier_seconds = 0
        self.figures = {"edges": 0, "features": 0, "rss_mib": 0, "slowest_seconds": 0}
        self.failures = 0

    def go_on(self, row):
        """From the figures of an earlier run."""
        self.done = row["executions"]
        self.processor_seconds = float(row["processor_seconds"])
        self.earlier_seconds = row["seconds"]
        self.figures = {name: row[name] for name in self.figures}

    def speed(self):
        """Executions per processor second; None before the first slice has ended."""
        return self.done / self.processor_seconds if self.done else None

    def left(self):
        """Executions that no slice has done or does."""
        return 0 if self.failures else max(0, self.goal - self.done - self.planned)

    def urgency(self):
        if self.left() == 0:
            return 0.0
        if self.speed() is None:  # to be measured first
            return sys.float_info.max / (self.processes + 1)
        return (self.left() + self.planned) / self.speed() / (self.processes + 1)

    def add_log(self, text):
        """Adds the figures that libFuzzer printed; a log holds several runs after a stall."""
        def numbers(pattern):
            return [int(number) for number in re.findall(pattern, text)]

        self.done += sum(numbers(r"stat::number_of_executed_units: *(\d+)"))
        for figure, pattern in (("edges", r" cov: (\d+)"), ("features", r" ft: (\d+)"),
                                ("rss_mib", r"stat::peak_rss_mb: *(\d+)"),
                                ("slowest_seconds", r"stat::slowest_unit_time_sec: *(\d+)")):
            self.figures[figure] = max([self.figures[figure], *numbers(pattern)])

    def row(self):
        seconds = self.processor_seconds
        return {"target": self.name, "executions": self.done, "goal": self.goal,
                "seconds": self.earlier_seconds + round(self.end - self.begin),
                "processor_seconds": round(seconds),
                "per_second": round(self.done / seconds) if seconds else 0, **self.figures,
                "failures": self.failures}


class Slice:
    """One process that works on a target."""

    def __init__(self, target, runs, seconds, seed, out, temporary):
        self.target, self.runs = target, runs
        self.log = out / "logs" / f"{target.name}.{target.slices}.log"
        self.folder = temporary / f"{target.name}.{target.slices}"
        self.folder.mkdir()
        shared = temporary / target.name
        self.process = subprocess.Popen(
            [HERE / "fuzz_slice.sh", target.program, out / f"{target.name}-", str(seconds),
             str(runs), str(seed), self.log, shared, HERE / "corpus" / target.name],
            env={**os.environ, "TMPDIR": str(self.folder)}, start_new_session=True)
        target.planned += runs
        target.processes += 1
        target.slices += 1

    def finish(self, status, processor_seconds, out):
        self.process.returncode = os.waitstatus_to_exitcode(status)
        target = self.target
        target.planned -= self.runs
        target.processes -= 1
        target.processor_seconds += processor_seconds
        target.end = time.monotonic()
        target.add_log(self.log.read_text(errors="replace"))
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.process.returncode != 0:
            target.failures += 1
            shutil.copy(self.log, out)


class Campaign:
    def __init__(self, arguments):
        self.jobs, self.seed, self.seconds = arguments.jobs, arguments.seed, arguments.seconds
        self.out = arguments.out.resolve()
        self.targets = []
        for program in sorted(arguments.programs.resolve().glob(PREFIX + "*")):
            if (HERE / "corpus" / program.name[len(PREFIX):]).is_dir():
                is_directory = program.name == PREFIX + "bundle_directory"
                self.targets.append(Target(program, arguments.directory_executions if is_directory
                                           else arguments.other_executions))
        summary = self.out / "summary.json"
        if summary.is_file() and not arguments.anew:
            rows = {row["target"]: row for row in json.loads(summary.read_text())["targets"]}
            for target in self.targets:
                if rows.get(target.name, {"failures": 1})["failures"] == 0:
                    target.go_on(rows[target.name])
        self.running = []
        self.begin = time.monotonic()

    def time_left(self):
        return self.seconds - (time.monotonic() - self.begin) if self.seconds else float("inf")

    def slice_seconds(self, target):
        if target.speed() is None:
            return min(FIRST_SLICE_SECONDS, self.time_left())
        length = self.seconds / SLICES_IN_A_RUN if self.seconds else UNLIMITED_SLICE_SECONDS
        # No rest that is too short to be worth reading the inputs again.
        return self.time_left() if self.time_left() < 1.5 * length else length

    def start_slices(self, temporary):
        while len(self.running) < self.jobs and self.time_left() >= 1:
            target = max(self.targets, key=Target.urgency)
            if target.left() == 0:
                return
            seconds = max(1, int(self.slice_seconds(target)))
            # Enough for the time; as long as the speed is unknown, a part for each processor.
            runs = target.goal // self.jobs
            if target.speed() is not None:
                runs = int(target.speed() * seconds)
            runs = min(target.left(), max(SMALLEST_SLICE, runs))
            self.seed += 1
            self.running.append(Slice(target, runs, seconds, self.seed, self.out, temporary))

    def run(self):
        shutil.rmtree(self.out / "logs", ignore_errors=True)
        (self.out / "logs").mkdir(parents=True)
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="flexq-fuzz-", dir=memory) as folder:
            temporary = Path(folder)
            for target in self.targets:
                (self.out / target.name).mkdir(exist_ok=True)
                shutil.copytree(self.out / target.name, temporary / target.name)
            try:
                self.start_slices(temporary)
                while self.running:
                    self.reap()
                    self.start_slices(temporary)
            finally:
                for running in self.running:
                    os.killpg(running.process.pid, 9)
                for target in self.targets:
                    shutil.copytree(temporary / target.name, self.out / target.name,
                                    dirs_exist_ok=True)
        self.summarize()
        return any(target.failures for target in self.targets)

    def reap(self):
        """Waits for one slice; its usage is that of the script and of the programs it ran."""
        pid, status, usage = os.wait4(-1, 0)
        running = next(running for running in self.running if running.process.pid == pid)
        self.running.remove(running)
        running.finish(status, usage.ru_utime + usage.ru_stime, self.out)

    def summarize(self):
        rows = [target.row() for target in self.targets]
        result = {"seconds": round(time.monotonic() - self.begin), "jobs": self.jobs,
                  "executions": sum(row["executions"] for row in rows), "targets": rows}
        (self.out / "summary.json").write_text(json.dumps(result, indent=2) + "\n")
        lines = ["\t".join(COLUMNS)] + ["\t".join(str(row[name]) for name in COLUMNS)
                                        for row in rows]
        (self.out / "summary.tsv").write_text("\n".join(lines) + "\n")
        widths = [re.search(r"\d+", form).group() for form in COLUMNS.values()]
        print(*(f"{name:{'<' if i == 0 else '>'}{width}}"
                for i, (name, width) in enumerate(zip(COLUMNS, widths))))
        for row in rows:
            print(*(form % row[name] for name, form in COLUMNS.items()))


def main():
    parser = argparse.ArgumentParser(description="Long runs of the fuzz targets.")
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=0, help="0: until all executions are done")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--anew", action="store_true", help="count from 0")
    parser.add_argument("directory_executions", type=int, nargs="?", default=10**8)
    parser.add_argument("other_executions", type=int, nargs="?", default=10**7)
    campaign = Campaign(parser.parse_args())
    if not campaign.targets:
        parser.error("no fuzz programs in the folder")
    try:
        sys.exit(campaign.run())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
