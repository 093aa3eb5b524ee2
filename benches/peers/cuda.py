#!/usr/bin/env python3
"""hafuse and PyTorch on one card: the same weights, outputs compared, then timed in turns.

    python benches/peers/cuda.py target/release/hafuse [--json FILE]
    python benches/peers/cuda.py target/release/hafuse --device cpu --quick    # without a card: does it run?

Needs torch and onnx. See README.md beside this file.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from cpu import ROOT, cpu_model, export, load_tensors, save_tensors, size
from interpreter import Network
from served import Served

# f32 without TF32, largest difference; anything shorter, decibels.
TOLERANCE, DECIBELS = 1e-4, 50.0
LAYOUTS = ["channels-last", "contiguous"]
# Shorter turns than this measure the clock of the card more than the engine.
TURN_S = 0.02
# Fusions between two events; as many as `bench net --resident` takes.
REPLAYS = 20


def draw_pair(path, shape, batch):
    """A warm spot on a wall, and the wall in light; copies in a batch are shifted."""
    width, height = shape
    y, x = np.mgrid[:height, :width] / height
    grain = np.random.default_rng(1).normal(0, 0.02, (2, height, width))
    warm = 0.2 + 0.7 * np.exp(-((x - 0.6) ** 2 + (y - 0.5) ** 2) / 0.02) + grain[0]
    light = 0.5 + 0.3 * np.sign(np.sin(24 * x) * np.sin(20 * y)) + grain[1]
    stack = lambda p: np.stack([np.roll(p, 17 * i, 1)[None] for i in range(batch)]).clip(0, 1).astype(np.float32)
    save_tensors(path, {"a": stack(warm), "b": stack(light)})


class Ours(Served):
    """`hafuse bench net --exchange`, a fusion for each line: from and to the host's memory, or on the card alone."""

    def __init__(self, case, files, options, *more):
        command = [options.hafuse, "bench", "net", "--device", options.device, "--model", case["model"]]
        super().__init__(command + ["--precision", case["precision"], "--exchange", files["pair"], *more])


class Peer:
    """PyTorch in one way of running a network."""

    def __init__(self, way, layout, tf32, case, files, options):
        self.name = ", ".join([way, layout] + (["TF32"] if tf32 else []))
        self.tf32, self.cuda = tf32, options.device != "cpu"
        self.flags()
        network = Network(files["model"], layout, options.device, case["precision"])
        pair = load_tensors(files["pair"])
        wanted = pair.pop("fused")
        # The driver copies from and to pinned memory without a detour.
        pinned = (lambda t: t.pin_memory()) if self.cuda else (lambda t: t)
        self.host = {name: pinned(torch.from_numpy(value)) for name, value in pair.items()}
        self.out = pinned(torch.empty(wanted.shape))
        self.inputs = {name: network.placed(value) for name, value in pair.items()}
        self.step = {"eager": self.eager, "CUDA graph": self.graph, "compiled": self.compiled}[way](network)
        for _ in range(3):
            self.copies()
        error = (self.out.numpy() - wanted).astype(np.float64)
        self.difference = float(np.abs(error).max())
        square = float((error**2).mean())
        self.decibels = -10 * float(np.log10(square)) if square > 0 else None
        exact = case["precision"] == "f32" and not tf32
        # NaN is in no range.
        agrees = self.difference <= TOLERANCE if exact else square <= 10 ** (-DECIBELS / 10)
        if not agrees:
            raise ValueError(f"computes something else: off by {self.difference:.1e}, {number(self.decibels, 1)} dB")

    def flags(self):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32

    def eager(self, network):
        return lambda: network(**self.inputs)

    def graph(self, network):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                network(**self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            fused = network(**self.inputs)

        def step():
            graph.replay()
            return fused

        return step

    def compiled(self, network):
        # On a card with CUDA graphs.
        mode = "reduce-overhead" if self.cuda else "default"
        function = torch.compile(lambda a, b: network(a, b), mode=mode, fullgraph=True)
        return lambda: function(**self.inputs)

    def copies(self):
        """Seconds of a fusion from and to the host's memory, in f32 there as with us."""
        self.flags()
        start = time.perf_counter()
        for name, value in self.host.items():
            # Converted on the card, which is faster than on the host.
            self.inputs[name].copy_(value.to(self.inputs[name].device, non_blocking=True))
        self.out.copy_(self.step().float(), non_blocking=True)
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def resident(self):
        """Seconds of a fusion from and to the card's memory, by its own clock."""
        self.flags()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(REPLAYS):
            self.step()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / REPLAYS


def ways_of(case, compiled, options):
    """Ways, layouts and TF32 that make sense for a case."""
    cuda = options.device != "cpu"
    ways = ["compiled"] if compiled else ["eager"] + ["CUDA graph"] * cuda
    # Compiling takes long, and chooses layouts of its own.
    layouts = LAYOUTS[:1] if compiled else LAYOUTS
    tf32 = [False, True] if cuda and case["precision"] == "f32" else [False]
    return [(way, layout, t) for t in tf32 for way in ways for layout in layouts]


def in_turns(timers, rounds):
    """Medians of each timer's turns, round by round."""
    runs = {name: max(1, min(50, int(TURN_S / max(timer(), 1e-6)))) for name, timer in timers.items()}
    times = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(statistics.median(timer() for _ in range(runs[name])))
    return times


def measure(case, compiled, files, options):
    """A row: times, differences, and what failed."""
    draw_pair(files["pair"], case["size"], case["batch"])
    shape = f"{case['size'][0]}x{case['size'][1]}"
    export(options.hafuse, case["model"], files["model"], "--size", shape, "--batch", case["batch"])
    row = case | {"copies_s": {}, "resident_s": {}, "peers": {}, "failed": {}}
    ours, peers = Ours(case, files, options), []
    for way in ways_of(case, compiled, options):
        # Whatever a way of PyTorch raises is a finding about it.
        try:
            peer = Peer(*way, case, files, options)
        except Exception as e:
            row["failed"][", ".join(map(str, way))] = f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}"
            continue
        peers.append(peer)
        row["peers"][peer.name] = {"difference": peer.difference, "decibels": peer.decibels}
    row["copies_s"] = in_turns({"hafuse": ours.seconds} | {p.name: p.copies for p in peers}, options.rounds)
    ours.close()
    if options.device != "cpu":
        timers = {p.name: p.resident for p in peers}
        try:
            alone = Ours(case, files, options, "--resident")
            timers = {"hafuse": alone.seconds} | timers
        except RuntimeError as e:
            row["failed"]["hafuse --resident"], alone = str(e), None
        row["resident_s"] = in_turns(timers, options.rounds)
        if alone:
            alone.close()
    return row


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}f}"


def compared(times, name):
    """Our milliseconds, theirs, and the median ratio of the rounds; `None` for what was not measured."""
    ours, theirs = times.get("hafuse"), times.get(name)
    ms = [1e3 * statistics.median(t) if t else None for t in (ours, theirs)]
    return [*ms, statistics.median(t / o for o, t in zip(ours, theirs)) if ours and theirs else None]


def print_row(row):
    for name, about in row["peers"].items():
        cells = [row["model"], row["precision"], "{}x{}".format(*row["size"]), row["batch"], name]
        for times in (row["copies_s"], row["resident_s"]):
            ours, theirs, ratio = compared(times, name)
            cells += [number(ours), number(theirs), number(ratio, 2)]
        cells += [f"{about['difference']:.0e}", number(about["decibels"], 1)]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    for name, why in row["failed"].items():
        print(f"\n{row['model']} {row['precision']}, {name}: {why}\n", flush=True)


def about(options):
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, text=True, capture_output=True).stdout.strip()
    card = None
    if options.device != "cpu":
        card = f"{torch.cuda.get_device_name(options.device)}, cuDNN {torch.backends.cudnn.version()}"
    return {
        "date": datetime.date.today().isoformat(),
        "card": card,
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hafuse", type=lambda path: str(Path(path).resolve()), help="the binary to measure")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--models", nargs="+", default=["ivif", "ivif-fast"], help="built-in models or files")
    parser.add_argument("--precisions", nargs="+", default=["f16", "f32"], choices=["f16", "f32"])
    parser.add_argument("--sizes", nargs="+", type=size, default=[(620, 448)], metavar="WxH")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no case is begun after this")
    parser.add_argument("--quick", action="store_true", help="one small round of everything: does it run?")
    parser.add_argument("--json", type=Path, help="write all runs here too, after each case")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.batches, options.rounds = [(160, 120)], [1, 2], 1
    if options.device == "cpu":
        options.precisions = ["f32"]
        print("On the CPU f16, CUDA graphs, TF32 and times without copies make no sense and are left out.\n")
    torch.backends.cudnn.benchmark = True
    if (index := torch.device(options.device).index) is not None:
        torch.cuda.set_device(index)
    result = about(options) | {"rows": []}
    print(", ".join(f"{k} {v}" for k, v in result.items() if k != "rows") + "\n")
    heads = ["model", "type", "size", "batch", "PyTorch"]
    heads += [f"{who}, ms" for who in ("hafuse", "PyTorch")] + ["PyTorch / hafuse"]
    heads += [f"{who}, without copies, ms" for who in ("hafuse", "PyTorch")] + ["PyTorch / hafuse", "difference", "dB"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    keys = [(b, s, p, m) for b in options.batches for s in options.sizes for p in options.precisions for m in options.models]
    cases = [{"model": m, "precision": p, "size": list(s), "batch": b} for b, s, p, m in keys]
    failed, start = False, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = {"model": Path(folder) / "fixed.onnx", "pair": Path(folder) / "pair.safetensors"}
        # Compiling comes last: it takes longest.
        for compiled, case in [(c, case) for c in (False, True) for case in cases]:
            if time.perf_counter() - start > options.seconds:
                print("\nThe rest is left out: the time is over.")
                break
            try:
                row = measure(case, compiled, files, options)
            except (RuntimeError, subprocess.CalledProcessError) as e:
                row = case | {"copies_s": {}, "resident_s": {}, "peers": {}, "failed": {"hafuse": str(e)}}
            failed |= bool(row["failed"])
            result["rows"].append(row)
            print_row(row)
            if options.json:
                new = options.json.with_suffix(".new")
                new.write_text(json.dumps(result, indent=1) + "\n")
                os.replace(new, options.json)
    sys.exit(failed)


if __name__ == "__main__":
    main()
