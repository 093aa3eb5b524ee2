//! The gates' measures against values of an independent implementation, and the verdicts on fusions whose faults are planted.

use super::{OF_GATES, Worst, drawn};
use hafuse::metrics::gates::{Gate, Reference, Tally, Verdict};
use hafuse::metrics::plane::PlaneR2;
use hafuse::metrics::{Grey, Metric, Undefined, measure};
use serde_json::Value;
use std::collections::BTreeMap;

/// The fused level at a place.
fn rule(name: &str) -> fn(usize, usize, u16, u16) -> u16 {
    match name {
        "average" => |_, _, a, b| (a + b).div_ceil(2),
        "max" => |_, _, a, b| a.max(b),
        "stretch" => |_, _, a, b| (3 * (a + b) / 2).saturating_sub(190).min(255),
        "weave" => |x, y, a, b| if (x / 3 + y / 2) % 2 == 0 { a } else { b },
        other => panic!("unknown rule {other}"),
    }
}

fn fuse(a: &Grey, b: &Grey, rule: impl Fn(usize, usize, u16, u16) -> u16) -> Grey {
    let w = a.width();
    let level = |x: usize, y: usize| {
        let [a, b] = [a, b].map(|s| u16::from(s.values()[y * w + x]));
        u8::try_from(rule(x, y, a, b)).unwrap()
    };
    Grey::from_fn(w, a.height(), level).unwrap()
}

#[test]
fn measures_have_the_golden_values() {
    let golden: Value = serde_json::from_str(include_str!("../data/gates_golden.json")).unwrap();
    let (mut worst, mut planes) = (Worst::default(), BTreeMap::<&str, PlaneR2>::new());
    for case in golden["cases"].as_array().unwrap() {
        let side = |key: &str| case[key].as_u64().unwrap() as usize;
        let (w, h) = (side("width"), side("height"));
        let [a, b] = drawn(w, h, case["flat_b"].as_bool().unwrap());
        let name = case["rule"].as_str().unwrap();
        let f = fuse(&a, &b, rule(name));
        planes.entry(name).or_default().add(&a, &b, &f).unwrap();
        let scores = measure(&a, &b, &f, &OF_GATES).unwrap();
        for (metric, score) in OF_GATES.into_iter().zip(scores) {
            match (score, case["values"][metric.name()].as_f64()) {
                (Ok(found), Some(expected)) => {
                    worst.add(metric, found, expected, &format!("{w}x{h}, {name}"));
                }
                (Err(Undefined::Constant), None) => {}
                (found, expected) => panic!("{metric} of {name}: {found:?}, not {expected:?}"),
            }
        }
    }
    worst.check(1e-6);
    for (name, plane) in planes {
        let expected = golden["plane_r2"][name].as_f64().unwrap();
        let found = plane.score().unwrap();
        assert!(
            (found - expected).abs() < 1e-9,
            "{name}: {found}, not {expected}"
        );
    }
}

#[test]
fn a_plane_that_the_sources_leave_open_is_fitted_all_the_same() {
    let [a, b] = drawn(40, 30, false);
    let flat = Grey::from_fn(40, 30, |_, _| 90).unwrap();
    let half = fuse(&a, &a, |_, _, a, _| 1 + a / 2);
    let score = |a: &Grey, b: &Grey, f: &Grey| {
        let mut plane = PlaneR2::default();
        plane.add(a, b, f).unwrap();
        plane.score()
    };
    for (a, b) in [(&a, &a), (&a, &flat), (&flat, &a), (&half, &a)] {
        assert!(score(a, b, &half).unwrap() > 0.999);
    }
    // Two constants tell nothing; a picture of one level, or all clipped, asks nothing.
    assert!(score(&flat, &flat, &half).unwrap().abs() < 1e-9);
    assert_eq!(score(&a, &b, &flat), Err(Undefined::Constant));
    let clipped = fuse(&a, &b, |_, _, a, b| if a > b { 255 } else { 0 });
    assert_eq!(score(&a, &b, &clipped), Err(Undefined::Clipped));
    let other = Grey::from_fn(30, 40, |_, _| 90).unwrap();
    assert!(PlaneR2::default().add(&a, &b, &other).is_err());
}

#[test]
fn tone_detail_tells_a_curve_from_a_choice_by_place() {
    let [a, b] = drawn(97, 71, false);
    let of = |f: &Grey| measure(&a, &b, f, &[Metric::ToneDetail]).unwrap()[0].unwrap();
    // A curve of both levels, far from any plane.
    let curve = fuse(&a, &b, |_, _, a, b| a * a / 510 + b * b / 510);
    assert!(of(&curve) > 0.99);
    assert!(of(&fuse(&a, &b, rule("weave"))) < 0.6);
    // Nothing of the sources: what the table explains is chance.
    assert!(of(&fuse(&a, &b, |x, y, _, _| ((x * 37 + y * 91) % 101) as u16)) < 0.3);
}

/// Verdicts over two scenes, by gate.
fn judge(rule: impl Fn(usize, usize, u16, u16) -> u16 + Copy) -> BTreeMap<&'static str, Verdict> {
    let mut tally = Tally::default();
    for side in [64, 97] {
        let [a, b] = drawn(side, 71, false);
        let f = fuse(&a, &b, rule);
        let scores = measure(&a, &b, &f, &Tally::METRICS).unwrap();
        let reference = Reference::of(&a, &b).unwrap();
        let name = side.to_string();
        tally.add(&name, [&a, &b, &f], &scores, &reference).unwrap();
    }
    assert_eq!(tally.len(), 2);
    let verdicts = tally.judge().into_iter();
    verdicts.map(|v| (v.gate.name(), v)).collect()
}

#[test]
fn planted_faults_are_caught_each_by_its_gate() {
    let failed = |verdicts: BTreeMap<&'static str, Verdict>| -> Vec<&'static str> {
        let failed = verdicts.values().filter(|v| v.passes == Some(false));
        failed.map(|v| v.gate.name()).collect()
    };
    assert_eq!(failed(judge(rule("average"))), ["plane_r2", "tone_detail"]);
    let black = failed(judge(|_, _, a, b| ((a + b) / 2).saturating_sub(60)));
    for gate in ["mean_level", "new_black", "new_black_worst"] {
        assert!(black.contains(&gate), "{gate} not in {black:?}");
    }
    let white = failed(judge(|_, _, a, b| (a + b).min(255)));
    for gate in ["new_white", "new_white_worst"] {
        assert!(white.contains(&gate), "{gate} not in {white:?}");
    }
    // Few places of one scene only.
    let verdicts = judge(|x, y, a, b| if x >= 90 && y < 60 { 0 } else { a.max(b) });
    assert_eq!(verdicts["new_black_worst"].passes, Some(false));
    let (worst, name) = verdicts["new_black_worst"].worst.clone().unwrap();
    assert_eq!(verdicts["new_black_worst"].value, Ok(worst));
    assert_eq!(name, "97");
}

#[test]
fn a_gate_without_a_value_is_not_passed_but_that_of_the_border() {
    let check = |verdicts: Vec<Verdict>, reason: Undefined| {
        for v in verdicts {
            let expected = match v.gate {
                Gate::Border => (Err(Undefined::NotFused), None),
                _ => (Err(reason), Some(false)),
            };
            assert_eq!((v.value, v.passes), expected, "{}", v.gate);
        }
    };
    check(Tally::default().judge(), Undefined::NoPicture);

    // A picture of one level, too small for VIF.
    let [a, b] = drawn(30, 30, false);
    let flat = Grey::from_fn(30, 30, |_, _| 130).unwrap();
    let scores = measure(&a, &b, &flat, &Tally::METRICS).unwrap();
    let mut tally = Tally::default();
    let reference = Reference::of(&a, &b).unwrap();
    tally
        .add("flat", [&a, &b, &flat], &scores, &reference)
        .unwrap();
    let verdicts = tally.judge();
    let of = |gate: Gate| verdicts.iter().find(|v| v.gate == gate).unwrap();
    for gate in [Gate::PlaneR2, Gate::ToneDetail] {
        assert_eq!(of(gate).value, Err(Undefined::Constant));
        assert_eq!(of(gate).passes, Some(false));
    }
    let fidelity = of(Gate::Fidelity);
    assert!(matches!(fidelity.value, Err(Undefined::TooSmall { .. })) && fidelity.limit.is_none());
    assert_eq!(fidelity.passes, Some(false));
    assert!(
        tally
            .add("flat", [&a, &b, &flat], &scores[1..], &reference)
            .is_err()
    );
    let [wide, _] = drawn(31, 30, false);
    assert!(Reference::of(&a, &wide).is_err());
}
