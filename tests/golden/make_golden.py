"""Makes the golden files beside it: the network, the losses, their gradients and Adam, computed in JAX
in f64 by net.py and losses.py, which share nothing with the engine but the definitions.

Made with: Python 3.11.7, jax 0.10.2, jaxlib 0.10.2, numpy 2.4.6, safetensors 0.8.0
Command (Linux x86-64, CPU):
    python3 -m venv venv && venv/bin/pip install 'jax[cpu]' numpy safetensors
    venv/bin/python tests/golden/make_golden.py

Inputs and weights are f32 values, so an f64 engine sees exactly the same problem. Results are f64, or
f32 where the list says so. Names in the files (gradients are `d` + the name of what they belong to):

operators.safetensors   OP/x [1,9,11,5], OP/g (cotangent), OP/y, OP/dx, OP/w/PARAM, OP/dw/PARAM
cells.safetensors       the same for the cells of the metadata `genes`, x [1,13,10,4]
features_*.safetensors  two tiny feature networks, as a user would give them to hafuse
features.safetensors    for both: x [1,17,19,1], NET/tapI, NET/gI (cotangents), NET/dx
exposure.safetensors    a, b [3,19,22,1]: night, dusk, day; levels_a, levels_b [3,1,1,2] of the whole pictures;
                        fused, of_a, of_b, share: the exposure-aware target with the constants of the metadata `exposure`.
                        balance/a, b, g (cotangent), y and their gradients da, db, dlevels_a, dlevels_b;
                        whole/levels_a, levels_b, y, da, db: the same with the levels of balance/a and b themselves.
network.safetensors     a, b [2,16,18,1], parts of pictures with levels_a, levels_b [2,1,1,2]; w/PARAM;
                        feature, target, detail, mask, output. whole/feature, whole/output: a and b are whole pictures and
                        the ends of the scale bend.
                        plain/feature, plain/output: without frame, by the stem's weights for A and B alone.
                        TASK/sigma [2 (sample), 2 (source)]: adaptive weights.
                        TASK/STAGE/term/TERM, TASK/STAGE/total: scalars.
                        TASK/STAGE/dimage/TERM/IMAGE: of a term by an output of the network; mif: where it differs
                        from ivif.
                        TASK/STAGE/dw/PARAM: of the total; f32 except ivif/stage2.
                        none/... : without a feature network (task ivif), the ends of the scale bend; scalars, and
                        dw of the heads.
adam.safetensors        PARAM: its change (f32) by three Adam steps on ivif/stage2 with the same batch
Metadata of network.safetensors: genotype, bent (with ends), plain (without frame), slope, overrides (of the default
configuration), features.
"""

import json
import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

# Compiling takes far longer than computing here.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parent))
import losses
import net
from net import Params

HERE = Path(__file__).parent
SEED = 20211024
GUIDED = {"radius": 4, "eps": 1e-3}

GENOTYPE = {
    "version": 1,
    "channels": 4,
    "ffm": [
        {"cell": "DC", "blocks": ["3-DB", "CA"]},
        {"cell": "MS", "blocks": ["5-SC", "3-DC"]},
        {"cell": "SC", "blocks": ["5-DC", "SA"]},
    ],
    "target": {"cell": "SC", "blocks": ["5-RB", "3-SC"]},
    "detail": {"cell": "SC", "blocks": ["5-DB", "3-RB"]},
    "guided_filter": GUIDED,
    "frame": {"levels": True, "border": 3},
}
BENT = GENOTYPE | {"frame": GENOTYPE["frame"] | {"ends": 0.125}}
PLAIN = GENOTYPE | {"frame": {"levels": False, "border": 0}}

CELLS = {
    "SC": {"gene": {"cell": "SC", "blocks": ["3-RB", "SA"]}, "guided_filter": GUIDED},
    "DC": {"gene": {"cell": "DC", "blocks": ["3-DC", "CA"]}, "guided_filter": {"radius": 2, "eps": 1e-2}},
    "MS": {"gene": {"cell": "MS", "blocks": ["3-SC", "5-DC"]}, "guided_filter": GUIDED},
}

# As in default.toml.
EXPOSURE = {
    "night": 0.5, "day": 0.75, "overlap_night": 0.49, "overlap_day": 1.0, "centre": 0.5, "shoulder": 0.6,
    "fine_night": 1.4, "fine_day": 1.0, "detail_night": 1.1, "detail_day": 1.1,
}

# All terms switched on, and no constant where default.toml has it.
CONFIG = {
    "adaptive_scale": 0.5,
    "clamp": True,
    "range": 4.0,
    "exposure": {
        "night": 0.4, "day": 0.8, "overlap_night": 0.3, "overlap_day": 0.9, "centre": 0.45, "shoulder": 0.4,
        "fine_night": 1.4, "fine_day": 1.15, "detail_night": 1.2, "detail_day": 0.95,
    },
    "feature": {"ssim": 1.25, "intensity": 20.0, "target": 6.0, "edges": 30.0},
    "object": {
        "perceptual": 20.0, "gradient": 20.0, "intensity": 20.0, "ssim": 1.5, "feature": 0.5,
        "target": 11.0, "edges": 50.0, "rows": 3.5, "mask": 1.25, "structure": 1.75, "joint_gradient": 7.0,
        "maximum": 3.0, "features": 30.0, "correlation": 1.5, "differences": 2.5,
    },
}


def overrides(table, prefix="loss."):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from overrides(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"


OVERRIDES = list(overrides(CONFIG))
# The windows of SSIM are no keys.
CONFIG |= {"ssim_window": 11, "ssim_sigma": 1.5}

# Terms that the task or its feature network changes.
OF_TASK = ["perceptual", "features", "gradient", "intensity", "feature_ssim", "feature_intensity"]
# Factor on the weights of the heads, and what is added to their biases.
HEADS = {"ffm": (1.1, 0.4), "ofm.target": (15.0, 1.1), "ofm.detail": (1.5, 0.5)}
FEATURES = {"ivif": "features_grey", "mif": "features_colour"}


def random(rng, shape):
    return jnp.asarray(rng.normal(size=shape).astype(np.float32), jnp.float64)


def store(out, name, value, dtype=np.float64):
    value = np.asarray(value)
    assert np.isfinite(value).all(), name
    out[name] = value.astype(dtype, order="C")


def store_exact(out, name, value):
    store(out, name, value, np.float32)
    assert (out[name].astype(np.float64) == np.asarray(value)).all(), name


def unchanged(path, tensors, meta):
    """Up to rounding, which the number of threads decides."""
    with safe_open(path, "numpy") as old:
        same = set(old.keys()) == set(tensors) and old.metadata() == meta
        return same and all(close(old.get_tensor(k), v) for k, v in tensors.items())


def close(old, new):
    same = (old.shape, old.dtype) == (new.shape, new.dtype)
    limit = 1e-14 if new.dtype == np.float64 else 0.0
    return same and abs(old - new).max(initial=0.0) <= limit * abs(new).max(initial=0.0)


def save(name, tensors, meta=None):
    path = HERE / f"{name}.safetensors"
    meta = meta or {"seed": str(SEED)}
    if path.exists() and unchanged(path, tensors, meta):
        print(f"{path.name}: unchanged")
        return
    save_file(tensors, path, metadata=meta)
    path.chmod(0o644)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


def block_cases(rng, cases, shape):
    """`cases`: name -> f(params, x)."""
    out = {}
    for name, f in cases.items():
        p = Params(rng=rng)
        x = random(rng, shape)
        y = f(p, x)
        g = random(rng, y.shape)
        dw, dx = jax.jit(jax.grad(lambda w, x: (f(Params(w), x) * g).sum(), argnums=(0, 1)))(p.values, x)
        store_exact(out, f"{name}/x", x)
        store_exact(out, f"{name}/g", g)
        store(out, f"{name}/y", y)
        store(out, f"{name}/dx", dx)
        for k in p.values:
            # Names stand below an empty prefix here.
            store_exact(out, f"{name}/w/{k.lstrip('.')}", p.values[k])
            store(out, f"{name}/dw/{k.lstrip('.')}", dw[k])
    return out


def feature_net(rng, grey):
    """Weights are multiples of 2^-10, so that summing the three colour kernels is exact."""
    channels = [3, 4, 5, 6, 7]
    weights, cin = {}, 1 if grey else 3
    for (n, _), cout in zip(losses.LAYERS, channels):
        prefix = "gray01." if n == 0 and grey else ""
        w = rng.normal(0, (2 / (9 * cin)) ** 0.5, (cout, cin, 3, 3))
        b = rng.normal(0, 0.1, cout)
        for key, v in (("weight", w), ("bias", b)):
            weights[f"{prefix}features.{n}.{key}"] = jnp.asarray(np.round(v * 1024) / 1024)
        cin = cout
    return {"weights": weights, "grey": grey, "reflect": grey}


def pictures(rng, n, h, w):
    """Two pictures that share shapes but not contrast, as 8-bit levels over 256."""
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    a, b = [], []
    for _ in range(n):
        cy, cx = rng.uniform(0.2, 0.7, 2)
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.03)
        waves = np.sin(2 * np.pi * (3 * x + 2 * y * rng.uniform(0.5, 2)))
        a.append(0.2 + 0.7 * blob + 0.04 * rng.normal(size=(h, w)))
        b.append(0.45 + 0.25 * waves - 0.1 * blob + 0.08 * rng.normal(size=(h, w)))
    level = lambda v: jnp.asarray(np.clip(np.round(np.stack(v) * 256), 0, 255)[..., None] / 256)
    return level(a), level(b)


def exact(x):
    return jnp.asarray(np.asarray(x, np.float32), jnp.float64)


def sample_levels(*pairs):
    """Mean and deviation for each sample."""
    return exact(np.asarray(pairs)[:, None, None, :])


def exposure():
    """The target by night, dusk and day; the balance of contrasts within its bounds, and at either."""
    rng = np.random.default_rng(SEED + 1)
    out = {}
    a, b = pictures(rng, 3, 19, 22)
    # By night B has little but noise.
    b = exact(b * exact([0.2, 0.9, 1.0])[:, None, None, None])
    levels = (
        sample_levels((0.16, 0.12), (0.33, 0.2), (0.62, 0.03)),
        sample_levels((0.1, 0.05), (0.29, 0.07), (0.58, 0.25)),
    )
    for k, v in zip(("a", "b", "levels_a", "levels_b"), (a, b, *levels)):
        store_exact(out, k, v)
    for k, v in zip(("fused", "of_a", "of_b", "share"), losses.exposure_target(a, b, levels, EXPOSURE)):
        store(out, k, v)
        print(f"  {k}:", *(f"{x.min():.3f} to {x.max():.3f}" for x in v))

    a, b = a[:, 3:12, 4:11], b[:, 3:12, 4:11]
    g = random(rng, (*a.shape[:3], 4))
    for k, v in zip("abg", (a, b, g)):
        store_exact(out, f"balance/{k}", v)
    y, vjp = jax.vjp(lambda a, b, *levels: net.balance(a, b, levels), a, b, *levels)
    store(out, "balance/y", y)
    for k, v in zip(("a", "b", "levels_a", "levels_b"), vjp(g)):
        store(out, f"balance/d{k}", v)
    for k, v in zip("ab", (a, b)):
        store(out, f"whole/levels_{k}", net.levels_of(v))
    y, vjp = jax.vjp(lambda a, b: net.balance(a, b, (net.levels_of(a), net.levels_of(b))), a, b)
    store(out, "whole/y", y)
    for k, v in zip("ab", vjp(g)):
        store(out, f"whole/d{k}", v)
    save("exposure", out, {"seed": str(SEED), "exposure": json.dumps(EXPOSURE)})


def main():
    exposure()
    rng = np.random.default_rng(SEED)

    ops = {k: lambda p, x, f=f: f(p, "", x) for k, f in net.OPERATORS.items()}
    save("operators", block_cases(rng, ops, (1, 9, 11, 5)))

    cells = {
        k: lambda p, x, c=c: net.cell(p, "", c["gene"], x, c["guided_filter"]) for k, c in CELLS.items()
    }
    meta = {"seed": str(SEED), "genes": json.dumps(CELLS)}
    save("cells", block_cases(rng, cells, (1, 13, 10, 4)), meta)

    nets = {"features_grey": feature_net(rng, True), "features_colour": feature_net(rng, False)}
    out = {}
    x = random(rng, (1, 17, 19, 1))
    store_exact(out, "x", x)
    for name, n in nets.items():
        tensors = {}
        for k, v in n["weights"].items():
            store_exact(tensors, k, v)
        save(name, tensors, {"padding": "reflect" if n["reflect"] else "zero"})
        taps, vjp = jax.vjp(lambda x: losses.features(n, x, 5), x)
        gs = [random(rng, t.shape) for t in taps]
        for i, (t, g) in enumerate(zip(taps, gs)):
            store(out, f"{name}/tap{i}", t)
            store_exact(out, f"{name}/g{i}", g)
        store(out, f"{name}/dx", vjp(gs)[0])
    save("features", out)

    # The whole network.
    out = {}
    a, b = pictures(rng, 2, 16, 18)
    levels = (sample_levels((0.2, 0.1), (0.5, 0.18)), sample_levels((0.3, 0.15), (0.44, 0.12)))
    p = Params(rng=rng)
    net.fusion(p, GENOTYPE, a, b, levels)
    weights = p.values
    # So that some pixels lie outside [0, 1] and most do not.
    for k in ("ffm", "ofm.target", "ofm.detail"):
        factor, shift = HEADS[k]
        weights[f"{k}.head.weight"] = exact(weights[f"{k}.head.weight"] * factor)
        weights[f"{k}.head.bias"] = exact(weights[f"{k}.head.bias"] * factor + shift)
    images = net.fusion(Params(weights), GENOTYPE, a, b, levels)
    for k, v in zip(("a", "b", "levels_a", "levels_b"), (a, b, *levels)):
        store_exact(out, k, v)
    for k, v in weights.items():
        store_exact(out, f"w/{k}", v)
    for k, v in images.items():
        store(out, k, v)
        print(f"  {k}: {v.min():.3f} to {v.max():.3f}, {float(((v < 0) | (v > 1)).mean()):.2f} outside")
    plain = weights | {"ffm.stem.weight": weights["ffm.stem.weight"][:, :, :2]}
    for name, w, genotype in (("whole", weights, BENT), ("plain", plain, PLAIN)):
        for k, v in net.bounded(genotype, net.fusion(Params(w), genotype, a, b)).items():
            if k in ("feature", "output"):
                store(out, f"{name}/{k}", v)

    def terms(task, n, stage, unbounded):
        images = net.bounded(BENT if n is None else GENOTYPE, unbounded)
        if stage == "stage1":
            return losses.stage1(n, CONFIG, images["feature"], unbounded["feature"], a, b, levels)
        return losses.stage2(task, n, CONFIG, images, unbounded, a, b, levels)

    def total(task, n, stage, w):
        record = net.ffm if stage == "stage1" else net.fusion
        return sum(terms(task, n, stage, record(Params(w), GENOTYPE, a, b, levels)).values())

    for task in ("ivif", "mif", "none"):
        n = nets[FEATURES[task]] if task in FEATURES else None
        if n is not None:
            store(out, f"{task}/sigma", jnp.stack(losses.weights_of(n, CONFIG, a, b), axis=-1))
            print(f"  {task}/sigma", out[f"{task}/sigma"].round(3).tolist())
        for stage in ("stage1", "stage2"):
            ts = terms("ivif" if n is None else task, n, stage, images)
            for k, v in ts.items():
                store(out, f"{task}/{stage}/term/{k}", v)
            store(out, f"{task}/{stage}/total", sum(ts.values()))
            print(f"  {task}/{stage}", {k: round(float(v), 5) for k, v in ts.items()})
            of_images = {"ivif": ts, "mif": OF_TASK, "none": []}[task]
            for k in (k for k in of_images if k in ts):
                ds = jax.jit(jax.grad(lambda i: terms(task, n, stage, i)[k]))(images)
                for image, d in ds.items():
                    if np.any(np.asarray(d)):
                        store(out, f"{task}/{stage}/dimage/{k}/{image}", d)
            part = {k: v for k, v in weights.items() if stage == "stage2" or k.startswith("ffm.")}
            dw = jax.jit(jax.grad(lambda w: total("ivif" if n is None else task, n, stage, w)))(part)
            if n is None:
                dw = {k: d for k, d in dw.items() if ".head." in k}
            double = (task, stage) == ("ivif", "stage2")
            for k, d in dw.items():
                store(out, f"{task}/{stage}/dw/{k}", d, np.float64 if double else np.float32)
    meta = {
        "seed": str(SEED), "genotype": json.dumps(GENOTYPE),
        "bent": json.dumps(BENT), "plain": json.dumps(PLAIN), "slope": repr(net.SLOPE),
        "overrides": json.dumps(OVERRIDES), "features": json.dumps(FEATURES),
    }
    save("network", out, meta)

    # Adam, by PyTorch's equations.
    lr, beta1, beta2, eps = 1e-3, 0.9, 0.999, 1e-8
    n = nets[FEATURES["ivif"]]
    grad = jax.jit(jax.grad(lambda w: total("ivif", n, "stage2", w)))
    w = dict(weights)
    m = {k: jnp.zeros_like(v) for k, v in w.items()}
    v = {k: jnp.zeros_like(x) for k, x in w.items()}
    for t in (1, 2, 3):
        g = grad(w)
        for k in w:
            m[k] = beta1 * m[k] + (1 - beta1) * g[k]
            v[k] = beta2 * v[k] + (1 - beta2) * g[k] ** 2
            denominator = jnp.sqrt(v[k]) / (1 - beta2**t) ** 0.5 + eps
            w[k] = w[k] - lr / (1 - beta1**t) * m[k] / denominator
    out = {}
    for k, x in w.items():
        store(out, k, x - weights[k], np.float32)
    save("adam", out, {"seed": str(SEED), "lr": repr(lr), "steps": "3"})


def stamp():
    """Writes the versions in use into this file's header."""
    made = f"Python {platform.python_version()}, " + ", ".join(
        f"{m} {version(m)}" for m in ("jax", "jaxlib", "numpy", "safetensors"))
    path = Path(__file__)
    text = path.read_text()
    path.write_text(re.sub(r"^Made with: .*$", f"Made with: {made}", text, count=1, flags=re.M))


if __name__ == "__main__":
    main()
    stamp()
