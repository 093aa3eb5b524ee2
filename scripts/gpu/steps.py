"""The steps of a slot on a card, most valuable first."""

import csv
import json
import os
import shutil
import statistics
import sys
from pathlib import Path

from slot import last_line, ok

# Name, default, meaning. CHECK_SIZES=620x448 in the environment overrides `sizes`.
SETTINGS = {
    "models": ("ivif-fast ivif paper-class", "networks to time"),
    "sizes": ("620x448 1280x1024", "pictures to fuse, in `net`; the first one elsewhere too"),
    "batches": ("1 8", "pairs in a call"),
    "runs": ("100", "most runs of a network that count"),
    "seconds": ("0.7", "most seconds that these take together"),
    "ops": ("--size 620x448 --runs 50", "options of `bench ops`"),
    "tests": ("", "tests of the binary `test_cuda`; all if empty"),
    "torch": ("", "options of benches/peers/cuda.py"),
    "data": ("--count 16", "options of `synth`, which draws what is trained on and fused from disk"),
    "train": ("--set stage1.epochs=150 --set stage2.epochs=150", "options of the timed training"),
    "search": ("32 8 64", "channels, batch and patch of the search steps, and options of the bench `search`"),
    "pairs": ("400", "pairs of `bench batch`"),
    "sanitized": ("operators::f16", "tests under compute-sanitizer"),
}
# After `smoke`, without which nothing else is run.
STEPS = ["tests", "ops", "net", "nodes", "torch", "profile", "learn", "supernet", "sanitize"]
# Of what `bench net --resident` does in a run: the whole fusion, and replays between two events.
REPLAYS = 20


def setting(name):
    return os.environ.get(f"CHECK_{name.upper()}", SETTINGS[name][0])


class Check:
    def __init__(self, slot, root, device):
        self.slot, self.root, self.device = slot, root, device
        self.hafuse = root / "bin/hafuse"
        self.pair = [root / "samples/street_1_ir.png", root / "samples/street_1_vi.png"]
        self.models = {name: self.model(name) for name in setting("models").split()}
        self.sizes = setting("sizes").split()
        self.nodes_of = {}

    def model(self, name):
        path = self.root / f"models/{name}.safetensors"
        return path if path.exists() else name

    def bench(self, what, *more):
        return [self.hafuse, "bench", what, "--device", self.device, *more]

    def smoke(self):
        """Whether the card computes at all."""
        s = self.slot
        with s.step("smoke", 120):
            if shutil.which("nvidia-smi"):
                fields = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit,compute_mode"
                s.command("card", ["nvidia-smi", f"--query-gpu={fields}", "--format=csv"], 10, result=lines)
                s.command("card_all", ["nvidia-smi", "-q", "-d", "CLOCK,POWER,ECC,COMPUTE,PERFORMANCE"], 10)
            doctor = [self.hafuse, "doctor", "--strict", "--json"]
            trial = s.command("doctor", doctor, 30, "stdout")
            fuse = [self.hafuse, "fuse", *self.pair, "-o", s.logs / "fused.png", "--device", self.device]
            fused = s.command("fuse", fuse, 60)
            # 5: no card passed. Anything else is not about the card, and the rest may work.
            if ok(fused) and trial["exit_code"] != 5:
                return True
            failed = doctor if ok(fused) else fuse
            s.command("again_synchronous", failed, 30, env={"HAFUSE_SYNC": "1"})
            s.command("again_memcheck", sanitizer("memcheck", failed), 60, result=findings)
        return False

    def tests(self):
        s = self.slot
        with s.step("tests", 80):
            argv = [self.root / "bin/test_cuda", "--nocapture", "--test-threads", "8", *setting("tests").split()]
            s.command("test_cuda", argv, 60, shares)
            s.command("test_memory", [self.root / "bin/test_cuda_memory", "--nocapture"], 20, shares)

    def ops(self):
        s = self.slot
        with s.step("ops", 60):
            for precision in ("f16", "f32"):
                file = s.scratch / f"ops_{precision}.json"
                argv = self.bench("ops", "--precision", precision, *setting("ops").split(), "--json", file)
                s.command(f"ops_{precision}", argv, 30, file)

    def net(self):
        s, most, together = self.slot, int(setting("runs")), float(setting("seconds"))
        # Seconds for a pixel of the network in this precision, from what was measured last.
        speed = {}
        cases = [
            (size, batch, precision, model)
            for size in self.sizes
            for batch in setting("batches").split()
            for precision in ("f16", "f32")
            for model in self.models
        ]
        with s.step("net", 120):
            for size, batch, precision, model in cases:
                width, height = map(int, size.split("x"))
                pixels, key = width * height * int(batch), (model, precision)
                argv = ["--model", self.models[model], "--precision", precision, "--size", size, "--batch", batch, "--json"]
                name = f"net_{model}_{precision}_{size}_b{batch}"
                for mode in ("eager", "graph"):
                    each = speed.get(key, 0) * pixels
                    more = ["--eager"] if mode == "eager" else ["--resident"]
                    # So slow that copies and launches hardly count.
                    if mode == "graph" and 3 * each * REPLAYS > 2 * together:
                        more = []
                    work = each * (1 + REPLAYS * ("--resident" in more))
                    # Nothing is known before the first one.
                    runs = min(most, max(3, int(together / work)) if work else 5)
                    found = s.command(f"{name}_{mode}", self.bench("net", *argv, "--runs", runs, *more), 20, "stdout")
                    if found["result"]:
                        speed[key] = found["result"]["timing"]["median_ms"] / 1e3 / pixels

    def nodes(self):
        """Times of a network's nodes, kernel by kernel."""
        s = self.slot
        with s.step("nodes", 40):
            for precision in ("f16", "f32"):
                for name, model in self.models.items():
                    argv = [self.hafuse, "info", "--model", model, "--size", self.sizes[0], "--device", self.device]
                    argv += ["--precision", precision, "--tape", "--run", "--runs", min(50, int(setting("runs"))), "--json"]
                    found = s.command(f"nodes_{name}_{precision}", argv, 20, "stdout")
                    if found["result"]:
                        self.nodes_of[name] = len(found["result"]["tape"])

    def python(self, modules):
        """Whether this Python has modules and sees the card; the step is marked if not."""
        test = f"import {modules}; import torch; assert torch.cuda.is_available(), 'PyTorch finds no card'"
        found = self.slot.command(f"python_{modules}", [sys.executable, "-c", test], 60)
        if not ok(found):
            self.slot.not_run(found["problem"])
        return ok(found)

    def torch(self):
        s, limit = self.slot, 130
        with s.step("torch", limit):
            if not self.python("onnx"):
                return
            file = s.scratch / "torch.json"
            argv = [sys.executable, self.root / "benches/peers/cuda.py", self.hafuse, "--device", self.device, "--json", file]
            # A case that is begun then is ended by the limit.
            argv += ["--models", *self.models.values(), "--sizes", self.sizes[0], "--seconds", limit - 30]
            s.command("torch", [*argv, *setting("torch").split()], limit, file)

    def profile(self):
        s = self.slot
        with s.step("profile", 75):
            if not shutil.which("ncu"):
                return s.not_run("ncu is not on the PATH")
            tool = ["ncu", "--clock-control", "none", "--csv", "--page", "raw"]
            net = self.bench("net", "--eager", "--runs", "5", "--size")
            file = s.logs / "ncu_probe.csv"
            argv = [*tool, "--launch-count", "1", "--log-file", file, *net, "32x32"]
            found = s.command("ncu_probe", argv, 30, lambda _: profiled(file))
            if not ok(found) or not found["result"]:
                return s.not_run(f"ncu refuses this machine: {last_line(file) or found['problem']}")
            for section in ("SpeedOfLight", "WarpStateStats", "MemoryWorkloadAnalysis", "Occupancy", "LaunchStats"):
                tool += ["--section", section]
            for model in ("ivif", "ivif-fast"):
                # The third run, and some launches of the fourth: a node may need several.
                nodes, file = self.nodes_of.get(model, 40), s.logs / f"ncu_{model}.csv"
                argv = [*tool, "--launch-skip", 2 * nodes, "--launch-count", nodes + nodes // 4, "--log-file", file]
                s.command(f"ncu_{model}", [*argv, *net, self.sizes[0], "--model", model], 45, lambda _: profiled(file))

    def learn(self):
        """Steps of training and of the search, and folders from disk to disk."""
        s = self.slot
        with s.step("learn", 100):
            s.command("synth", [self.hafuse, "synth", "data", "--scene", "street", *setting("data").split()], 20)
            argv = [self.hafuse, "train", "--a", "data/ir", "--b", "data/vi", "--perceptual", "none", "--out", "train"]
            for key in ("data.validation=0", "log_every=10", "preview_every=1000000"):
                argv += ["--set", key]
            argv += ["--device", self.device, *setting("train").split()]
            s.command("train", argv, 25, lambda _: rates(s.scratch / "train/metrics.jsonl"))
            argv = [self.root / "bin/bench_search", *setting("search").split(), "--device", self.device]
            s.command("search", argv, 25, lines)
            argv = self.bench("batch", "data/ir", "data/vi", "--pairs", setting("pairs"), "--rounds", "2", "--json")
            s.command("batch", argv, 30, "stdout")

    def supernet(self):
        s = self.slot
        with s.step("supernet", 45):
            if not self.python("safetensors"):
                return
            file, (channels, batch, patch) = s.scratch / "supernet.json", setting("search").split()[:3]
            argv = [sys.executable, self.root / "benches/peers/supernet.py", "--device", self.device, "--json", file]
            argv += ["--no-build", self.root / "bin/bench_search", "--channels", channels, "--batch", batch, "--patch", patch]
            s.command("supernet", argv, 45, file)

    def sanitize(self):
        s = self.slot
        with s.step("sanitize", 250):
            if not shutil.which("compute-sanitizer"):
                return s.not_run("compute-sanitizer is not on the PATH")
            small = self.bench("net", "--eager", "--runs", "1", "--size", "32x32")
            probe = s.command("probe", sanitizer("memcheck", small), 30, findings)
            # 9: it found something, which is no refusal.
            refused = [line for line in probe["result"] or [] if "not supported" in line]
            if refused or probe["exit_code"] not in (0, 9):
                return s.not_run(f"compute-sanitizer refuses this machine: {(refused or [probe['problem']])[0]}")
            tools = ["memcheck", "racecheck", "synccheck", "initcheck"]
            test = [self.root / "bin/test_cuda", *setting("sanitized").split(), "--test-threads", "1"]
            for i, tool in enumerate(tools):
                # What one leaves is for the others.
                limit = min(60, s.left() / (len(tools) - i))
                s.command(tool, sanitizer(tool, test), limit, findings, {"HAFUSE_TEST_ONCE": "1"}, open_ended=True)

    def run(self, steps):
        """False if no card computes."""
        if not self.smoke():
            return False
        for step in steps:
            getattr(self, step)()
        return True


def sanitizer(tool, argv):
    return ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *argv]


def findings(log):
    """What compute-sanitizer has said but for its head and a sum of none."""
    said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("=========")]
    told = [line for line in said if "COMPUTE-SANITIZER" not in line and " 0 errors" not in line and "(0 errors" not in line]
    return told[:40]


def lines(log):
    return log.read_text(errors="replace").splitlines()[:200]


def shares(log):
    """Errors as shares of their limits, and what tests say of their result."""
    words = (" worst ", " dB ", " off by ", "test result", "panicked", "FAILED", "failed")
    return [line for line in lines(log) if any(word in line for word in words)]


def rates(path):
    """Pictures in a second of each stage: median of the later half of its lines, when all is loaded and captured."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = {}
    for stage in (1, 2):
        all_of = [r["images_per_s"] for r in rows if r.get("stage") == stage and "images_per_s" in r]
        found[f"stage{stage}_images_per_s"] = statistics.median(all_of[len(all_of) // 2 :]) if all_of else None
    return found


def profiled(path):
    """Rows of ncu's table of raw metrics, those that say most."""
    wanted = {
        "Kernel Name": "kernel",
        "gpu__time_duration.sum": "time",
        "sm__throughput.avg.pct_of_peak_sustained_elapsed": "sm_percent",
        "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed": "memory_percent",
        "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": "dram_percent",
        "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue_percent",
        "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy_percent",
    }
    text = path.read_text(errors="replace").splitlines() if path.exists() else []
    # Messages of ncu stand before the table, units in its second line.
    starts = [i for i, line in enumerate(text) if line.startswith('"ID"')]
    rows = list(csv.DictReader(text[starts[0] :]))[1:] if starts else []
    if not rows:
        raise ValueError("no kernel was profiled")
    return [{short: row[name] for name, short in wanted.items() if name in row} for row in rows]
