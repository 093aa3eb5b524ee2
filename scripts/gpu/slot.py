"""Commands one after the other within a time; what has ended is in the output folder, whatever happens next."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from pathlib import Path

import report

# Of a longer log the beginning and the end are kept.
LOG_BYTES = 1 << 20
# From the end of a command's time to its end by force.
GRACE_S = 3
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """A command must not go on with the card when this process was killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ok(record):
    return record["exit_code"] == 0


class Slot:
    def __init__(self, out, minutes, patience, root, about):
        """`patience` is a factor on the limits of steps and commands, not on the slot's."""
        self.out, self.root, self.patience, self.env = out, root, patience, {}
        self.start = time.monotonic()
        self.deadline = self.start + 60 * minutes
        self.about, self.steps = about, []
        self.folder = tempfile.TemporaryDirectory(prefix="gpu-check-")
        # Scratch is not sent back.
        self.scratch, self.logs = Path(self.folder.name) / "scratch", Path(self.folder.name) / "log"
        self.scratch.mkdir()
        self.logs.mkdir()
        out.mkdir(parents=True, exist_ok=True)

    def left(self):
        """Seconds that the current step has, or the slot."""
        return (self.ends if self.steps and self.steps[-1]["seconds"] is None else self.deadline) - time.monotonic()

    @contextlib.contextmanager
    def step(self, name, limit=None):
        """Commands within belong to a step of at most `limit` seconds; a fault of this script ends the step only."""
        begun = time.monotonic()
        self.ends = self.deadline if limit is None else min(begun + limit * self.patience, self.deadline)
        step = {"step": name, "limit_s": round(self.ends - begun, 1), "seconds": None, "not_run": None, "fault": None, "commands": []}
        self.steps.append(step)
        try:
            yield step
        except Exception:
            step["fault"] = traceback.format_exc()
        finally:
            step["seconds"] = round(time.monotonic() - begun, 1)
            self.save()
            print(report.line(step), flush=True)

    def not_run(self, why):
        """Says that the current step is left out as something is not on this machine."""
        self.steps[-1]["not_run"] = why

    def command(self, name, argv, limit=60, result=None, env=None, tick=None, cwd=None, open_ended=False):
        """Runs a command and keeps what became of it. `result`: "stdout" for JSON there, a file with JSON, or a function of
        the log. `tick` is called every now and then meanwhile. `open_ended`: to be cut off is no failure."""
        argv = [str(part) for part in argv]
        limit = min(limit * self.patience, self.left())
        # Folders of this machine say nothing elsewhere.
        shown = argv
        for folder in (self.root, self.scratch, self.folder.name):
            shown = [part.replace(f"{folder}/", "") for part in shown]
        record = {"name": name, "command": shown, "exit_code": None, "seconds": 0.0, "problem": None, "result": None}
        record |= {"open_ended": open_ended, "not_begun": limit < 1}
        self.steps[-1]["commands"].append(record)
        if record["not_begun"]:
            return record
        log, errors = self.logs / f"{name}.txt", self.logs / f"{name}.err"
        begun = time.monotonic()
        try:
            record["exit_code"] = self.wait(argv, limit, (log, errors), self.env | (env or {}), tick, cwd)
            if record["exit_code"] is None:
                record["problem"] = f"cut off after {limit:.0f} s"
            elif record["exit_code"] != 0:
                record["problem"] = last_line(errors) or last_line(log) or f"exit code {record['exit_code']}"
        except OSError as e:
            record["problem"] = f"{argv[0]} does not start: {e.strerror}"
        record["seconds"] = round(time.monotonic() - begun, 2)
        if result is not None:
            # What a command wrote before it was cut off counts too.
            try:
                record["result"] = result(log) if callable(result) else read_json(log if result == "stdout" else result)
            except (OSError, ValueError) as e:
                record["problem"] = record["problem"] or f"no result: {e}"
        for path in (log, errors):
            shorten(path)
        self.save()
        return record

    def wait(self, argv, limit, logs, env, tick, cwd):
        """The exit code; `None` if the time was over first."""
        with logs[0].open("wb") as out, logs[1].open("wb") as err:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            where = {"env": env, "cwd": cwd or self.scratch}
            process = subprocess.Popen(argv, start_new_session=True, preexec_fn=die_with_parent, **streams, **where)
        ends = time.monotonic() + limit
        try:
            while (left := ends - time.monotonic()) > 0:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(min(left, 15))
                if tick:
                    tick()
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            return None
        finally:
            # With whatever it started itself.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def save(self):
        """Each file is replaced whole."""
        found = self.about | {"seconds": round(time.monotonic() - self.start, 1), "steps": self.steps}
        self.write("report.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
        self.write("report.md", report.markdown(found, self.logs))
        self.pack("log.tgz", self.logs)

    def write(self, name, text):
        new = self.out / f"{name}.new"
        new.write_text(text)
        os.replace(new, self.out / name)

    def pack(self, name, folder, **options):
        new = self.out / f"{name}.new"
        with tarfile.open(new, "w:gz", compresslevel=6) as tar:
            tar.add(folder, folder.name, **options)
        os.replace(new, self.out / name)

    def close(self):
        self.save()
        self.folder.cleanup()


def read_json(path):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def last_line(path):
    """Of a file that may be absent: its last line that begins with `error`, else its last one."""
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    lines = [line for line in lines if line.startswith("error")] or lines
    return lines[-1][:300] if lines else ""


def shorten(path):
    """Keeps the ends of a long log; an empty one goes."""
    if not path.exists():
        return
    size = path.stat().st_size
    if size == 0:
        path.unlink()
    elif size > LOG_BYTES:
        with path.open("rb") as f:
            head = f.read(LOG_BYTES // 2)
            f.seek(-(LOG_BYTES // 2), os.SEEK_END)
            tail = f.read()
        path.write_bytes(head + f"\n... {size - LOG_BYTES} bytes left out ...\n".encode() + tail)


def stop_on_signals():
    """The reports and the table come out of a run that is asked to stop, too."""

    def stop(number, _):
        sys.exit(f"stopped by signal {number}")

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
