#!/usr/bin/env python3
"""Runs exported models in ONNX Runtime and compares with what hafuse computed.

    python tests/data/onnx_judge.py FOLDER

FOLDER holds pairs NAME.onnx and NAME.safetensors; the latter has f32 tensors CASE/a, CASE/b and CASE/fused, each
[N, 1, H, W]. Prints a line of JSON for each model: the largest difference, whether onnx has checked the model, and
the versions. Needs onnxruntime and numpy; with the package onnx there, each model is checked in full as well.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

try:
    import onnx
except ImportError:
    onnx = None


def tensors(path):
    """The f32 tensors of a safetensors file: the length of a JSON header, the header, the bytes."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    for name, about in header.items():
        if about["dtype"] != "F32":
            sys.exit(f"{path}: {name} is {about['dtype']}, not F32")
        first, end = about["data_offsets"]
        values = np.frombuffer(data[start + first : start + end], "<f4")
        yield name, values.reshape(about["shape"])


def judge(path):
    if onnx is not None:
        onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    values = dict(tensors(path.with_suffix(".safetensors")))
    cases = sorted({name.rsplit("/", 1)[0] for name in values})
    worst, where = 0.0, None
    for case in cases:
        a, b, wanted = (values[f"{case}/{name}"] for name in ("a", "b", "fused"))
        (found,) = session.run(["fused"], {"a": a, "b": b})
        if found.shape != wanted.shape:
            sys.exit(f"{path.stem}, {case}: shape {found.shape}, not {wanted.shape}")
        difference = float(np.abs(found.astype(np.float64) - wanted).max())
        if not difference <= worst:  # NaN counts
            worst, where = difference, case
    return {"model": path.stem, "cases": len(cases), "difference": worst if worst == worst else None, "case": where}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    versions = {"onnxruntime": onnxruntime.__version__, "onnx": onnx and onnx.__version__}
    for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
        print(json.dumps(judge(path) | versions), flush=True)


if __name__ == "__main__":
    main()
