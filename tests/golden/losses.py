"""The losses and the feature network in JAX, from their definitions (docs/paper.md).

All pictures are [N, H, W, 1]. A loss is a mean over the batch of per-sample values, each multiplied by
its sample's weight.
"""

import jax
import jax.numpy as jnp
import numpy as np

from net import concat


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


def joint_gradient(x, a, b):
    """Beyond the paper: Eq. 6 on the magnitude of each derivative, against the larger of the two
    sources' magnitudes."""
    larger = jnp.maximum(abs(nabla(a)), abs(nabla(b)))
    return ((abs(nabla(x)) - larger) ** 2).sum(-1).mean()


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


def feature_terms(cfg, image, a, b, weights, factor):
    size, std = cfg["ssim_window"], cfg["ssim_sigma"]
    f = cfg["feature"]
    pairs = list(zip((a, b), weights))
    return {
        "feature_ssim": factor * f["ssim"] * sum(ssim_loss(image, s, w, size, std) for s, w in pairs),
        "feature_intensity": factor * f["intensity"] * sum(intensity(image, s, w) for s, w in pairs),
    }


def stage1(net, cfg, feature, a, b):
    return feature_terms(cfg, feature, a, b, weights_of(net, cfg, a, b), 1.0)


def stage2(task, net, cfg, images, a, b):
    """Sections 2.3.4 (ivif: A infrared, B visible) and 3.3.1 (mif: A MRI, B PET)."""
    o = cfg["object"]
    wa, wb = weights_of(net, cfg, a, b)
    target, detail, out = images["target"], images["detail"], images["output"]
    terms = {}
    if net is not None:
        per = perceptual(features(net, target, TAPS), features(net, a, TAPS))
        if task == "mif":
            per = per + perceptual(features(net, target, TAPS), features(net, b, TAPS))
        terms["perceptual"] = o["perceptual"] * per
    if task == "ivif":
        terms["gradient"] = o["gradient"] * gradient(detail, b)
        terms["intensity"] = o["intensity"] * intensity(out, a, wa)
        terms["ssim"] = o["ssim"] * ssim_loss(out, b, wb, cfg["ssim_window"], cfg["ssim_sigma"])
    else:
        terms["gradient"] = o["gradient"] * gradient(detail, a)
        terms["intensity"] = o["intensity"] * (intensity(out, b, wb) + intensity(out, a, wa))
    terms |= feature_terms(cfg, images["feature"], a, b, (wa, wb), o["feature"])
    terms["maximum"] = o["maximum"] * intensity(out, jnp.maximum(a, b))
    k, c = o["additive_steepness"], o["additive_centre"]
    both = jnp.maximum((a + b) / 2, (1 + jnp.tanh(k * (a + b - c)) / np.tanh(k)) / 2)
    terms["additive"] = o["additive"] * intensity(out, both)
    terms["joint_gradient"] = o["joint_gradient"] * joint_gradient(out, a, b)
    terms["correlation"] = o["correlation"] * (2 - pearson(out, a) - pearson(out, b)) / 2
    terms["differences"] = o["differences"] * (2 - pearson(out - b, a) - pearson(out - a, b)) / 2
    return terms
