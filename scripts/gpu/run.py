"""`gpu-check.sh run`: everything that one slot on a card should yield, or a training on it."""

import argparse
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import report
import training
from slot import Slot, stop_on_signals
from steps import SETTINGS, STEPS, Check

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = ROOT / "emulator"


def environment(scratch):
    env = os.environ | {"HAFUSE_SAMPLES": str(ROOT / "samples"), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    # Tables of latencies that a search keeps are of this run only.
    env["XDG_CACHE_HOME"] = f"{scratch}/cache"
    # Packed with --emulated.
    if EMULATOR.exists():
        return env | {"LD_LIBRARY_PATH": str(EMULATOR), "HAFUSE_KERNELS": str(EMULATOR / "images")}
    return env | {"HAFUSE_TEST_GPU": "1"}


def about(options):
    commit = ROOT / "commit"
    try:
        version = subprocess.run([ROOT / "bin/hafuse", "--version"], text=True, capture_output=True).stdout
    except OSError as e:
        version = f"bin/hafuse does not start: {e.strerror}"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit.read_text().strip() if commit.exists() else "unknown",
        "version": version.strip().splitlines(),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "minutes": options.train or options.minutes,
        "device": options.device,
        "emulated": EMULATOR.exists(),
    }


def main():
    sizes = "\n".join(f"  CHECK_{k.upper():<10} {text} [{default}]" for k, (default, text) in SETTINGS.items())
    parser = argparse.ArgumentParser(
        prog="gpu-check.sh run",
        description=__doc__,
        epilog=f"Variables that change sizes:\n{sizes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder for report.md, report.json and log.tgz")
    what = f"steps after `smoke`: {', '.join(STEPS)}; with --train: {', '.join(training.ALL)} [all]"
    parser.add_argument("what", nargs="*", metavar="WHAT", help=what)
    parser.add_argument("--minutes", type=float, default=9, help="length of the slot [9]")
    parser.add_argument("--patience", type=float, default=1, help="factor on the limits of all steps, for a slow card [1]")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N [cuda]")
    parser.add_argument("--train", type=float, metavar="MINUTES", help="train and search for so long instead")
    parser.add_argument("--data", type=Path, help="with --train: the folder with those that the recipes name")
    options = parser.parse_intermixed_args()
    if not (ROOT / "bin/hafuse").exists():
        parser.error(f"{ROOT} is not packed: run `scripts/gpu-check.sh pack DIR`, then DIR/scripts/gpu-check.sh")
    if options.train and not options.data:
        parser.error("--train needs --data, the folder with those that models/recipes/*.toml name")
    known = training.ALL if options.train else STEPS
    if unknown := [w for w in options.what if w not in known]:
        parser.error(f"{unknown[0]} is none of {', '.join(known)}")
    stop_on_signals()
    slot = Slot(options.out.resolve(), options.train or options.minutes, options.patience, ROOT, about(options))
    slot.env = environment(slot.scratch)
    computes = True
    try:
        if options.train:
            training.run(slot, ROOT, options.device, options.data.resolve(), options.what or known)
        else:
            computes = Check(slot, ROOT, options.device).run(options.what or known)
    finally:
        slot.close()
        print("\n" + report.table(slot.steps))
        print(f"\n{options.out}: report.md, report.json, log.tgz")
    if not computes:
        why = next(c["problem"] for c in slot.steps[0]["commands"] if c["problem"])
        sys.exit(f"STOPPED: the card does not compute: {why}; {options.out}/report.md has more")
    failed = [step["step"] for step in slot.steps if report.failures(step)]
    if failed:
        sys.exit(f"FAILED: {', '.join(failed)}")
    print("all steps that were run succeeded")


if __name__ == "__main__":
    main()
