"""A real training of the built-in models and a search on a card, gone on with in every slot."""

import shutil
import tarfile
import tempfile
from pathlib import Path

# What a lent machine gives back of a file, less the others' share of the archive.
MOST_BYTES = 12 << 20
# In the order in which they take their time.
ALL = ["ivif-fast", "ivif", "mif", "search"]


def run(slot, root, device, data, what):
    """`runs.tgz` beside `bin` is what earlier slots have brought back."""
    # The same path in every slot: a checkpoint holds the paths of its run.
    work = Path(tempfile.gettempdir()) / "hafuse-train"
    runs, earlier = work / "runs", root / "runs.tgz"
    if not runs.exists() and earlier.exists():
        work.mkdir(exist_ok=True)
        with tarfile.open(earlier) as tar:
            tar.extractall(work, filter="data")
    runs.mkdir(parents=True, exist_ok=True)
    for name in ("models", "scripts"):
        shutil.copytree(root / name, work / name, dirs_exist_ok=True)
    for folder in data.iterdir():
        link = work / folder.name
        link.unlink(missing_ok=True)
        link.symlink_to(folder)

    def wanted(entry):
        if entry.size > MOST_BYTES:
            slot.about["left_behind"][entry.name] = entry.size
        return None if "/preview" in entry.name or entry.size > MOST_BYTES else entry

    def keep():
        """Checkpoints are written whole, so any moment will do."""
        slot.about["left_behind"] = {}
        slot.pack("runs.tgz", runs, filter=wanted)

    for name in what:
        with slot.step(name):
            out, limit = runs / name, slot.left()
            if name == "search":
                command, env = search(root, work, out, device), {}
            else:
                command = [work / "scripts/train-models.sh", work, runs, name]
                env = {"HAFUSE": str(root / "bin/hafuse"), "DEVICE": device}
            slot.command(name, command, limit, env=env, tick=keep, cwd=work, open_ended=True)
            if (out / "metrics.jsonl").exists():
                shutil.copy(out / "metrics.jsonl", slot.logs / f"{name}.jsonl")
            keep()


def search(root, work, out, device):
    hafuse = root / "bin/hafuse"
    if (out / "genotype.json").exists():
        return [hafuse, "info", "--genotype", out / "genotype.json"]
    resume = ["--resume"] if (out / "checkpoint.safetensors").exists() else []
    return [hafuse, "search", work / "models/search.toml", "--out", out, "--device", device, *resume]
