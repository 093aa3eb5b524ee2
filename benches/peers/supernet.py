#!/usr/bin/env python3
"""A search step of the same supernet in plain PyTorch: checked against ours, then timed in turn with it.

    python benches/peers/supernet.py [--channels 8 16 32] [--rounds 5] [--device cuda] [--json FILE]

Needs torch, numpy and safetensors, and cargo unless --no-build names the bench executable. See README.md beside this file.
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

import torch
import torch.nn.functional as F
from safetensors import safe_open
from served import Served
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
SLOPE = 0.2
OPERATORS = ["3-SC", "5-SC", "3-DC", "5-DC", "3-RB", "5-RB", "3-DB", "5-DB", "SA", "CA"]
CELLS = ["SC", "DC", "MS"]
STEPS = ["weights", "beta", "alpha"]
TOLERANCE = 1e-4


def sigma(x):
    return F.leaky_relu(x, SLOPE)


def conv(cin, cout, k, **options):
    dilation = options.get("dilation", 1)
    return nn.Conv2d(cin, cout, k, padding=dilation * (k // 2), **options)


class Separable(nn.Module):
    def __init__(self, c, k):
        super().__init__()
        self.depthwise1, self.depthwise2 = conv(c, c, k, groups=c), conv(c, c, k, groups=c)
        self.pointwise1, self.pointwise2 = conv(c, c, 1), conv(c, c, 1)

    def forward(self, x):
        y = sigma(self.pointwise1(self.depthwise1(sigma(x))))
        return self.pointwise2(self.depthwise2(y))


class Dilated(nn.Module):
    def __init__(self, c, k):
        super().__init__()
        self.depthwise = conv(c, c, k, groups=c, dilation=2)
        self.pointwise = conv(c, c, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(sigma(x))) + x


class Residual(nn.Module):
    def __init__(self, c, k):
        super().__init__()
        self.conv1, self.conv2 = conv(c, c, k), conv(c, c, k)

    def forward(self, x):
        return self.conv2(sigma(self.conv1(x))) + x


class Dense(nn.Module):
    def __init__(self, c, k):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv(c, c, k), conv(2 * c, c, k), conv(3 * c, c, k)

    def forward(self, x):
        x1 = sigma(self.conv1(x))
        x2 = sigma(self.conv2(torch.cat([x, x1], 1)))
        return sigma(self.conv3(torch.cat([x, x1, x2], 1))) + x


class SpatialAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.conv2, self.attention = conv(c, c, 3), conv(c, c, 3), conv(2, 1, 5)

    def forward(self, x):
        u = self.conv2(sigma(self.conv1(x)))
        stats = torch.cat([u.max(1, keepdim=True).values, u.mean(1, keepdim=True)], 1)
        return u * torch.sigmoid(self.attention(stats)) + x


class ChannelAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.conv2 = conv(c, c, 3), conv(c, c, 3)
        self.attention = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        u = self.conv2(sigma(self.conv1(x)))
        means = u.mean((2, 3))[:, None]
        return u * torch.sigmoid(self.attention(means)).transpose(1, 2)[..., None] + x


def operator(name, c):
    kinds = {"SC": Separable, "DC": Dilated, "RB": Residual, "DB": Dense}
    if name[0].isdigit():
        return kinds[name[2:]](c, int(name[0]))
    return {"SA": SpatialAttention, "CA": ChannelAttention}[name](c)


def mix(weights, ys):
    return sum(w * y for w, y in zip(weights.unbind(), ys))


class Row(nn.Module):
    """Blocks in series, each the mix of all operators."""

    def __init__(self, c, blocks):
        super().__init__()
        for i in range(blocks):
            self.add_module(f"block{i}", nn.ModuleDict({n: operator(n, c) for n in OPERATORS}))

    def forward(self, x, alpha):
        for i, weights in enumerate(alpha):
            block = getattr(self, f"block{i}")
            x = mix(weights, [block[name](x) for name in OPERATORS])
        return x


class Decomposition(nn.Module):
    def __init__(self, c, blocks, radius=4, eps=1e-3):
        super().__init__()
        self.low, self.high = Row(c, blocks), Row(c, blocks)
        self.fuse_low, self.fuse_high = conv(c, c, 1), conv(c, c, 1, bias=False)
        self.radius, self.eps = radius, eps

    def box(self, x):
        r = self.radius
        return F.avg_pool2d(x, 2 * r + 1, 1, r, count_include_pad=False)

    def guided(self, guide, x):
        mean_i, mean_x = self.box(guide), self.box(x)
        a = self.box(guide * x) - mean_i * mean_x
        a = a / (self.box(guide * guide) - mean_i * mean_i + self.eps)
        return self.box(a) * guide + self.box(mean_x - a * mean_i)

    def forward(self, x, alpha):
        guide = x.max(1, keepdim=True).values - x.min(1, keepdim=True).values
        low = self.guided(guide, x)
        y = self.fuse_low(self.low(low, alpha)) + x
        return self.fuse_high(self.high(x - low, alpha)) + y


class MultiScale(nn.Module):
    def __init__(self, c, blocks):
        super().__init__()
        self.down2, self.down4 = conv(c, 2 * c, 3, stride=2), conv(2 * c, 4 * c, 3, stride=2)
        self.scale1, self.scale2, self.scale4 = (Row(s * c, blocks) for s in (1, 2, 4))
        self.fuse1 = conv(c, c, 1)
        self.fuse2, self.fuse4 = conv(2 * c, c, 1, bias=False), conv(4 * c, c, 1, bias=False)

    def forward(self, x, alpha):
        half = self.down2(x)
        quarter = self.down4(half)
        y = self.fuse1(self.scale1(x, alpha)) + x
        # The 1 x 1 commutes with the enlargement, so fewer channels are enlarged; ours does the same.
        for fuse, low in ((self.fuse2, self.scale2(half, alpha)), (self.fuse4, self.scale4(quarter, alpha))):
            y = F.interpolate(fuse(low), x.shape[2:], mode="bilinear", align_corners=False) + y
        return y


class Layer(nn.Module):
    def __init__(self, c, blocks):
        super().__init__()
        self.SC, self.DC, self.MS = Row(c, blocks), Decomposition(c, blocks), MultiScale(c, blocks)

    def forward(self, x, beta, alphas):
        return mix(beta, [getattr(self, k)(x, a) for k, a in zip(CELLS, alphas)])


class Ffm(nn.Module):
    def __init__(self, c, cells, blocks):
        super().__init__()
        self.stem, self.head = conv(2, c, 3), conv(c, 1, 3)
        for i in range(cells):
            self.add_module(f"cell{i}", Layer(c, blocks))

    def forward(self, a, b, arch):
        x = self.stem(torch.cat([a, b], 1))
        for i, (beta, alphas) in enumerate(arch):
            x = getattr(self, f"cell{i}")(x, beta, alphas)
        return self.head(x)


def ssim(a, b):
    """Per sample; only whole windows count."""
    u = torch.arange(11, dtype=torch.float64, device=a.device) - 5
    k = torch.exp(-0.5 * (u / 1.5) ** 2)
    k = (k / k.sum()).to(a.dtype).expand(5, 1, 11)
    all5 = torch.cat([a, b, a * a, b * b, a * b], 1)
    means = F.conv2d(F.conv2d(all5, k[:, :, :, None], groups=5), k[:, :, None, :], groups=5)
    ma, mb, maa, mbb, mab = means.unbind(1)
    product, squares = ma * mb, ma * ma + mb * mb
    above = (2 * product + 1e-4) * (2 * (mab - product) + 9e-4)
    below = (squares + 1e-4) * (maa + mbb - squares + 9e-4)
    return (above / below).mean((1, 2))


def loss_of(image, a, b, config):
    """L^F with equal weights of both sources."""
    weight = config["loss"]["feature"]
    total = 0.0
    for source in (a, b):
        total = total + weight["ssim"] * (0.5 * (1 - ssim(image, source))).mean()
        total = total + weight["intensity"] * 0.5 * (image - source).square().mean()
    return total


class Latency:
    """Eq. 3 on the table of latencies."""

    PARTS = {
        "SC": ([1], []),
        "DC": ([1, 1], ["DC.split", "DC.fuse", "DC.fuse"]),
        "MS": ([1, 2, 4], ["MS.down2", "MS.down4", "MS.fuse1", "MS.fuse2", "MS.fuse4"]),
    }

    def __init__(self, table, device):
        ms = {e["name"]: e["median_ms"] for e in table["entries"]}
        self.cells = []
        for scales, fixed in self.PARTS.values():
            each = [sum(ms[f"{name}@{s}"] for s in scales) for name in OPERATORS]
            self.cells.append((torch.tensor(each, device=device), sum(ms[name] for name in fixed)))

    def __call__(self, arch):
        total = 0.0
        for beta, alphas in arch:
            cells = [fixed + sum((a * each).sum() for a in alpha) for alpha, (each, fixed) in zip(alphas, self.cells)]
            total = total + mix(beta, cells)
        return total


def to_torch(name, value):
    """Our kernels are [kh, kw, cin, cout] and depthwise ones [kh, kw, 1, C]."""
    if value.ndim == 4:
        order = (3, 2, 0, 1)
        return value.permute(order).contiguous()
    if name.endswith("attention.weight"):
        return value[None, None]
    return value


class Step:
    """One kind of step, with the state of its optimiser."""

    def __init__(self, kind, file, channels_last, device):
        self.device = device
        with safe_open(file, "pt", device=str(device)) as f:
            meta = f.metadata()
            tensors = {name: f.get_tensor(name) for name in f.keys()}
        config = self.config = json.loads(meta["config"])
        self.kind, self.outputs = kind, json.loads(meta["outputs"])
        space = config["space"]
        self.network = Ffm(space["channels"], space["cells"], space["blocks"]).to(device)
        self.lat = Latency(json.loads(meta["table"]), device)
        self.arch_params = {}
        for i in range(space["cells"]):
            self.arch_params[f"beta.ffm.cell{i}"] = torch.zeros(3, device=device)
            for cell in CELLS:
                for block in range(space["blocks"]):
                    self.arch_params[f"alpha.ffm.cell{i}.{cell}.block{block}"] = torch.zeros(10, device=device)
        self.params = {f"ffm.{name}": p for name, p in self.network.named_parameters()} | self.arch_params
        ours = {n[6:]: to_torch(n, t) for n, t in tensors.items() if n.startswith("param/")}
        self.ours_count = sum(p.numel() for p in ours.values())
        self.count = sum(p.numel() for p in self.params.values())
        shapes = {n: tuple(p.shape) for n, p in self.params.items()}
        if (theirs := {n: tuple(p.shape) for n, p in ours.items()}) != shapes:
            sys.exit(f"the networks differ: {sorted(set(shapes.items()) ^ set(theirs.items()))[:6]}")
        self.grads = {n[5:]: to_torch(n, t) for n, t in tensors.items() if n.startswith("grad/")}
        self.a, self.b = (tensors[f"input/{n}"].permute(0, 3, 1, 2).contiguous() for n in "ab")
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
            self.a, self.b = (t.to(memory_format=torch.channels_last) for t in (self.a, self.b))
        with torch.no_grad():
            for name, p in self.params.items():
                p.copy_(ours[name])
        # Only what is updated asks for gradients, so autograd does no more than ours.
        prefix = {"weights": "ffm.", "beta": "beta.", "alpha": "alpha."}[kind]
        self.updated = {n: p for n, p in self.params.items() if n.startswith(prefix)}
        for name, p in self.params.items():
            p.requires_grad_(name in self.updated)
        if self.updated.keys() != self.grads.keys():
            sys.exit(f"{kind}: ours updates other parameters: {sorted(self.updated.keys() ^ self.grads.keys())[:6]}")
        values = list(self.updated.values())
        if kind == "weights":
            momentum = config["weights"]["momentum"]
            self.optimiser = torch.optim.SGD(values, lr=1e-6, momentum=momentum, fused=True)
        else:
            o = config["architecture"]
            betas = (o["beta1"], o["beta2"])
            self.optimiser = torch.optim.Adam(
                values, lr=1e-6, betas=betas, weight_decay=o["weight_decay"], fused=True
            )

    def arch(self):
        """Softmax of beta and of the alphas of each cell, for each layer."""
        soft = {n: p.softmax(0) for n, p in self.arch_params.items()}
        space = self.config["space"]
        for i in range(space["cells"]):
            alphas = [
                [soft[f"alpha.ffm.cell{i}.{cell}.block{b}"] for b in range(space["blocks"])] for cell in CELLS
            ]
            yield soft[f"beta.ffm.cell{i}"], alphas

    def backward(self):
        arch = list(self.arch())
        outputs = {"loss": loss_of(self.network(self.a, self.b, arch), self.a, self.b, self.config)}
        total = outputs["loss"]
        if self.kind != "weights":
            outputs["lat"] = self.lat(arch)
            total = outputs["total"] = total + self.config["latency"]["lambda"] * outputs["lat"]
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        if self.kind == "weights":
            torch.nn.utils.clip_grad_norm_(self.updated.values(), self.config["weights"]["clip"], foreach=True)
        return outputs

    def check(self):
        """Largest relative difference of an output, and of all gradients together."""
        outputs = self.backward()
        if outputs.keys() != self.outputs.keys():
            sys.exit(f"{self.kind}: outputs {sorted(outputs)} against {sorted(self.outputs)}")
        value = max(abs(outputs[n].item() / v - 1) for n, v in self.outputs.items())
        difference = sum((p.grad - self.grads[n]).double().square().sum() for n, p in self.updated.items())
        norm = sum(g.double().square().sum() for g in self.grads.values())
        gradient = (difference / norm).sqrt().item()
        self.grads.clear()
        if value > TOLERANCE or gradient > 10 * TOLERANCE:
            sys.exit(f"{self.kind}: not the same network: outputs differ by {value:.1e}, gradients by {gradient:.1e}")
        return value, gradient

    def time(self):
        start = time.perf_counter()
        self.backward()
        self.optimiser.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def warm_up(self):
        """Clocks of a card rise while it works; cuDNN tries its algorithms in the first steps."""
        begun = time.perf_counter()
        self.time()
        while self.device.type == "cuda" and time.perf_counter() - begun < 0.5:
            self.time()


def serve(executable, kind, channels, options, file):
    """Our bench executable, a step on demand."""
    command = [executable, channels, options.batch, options.patch]
    command += ["--step", kind, "--dump", file, "--device", options.device]
    env = os.environ | {"RAYON_NUM_THREADS": str(options.threads)}
    try:
        return Served(command, env=env, cwd=ROOT)
    except RuntimeError as problem:
        sys.exit(str(problem))


def build():
    command = ["cargo", "bench", "--bench", "search", "--no-run", "--message-format=json"]
    out = subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout
    messages = map(json.loads, out.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and "bench" in m["target"]["kind"])


def commit():
    """Of the checkout, where there is one."""
    try:
        out = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True, capture_output=True)
        return out.stdout.strip() or None
    except OSError:
        return None


def device(text):
    try:
        found = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: give cpu, cuda or cuda:N") from error
    if found.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text}: give cpu, cuda or cuda:N")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"{text}: this PyTorch finds no card")
    return found


def binary(text):
    path = Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file; it is what `cargo bench --bench search --no-run` builds")
    return str(path)


def cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
        return f"{fields['model name']} (family {fields['cpu family']} model {fields['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def measure(executable, kind, channels, options):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "step.safetensors"
        ours = serve(executable, kind, channels, options, file)
        # Both layouts, the faster one counts; each is warmed up by the check.
        trials = {}
        for last in (False, True):
            step = Step(kind, file, last, options.device)
            checked = step.check()
            if options.device.type == "cuda":
                step.warm_up()
            trials[last] = (step.time(), checked, step.ours_count, step.count)
            del step
        last = trials[True][0] < trials[False][0]
        step = Step(kind, file, last, options.device)
    step.warm_up()
    ours.seconds()
    pairs = [(ours.seconds(), step.time()) for _ in range(options.rounds)]
    ours.close()
    _, (value, gradient), ours_count, count = trials[last]
    row = {
        "channels": channels,
        "step": kind,
        "ours_s": statistics.median(p[0] for p in pairs),
        "torch_s": statistics.median(p[1] for p in pairs),
        "ratio": statistics.median(p[1] / p[0] for p in pairs),
        "best_ratio": min(p[1] for p in pairs) / min(p[0] for p in pairs),
        "runs_s": pairs,
        "layout": "channels last" if last else "contiguous",
        "parameters": {"ours": ours_count, "torch": count},
        "difference": {"outputs": value, "gradients": gradient},
    }
    print(
        f"| {channels} | {kind} | {row['ours_s']:.3f} | {row['torch_s']:.3f} | {row['ratio']:.2f} | {row['best_ratio']:.2f} "
        f"| {row['layout']} | {ours_count} = {count} | {value:.0e}, {gradient:.0e} |",
        flush=True,
    )
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--steps", nargs="+", default=STEPS, choices=STEPS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda or cuda:N, for both")
    parser.add_argument("--no-build", type=binary, metavar="BINARY", help="the executable of our bench `search`, instead of building it")
    parser.add_argument("--json", type=Path, help="write the table with every run here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # f32 on both sides: convolutions in TF32 would not be within the tolerance.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    executable = options.no_build or build()
    about = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_model(),
        "device": torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else "cpu",
        "threads": options.threads,
        "batch": options.batch,
        "patch": options.patch,
        "rounds": options.rounds,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }
    print(", ".join(f"{k} {v}" for k, v in about.items()) + "\n")
    print("| C | step | ours, s | PyTorch, s | ratio | best | PyTorch's layout | parameters | difference: outputs, gradients |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = [measure(executable, kind, c, options) for c in options.channels for kind in options.steps]
    if options.json:
        options.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
