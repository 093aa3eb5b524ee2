#!/usr/bin/env python3
"""Whole fusions by hafuse, ONNX Runtime and PyTorch on one CPU: checked against each other, then timed in turns.

    python -m venv peers
    peers/bin/pip install onnxruntime onnx numpy pillow
    peers/bin/pip install torch==2.9.1+cpu --index-url https://download.pytorch.org/whl/cpu   # or leave it out
    cargo build --release
    peers/bin/python benches/peers/cpu.py target/release/hafuse [--quick] [--json FILE]

Linux only (memory is read from /proc). See README.md beside this file.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAIR = [ROOT / "samples/street_1_ir.png", ROOT / "samples/street_1_vi.png"]
TOLERANCE = 1e-4
NAMES = {"ours": "hafuse", "ort": "ONNX Runtime", "torch": "PyTorch"}
# Starts a command and tells its wall seconds and most kilobytes. A process of its own: a child is charged with what its
# parent held when it was started.
LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""
# Threads of the engine before spin for a while; they shall not be in the way.
PAUSE_S = 0.05

FIRST_PICTURE = """
import sys
import numpy as np, onnxruntime
from PIL import Image
model, threads, ir, vi, out = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = int(threads), 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
array = lambda image: np.asarray(image, np.float32)[None, None] / 255
light, *chroma = Image.open(vi).convert("YCbCr").split()
(fused,) = session.run(["fused"], {"a": array(Image.open(ir).convert("L")), "b": array(light)})
light = Image.fromarray((fused[0, 0] * 255).round().astype(np.uint8))
Image.merge("YCbCr", [light, *chroma]).convert("RGB").save(out)
"""


def save_tensors(path, tensors):
    """Safetensors: the length of a JSON header, the header, the bytes."""
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": t.shape, "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    header = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(header).to_bytes(8, "little") + header)
        for t in tensors.values():
            f.write(t.tobytes())


def load_tensors(path):
    import numpy as np

    data = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(bytes(data[:8]), "little")
    header = json.loads(bytes(data[8:start]))
    header.pop("__metadata__", None)
    return {
        name: data[start + t["data_offsets"][0] : start + t["data_offsets"][1]].view("<f4").reshape(t["shape"]).copy()
        for name, t in header.items()
    }


def memory_mb(pid, field):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1000


def free_bytes():
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024


def foreign_seconds(pids):
    """Seconds of all cores so far that went to anything but these processes, or to other machines on the host."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    own = sum(int(stat[11]) + int(stat[12]) for stat in stats)
    return (user + nice + system + irq + softirq + steal - own) / os.sysconf("SC_CLK_TCK")


class OrtWorker:
    def __init__(self, model, threads, _layout):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.imports_mb = memory_mb("self", "VmRSS")
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, a, b):
        return self.session.run(["fused"], {"a": a, "b": b})[0]


class TorchWorker:
    def __init__(self, model, threads, layout):
        import torch
        from interpreter import Network

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        self.torch, self.imports_mb = torch, memory_mb("self", "VmRSS")
        self.network = Network(model, layout)

    def run(self, a, b):
        with self.torch.inference_mode():
            return self.network(self.network.placed(a), self.network.placed(b)).numpy()


def serve(kind, model, pair, threads, layout):
    """The side of a peer: compares with ours in the pair's file, then fuses once for each line read."""
    import numpy as np

    worker = {"ort": OrtWorker, "torch": TorchWorker}[kind](model, int(threads), layout)
    pair = load_tensors(pair)
    a, b, wanted = pair["a"], pair["b"], pair.get("fused")
    found = worker.run(a, b)
    # Nothing to compare with if ours did not fit.
    difference = None if wanted is None else float(np.abs(found - wanted).max())
    del found, wanted
    print(json.dumps({"difference": difference, "imports_mb": worker.imports_mb}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        worker.run(a, b)
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


class DoesNotFit(Exception):
    pass


class Engine:
    """A process that fuses the pair once for each line it reads."""

    def __init__(self, kind, case, files):
        limit = free_bytes() - (400 << 20)
        command = [sys.executable, __file__, "--serve", kind, files["model"], files["pair"], case["threads"]]
        command += [case.get("layout", "channels-last")]
        if kind == "ours":
            command = [files["hafuse"], "--threads", case["threads"], "bench", "net", "--device", "cpu"]
            command += ["--model", case["model"], "--exchange", files["pair"]]
        self.kind, self.errors = kind, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [str(part) for part in command],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            # Too much memory is an error of the engine, not the end of another process.
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        )
        answer = self.answer()
        self.about = {"difference": 0.0} if kind == "ours" else json.loads(answer)
        difference = self.about["difference"]
        if difference is not None and not difference <= TOLERANCE:
            sys.exit(f"{NAMES[kind]} computes something else: {case}, differs by {difference:.1e}")

    def answer(self):
        line = self.process.stdout.readline()
        if line:
            return line
        self.process.wait()
        self.errors.seek(0)
        text = self.errors.read()
        killed = self.process.returncode == -signal.SIGKILL
        if killed or any(sign in text.lower() for sign in ("alloc", "memory")):
            raise DoesNotFit
        sys.exit(f"{NAMES[self.kind]} ended with {self.process.returncode}:\n{text}")

    def time(self):
        time.sleep(PAUSE_S)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.answer())["seconds"]

    def peak_mb(self):
        return memory_mb(self.process.pid, "VmHWM")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def time_in_turns(engines, options):
    """Seconds of each engine, a round at a time, and how many cores others used meanwhile."""
    pids = [os.getpid(), *(e.process.pid for e in engines)]
    start, foreign = time.perf_counter(), foreign_seconds(pids)
    first = sum(e.time() for e in engines)
    rounds = max(3, min(options.rounds, int(options.seconds / max(first, 1e-9))))
    runs = {e.kind: [] for e in engines}
    for _ in range(1 if options.quick else rounds):
        for engine in engines:
            runs[engine.kind].append(engine.time())
    return runs, (foreign_seconds(pids) - foreign) / (time.perf_counter() - start)


def measure(case, kinds, files, options):
    """Times, memory and differences of a case; an engine that fits only alone is timed alone."""
    engines, alone, row = [], [], case | {"runs_s": {}, "peak_mb": {}, "about": {}, "alone": [], "others": 0.0}

    def run(engines):
        runs, others = time_in_turns(engines, options)
        row["runs_s"] |= runs
        row["others"] = max(row["others"], others)
        for e in engines:
            row["peak_mb"][e.kind], row["about"][e.kind] = e.peak_mb(), e.about
            e.close()

    for kind in kinds:
        try:
            engines.append(Engine(kind, case, files))
        except DoesNotFit:
            alone.append(kind)
    if engines:
        run(engines)
    for kind in alone:
        try:
            run([Engine(kind, case, files)])
            row["alone"].append(kind)
        except DoesNotFit:
            row["runs_s"][kind] = None
    return row


def write_pair(path, size, batch):
    """The sample pair, resized; copies in a batch are shifted."""
    import numpy as np
    from PIL import Image

    def stack(file):
        image = Image.open(file).convert("L").resize(size, Image.Resampling.BICUBIC)
        image = np.asarray(image, np.float32) / 255
        return np.stack([np.roll(image, 17 * i, 1)[None] for i in range(batch)])

    save_tensors(path, {"a": stack(PAIR[0]), "b": stack(PAIR[1])})


def export(hafuse, model, path, *extra):
    command = [hafuse, "export", "--onnx", path, "--model", model, *map(str, extra)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def prepare(model, size, batch, files):
    """The pair and the network of fixed sizes that engines read when they start."""
    write_pair(files["pair"], size, batch)
    export(files["hafuse"], model, files["model"], "--size", f"{size[0]}x{size[1]}", "--batch", batch)


def needed_mb(hafuse, case):
    """What we plan to work in."""
    width, height = case["size"]
    command = [hafuse, "info", "--model", case["model"], "--size", f"{width}x{height}", "--json"]
    text = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    return json.loads(text)["arena_bytes"] * case["batch"] / 1e6


def layout_of(model, size, threads, files, options):
    """The layout in which PyTorch is faster on a single pair of this size."""
    case = {"model": model, "threads": threads}
    prepare(model, size, 1, files)
    engines = [Engine("ours", case, files)]
    engines[0].close()
    engines = [Engine("torch", case | {"layout": name}, files) for name in ("channels-last", "contiguous")]
    for engine, name in zip(engines, ("channels-last", "contiguous")):
        engine.kind = name
    runs, _ = time_in_turns(engines, options)
    for engine in engines:
        engine.close()
    return min(runs, key=lambda name: statistics.median(runs[name]))


def first_picture(model, threads, folder, files, options):
    """Whole processes from nothing to a PNG: wall seconds, those that are not the network's, and peak memory."""
    from PIL import Image

    hafuse, onnx_file = files["hafuse"], folder / "any.onnx"
    export(hafuse, model, onnx_file)
    pair = list(map(str, PAIR))
    commands = {
        "ours": [hafuse, "--threads", threads, "fuse", *pair, "--device", "cpu", "--model", model, "-o"],
        "ort": [sys.executable, "-c", FIRST_PICTURE, onnx_file, threads, *pair],
    }
    prepare(model, Image.open(PAIR[0]).size, 1, files)
    # Engines that are up: what the network takes.
    engines = {kind: Engine(kind, {"model": model, "threads": threads}, files) for kind in commands}
    runs = {kind: [] for kind in commands}
    for i in range(1 + (1 if options.quick else options.rounds)):
        for kind, command in commands.items():
            command = [*command, folder / f"{kind}.png"]
            launched = [str(part) for part in [sys.executable, "-c", LAUNCHER, *command]]
            done = subprocess.run(launched, text=True, stdout=subprocess.PIPE)
            if done.returncode != 0:
                sys.exit(f"{NAMES[kind]} fused no picture: {command}")
            seconds, kilobytes = map(float, done.stdout.split())
            network = engines[kind].time()
            # The first run warms the cache of files.
            if i > 0:
                runs[kind].append([seconds, seconds - network, kilobytes * 1024 / 1e6])
    for engine in engines.values():
        engine.close()
    medians = {kind: [statistics.median(column) for column in zip(*rows)] for kind, rows in runs.items()}
    ratios = [statistics.median(t[i] / o[i] for o, t in zip(runs["ours"], runs["ort"])) for i in (0, 1)]
    return {"model": model, "threads": threads, "runs": runs, "medians": medians, "ratios": ratios}


def cell(row, kind):
    runs = row["runs_s"].get(kind, [])
    if runs is None:
        return "does not fit"
    return f"{statistics.median(runs):.3f}" + ("*" if kind in row["alone"] else "") if runs else "-"


def ratio(row, kind):
    """Median over rounds of theirs over ours; above 1 we are faster."""
    ours, theirs = (row["runs_s"].get(k) for k in ("ours", kind))
    if not ours or not theirs:
        return None
    # Engines that ran alone have rounds of their own number.
    return statistics.median(t / o for t, o in zip(theirs, ours))


def print_row(row, kinds):
    peers = [k for k in kinds if k != "ours"]
    width, height = row["size"]
    ratios = ["-" if row["ratios"][k] is None else f"{row['ratios'][k]:.2f}" for k in peers]
    peaks = [f"{row['peak_mb'][k]:.0f}" if k in row["peak_mb"] else "-" for k in kinds]
    differences = [about["difference"] for kind, about in row["about"].items() if kind != "ours"]
    worst = "-" if None in differences or not differences else f"{max(differences):.0e}"
    cells = [row["model"], f"{width}x{height}", row["batch"], row["threads"], *(cell(row, k) for k in kinds), *ratios]
    print(f"| {' | '.join(map(str, [*cells, *peaks]))} | {worst} | {row['others']:.2f} |", flush=True)


def cpu_model():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    return f"{fields['model name']} (family {fields['cpu family']} model {fields['model']})"


def about(options, kinds):
    packages = {"ort": "onnxruntime", "torch": "torch"}
    versions = {NAMES[k]: importlib.metadata.version(packages[k]) for k in kinds if k in packages}
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE).stdout.strip()
    version = subprocess.run([options.hafuse, "-V"], check=True, text=True, stdout=subprocess.PIPE).stdout
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "hafuse": version.split()[-1],
        "commit": commit,
        "python": platform.python_version(),
        **versions,
    }


def size(text):
    width, height = text.split("x")
    return int(width), int(height)


def main():
    if sys.argv[1:2] == ["--serve"]:
        return serve(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hafuse", type=lambda path: str(Path(path).resolve()), help="the binary to measure")
    parser.add_argument("--models", nargs="+", default=["ivif", "ivif-fast"])
    parser.add_argument("--sizes", nargs="+", type=size, default=[(620, 448), (1280, 1024)], metavar="WxH")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9, help="most rounds of a case; at least 3 are run")
    parser.add_argument("--seconds", type=float, default=60, help="rounds of a case stop being added after this")
    parser.add_argument("--quick", action="store_true", help="one small round of everything: does it run?")
    parser.add_argument("--json", type=Path, help="write all runs here too")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.batches, options.rounds = [(160, 120)], [1, 2], 1
    kinds = ["ours", "ort"]
    if importlib.util.find_spec("torch"):
        kinds.append("torch")
    else:
        print("PyTorch is not there and left out.\n")
    peers = [k for k in kinds if k != "ours"]
    result = about(options, kinds)
    print(", ".join(f"{k} {v}" for k, v in result.items()) + "\n")
    heads = ["model", "size", "batch", "threads"] + [f"{NAMES[k]}, s" for k in kinds]
    heads += [f"{NAMES[k]} / hafuse" for k in peers] + [f"{NAMES[k]}, peak MB" for k in kinds] + ["difference", "others, cores"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    rows, starts = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        files = {"hafuse": options.hafuse, "model": folder / "fixed.onnx", "pair": folder / "pair.safetensors"}
        for model, threads in [(m, t) for m in options.models for t in options.threads]:
            layout = None
            for (width, height), batch in [(s, b) for s in options.sizes for b in options.batches]:
                if "torch" in kinds and layout is None:
                    layout = layout_of(model, (width, height), threads, files, options)
                prepare(model, (width, height), batch, files)
                case = {"model": model, "size": [width, height], "batch": batch, "threads": threads}
                row = measure(case | {"layout": layout or "channels-last"}, kinds, files, options)
                row["planned_mb"] = needed_mb(options.hafuse, case)
                row["ratios"] = {k: ratio(row, k) for k in peers}
                rows.append(row)
                print_row(row, kinds)
        starts = [first_picture(m, t, folder, files, options) for m in options.models for t in options.threads]
    sides = [f"{NAMES[k]}, s | without the network, s | peak MB" for k in ("ours", "ort")]
    print(f"\n| model | threads | {' | '.join(sides)} | ONNX Runtime / hafuse | without the network |\n|{'---|' * 10}")
    for row in starts:
        figures = ["{:.3f} | {:.3f} | {:.0f}".format(*row["medians"][k]) for k in ("ours", "ort")]
        ratios = [f"{r:.1f}" for r in row["ratios"]]
        print(f"| {row['model']} | {row['threads']} | {' | '.join(figures + ratios)} |")
    for row in (r for r in rows if None in r["runs_s"].values() or r["alone"]):
        width, height = row["size"]
        print(f"\n{row['model']} {width}x{height} x {row['batch']}: we plan {row['planned_mb']:.0f} MB", end="")
        print(f"; timed alone for want of memory (*): {', '.join(map(NAMES.get, row['alone'])) or 'none'}")
    if options.json:
        options.json.write_text(json.dumps(result | {"rows": rows, "first_picture": starts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
