use super::*;
use crate::data::color::rgb_to_ycbcr;
use crate::data::{Chroma, Picture};

#[test]
fn names_are_unique_and_read_back() {
    let mut labels: Vec<_> = Metric::ALL.iter().map(|m| m.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Metric::ALL.len());
    for (i, metric) in Metric::ALL.into_iter().enumerate() {
        assert_eq!(metric as usize, i, "{metric} is out of order");
        assert_eq!(
            metric.name().to_uppercase().parse::<Metric>().unwrap(),
            metric
        );
        assert!(!metric.convention().is_empty());
    }
    let error = "vifp".parse::<Metric>().unwrap_err().to_string();
    assert!(
        error.starts_with("metric: \"vifp\" is not known; give one of en, sd, "),
        "{error}"
    );
}

#[test]
fn grey_of_colour_is_weighed_in_integers() {
    // 29 is coprime to 256, so the channels meet in many ways; ties and near ties are among them.
    let colours: Vec<[u8; 3]> = (0..60_000u32)
        .map(|i| [i % 256, (i * 29 / 7) % 256, (i / 131) % 256].map(|v| v as u8))
        .collect();
    let planes = colours
        .iter()
        .map(|c| rgb_to_ycbcr(c.map(|v| f32::from(v) / 255.0)));
    let [mut luma, mut cb, mut cr] = [const { Vec::new() }; 3];
    for [y, b, r] in planes {
        luma.push(y);
        cb.push(b);
        cr.push(r);
    }
    let mut picture = Picture::from_luma(300, 200, luma).unwrap();
    picture.chroma = Some(Chroma { cb, cr });
    let grey = Grey::from_picture(&picture).unwrap();
    for (&found, c) in grey.values().iter().zip(&colours) {
        let [r, g, b] = c.map(u32::from);
        assert_eq!(
            u32::from(found),
            (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16,
            "{c:?}"
        );
    }
}

#[test]
fn grey_refuses_what_is_no_picture() {
    let text = |r: Result<Grey>| r.unwrap_err().to_string();
    assert_eq!(
        text(Grey::new(2, 2, vec![0; 3])),
        "grey picture: 2x2 pixels but 3 values; give one for each pixel"
    );
    assert!(text(Grey::new(0, 4, vec![])).contains("0x4"));
    assert!(text(Grey::new(usize::MAX, 2, vec![0])).contains("give one for each pixel"));
    assert_eq!(
        text(Grey::from_luma(2, 2, &[0.0, 0.5, 1.0, f32::NAN])),
        "grey picture: the luma at row 1, column 1 is NaN; give finite values"
    );
    assert_eq!(
        Grey::from_luma(2, 1, &[-3.0, 7.0]).unwrap().values(),
        [0, 255]
    );
}

#[test]
fn windows_sum_as_written() {
    // Widths around the block sizes of the loops.
    for (w, h) in [(3, 4), (5, 3), (19, 17), (37, 18)] {
        let n = if w < 17 { 3 } else { 17 };
        let draw =
            |k: usize| Grey::from_fn(w, h, |x, y| (x * x * k + 31 * y + x * y) as u8).unwrap();
        let grey = [draw(1), draw(3), draw(7)];
        let [a, b, f] = grey.each_ref().map(|g| window::Plane::new(g, 0));
        let taps = window::gaussian(n, n as f64 / 5.0);
        let mut rows = 0;
        window::scan::<9>([&a, &b, &f], &taps, window::Product::Exact, |y, row| {
            for x in 0..=w - n {
                let mut direct = [0.0; 9];
                for (i, gi) in taps.iter().enumerate() {
                    for (j, gj) in taps.iter().enumerate() {
                        let [a, b, f] = [&a, &b, &f].map(|p| p.row(y + i)[x + j]);
                        let terms = [a, b, f, a * a, b * b, f * f, a * f, b * f, a * b];
                        direct
                            .iter_mut()
                            .zip(terms)
                            .for_each(|(d, t)| *d += gi * gj * t);
                    }
                }
                for (found, expected) in row.iter().map(|r| r[x]).zip(direct) {
                    assert!((found - expected).abs() <= 1e-12 * expected.max(1.0));
                }
            }
            assert!(row.iter().all(|r| r[w + 1 - n..].iter().all(|&v| v == 0.0)));
            rows += 1;
        });
        assert_eq!(rows, h + 1 - n);
    }
}
