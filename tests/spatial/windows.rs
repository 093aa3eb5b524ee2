//! Window operators against their definitions, one sum per output.

use super::*;

/// Depthwise convolution by its definition.
fn depthwise_naive(x: &Tensor, w: &Tensor, b: Option<&Tensor>, o: DepthwiseOptions) -> Vec<f64> {
    let [n, h, wd, c] = x.shape().padded4();
    let [kh, kw, ..] = w.shape().padded4();
    let (s, d) = (o.stride as isize, o.dilation as isize);
    let size = |len: usize, k: usize| match o.padding {
        Padding::Same => len.div_ceil(o.stride),
        Padding::Valid => (len - o.dilation * (k - 1) - 1) / o.stride + 1,
    };
    let pad = |k: usize| match o.padding {
        Padding::Same => d * (k as isize - 1) / 2,
        Padding::Valid => 0,
    };
    let (xv, wv) = (x.to_f64(), w.to_f64());
    let mut out = Vec::new();
    for n in 0..n {
        for i in 0..size(h, kh) as isize {
            for j in 0..size(wd, kw) as isize {
                for c0 in 0..c {
                    let mut sum = b.map_or(0.0, |b| b.to_f64()[c0]);
                    for p in 0..kh {
                        for q in 0..kw {
                            let y = i * s + p as isize * d - pad(kh);
                            let z = j * s + q as isize * d - pad(kw);
                            if (0..h as isize).contains(&y) && (0..wd as isize).contains(&z) {
                                let at = ((n * h + y as usize) * wd + z as usize) * c + c0;
                                sum += wv[(p * kw + q) * c + c0] * xv[at];
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}

#[test]
fn depthwise_follows_its_definition() {
    let shapes = [
        [1, 9, 30, 32],
        [2, 7, 41, 5],
        [1, 13, 90, 1],
        [1, 5, 6, 70],
        [1, 1, 64, 1],
        [1, 64, 1, 3],
        [1, 3, 3, 130],
    ];
    let mut seed = 10;
    for shape in shapes {
        for (k, stride, dilation) in [(3, 1, 1), (3, 2, 1), (5, 1, 2), (7, 3, 1), (1, 1, 1)] {
            for padding in [Padding::Same, Padding::Valid] {
                let extent = dilation * (k - 1);
                if padding == Padding::Valid && (extent >= shape[1] || extent >= shape[2]) {
                    continue;
                }
                seed += 3;
                let o = DepthwiseOptions {
                    stride,
                    dilation,
                    padding,
                };
                let x = random(shape, seed);
                let w = random([k, k, 1, shape[3]], seed + 1);
                let b = random([shape[3]], seed + 2);
                let y = eval(DType::F64, &[&x, &w, &b], |t, v| {
                    ops::depthwise_conv2d(t, v[0], v[1], Some(v[2]), o)
                })
                .unwrap();
                let wanted = depthwise_naive(&x, &w, Some(&b), o);
                assert_close(&y.to_f64(), &wanted, 1e-14, &format!("{shape:?} {k} {o:?}"));
            }
        }
    }
}

/// Mean over a cut window, from the definition.
fn box_naive(x: &[f64], [n, h, w, c]: [usize; 4], r: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for at in 0..n * h * w * c {
        let (j, q, i, b) = (at % c, at / c % w, at / c / w % h, at / c / w / h);
        let (mut sum, mut count) = (0.0, 0.0);
        for y in (0..h).filter(|&y| y.abs_diff(i) <= r) {
            for z in (0..w).filter(|&z| z.abs_diff(q) <= r) {
                sum += x[((b * h + y) * w + z) * c + j];
                count += 1.0;
            }
        }
        out.push(sum / count);
    }
    out
}

#[test]
fn box_filter_follows_its_definition() {
    for (shape, r) in [
        ([2, 9, 13, 3], 1),
        ([1, 17, 19, 1], 4),
        ([1, 6, 40, 5], 7),
        ([1, 1, 50, 1], 3),
        ([1, 50, 1, 2], 60),
        ([2, 1, 1, 7], 2),
    ] {
        let x = random(shape, 7);
        let y = eval(DType::F64, &[&x], |t, v| ops::box_filter(t, v[0], r)).unwrap();
        let wanted = box_naive(&x.to_f64(), shape, r);
        assert_close(&y.to_f64(), &wanted, 1e-14, &format!("{shape:?} {r}"));
    }
}

/// Guided filter with two-pass variances, from the definition.
fn guided_naive(i: &[f64], x: &[f64], shape: [usize; 4], r: usize, eps: f64) -> Vec<f64> {
    let [n, h, w, c] = shape;
    let one = [n, h, w, 1];
    let mut out = vec![0.0; x.len()];
    for j in 0..c {
        let x: Vec<f64> = x.iter().skip(j).step_by(c).copied().collect();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for at in 0..n * h * w {
            let (q, p, k) = (at % w, at / w % h, at / w / h);
            let inside: Vec<usize> = (0..h * w)
                .filter(|s| (s / w).abs_diff(p) <= r && (s % w).abs_diff(q) <= r)
                .map(|s| k * h * w + s)
                .collect();
            let mean = |v: &dyn Fn(usize) -> f64| {
                inside.iter().map(|&s| v(s)).sum::<f64>() / inside.len() as f64
            };
            let (mi, mx) = (mean(&|s| i[s]), mean(&|s| x[s]));
            let cov = mean(&|s| (i[s] - mi) * (x[s] - mx));
            let var = mean(&|s| (i[s] - mi) * (i[s] - mi));
            a.push(cov / (var + eps));
            b.push(mx - a[at] * mi);
        }
        let (a, b) = (box_naive(&a, one, r), box_naive(&b, one, r));
        for at in 0..i.len() {
            out[at * c + j] = a[at] * i[at] + b[at];
        }
    }
    out
}

#[test]
fn guided_filter_follows_its_definition() {
    for (shape, r, eps) in [
        ([2, 9, 13, 3], 2, 1e-2),
        ([1, 11, 17, 1], 4, 1e-4),
        ([1, 3, 5, 2], 9, 1.0),
    ] {
        let guide = random([shape[0], shape[1], shape[2], 1], 8);
        let x = random(shape, 9);
        let f = |t: &mut Tape, v: &[Var]| ops::guided_filter(t, v[0], v[1], r, eps);
        let wanted = guided_naive(&guide.to_f64(), &x.to_f64(), shape, r, eps);
        let y = eval(DType::F64, &[&guide, &x], f).unwrap();
        assert_close(&y.to_f64(), &wanted, 1e-12, &format!("{shape:?} {r}"));
    }
    // A bright, almost flat guide: its variance, which is what eps is compared with, is 4e-10 of
    // its mean square. Only the part of q that is not the mean shows an error.
    let shape = [1, 12, 12, 1];
    let ripple = |seed| {
        let v = random(shape, seed).to_f64();
        let v: Vec<f32> = v.iter().map(|v| 0.9 + 3e-5 * *v as f32).collect();
        Tensor::from_vec(shape, v).unwrap()
    };
    let guide = ripple(1);
    let x = random(shape, 2).to_dtype(DType::F32);
    let f = |t: &mut Tape, v: &[Var]| ops::guided_filter(t, v[0], v[1], 2, 1e-10);
    let y = eval(DType::F32, &[&guide, &x], f).unwrap();
    let wanted = guided_naive(&guide.to_f64(), &x.to_f64(), shape, 2, 1e-10);
    assert_close(&y.to_f64(), &wanted, 1e-6, "flat guide");
}
