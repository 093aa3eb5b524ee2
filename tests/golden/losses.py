"""The losses and the feature network in JAX, from their definitions (docs/paper.md).

All pictures are [N, H, W, 1]. A loss is a mean over the batch of per-sample values, each multiplied by
its sample's weight.
"""

import jax
import jax.numpy as jnp
import numpy as np

from net import concat, levels_of, contrast_factor, windows


def valid(x, kernel):
    """The 2-D kernel on every channel, whole windows only."""
    k = jnp.asarray(kernel, jnp.float64)[:, :, None, None]
    k = jnp.tile(k, (1, 1, 1, x.shape[-1]))
    return jax.lax.conv_general_dilated(
        x, k, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1])


# ---- Terms ----------------------------------------------------------------------------------------


def batch_mean(each, weights):
    return jnp.mean(each if weights is None else weights * each)


def intensity(a, b, weights=None):
    """Eq. 4."""
    return batch_mean(((a - b) ** 2).mean((1, 2, 3)), weights)


SOBEL_X = np.outer([1, 2, 1], [-1, 0, 1]) / 8.0


def nabla(x):
    """Derivatives along W and H by Sobel filters, as [N, H - 2, W - 2, 2]."""
    return concat(valid(x, SOBEL_X), valid(x, SOBEL_X.T))


def gradient(a, b, weights=None):
    """Eq. 6, with Sobel derivatives at pixels that have all neighbours."""
    d = nabla(a) - nabla(b)
    return batch_mean((d**2).sum(-1).mean((1, 2)), weights)


def absolute(a, b):
    """Beyond the paper: L1."""
    return abs(a - b).mean()


def absolute_gradient(a, b):
    """Beyond the paper: L1 of the signed derivatives, mean over both directions."""
    return absolute(nabla(a), nabla(b))


def joint_gradient(x, a, b):
    """Beyond the paper: L1 of the magnitude of each derivative against the larger of the two sources'
    magnitudes, mean over both directions."""
    return absolute(abs(nabla(x)), jnp.maximum(abs(nabla(a)), abs(nabla(b))))


def out_of_range(x):
    """Beyond the paper: how far values lie below 0 or above 1, on average."""
    return (jnp.maximum(-x, 0.0) + jnp.maximum(x - 1.0, 0.0)).mean()


def pearson(x, y):
    """Mean over the batch of each sample's correlation, 1e-5 added to the variances."""
    axes = (1, 2, 3)
    x, y = (v - v.mean(axes, keepdims=True) for v in (x, y))
    spread = jnp.sqrt(((x**2).mean(axes) + 1e-5) * ((y**2).mean(axes) + 1e-5))
    return ((x * y).mean(axes) / spread).mean()


def gaussian_window(size, std):
    r = np.arange(size) - (size - 1) / 2
    w = np.exp(-(r[:, None] ** 2 + r[None, :] ** 2) / (2 * std**2))
    return w / w.sum()


def ssim(a, b, size, std, peak=1.0):
    """Wang et al. 2004, per sample: mean of the map over whole windows."""
    w = gaussian_window(size, std)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    pa = jax.lax.conv_general_dilated_patches(
        a, (size, size), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    pb = jax.lax.conv_general_dilated_patches(
        b, (size, size), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    w = jnp.asarray(w.reshape(-1))
    ma, mb = (pa * w).sum(-1, keepdims=True), (pb * w).sum(-1, keepdims=True)
    # Central moments, window by window.
    saa = (w * (pa - ma) ** 2).sum(-1)
    sbb = (w * (pb - mb) ** 2).sum(-1)
    sab = (w * (pa - ma) * (pb - mb)).sum(-1)
    ma, mb = ma[..., 0], mb[..., 0]
    luminance = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
    structure = (2 * sab + c2) / (saa + sbb + c2)
    return (luminance * structure).mean((1, 2))


def ssim_loss(a, b, weights, size, std):
    return batch_mean(1 - ssim(a, b, size, std), weights)


# ---- Exposure-aware target ------------------------------------------------------------------------


def box(x, radius):
    """Mean over the part of the window of 2 radius + 1 pixels that lies inside the picture."""
    n, h, w, c = x.shape
    inside = windows(h, w, radius)
    mean = jnp.einsum("kj,njc->nkc", inside, x.reshape(n, h * w, c)) / inside.sum(1)[None, :, None]
    return mean.reshape(x.shape)


def smooth(x, radius):
    return box(box(x, radius), radius)


def guided(x):
    """Self-guided filter, radius 8: q = mean(s) x + mean((1 - s) m), s = var / (var + eps), m the window's mean."""
    m = box(x, 8)
    var = box(x**2, 8) - m**2
    s = var / (var + (80 / 255) ** 2)
    return box(s, 8) * x + box((1 - s) * m, 8)


def tone(x, low, high):
    """The identity between `low` and 1 - `high`; ends of these widths approach 0 and 1 exponentially, with one slope
    where they meet."""
    floor = low * jnp.exp(jnp.minimum(x / low, 1.0) - 1.0)
    ceiling = 1.0 - high * jnp.exp(jnp.minimum((1.0 - x) / high, 1.0) - 1.0)
    return jnp.where(x < low, floor, jnp.where(x > 1.0 - high, ceiling, x))


def exposure_target(a, b, levels, e):
    """`levels`: of the whole pictures A and B, [N, 1, 1, 2]; `e`: keys of `loss.exposure`. Pictures T, T with the
    fine details of A alone, T with those of B alone, share of A in these details."""
    (mean_a, _), (mean_b, _) = (jnp.split(v, 2, axis=-1) for v in levels)
    mu = mean_a + mean_b
    u = jnp.clip((mu - e["night"]) / (e["day"] - e["night"]), 0.0, 1.0)
    s = u * u * (3.0 - 2.0 * u)
    o = (1 - s) * e["overlap_night"] + s * e["overlap_day"]
    gain = lambda scale: (1 - s) * e[scale + "_night"] + s * e[scale + "_day"]

    base_a, base_b = guided(a), guided(b)
    details_a, details_b = a - base_a, b - base_b
    coarse_a, coarse_b = smooth(details_a, 3), smooth(details_b, 3)
    scales = [(details_a - coarse_a, details_b - coarse_b, 3), (coarse_a, coarse_b, 6)]
    shares = []
    for da, db, radius in scales:
        energy = lambda x: smooth(x**2, radius) + 1e-6
        ea, eb = energy(da) ** 4, energy(db) ** 4
        shares.append(ea / (ea + eb))
    stronger = [w * da + (1 - w) * db for w, (da, db, _) in zip(shares, scales)]
    coarser = gain("detail") * stronger[1]

    r = contrast_factor(levels)
    closer = lambda low, mean, r: mean + (1 - s + s * r) * (low - mean)
    low_a, low_b = closer(base_a, mean_a, r), closer(base_b, mean_b, 1 / r)
    bright, dark = jnp.maximum(low_a, low_b), jnp.minimum(low_a, low_b)
    excess = jnp.maximum(mu * (1 + o) / 2 - jnp.maximum(e["centre"], mu / 2), 0.0)
    base = bright + o * (1 - (1 - s) * bright) * dark - excess
    k = 0.87 * (1 - e["shoulder"])
    above = jnp.maximum(base - e["shoulder"], 0.0)
    base = jnp.where(above > 0, e["shoulder"] + k * (1 - jnp.exp(-above / k)), base)
    knee = 40 / 255
    end = jnp.clip(0.6 * excess, 1e-3, knee)
    fine = (stronger[0], scales[0][0], scales[0][1])
    return [tone(base + coarser + gain("fine") * d, end, knee) for d in fine] + [shares[0]]


# ---- Feature network ------------------------------------------------------------------------------

LAYERS = [(0, False), (2, False), (5, True), (7, False), (10, True)]


def features(net, x, taps):
    """`net`: {"weights": {torchvision names, [cout, cin, 3, 3]}, "grey": bool, "reflect": bool}.
    ReLU outputs; 2 x 2 max-pool in ceil mode before the layers that say so."""
    out = []
    for n, pool in LAYERS[:taps]:
        prefix = "gray01." if n == 0 and net["grey"] else ""
        w = net["weights"][f"{prefix}features.{n}.weight"]
        b = net["weights"][f"{prefix}features.{n}.bias"]
        if n == 0 and not net["grey"]:
            x = concat(x, x, x)
        if pool:
            h, width = x.shape[1:3]
            x = jax.lax.reduce_window(
                x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1),
                ((0, 0), (0, h % 2), (0, width % 2), (0, 0)))
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect" if net["reflect"] else "constant")
        x = jax.lax.conv_general_dilated(
            x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "OIHW", "NHWC")) + b
        x = jnp.where(x > 0, x, 0.0)
        out.append(x)
    return out


def perceptual(fa, fb):
    """Eq. 5, mean over the taps."""
    return sum(((a - b) ** 2).mean() for a, b in zip(fa, fb)) / len(fa)


LAPLACIAN = np.full((3, 3), 1 / 8)
LAPLACIAN[1, 1] = -1.0


def structure(taps):
    """Mean over the taps of the Frobenius norm of the Laplacian of a tap, per sample."""
    norms = [jnp.sqrt((valid(x, LAPLACIAN) ** 2).sum((1, 2, 3))) for x in taps]
    return sum(norms) / len(norms)


def adaptive_weights(fa, fb, scale):
    s = jnp.stack([structure(fa), structure(fb)], axis=-1) / scale
    w = jax.nn.softmax(s, axis=-1)
    return w[:, 0], w[:, 1]


# ---- Objectives -----------------------------------------------------------------------------------

TAPS = 4


def weights_of(net, cfg, a, b):
    if net is None:
        half = jnp.full((a.shape[0],), 0.5)
        return half, half
    return adaptive_weights(features(net, a, TAPS), features(net, b, TAPS), cfg["adaptive_scale"])


def shown(cfg, x):
    """A picture as the losses see it."""
    return jnp.clip(x, 0.0, 1.0) if cfg["clamp"] else x


def target_of(cfg, a, b, levels):
    return exposure_target(a, b, levels or (levels_of(a), levels_of(b)), cfg["exposure"])


def feature_terms(cfg, image, unbounded, a, b, weights, target, factor):
    size, std = cfg["ssim_window"], cfg["ssim_sigma"]
    f = cfg["feature"]
    pairs = list(zip((a, b), weights))
    seen = shown(cfg, image)
    return {
        "feature_ssim": factor * f["ssim"] * sum(ssim_loss(seen, s, w, size, std) for s, w in pairs),
        "feature_intensity": factor * f["intensity"] * sum(intensity(seen, s, w) for s, w in pairs),
        "feature_target": factor * f["target"] * absolute(seen, target),
        "feature_edges": factor * f["edges"] * absolute_gradient(seen, target),
        "feature_range": factor * cfg["range"] * out_of_range(unbounded),
    }


def stage1(net, cfg, feature, unbounded, a, b, levels=None):
    target, _, _, _ = target_of(cfg, a, b, levels)
    return feature_terms(cfg, feature, unbounded, a, b, weights_of(net, cfg, a, b), target, 1.0)


def stage2(task, net, cfg, images, unbounded, a, b, levels=None):
    """Sections 2.3.4 (ivif: A infrared, B visible) and 3.3.1 (mif: A MRI, B PET); terms beyond the paper.
    `unbounded`: the pictures before the ends of the scale."""
    o = cfg["object"]
    size, std = cfg["ssim_window"], cfg["ssim_sigma"]
    wa, wb = weights_of(net, cfg, a, b)
    fused, of_a, of_b, share = target_of(cfg, a, b, levels)
    target, detail, out = (shown(cfg, images[k]) for k in ("target", "detail", "output"))
    terms = {}
    if net is not None:
        fa, fb = features(net, a, TAPS), features(net, b, TAPS)
        per = perceptual(features(net, target, TAPS), fa)
        if task == "mif":
            per = per + perceptual(features(net, target, TAPS), fb)
        terms["perceptual"] = o["perceptual"] * per
        larger = [jnp.maximum(x, y) for x, y in zip(fa, fb)]
        terms["features"] = o["features"] * perceptual(features(net, out, TAPS), larger)
    if task == "ivif":
        terms["gradient"] = o["gradient"] * gradient(detail, b)
        terms["intensity"] = o["intensity"] * intensity(out, a, wa)
        terms["ssim"] = o["ssim"] * ssim_loss(out, b, wb, size, std)
    else:
        terms["gradient"] = o["gradient"] * gradient(detail, a)
        terms["intensity"] = o["intensity"] * (intensity(out, b, wb) + intensity(out, a, wa))
    terms |= feature_terms(cfg, images["feature"], unbounded["feature"], a, b, (wa, wb), fused, o["feature"])
    terms["target"] = o["target"] * absolute(out, fused)
    terms["edges"] = o["edges"] * absolute_gradient(out, fused)
    terms["rows"] = o["rows"] * (absolute(target, of_a) + absolute(detail, of_b))
    mask = jnp.clip(images["mask"], 1e-4, 1 - 1e-4)
    terms["mask"] = -o["mask"] * (share * jnp.log(mask) + (1 - share) * jnp.log(1 - mask)).mean()
    terms["structure"] = o["structure"] * sum(ssim_loss(out, s, None, size, std) for s in (a, b)) / 2
    terms["joint_gradient"] = o["joint_gradient"] * joint_gradient(out, a, b)
    terms["maximum"] = o["maximum"] * absolute(out, jnp.maximum(a, b))
    terms["correlation"] = o["correlation"] * (2 - pearson(out, a) - pearson(out, b)) / 2
    terms["differences"] = o["differences"] * (2 - pearson(out - b, a) - pearson(out - a, b)) / 2
    terms["range"] = cfg["range"] * sum(out_of_range(unbounded[k]) for k in ("target", "detail", "output"))
    return terms
