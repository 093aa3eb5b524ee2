//! The losses against brute force, and their gradients against differences.

mod common;

use common::{SEED, relative_error};
use hafuse::loss::ExposureOptions;
use hafuse::ops::registry::{CaseInput, Fill};
use hafuse::{DType, Error, ParamStore, Result, Session, Tape, Tensor, Var, loss, ops};
use rand::SeedableRng;

type Loss = fn(&mut Tape, Var, Var, Option<Var>) -> Result<Var>;
const LOSSES: [(&str, Loss); 4] = [
    ("intensity", loss::intensity),
    ("gradient", loss::gradient),
    ("ssim_loss", loss::ssim_loss),
    ("correlation", loss::correlation),
];

fn images(shape: [usize; 4], seed: u64) -> Tensor {
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(SEED + seed);
    CaseInput::new(shape, Fill::Uniform(0.0, 1.0)).tensor(&mut rng, DType::F64)
}

/// Value and gradients of `f(a, b, w)`; all inputs in `dtype`.
struct Run(Session);

impl Run {
    fn new(f: Loss, shape: [usize; 4], dtype: DType) -> Self {
        let mut t = Tape::new(dtype);
        let a = t.input("a", shape).unwrap();
        let b = t.input("b", shape).unwrap();
        let w = t.input("w", [shape[0], 1, 1, 1]).unwrap();
        let y = f(&mut t, a, b, Some(w)).unwrap();
        assert_eq!(t.shape(y).rank(), 0);
        t.output("y", y).unwrap();
        for (name, g) in ["da", "db", "dw"]
            .iter()
            .zip(t.grad(y, &[a, b, w]).unwrap())
        {
            t.output(name, g).unwrap();
        }
        Run(Session::new(&t, &ParamStore::default()).unwrap())
    }

    fn value(&mut self, inputs: &[Tensor; 3]) -> f64 {
        for (name, x) in ["a", "b", "w"].iter().zip(inputs) {
            let dtype = self.0.tape().dtype();
            self.0.set(name, &x.to_dtype(dtype)).unwrap();
        }
        self.0.run().unwrap();
        self.0.scalar("y").unwrap()
    }

    fn gradients(&self) -> [Vec<f64>; 3] {
        ["da", "db", "dw"].map(|name| self.0.get(name).unwrap().to_f64())
    }
}

fn inputs(shape: [usize; 4]) -> [Tensor; 3] {
    let w = images([shape[0], 1, 1, 1], 3);
    [images(shape, 1), images(shape, 2), w]
}

#[test]
fn gradients_match_differences() {
    for (name, f) in LOSSES {
        let shape = [2, 12, 13, 2];
        let mut xs = inputs(shape);
        let mut run = Run::new(f, shape, DType::F64);
        run.value(&xs);
        let analytic = run.gradients();
        for i in 0..3 {
            let h = 1e-3;
            let numeric: Vec<f64> = (0..xs[i].shape().len())
                .map(|j| {
                    let x0 = xs[i].to_f64()[j];
                    let mut at = |x| {
                        xs[i].as_mut_slice::<f64>().unwrap()[j] = x;
                        run.value(&xs)
                    };
                    let d1 = at(x0 + h) - at(x0 - h);
                    let d2 = at(x0 + 2.0 * h) - at(x0 - 2.0 * h);
                    at(x0);
                    (8.0 * d1 - d2) / (12.0 * h)
                })
                .collect();
            let error = relative_error(&analytic[i], &numeric);
            assert!(error <= 1e-6, "{name}, input {i}: {error:e}");
        }
    }
}

#[test]
fn f32_is_close_to_f64() {
    for (name, f) in LOSSES {
        let shape = [2, 37, 29, 1];
        // Both dtypes see values that f32 can hold.
        let xs = inputs(shape).map(|x| x.to_dtype(DType::F32));
        let (mut single, mut double) = (
            Run::new(f, shape, DType::F32),
            Run::new(f, shape, DType::F64),
        );
        let (a, b) = (single.value(&xs), double.value(&xs));
        assert!((a - b).abs() <= 1e-5 * b.abs(), "{name}: {a} and {b}");
        for (a, b) in single.gradients().iter().zip(&double.gradients()) {
            let error = relative_error(a, b);
            assert!(error <= 1e-4, "{name}: {error:e}");
        }
    }
}

/// SSIM of each sample by the definition: a full 11 x 11 window at every position.
fn ssim_by_definition(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let [n, h, w, c] = a.shape().dims4("test").unwrap();
    let (a, b) = (a.to_f64(), b.to_f64());
    let g = |u: usize, v: usize| {
        let (u, v) = (u as f64 - 5.0, v as f64 - 5.0);
        (-(u * u + v * v) / (2.0 * 1.5 * 1.5)).exp()
    };
    let total: f64 = (0..121).map(|i| g(i / 11, i % 11)).sum();
    let (c1, c2) = (0.01f64.powi(2), 0.03f64.powi(2));
    (0..n)
        .map(|s| {
            let mut sum = 0.0;
            for y in 0..h - 10 {
                for x in 0..w - 10 {
                    for k in 0..c {
                        let under = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
                            (0..121)
                                .map(|i| {
                                    let (u, v) = (i / 11, i % 11);
                                    let at = ((s * h + y + u) * w + x + v) * c + k;
                                    g(u, v) / total * f(a[at], b[at])
                                })
                                .sum()
                        };
                        let (ma, mb) = (under(&|a, _| a), under(&|_, b| b));
                        let saa = under(&|a, _| (a - ma).powi(2));
                        let sbb = under(&|_, b| (b - mb).powi(2));
                        let sab = under(&|a, b| (a - ma) * (b - mb));
                        sum += (2.0 * ma * mb + c1) * (2.0 * sab + c2)
                            / ((ma * ma + mb * mb + c1) * (saa + sbb + c2));
                    }
                }
            }
            sum / ((h - 10) * (w - 10) * c) as f64
        })
        .collect()
}

fn ssim(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let mut t = Tape::new(DType::F64);
    let (a, b) = (t.constant(a).unwrap(), t.constant(b).unwrap());
    let y = loss::ssim(&mut t, a, b).unwrap();
    t.output("y", y).unwrap();
    let mut s = Session::new(&t, &ParamStore::default()).unwrap();
    s.run().unwrap();
    s.get("y").unwrap().to_f64()
}

#[test]
fn ssim_is_that_of_the_definition() {
    for shape in [[1, 11, 11, 1], [2, 17, 23, 1], [2, 13, 12, 3]] {
        let a = images(shape, 1);
        // Correlated with `a`, as a fused image is.
        let mixed: Vec<f64> = a
            .to_f64()
            .iter()
            .zip(images(shape, 2).to_f64())
            .map(|(a, b)| 0.7 * a + 0.3 * b)
            .collect();
        let b = Tensor::from_vec(shape, mixed).unwrap();
        let (ab, ba, expected) = (ssim(&a, &b), ssim(&b, &a), ssim_by_definition(&a, &b));
        assert_eq!(ab, ba, "symmetric");
        assert_eq!(ab.len(), expected.len());
        for (found, expected) in ab.iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-10, "{found} {expected}");
            assert!(*found < 0.99);
        }
        for one in ssim(&a, &a) {
            assert!((one - 1.0).abs() <= 1e-12, "{one}");
        }
    }
}

/// Every loss is zero for equal images, and weights multiply their sample's share.
#[test]
fn zero_and_weights() {
    let shape = [2, 13, 12, 1];
    let (a, b) = (images(shape, 1), images(shape, 2));
    for (name, f) in LOSSES {
        let mut run = Run::new(f, shape, DType::F64);
        let weights = |w0: f64, w1| Tensor::from_vec([2, 1, 1, 1], vec![w0, w1]).unwrap();
        let mut at = |a: &Tensor, b: &Tensor, w| run.value(&[a.clone(), b.clone(), w]);
        // What the correlation loss adds to the variances is left: 1e-5 of a variance of 1/12.
        let limit = if name == "correlation" { 2e-4 } else { 1e-12 };
        assert!(at(&a, &a, weights(1.0, 1.0)).abs() <= limit, "{name}");
        let (first, second) = (at(&a, &b, weights(1.0, 0.0)), at(&a, &b, weights(0.0, 1.0)));
        assert!(first > 0.0 && second > 0.0 && first != second, "{name}");
        let both = at(&a, &b, weights(2.0, -3.0));
        assert!(
            (both - (2.0 * first - 3.0 * second)).abs() < 1e-12,
            "{name}"
        );
    }
}

#[test]
fn intensity_and_gradient_by_hand() {
    let shape = [1, 4, 5, 1];
    let (a, b) = (images(shape, 1), images(shape, 2));
    let d: Vec<f64> = a
        .to_f64()
        .iter()
        .zip(b.to_f64())
        .map(|(a, b)| a - b)
        .collect();
    let w = Tensor::full([1, 1, 1, 1], DType::F64, 0.5);
    let xs = [a, b, w];
    let expected = 0.5 * d.iter().map(|d| d * d).sum::<f64>() / 20.0;
    let found = Run::new(loss::intensity, shape, DType::F64).value(&xs);
    assert!((found - expected).abs() < 1e-14);
    let at = |y: usize, x: usize| d[y * 5 + x];
    let mut sum = 0.0;
    for y in 1..3 {
        for x in 1..4 {
            let dx = |y| at(y, x + 1) - at(y, x - 1);
            let dy = |x| at(y + 1, x) - at(y - 1, x);
            let gx = (dx(y - 1) + 2.0 * dx(y) + dx(y + 1)) / 8.0;
            let gy = (dy(x - 1) + 2.0 * dy(x) + dy(x + 1)) / 8.0;
            sum += gx * gx + gy * gy;
        }
    }
    let found = Run::new(loss::gradient, shape, DType::F64).value(&xs);
    assert!((found - 0.5 * sum / 6.0).abs() < 1e-14);
}

/// A constant has no Laplacian, `i^2 + j^2` one of `3/4 * 2`; a Gaussian window keeps a ramp.
#[test]
fn stencils_on_polynomials() {
    let fill = |f: fn(f64, f64) -> f64| {
        let values = (0..13 * 12).map(|k| f((k / 12) as f64, (k % 12) as f64));
        Tensor::from_vec([1, 13, 12, 1], values.collect::<Vec<f64>>()).unwrap()
    };
    let run = |x: &Tensor, f: &dyn Fn(&mut Tape, Var) -> Var| {
        let mut t = Tape::new(DType::F64);
        let x = t.constant(x).unwrap();
        let y = f(&mut t, x);
        t.output("y", y).unwrap();
        let mut s = Session::new(&t, &ParamStore::default()).unwrap();
        s.run().unwrap();
        s.get("y").unwrap().to_f64()
    };
    let laplacian = |t: &mut Tape, x: Var| ops::laplacian(t, x).unwrap();
    let found = run(&fill(|y, x| y * y + x * x), &laplacian);
    assert_eq!(found.len(), 11 * 10);
    assert!(found.iter().all(|v| (v - 1.5).abs() < 1e-12), "{found:?}");
    let found = run(&fill(|_, _| 0.3), &laplacian);
    assert!(found.iter().all(|v| v.abs() < 1e-15));
    let window = |t: &mut Tape, x: Var| ops::gaussian_window(t, x, 11, 1.5).unwrap();
    let found = run(&fill(|y, x| 2.0 * y - x), &window);
    let expected: Vec<f64> = (0..6)
        .map(|k| 2.0 * (5 + k / 2) as f64 - (5 + k % 2) as f64)
        .collect();
    assert!(relative_error(&found, &expected) < 1e-14, "{found:?}");
    let gy = |t: &mut Tape, x: Var| ops::image_gradient(t, x).unwrap().1;
    let found = run(&fill(|y, x| 2.0 * y - x), &gy);
    assert!(found.iter().all(|v| (v - 2.0).abs() < 1e-14));
}

#[test]
fn wrong_shapes_are_errors() {
    let mut t = Tape::new(DType::F32);
    let a = t.input("a", [2, 12, 12, 1]).unwrap();
    let b = t.input("b", [2, 12, 13, 1]).unwrap();
    let small = t.input("small", [2, 10, 12, 1]).unwrap();
    let tiny = t.input("tiny", [2, 2, 12, 1]).unwrap();
    let flat = t.input("flat", [2]).unwrap();
    let shape = |r: Result<Var>| matches!(r, Err(Error::Shape { .. }));
    for (name, f) in LOSSES {
        assert!(shape(f(&mut t, a, b, None)), "{name}");
        assert!(shape(f(&mut t, a, a, Some(flat))), "{name}: weights [2]");
    }
    assert!(shape(loss::ssim(&mut t, small, small)));
    assert!(shape(loss::gradient(&mut t, tiny, tiny, None)));
    assert!(ops::gaussian_window(&mut t, a, 11, 0.0).is_err());
}

#[test]
fn correlations_are_pearsons_of_each_sample() {
    let shape = [2, 5, 7, 1];
    let [f, a, b] = [1, 2, 3].map(|seed| images(shape, seed));
    let values = [&f, &a, &b].map(|x| x.to_f64());
    let minus =
        |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x - y).collect() };
    let r = |x: &[f64], y: &[f64]| {
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (mx, my) = (mean(x), mean(y));
        let cov = |p: &[f64], mp: f64, q: &[f64], mq: f64| {
            let products: Vec<f64> = p.iter().zip(q).map(|(p, q)| (p - mp) * (q - mq)).collect();
            mean(&products)
        };
        let (vx, vy) = (cov(x, mx, x, mx) + 1e-5, cov(y, my, y, my) + 1e-5);
        cov(x, mx, y, my) / (vx * vy).sqrt()
    };
    let mut expected = [0.0; 2];
    for n in 0..2 {
        let [f, a, b] = [0, 1, 2].map(|i: usize| &values[i][35 * n..][..35]);
        expected[0] += (1.0 - r(f, a)) / 2.0;
        expected[1] += (2.0 - r(&minus(f, b), a) - r(&minus(f, a), b)) / 4.0;
    }
    let mut t = Tape::new(DType::F64);
    let [vf, va, vb] = ["f", "a", "b"].map(|name| t.input(name, shape).unwrap());
    let cc = loss::correlation(&mut t, vf, va, None).unwrap();
    let scd = loss::differences(&mut t, vf, va, vb).unwrap();
    t.output("cc", cc).unwrap();
    t.output("scd", scd).unwrap();
    let mut s = Session::new(&t, &ParamStore::default()).unwrap();
    for (name, x) in [("f", &f), ("a", &a), ("b", &b)] {
        s.set(name, x).unwrap();
    }
    s.run().unwrap();
    for (name, expected) in ["cc", "scd"].into_iter().zip(expected) {
        let found = s.scalar(name).unwrap();
        assert!(
            (found - expected).abs() < 1e-12,
            "{name}: {found} {expected}"
        );
    }
    // The sum of both sources, less a constant, loses nothing.
    s.set(
        "f",
        &Tensor::from_vec(
            shape,
            (0..70)
                .map(|i| values[1][i] + values[2][i] - 0.3)
                .collect::<Vec<f64>>(),
        )
        .unwrap(),
    )
    .unwrap();
    s.run().unwrap();
    assert!(s.scalar("scd").unwrap() < 1e-3);
}

/// T and T with the details of one source alone, of `[N, H, W, 1]` with these means and deviations of the
/// whole pictures, in f64 and f32.
fn exposure(
    a: &Tensor,
    b: &Tensor,
    levels: [&[[f64; 2]]; 2],
    o: &ExposureOptions,
) -> [Vec<f64>; 3] {
    let of = |dtype| {
        let mut t = Tape::new(dtype);
        let mut constant = |x: &Tensor| t.constant(&x.to_dtype(dtype)).unwrap();
        let (va, vb) = (constant(a), constant(b));
        let levels = levels.map(|l| {
            let values = l.iter().flatten().copied().collect::<Vec<f64>>();
            constant(&Tensor::from_vec([l.len(), 1, 1, 2], values).unwrap())
        });
        let target = loss::exposure_target(&mut t, (va, vb), levels, o).unwrap();
        let pictures = [target.fused, target.of_a, target.of_b];
        for (i, v) in pictures.into_iter().enumerate() {
            t.output(&format!("t{i}"), v).unwrap();
        }
        let mut s = Session::new(&t, &ParamStore::default()).unwrap();
        s.run().unwrap();
        [0, 1, 2].map(|i| s.get(&format!("t{i}")).unwrap().to_f64())
    };
    let (exact, single) = (of(DType::F64), of(DType::F32));
    for (x, y) in exact.iter().zip(&single) {
        // Both stay in [0, 1], and are one picture.
        for v in x.iter().chain(y) {
            assert!((0.0..=1.0).contains(v), "{v:e}");
        }
        let far = x.iter().zip(y).map(|(x, y)| (x - y).abs());
        assert!(far.fold(0.0, f64::max) < 1e-5);
    }
    exact
}

/// By the definition: the mean of what is inside the picture.
fn window_means(x: &[f64], width: usize, radius: usize) -> Vec<f64> {
    let height = x.len() / width;
    let around = |i: usize, size: usize| i.saturating_sub(radius)..(i + radius + 1).min(size);
    let mean = |i: usize| {
        let (rows, columns) = (around(i / width, height), around(i % width, width));
        let count = rows.len() * columns.len();
        let window = rows.flat_map(|y| columns.clone().map(move |x| y * width + x));
        window.map(|j| x[j]).sum::<f64>() / count as f64
    };
    (0..x.len()).map(mean).collect()
}

/// The base of a source, its fine and its coarser details.
fn parts(x: &[f64], width: usize) -> [Vec<f64>; 3] {
    let zip = |x: &[f64], y: &[f64], f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
        x.iter().zip(y).map(|(x, y)| f(*x, *y)).collect()
    };
    let means = |x: &[f64]| window_means(x, width, 8);
    let mean = means(x);
    let square = means(&zip(x, x, &|x, y| x * y));
    let slope = zip(&square, &mean, &|s, m| {
        let variance = s - m * m;
        variance / (variance + (80.0f64 / 255.0).powi(2))
    });
    let level = means(&zip(&slope, &mean, &|s, m| (1.0 - s) * m));
    let sloped = zip(&means(&slope), x, &|s, x| s * x);
    let base = zip(&sloped, &level, &|x, y| x + y);
    let details = zip(x, &base, &|x, y| x - y);
    let coarse = window_means(&window_means(&details, width, 2), width, 2);
    let fine = zip(&details, &coarse, &|x, y| x - y);
    [base, fine, coarse]
}

/// The levels of the base in bright places.
fn bend(x: f64, shoulder: f64) -> f64 {
    let k = 0.87 * (1.0 - shoulder);
    match x - shoulder {
        above if above > 0.0 => shoulder + k - k * (-above / k).exp(),
        _ => x,
    }
}

/// The upper end of the tone curve.
fn upper(x: f64) -> f64 {
    let knee = 40.0 / 255.0;
    match 1.0 - x {
        y if y < knee => 1.0 - knee * (y / knee - 1.0).exp(),
        _ => x,
    }
}

/// A night scene with textures in both sources, a bright and a dark half each.
fn night_scene() -> [Tensor; 2] {
    let (shape, noise) = ([1, 26, 31, 1], 0.25);
    [(1, 0.7, 0.02), (2, 0.05, 0.4)].map(|(seed, left, right)| {
        let values = images(shape, seed).to_f64().into_iter().enumerate();
        let value = |(i, v): (usize, f64)| {
            let level = if i % 31 < 15 { left } else { right };
            level + noise * v
        };
        Tensor::from_vec(shape, values.map(value).collect::<Vec<f64>>()).unwrap()
    })
}

/// No pixel is darker than the brighter of both bases with the darker of both details, fine and coarser, and none brighter
/// than both added with the brighter details, each through both bends.
#[test]
fn by_night_nothing_is_darker_than_the_brighter_source() {
    let o = ExposureOptions::default();
    let [a, b] = night_scene();
    let [fused, of_a, of_b] = exposure(&a, &b, [&[[0.2, 0.1]], &[[0.3, 0.2]]], &o);
    let [parts_a, parts_b] = [a, b].map(|x| parts(&x.to_f64(), 31));
    let (mut lit, mut bent) = (0, 0);
    for i in 0..fused.len() {
        let at = |part: usize, gain: f64| (gain * parts_a[part][i], gain * parts_b[part][i]);
        let (fine_a, fine_b) = at(1, o.fine_night);
        let (coarse_a, coarse_b) = at(2, o.detail_night);
        let least = fine_a.min(fine_b) + coarse_a.min(coarse_b);
        let most = fine_a.max(fine_b) + coarse_a.max(coarse_b);
        let (base_a, base_b) = at(0, 1.0);
        let (bright, dark) = (base_a.max(base_b), base_a.min(base_b));
        let lowest = bend(bright, o.shoulder);
        let from = upper(lowest + least);
        let to = upper(bend(bright + o.overlap_night * dark, o.shoulder) + most).max(1e-3);
        assert!(
            fused[i] >= from - 1e-12 && fused[i] <= to + 1e-12,
            "pixel {i}: {from} <= {} <= {to}",
            fused[i]
        );
        // The rows have the fine details of one source alone.
        for (of, fine) in [(&of_a, fine_a), (&of_b, fine_b)] {
            assert!(of[i] >= upper(lowest + fine + coarse_a.min(coarse_b)) - 1e-12);
        }
        lit += usize::from(fused[i] > from + 1e-3);
        bent += usize::from(lowest < bright);
    }
    assert!(2 * lit > fused.len() && bent > 0, "{lit} lit, {bent} bent");
}

/// Constant pictures have no details, so they show the levels alone.
#[test]
fn levels_of_the_target_rise_with_those_of_the_sources() {
    let o = ExposureOptions::default();
    let steps = 101;
    let grey = |f: &dyn Fn(usize) -> f64| {
        let values = (0..steps * 6).map(|i| f(i / 6)).collect::<Vec<f64>>();
        Tensor::from_vec([steps, 2, 3, 1], values).unwrap()
    };
    let rising = grey(&|k| k as f64 / 100.0);
    for other in [0.0, 0.3, 1.0] {
        let b = grey(&|_| other);
        // Night, dusk, day, glare; contrasts alike, and as far apart as they come.
        for [ma, mb] in [[0.1, 0.2], [0.3, 0.32], [0.5, 0.6], [1.0, 0.9]] {
            for [sa, sb] in [[0.2, 0.2], [0.01, 0.4], [0.4, 0.01]] {
                let levels = [&vec![[ma, sa]; steps][..], &vec![[mb, sb]; steps][..]];
                let [fused, ..] = exposure(&rising, &b, levels, &o);
                let each: Vec<f64> = fused.chunks(6).map(|p| p[0]).collect();
                assert!(
                    fused
                        .chunks(6)
                        .all(|p| p.iter().all(|v| (v - p[0]).abs() < 1e-12))
                );
                assert!(
                    each.windows(2).all(|w| w[0] <= w[1] + 1e-12),
                    "{ma} {mb}: {each:?}"
                );
                // By night white leaves nothing to be added.
                if other < 1.0 {
                    assert!(each[100] > each[0], "{ma} {mb}: {each:?}");
                }
                if ma + mb <= o.night {
                    for (k, v) in each.iter().enumerate() {
                        let brighter = upper(bend(other.max(k as f64 / 100.0), o.shoulder));
                        assert!(*v >= brighter - 1e-12, "{k}: {v} < {brighter}");
                    }
                }
            }
        }
    }
    // A pixel as bright as the mean of its picture comes out at the centre by day, or near the average where that is brighter;
    // both bends take from the brightest.
    let flat = |v| Tensor::full([1, 2, 3, 1], DType::F64, v);
    for [ma, mb] in [[0.4, 0.4], [0.5, 0.7], [0.95, 0.9]] {
        let levels = [&[[ma, 0.1]][..], &[[mb, 0.3]][..]];
        for v in &exposure(&flat(ma), &flat(mb), levels, &o)[0] {
            let level = o.centre.max((ma + mb) / 2.0);
            let bent = upper(bend(level, o.shoulder));
            assert!((v - bent).abs() < 1e-12, "{ma} {mb}: {v}");
        }
    }
}

#[test]
fn the_target_does_not_know_which_source_is_a() {
    let o = ExposureOptions::default();
    let shape = [3, 21, 18, 1];
    let (a, b) = (images(shape, 1), images(shape, 2));
    let la = [[0.2, 0.1], [0.3, 0.02], [0.7, 0.3]];
    let lb = [[0.25, 0.3], [0.35, 0.3], [0.6, 0.2]];
    let [fused, of_a, of_b] = exposure(&a, &b, [&la, &lb], &o);
    let swapped = exposure(&b, &a, [&lb, &la], &o);
    for (x, y) in [&fused, &of_b, &of_a].into_iter().zip(&swapped) {
        assert!(relative_error(x, y) < 1e-12);
    }
    assert!(relative_error(&of_a, &of_b) > 0.1 && relative_error(&fused, &of_a) > 0.1);
}

/// Whatever the levels and constants are; [`exposure`] looks at the range.
#[test]
fn the_target_is_a_picture() {
    let o = ExposureOptions {
        fine_night: 5.0,
        fine_day: 3.0,
        detail_night: 4.0,
        detail_day: 2.0,
        overlap_night: 1.0,
        centre: 0.0,
        ..Default::default()
    };
    let shape = [4, 17, 19, 1];
    let extremes = |seed| {
        let values = images(shape, seed).to_f64().into_iter();
        let far = values.map(|v| (3.0 * v - 1.0).clamp(0.0, 1.0));
        Tensor::from_vec(shape, far.collect::<Vec<f64>>()).unwrap()
    };
    let la = [[0.0, 0.001], [1.0, 0.001], [0.25, 0.5], [1.0, 0.5]];
    let lb = [[0.0, 0.5], [1.0, 0.001], [0.3, 0.001], [0.0, 0.5]];
    let [fused, ..] = exposure(&extremes(1), &extremes(2), [&la, &lb], &o);
    let reached = |x: f64| fused.iter().any(|v| (v - x).abs() < 1e-3);
    assert!(reached(0.0) && reached(1.0));
}
