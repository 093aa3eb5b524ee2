//! The metrics against values of an independent implementation, and their properties.
//!
//! Two sets of values are compared with where they are at hand: `metrics/golden_metrics.json` with the pictures of `data/` in the folder
//! `HAFUSE_TEST_DATA` (or `../shared` next to the repository). `cargo test --test metrics -- --nocapture` prints the worst error of each
//! metric, or that the folder is missing.

#[path = "metrics/gates.rs"]
mod gates;

use hafuse::data::Picture;
use hafuse::metrics::{Grey, Metric, Undefined, measure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The average or the maximum of two sources.
fn fuse(a: &Grey, b: &Grey, rule: &str) -> Grey {
    let pairs = a.values().iter().zip(b.values());
    let values = pairs.map(|(&a, &b)| match rule {
        "average" => (u16::from(a) + u16::from(b)).div_ceil(2) as u8,
        "max" => a.max(b),
        other => panic!("unknown rule {other}"),
    });
    Grey::new(a.width(), a.height(), values.collect()).unwrap()
}

/// The gates' own, whose values are in `tests/data/gates_golden.json`.
const OF_GATES: [Metric; 3] = [Metric::NewBlack, Metric::NewWhite, Metric::ToneDetail];

/// Worst relative error of each metric.
#[derive(Default)]
struct Worst(BTreeMap<&'static str, (f64, String)>);

impl Worst {
    fn add(&mut self, metric: Metric, found: f64, expected: f64, place: &str) {
        // Values that are 0 but for rounding have no relative error.
        let error = (found - expected).abs() / expected.abs().max(1e-9);
        assert!(error.is_finite(), "{metric} {place}: {found}");
        let worst = self.0.entry(metric.name()).or_default();
        if error >= worst.0 {
            *worst = (error, format!("{place}: {found} instead of {expected}"));
        }
    }

    fn check(self, limit: f64) {
        for (name, (error, place)) in &self.0 {
            println!("{name:12} {error:.1e}  {place}");
        }
        for (name, (error, place)) in self.0 {
            assert!(error <= limit, "{name} {place}, relative error {error:e}");
        }
    }
}

fn compare(a: &Grey, b: &Grey, rule: &str, golden: &Value, place: &str, worst: &mut Worst) {
    let golden = golden.as_object().unwrap();
    let metrics: Vec<Metric> = golden.keys().map(|k| k.parse().unwrap()).collect();
    let scores = measure(a, b, &fuse(a, b, rule), &metrics).unwrap();
    for ((metric, score), expected) in metrics.into_iter().zip(scores).zip(golden.values()) {
        let place = format!("{place}, {rule}");
        match (score, expected.as_f64()) {
            (Ok(found), Some(expected)) => worst.add(metric, found, expected, &place),
            (Err(_), None) => {}
            (found, expected) => panic!("{metric} {place}: {found:?}, expected {expected:?}"),
        }
    }
}

/// Sources of `tests/data/metrics_golden.json`, which holds the formula.
fn drawn(width: usize, height: usize, flat_b: bool) -> [Grey; 2] {
    let a = |x, y| (x * x + 3 * y * y + x * y) / 8 + 40 * ((x / 5 + y / 7) % 3);
    let b = |x, y| match flat_b {
        true => 128,
        false => 11 * x + 5 * y + x * y / 3 + 60 * ((x + 2 * y) / 9 % 2),
    };
    [
        Grey::from_fn(width, height, |x, y| (a(x, y) % 256) as u8).unwrap(),
        Grey::from_fn(width, height, |x, y| (b(x, y) % 256) as u8).unwrap(),
    ]
}

#[test]
fn drawn_pictures_have_the_golden_values() {
    let text = include_str!("data/metrics_golden.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    let mut worst = Worst::default();
    for case in golden["cases"].as_array().unwrap() {
        let side = |key: &str| case[key].as_u64().unwrap() as usize;
        let (w, h) = (side("width"), side("height"));
        let [a, b] = drawn(w, h, case["flat_b"].as_bool().unwrap());
        let values = &case["values"];
        let others = Metric::ALL.len() - OF_GATES.len();
        assert_eq!(values.as_object().unwrap().len(), others);
        let rule = case["rule"].as_str().unwrap();
        compare(&a, &b, rule, values, &format!("{w}x{h}"), &mut worst);
    }
    worst.check(1e-6);
}

/// The folder of pictures and values, or `None` after saying so.
fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("HAFUSE_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    if folder.join("metrics/golden_metrics.json").is_file() {
        return Some(folder);
    }
    println!(
        "skipped: no metrics/golden_metrics.json in {}; set HAFUSE_TEST_DATA",
        folder.display()
    );
    None
}

fn read(path: &Path) -> Grey {
    Grey::from_picture(&Picture::read(path).unwrap()).unwrap()
}

#[test]
fn research_pictures_have_the_golden_values() {
    let Some(shared) = shared() else { return };
    let text = std::fs::read_to_string(shared.join("metrics/golden_metrics.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let (mut worst, mut of_jpeg) = (Worst::default(), Worst::default());
    for (set, pictures) in golden["sets"].as_object().unwrap() {
        let [first, second] = if set == "mif_test" {
            ["mri", "pet"]
        } else {
            ["ir", "vi"]
        };
        for (name, rules) in pictures.as_object().unwrap() {
            let folder = shared.join("data").join(set);
            let [a, b] = [first, second].map(|side| read(&folder.join(side).join(name)));
            for (rule, values) in rules.as_object().unwrap() {
                // JPEG decoders differ by a level here and there: values of other pictures.
                let worst = if name.ends_with(".jpg") {
                    &mut of_jpeg
                } else {
                    &mut worst
                };
                compare(&a, &b, rule, values, &format!("{set}/{name}"), worst);
            }
        }
    }
    worst.check(1e-6);
    println!("JPEG:");
    // Nabf counts a few pixels of the average.
    let nabf = |name: &&str| name.starts_with("nabf");
    of_jpeg.0.retain(|name, _| !nabf(name));
    of_jpeg.check(1e-3);
}

/// Columns of a published table that were made with the standard formulas; it holds eight digits, of which the
/// first four decimals are trusted.
#[test]
fn a_published_table_is_met() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("data/metric_oracle");
    let table = std::fs::read_to_string(folder.join("metrics_tno42.csv")).unwrap();
    let mut lines = table.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let columns = [
        ("EN", Metric::En),
        ("AG", Metric::Ag),
        ("CC", Metric::Cc),
        ("SCD", Metric::Scd),
        ("MSE", Metric::Mse),
        ("PSNR", Metric::PsnrLt),
    ];
    let mut compared = 0;
    for line in lines {
        let name = format!("{}.png", line[1]);
        let fused = folder.join(line[0]).join(&name);
        if !fused.is_file() {
            continue;
        }
        let [a, b] = ["ir", "vi"].map(|side| read(&folder.join(side).join(&name)));
        let scores = measure(&a, &b, &read(&fused), &columns.map(|c| c.1)).unwrap();
        for ((title, _), score) in columns.into_iter().zip(scores) {
            let at = head.iter().position(|h| *h == title).unwrap();
            let (printed, found): (f64, f64) = (line[at].parse().unwrap(), score.unwrap());
            assert!(
                (found - printed).abs() < 5e-5,
                "{title} of {}: {found} instead of {printed}",
                fused.display()
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 3 * 8 * columns.len());
}

#[test]
fn the_order_of_the_sources_does_not_matter() {
    let [a, b] = drawn(180, 176, false);
    let f = fuse(&a, &b, "average");
    let scores = [(&a, &b), (&b, &a)].map(|(a, b)| measure(a, b, &f, &Metric::ALL).unwrap());
    for (i, metric) in Metric::ALL.into_iter().enumerate() {
        let [one, other] = [scores[0][i].unwrap(), scores[1][i].unwrap()];
        let limit = match metric {
            // Where the gains are equal it takes B.
            Metric::Viff => 1e-6,
            // Its table is eliminated in another order.
            Metric::ToneDetail => 1e-9,
            _ => 1e-12,
        };
        assert!(
            (one - other).abs() <= limit * one.abs().max(1.0),
            "{metric}: {one} and {other}"
        );
    }
}

#[test]
fn a_perfect_copy_has_the_known_values() {
    let [a, _] = drawn(180, 176, false);
    let scores = measure(&a, &a, &a, &Metric::ALL).unwrap();
    let of = |m: Metric| scores[Metric::ALL.iter().position(|&x| x == m).unwrap()].unwrap();
    let ln2 = std::f64::consts::LN_2;
    let known = [
        (Metric::Cc, 1.0),
        // Nothing of one source is left when the other is taken away.
        (Metric::Scd, 0.0),
        (Metric::Mse, 0.0),
        (Metric::Psnr, 200.0),
        (Metric::PsnrLt, 200.0 + 20.0 * 255f64.log10()),
        (Metric::Vif, 2.0),
        (Metric::VifU8sat, 2.0),
        (Metric::Viff, 1.0),
        (Metric::Nabf, 0.0),
        (Metric::NabfUnit, 0.0),
        (Metric::Ssim, 1.0),
        (Metric::SsimLt, 1.0),
        (Metric::SsimCdd, 2.0),
        (Metric::MsSsim, 1.0),
        (Metric::MefMsSsim, 1.0),
        (Metric::FmiPixel, 1.0),
        (Metric::Mi, 2.0 * of(Metric::En)),
        (Metric::MiNats, 2.0 * ln2 * of(Metric::En)),
        (Metric::NewBlack, 0.0),
        (Metric::NewWhite, 0.0),
        (Metric::ToneDetail, 1.0),
    ];
    for (metric, value) in known {
        assert!(
            (of(metric) - value).abs() < 1e-6,
            "{metric}: {} instead of {value}",
            of(metric)
        );
    }
}

#[test]
fn one_metric_alone_has_the_value_that_it_has_among_all() {
    let [a, b] = drawn(181, 177, false);
    let f = fuse(&a, &b, "max");
    let all = measure(&a, &b, &f, &Metric::ALL).unwrap();
    for (metric, among) in Metric::ALL.into_iter().zip(all) {
        assert_eq!(measure(&a, &b, &f, &[metric]).unwrap(), [among], "{metric}");
    }
    assert_eq!(measure(&a, &b, &f, &[]).unwrap(), []);
}

/// Every value is a finite number, whatever the pictures are.
#[test]
fn odd_pictures_have_finite_values_or_reasons() {
    let flat = |w, h, v| Grey::from_fn(w, h, |_, _| v).unwrap();
    for (w, h) in [
        (1, 1),
        (1, 9),
        (200, 1),
        (2, 2),
        (3, 3),
        (6, 200),
        (10, 10),
        (40, 41),
        (41, 41),
        (175, 176),
        (180, 180),
    ] {
        let [drawn_a, drawn_b] = drawn(w, h, false);
        for (a, b) in [
            (drawn_a.clone(), drawn_b),
            (drawn_a, flat(w, h, 200)),
            (flat(w, h, 0), flat(w, h, 0)),
            (flat(w, h, 255), flat(w, h, 255)),
            (flat(w, h, 0), flat(w, h, 131)),
        ] {
            for f in [
                fuse(&a, &b, "average"),
                fuse(&a, &b, "max"),
                flat(w, h, 77),
                b.clone(),
            ] {
                for (metric, score) in Metric::ALL
                    .into_iter()
                    .zip(measure(&a, &b, &f, &Metric::ALL).unwrap())
                {
                    let small = w.min(h) < metric.least_side();
                    match score {
                        Ok(value) => {
                            assert!(value.is_finite() && !small, "{metric} {w}x{h}: {value}")
                        }
                        Err(Undefined::TooSmall { side, .. }) => {
                            assert!(small && side == metric.least_side())
                        }
                        Err(Undefined::NoEdges) => {
                            assert!(metric.name().starts_with("qabf"))
                        }
                        Err(Undefined::Constant) => assert_eq!(metric, Metric::ToneDetail),
                        Err(reason) => panic!("{metric} {w}x{h}: {reason}"),
                    }
                }
            }
        }
    }
}

#[test]
fn flat_pictures_have_the_values_that_the_conventions_give() {
    let flat = Grey::from_fn(50, 50, |_, _| 90).unwrap();
    let of = |metric| measure(&flat, &flat, &flat, &[metric]).unwrap()[0];
    for metric in [
        Metric::En,
        Metric::Sd,
        Metric::SdU8sat,
        Metric::Sf,
        Metric::Ag,
        Metric::Mi,
        Metric::Cc,
        Metric::Scd,
    ] {
        assert_eq!(of(metric), Ok(0.0), "{metric}");
        assert!(of(metric).unwrap().is_sign_positive(), "{metric}");
    }
    assert_eq!(of(Metric::Vif), Ok(2.0));
    assert_eq!(of(Metric::Ssim), Ok(1.0));
    assert_eq!(of(Metric::ToneDetail), Err(Undefined::Constant));
    // Beyond the border all is black, so there is an edge.
    assert!(of(Metric::Qabf).is_ok());
    let black = Grey::from_fn(50, 50, |_, _| 0).unwrap();
    let scores = measure(&black, &black, &flat, &[Metric::Qabf, Metric::QabfUnit]).unwrap();
    assert_eq!(scores, [Err(Undefined::NoEdges); 2]);
}

#[test]
fn different_sizes_are_refused() {
    let [a, b] = drawn(8, 5, false);
    let [f, _] = drawn(5, 8, false);
    let error = measure(&a, &b, &f, &[Metric::En]).unwrap_err().to_string();
    assert_eq!(
        error,
        "metrics: source A is 8x5, source B 8x5, the fused picture 5x8; give three pictures of one size"
    );
}
