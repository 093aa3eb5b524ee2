"""`gpu-check.sh pack`: builds, and collects in one folder what a machine with a card needs to run it."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What a lent machine takes, with room for the working tree.
LIMIT_MIB = 45
# As cargo names its targets: what is taken, and what it is called there.
TARGETS = {
    ("bin", "hafuse"): "hafuse",
    ("test", "cuda"): "test_cuda",
    ("test", "cuda_memory"): "test_cuda_memory",
    ("bench", "search"): "bench_search",
}
# The same places as in a checkout, so that scripts find what they read there.
COPIED = ["samples", "benches/peers", "scripts", "models/recipes", "models/search.toml"]
COPIED += [f"models/{name}.json" for name in ("ivif", "ivif-fast", "mif")]


def build(arch, emulated):
    """Executables by their names, and the folder of the emulated driver."""
    command = ["cargo", "build", "--locked", "--message-format=json-render-diagnostics"]
    command += [] if emulated else ["--release"]
    for kind, name in TARGETS:
        command += [f"--{kind}", name]
    env = os.environ | ({"HAFUSE_CUDA_ARCHS": arch} if arch else {})
    out = subprocess.run(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE)
    if out.returncode != 0:
        sys.exit(out.returncode)
    messages = [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]
    found, driver = {}, None
    for m in messages:
        if m["reason"] == "compiler-artifact" and m.get("executable"):
            name = TARGETS.get((m["target"]["kind"][0], m["target"]["name"]))
            if name:
                found[name] = Path(m["executable"])
        if m["reason"] == "build-script-executed" and "cuda-emulator" in m["package_id"]:
            driver = Path(m["out_dir"])
    if missing := set(TARGETS.values()) - set(found):
        sys.exit(f"cargo built no {', '.join(sorted(missing))}")
    return found, driver


def strip(path):
    """Symbols are a third of a binary; where `strip` is missing or refuses, it only stays larger."""
    if shutil.which("strip"):
        subprocess.run(["strip", path], stderr=subprocess.DEVNULL)


def write_paper_class(out, narrow):
    """A network of the paper's cost with random weights: what a training of no epochs writes."""
    hafuse, genotype = out / "bin/hafuse", json.loads((ROOT / "benches/paper-class.json").read_text())
    if narrow:
        genotype["channels"] = 4
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"check": True, "cwd": folder, "stdout": subprocess.DEVNULL}
        (Path(folder) / "genotype.json").write_text(json.dumps(genotype))
        subprocess.run([hafuse, "synth", "data", "--scene", "street", "--count", "1"], **quiet)
        command = [hafuse, "train", "--genotype", "genotype.json", "--a", "data/ir", "--b", "data/vi", "--out", "paper-class"]
        # Of the first seeds the one whose picture stays in [0, 1] nearly everywhere: what is clamped compares well with anything.
        command += ["--device", "cpu", "--perceptual", "none", "--seed", "3"]
        for key in ("stage1.epochs", "stage2.epochs", "data.validation"):
            command += ["--set", f"{key}=0"]
        subprocess.run(command, **quiet, stderr=subprocess.DEVNULL)
        shutil.copy(Path(folder) / "paper-class/model.safetensors", out / "models/paper-class.safetensors")


def commit():
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    return done.stdout.strip() or "unknown"


def main():
    parser = argparse.ArgumentParser(prog="gpu-check.sh pack", description=__doc__)
    parser.add_argument("dir", type=Path, help="the folder to make; bin, models and the like in it are replaced")
    parser.add_argument("--arch", help="compute capability of the card times 10, or several: 90, '80;90'")
    parser.add_argument(
        "--emulated",
        action="store_true",
        help="for a rehearsal: a development build, the emulated driver in place of a card's, a narrow paper-class",
    )
    options = parser.parse_args()
    out = options.dir.resolve()
    out.mkdir(parents=True, exist_ok=True)
    executables, driver = build(options.arch, options.emulated)
    version = subprocess.run([executables["hafuse"], "--version"], check=True, text=True, stdout=subprocess.PIPE).stdout
    if "built without nvcc" in version and not options.emulated:
        sys.exit("nvcc was not found, so this binary has no kernels; put it on the PATH or set NVCC")
    for name in ("bin", "emulator", "models", "samples", "benches", "scripts"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "bin").mkdir()
    for name, path in executables.items():
        strip(shutil.copy(path, out / "bin" / name))
    for name in COPIED:
        source, target = ROOT / name, out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    # The paper's cost takes an emulated card minutes.
    write_paper_class(out, narrow=options.emulated)
    if options.emulated:
        if driver is None or not (driver / "libcuda.so").exists():
            sys.exit("there is no emulated driver: it needs Linux and a C++ compiler")
        (out / "emulator").mkdir()
        shutil.copy(driver / "libcuda.so", out / "emulator")
        shutil.copytree(driver / "images", out / "emulator/images")
    (out / "commit").write_text(commit() + "\n")
    mib = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 2**20
    print(version, end="")
    print(f"{out}: {mib:.1f} MiB")
    if mib > LIMIT_MIB:
        sys.exit(f"{mib:.1f} MiB are more than the {LIMIT_MIB} that travel; name fewer cards: --arch 90")


if __name__ == "__main__":
    main()
