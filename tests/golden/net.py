"""The network in JAX, from its mathematical definition (docs/paper.md), with nothing of the engine's
own shortcuts: concatenations are concatenations, windows are windows.

Layout NHWC, dense kernels [kh, kw, cin, cout], depthwise kernels [kh, kw, 1, C]. A `Params` hands out
parameters by the name of the place where they stand; in collecting mode it makes them up.
"""

import jax
import jax.numpy as jnp
import numpy as np

# The engine keeps the slope of the leaky ReLU as f32, so the constant of the problem is that number.
SLOPE = float(np.float32(0.2))


class Params:
    """Parameters by name. With `rng`, a name not seen yet gets random f32 values."""

    def __init__(self, values=None, rng=None):
        self.values = {} if values is None else values
        self.rng = rng

    def get(self, name, shape, fan_in):
        if self.rng is not None and name not in self.values:
            std = 0.1 if fan_in is None else (0.6 / fan_in) ** 0.5
            w = self.rng.normal(0.0, std, shape).astype(np.float32)
            self.values[name] = jnp.asarray(w, jnp.float64)
        w = self.values[name]
        assert w.shape == tuple(shape), (name, w.shape, shape)
        return w


def sigma(x):
    return jnp.where(x > 0, x, SLOPE * x)


def sigmoid(x):
    return 1.0 / (1.0 + jnp.exp(-x))


def convolve(x, w, stride=1, dilation=1, groups=1):
    """Zero padding of dilation (k - 1) / 2 on each side."""
    pad = [(dilation * (k - 1) // 2,) * 2 for k in w.shape[:2]]
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), pad, rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups)


def conv(p, name, x, k, cout, stride=1):
    cin = x.shape[-1]
    w = p.get(f"{name}.weight", (k, k, cin, cout), k * k * cin)
    b = p.get(f"{name}.bias", (cout,), None)
    return convolve(x, w, stride) + b


def depthwise(p, name, x, k, dilation):
    c = x.shape[-1]
    w = p.get(f"{name}.weight", (k, k, 1, c), k * k)
    b = p.get(f"{name}.bias", (c,), None)
    return convolve(x, w, 1, dilation, groups=c) + b


def concat(*xs):
    return jnp.concatenate(xs, axis=-1)


# ---- The ten operators ----------------------------------------------------------------------------


def separable(p, n, x, k):
    c = x.shape[-1]
    for i in (1, 2):
        x = sigma(x)
        x = depthwise(p, f"{n}.depthwise{i}", x, k, 1)
        x = conv(p, f"{n}.pointwise{i}", x, 1, c)
    return x


def dilated(p, n, x, k):
    y = depthwise(p, f"{n}.depthwise", sigma(x), k, 2)
    return conv(p, f"{n}.pointwise", y, 1, x.shape[-1]) + x


def residual(p, n, x, k):
    c = x.shape[-1]
    return conv(p, f"{n}.conv2", sigma(conv(p, f"{n}.conv1", x, k, c)), k, c) + x


def dense(p, n, x, k):
    c = x.shape[-1]
    x1 = sigma(conv(p, f"{n}.conv1", x, k, c))
    x2 = sigma(conv(p, f"{n}.conv2", concat(x, x1), k, c))
    x3 = sigma(conv(p, f"{n}.conv3", concat(x, x1, x2), k, c))
    return x + x3


def trunk(p, n, x):
    c = x.shape[-1]
    s = conv(p, f"{n}.conv1", x, 3, c)
    return conv(p, f"{n}.conv2", sigma(s), 3, c)


def spatial_attention(p, n, x):
    u = trunk(p, n, x)
    stats = concat(u.max(-1, keepdims=True), u.mean(-1, keepdims=True))
    return u * sigmoid(conv(p, f"{n}.attention", stats, 5, 1)) + x


def channel_attention(p, n, x):
    u = trunk(p, n, x)
    w = p.get(f"{n}.attention.weight", (3,), 3)
    mean = u.mean((1, 2))
    pad = jnp.pad(mean, ((0, 0), (1, 1)))
    c = x.shape[-1]
    z = jnp.stack([(pad[:, i:i + 3] * w).sum(-1) for i in range(c)], axis=-1)
    return u * sigmoid(z)[:, None, None, :] + x


OPERATORS = {
    "3-SC": lambda p, n, x: separable(p, n, x, 3),
    "5-SC": lambda p, n, x: separable(p, n, x, 5),
    "3-DC": lambda p, n, x: dilated(p, n, x, 3),
    "5-DC": lambda p, n, x: dilated(p, n, x, 5),
    "3-RB": lambda p, n, x: residual(p, n, x, 3),
    "5-RB": lambda p, n, x: residual(p, n, x, 5),
    "3-DB": lambda p, n, x: dense(p, n, x, 3),
    "5-DB": lambda p, n, x: dense(p, n, x, 5),
    "SA": spatial_attention,
    "CA": channel_attention,
}


# ---- The three cells ------------------------------------------------------------------------------


def windows(h, w, radius):
    """[HW, HW]: 1 where column pixel lies in the square window around row pixel."""
    y, x = np.divmod(np.arange(h * w), w)
    inside = (abs(y[:, None] - y) <= radius) & (abs(x[:, None] - x) <= radius)
    return jnp.asarray(inside, jnp.float64)


def guided_filter(guide, x, radius, eps):
    """He, Sun, Tang, TPAMI 2013, by the definition: a least-squares line in every window, and the mean
    of the lines of all windows that hold a pixel."""
    n, h, w, c = x.shape
    inside = windows(h, w, radius)
    count = inside.sum(1)
    i = guide.reshape(n, h * w)
    p = x.reshape(n, h * w, c)

    def mean(v):
        return jnp.einsum("kj,nj...->nk...", inside, v) / count.reshape((1, -1) + (1,) * (v.ndim - 2))

    mean_i, mean_p = mean(i), mean(p)
    # Deviations of pixel j from the means of window k, weighted by membership.
    di = (i[:, None, :] - mean_i[:, :, None]) * inside
    var = (di**2).sum(-1) / count
    dp = p[:, None, :, :] - mean_p[:, :, None, :]
    cov = jnp.einsum("nkj,nkjc->nkc", di, dp) / count[:, None]
    a = cov / (var + eps)[..., None]
    b = mean_p - a * mean_i[..., None]
    return (mean(a) * i[..., None] + mean(b)).reshape(x.shape)


def row(p, n, blocks, x):
    for i, kind in enumerate(blocks):
        x = OPERATORS[kind](p, f"{n}.block{i}", x)
    return x


def successive(p, n, blocks, x, gf):
    return row(p, n, blocks, x)


def decomposition(p, n, blocks, x, gf):
    c = x.shape[-1]
    guide = x.max(-1) - x.min(-1)
    low = guided_filter(guide, x, gf["radius"], gf["eps"])
    high = x - low
    low = row(p, f"{n}.low", blocks, low)
    high = row(p, f"{n}.high", blocks, high)
    w = [p.get(f"{n}.fuse_{s}.weight", (1, 1, c, c), 2 * c) for s in ("low", "high")]
    b = p.get(f"{n}.fuse_low.bias", (c,), None)
    return convolve(concat(low, high), jnp.concatenate(w, axis=2)) + b + x


def upsample(x, h, w):
    n, _, _, c = x.shape
    return jax.image.resize(x, (n, h, w, c), method="linear", antialias=False)


def multi_scale(p, n, blocks, x, gf):
    _, h, w, c = x.shape
    half = conv(p, f"{n}.down2", x, 3, 2 * c, stride=2)
    quarter = conv(p, f"{n}.down4", half, 3, 4 * c, stride=2)
    rows = [row(p, f"{n}.scale{s}", blocks, y) for s, y in ((1, x), (2, half), (4, quarter))]
    up = concat(*[upsample(r, h, w) for r in rows])
    k = [p.get(f"{n}.fuse{s}.weight", (1, 1, s * c, c), 7 * c) for s in (1, 2, 4)]
    b = p.get(f"{n}.fuse1.bias", (c,), None)
    return convolve(up, jnp.concatenate(k, axis=2)) + b + x


CELLS = {"SC": successive, "DC": decomposition, "MS": multi_scale}


def cell(p, n, gene, x, gf):
    return CELLS[gene["cell"]](p, n, gene["blocks"], x, gf)


# ---- The whole network ----------------------------------------------------------------------------


def levels_of(x):
    """Mean and standard deviation of each whole picture [N, H, W, 1], as [N, 1, 1, 2]."""
    mean = x.mean((1, 2), keepdims=True)
    variance = ((x - mean) ** 2).mean((1, 2), keepdims=True)
    return concat(mean, jnp.sqrt(variance + 1e-6))


def contrast_factor(levels):
    """Of A's contrast: fourth root of the ratio of B's deviation to A's, at least 1 / 1.5 and at most 1.5."""
    return jnp.clip((levels[1][..., 1:] / levels[0][..., 1:]) ** 0.25, 1 / 1.5, 1.5)


def balance(a, b, levels):
    """Two pictures of a scene, and both without their means at contrasts brought closer."""
    r = contrast_factor(levels)
    mean_a, mean_b = (v[..., :1] for v in levels)
    return concat(a, b, r * (a - mean_a), (b - mean_b) / r)


def framed(g, a, b, levels):
    """Both sources with a border of mirror image, and what the stem sees."""
    frame = g["frame"]
    levels = levels or (levels_of(a), levels_of(b))
    pad = [(0, 0)] + [(frame["border"],) * 2] * 2 + [(0, 0)]
    a, b = (jnp.pad(v, pad, mode="reflect") for v in (a, b))
    return a, b, balance(a, b, levels) if frame["levels"] else concat(a, b)


def unframed(g, x):
    border = g["frame"]["border"]
    return x[:, border : x.shape[1] - border, border : x.shape[2] - border]


def bent(x, end):
    """The identity between `end` and 1 - `end`; beyond, values approach 0 and 1 exponentially."""
    low = end * jnp.exp(jnp.minimum(x, end) / end - 1.0)
    high = 1.0 - end * jnp.exp(jnp.minimum(1.0 - x, end) / end - 1.0)
    return jnp.where(x < end, low, jnp.where(x > 1.0 - end, high, x))


def bounded(g, images):
    """The pictures of `ffm` and `fusion` as they are shown; the mask is none."""
    end = g["frame"].get("ends", 0.0)
    return {k: bent(v, end) if end > 0 and k != "mask" else v for k, v in images.items()}


def ffm(p, g, a, b, levels=None):
    """`levels`: of the whole pictures, where A and B are parts of them."""
    _, _, pair = framed(g, a, b, levels)
    return {"feature": unframed(g, feature_level(p, g, pair))}


def feature_level(p, g, pair):
    x = conv(p, "ffm.stem", pair, 3, g["channels"])
    for i, gene in enumerate(g["ffm"]):
        x = cell(p, f"ffm.cell{i}", gene, x, g["guided_filter"])
    return conv(p, "ffm.head", x, 3, 1)


def ofm_row(p, g, which, feature, source):
    n = f"ofm.{which}"
    x = conv(p, f"{n}.stem", concat(feature, source), 3, g["channels"])
    x = cell(p, f"{n}.cell", g[which], x, g["guided_filter"])
    return x, conv(p, f"{n}.head", x, 3, 1)


def fusion(p, g, a, b, levels=None):
    a, b, pair = framed(g, a, b, levels)
    feature = feature_level(p, g, pair)
    ft, target = ofm_row(p, g, "target", feature, a)
    fd, detail = ofm_row(p, g, "detail", feature, b)
    hidden = sigma(conv(p, "aggregation.conv1", concat(ft, fd), 3, max(1, g["channels"] // 2)))
    mask = sigmoid(conv(p, "aggregation.conv2", hidden, 3, 1))
    output = mask * target + (1 - mask) * detail
    images = {"feature": feature, "target": target, "detail": detail, "mask": mask, "output": output}
    return {k: unframed(g, v) for k, v in images.items()}
