"""Golden values of the gates' measures, each written from its description: `python gates.py > gates_golden.json`.

Needs numpy. With integer division, A[y, x] = ((x x + 3 y y + x y) / 8 + 40 ((x / 5 + y / 7) mod 3)) mod 256 and
B[y, x] = (11 x + 5 y + x y / 3 + 60 ((x + 2 y) / 9 mod 2)) mod 256, or 128 everywhere if flat_b.
F = (A + B + 1) / 2 for the rule average, max(A, B) for max, 3 (A + B) / 2 - 190 cut off at 0 and 255 for stretch,
A where x / 3 + y / 2 is even and B elsewhere for weave.
plane_r2 is of all pictures of a rule together.
"""

import json

import numpy as np


def scene(w, h, flat_b):
    y, x = np.mgrid[:h, :w]
    a = ((x * x + 3 * y * y + x * y) // 8 + 40 * ((x // 5 + y // 7) % 3)) % 256
    b = (11 * x + 5 * y + x * y // 3 + 60 * ((x + 2 * y) // 9 % 2)) % 256
    return a, np.full_like(a, 128) if flat_b else b


def fuse(a, b, rule):
    y, x = np.mgrid[: a.shape[0], : a.shape[1]]
    return {
        "average": (a + b + 1) // 2,
        "max": np.maximum(a, b),
        "stretch": np.clip(3 * (a + b) // 2 - 190, 0, 255),
        "weave": np.where((x // 3 + y // 2) % 2 == 0, a, b),
    }[rule]


def new_black(a, b, f):
    return 100 * np.mean((f <= 1) & (np.maximum(a, b) >= 20))


def new_white(a, b, f):
    return 100 * np.mean((f >= 254) & (np.maximum(a, b) < 240))


def high(p, sigma=2.0, radius=8):
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    padded = np.pad(p, radius, mode="symmetric")
    h, w = p.shape
    rows = sum(t * padded[i : i + h] for i, t in enumerate(taps))
    return p - sum(t * rows[:, i : i + w] for i, t in enumerate(taps))


def hat(levels, side=17):
    """Weights of a line of `side` values at each level: tents on equal steps of 0..255."""
    return np.maximum(0, 1 - np.abs(levels.ravel()[:, None] / (255 / (side - 1)) - np.arange(side)))


def tone_detail(a, b, f):
    if f.min() == f.max():
        return None
    # Bilinear weights are products of tents. The ridge as rows of the problem: no normal equations here.
    weights = np.einsum("pi,pj->pij", hat(a), hat(b)).reshape(a.size, -1)
    n = weights.shape[1]
    problem = np.concatenate([weights, 1e-3 * np.eye(n)])
    table = np.linalg.lstsq(problem, np.concatenate([f.ravel(), np.zeros(n)]), rcond=None)[0]
    hf, hp = high(f.astype(float)), high((weights @ table).reshape(f.shape))
    return 1 - ((hf - hp) ** 2).sum() / ((hf - hf.mean()) ** 2).sum()


def plane_r2(pictures):
    a, b, f = (np.concatenate([p[i].ravel() for p in pictures]).astype(float) for i in range(3))
    a, b, f = (v[(f > 0) & (f < 255)] for v in (a, b, f))
    columns = np.stack([a, b, np.ones_like(a)], 1)
    p = np.clip(columns @ np.linalg.lstsq(columns, f, rcond=None)[0], 0, 255)
    return 1 - ((f - p) ** 2).sum() / ((f - f.mean()) ** 2).sum()


if __name__ == "__main__":
    sizes = [(1, 1, False), (7, 1, False), (5, 9, False), (24, 17, True), (40, 33, False), (97, 71, False)]
    cases, planes = [], {}
    for rule in ("average", "max", "stretch", "weave"):
        pictures = []
        for w, h, flat_b in sizes:
            a, b = scene(w, h, flat_b)
            f = fuse(a, b, rule)
            pictures.append((a, b, f))
            values = {m.__name__: m(a, b, f) for m in (new_black, new_white, tone_detail)}
            cases.append({"width": w, "height": h, "flat_b": flat_b, "rule": rule, "values": values})
        planes[rule] = plane_r2(pictures)
    print(json.dumps({"about": __doc__.strip().split("\n"), "cases": cases, "plane_r2": planes}, indent=1))
