"""Golden values of the fusion rules, each written from its description and pixel by pixel: `python baselines.py > baselines_golden.json`.

Needs numpy. A[y, x] = ((x x + 3 y y + x y) / 8 + 40 ((x / 5 + y / 7) mod 3)) mod 256, B[y, x] =
(11 x + 5 y + x y / 3 + 60 ((x + 2 y) / 9 mod 2)) mod 256, integer division, both divided by 255.
"""

import json
import math

import numpy as np


def scene(w, h):
    y, x = np.mgrid[:h, :w]
    a = ((x * x + 3 * y * y + x * y) // 8 + 40 * ((x // 5 + y // 7) % 3)) % 256
    b = (11 * x + 5 * y + x * y // 3 + 60 * ((x + 2 * y) // 9 % 2)) % 256
    return a / 255.0, b / 255.0


def correlate(p, kernel):
    r, s = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(p, ((r, r), (s, s)), mode="edge")
    h, w = p.shape
    return sum(kernel[i, j] * padded[i : i + h, j : j + w] for i in range(2 * r + 1) for j in range(2 * s + 1))


FIVE = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256.0


def reduce(p):
    return correlate(p, FIVE)[::2, ::2]


def expand(p, shape):
    p = np.pad(p, 2, mode="edge")
    zeros = np.zeros((2 * p.shape[0], 2 * p.shape[1]))
    zeros[::2, ::2] = p
    return correlate(zeros, 4 * FIVE)[4 : 4 + shape[0], 4 : 4 + shape[1]]


def laplacian(a, b, levels=4):
    stack = []
    while levels > 0 and max(a.shape) > 1:
        sa, sb = reduce(a), reduce(b)
        la, lb = a - expand(sa, a.shape), b - expand(sb, b.shape)
        stack.append(np.where(abs(la) > abs(lb), la, np.where(abs(la) < abs(lb), lb, (la + lb) / 2)))
        a, b, levels = sa, sb, levels - 1
    out = (a + b) / 2
    for band in reversed(stack):
        out = band + expand(out, band.shape)
    return np.clip(out, 0, 1)


def window(p, y, x, r):
    return p[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1]


def each(f, shape):
    return np.array([[f(y, x) for x in range(shape[1])] for y in range(shape[0])])


def box(p, r):
    return each(lambda y, x: window(p, y, x, r).mean(), p.shape)


def guided(p, guide, r, eps):
    def line(y, x):
        i, q = window(guide, y, x, r), window(p, y, x, r)
        slope = ((i - i.mean()) * (q - q.mean())).mean() / (i.var() + eps)
        return slope, q.mean() - slope * i.mean()

    lines = each(line, p.shape)
    return box(lines[..., 0], r) * guide + box(lines[..., 1], r)


def gff(a, b):
    edge = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    d = np.arange(-5, 6)
    gauss = np.exp(-(d[:, None] ** 2 + d[None] ** 2) / (2 * 5.0**2))
    sa, sb = (correlate(abs(correlate(p, edge)), gauss / gauss.sum()) for p in (a, b))
    pa = np.where(sa > sb, 1.0, np.where(sa == sb, 0.5, 0.0))
    out = 0
    base_a, base_b = box(a, 15), box(b, 15)
    for layer_a, layer_b, r, eps in ((base_a, base_b, 45, 0.3), (a - base_a, b - base_b, 7, 1e-6)):
        wa = np.clip(guided(pa, a, r, eps), 0, 1)
        wb = np.clip(guided(1 - pa, b, r, eps), 0, 1)
        out = out + (wa * layer_a + wb * layer_b) / (wa + wb)
    return np.clip(out, 0, 1)


if __name__ == "__main__":
    cases = []
    for w, h in ((1, 1), (7, 1), (1, 6), (13, 9), (40, 33)):
        a, b = scene(w, h)
        # A few pixels and two sums tell enough.
        for name, rule in (("laplacian", laplacian), ("gff", gff)):
            if name == "gff" and min(w, h) == 1:
                continue  # saliency may tie to rounding there
            f = rule(a, b)
            places = sorted({0, w - 1, w * h // 2, w * (h - 1), w * h - 1})
            cases.append({
                "rule": name, "width": w, "height": h, "sum": f.sum(),
                "weighted": sum(math.cos(0.37 * i) * v for i, v in enumerate(f.ravel())),
                "pixels": [[i, f.ravel()[i]] for i in places],
            })
    print(json.dumps({"about": __doc__.strip().split("\n"), "cases": cases}, indent=1))
