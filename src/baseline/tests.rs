use super::*;
use proptest::prelude::*;
use serde_json::Value;

/// The pictures of `tests/data/baselines.py`.
fn scene(w: usize, h: usize) -> [Vec<f32>; 2] {
    let plane = |f: &dyn Fn(usize, usize) -> usize| {
        let pixels = (0..w * h).map(|i| f(i % w, i / w) % 256);
        pixels.map(|v| v as f32 / 255.0).collect()
    };
    [
        plane(&|x, y| (x * x + 3 * y * y + x * y) / 8 + 40 * ((x / 5 + y / 7) % 3)),
        plane(&|x, y| 11 * x + 5 * y + x * y / 3 + 60 * ((x + 2 * y) / 9 % 2)),
    ]
}

#[test]
fn fused_as_by_the_rules_written_pixel_by_pixel() {
    let golden = include_str!("../../tests/data/baselines_golden.json");
    let golden: Value = serde_json::from_str(golden).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 7);
    for case in cases {
        let rule: Baseline = case["rule"].as_str().unwrap().parse().unwrap();
        let [w, h] = ["width", "height"].map(|k| case[k].as_u64().unwrap() as usize);
        let [a, b] = scene(w, h);
        let fused = rule.fuse(h, w, &a, &b).unwrap();
        let close = |what: &str, found: f64, expected: &Value, limit: f64| {
            let error = (found - expected.as_f64().unwrap()).abs();
            assert!(
                error <= limit,
                "{rule} {w}x{h}, {what}: {found} instead of {expected}"
            );
        };
        let n = (w * h) as f64;
        let value = |i: usize| f64::from(fused[i]);
        close("sum", (0..w * h).map(value).sum(), &case["sum"], 2e-5 * n);
        let weighted = |i: usize| (0.37 * i as f64).cos() * value(i);
        let weighted = (0..w * h).map(weighted).sum();
        close("weighted sum", weighted, &case["weighted"], 2e-5 * n);
        for pixel in case["pixels"].as_array().unwrap() {
            let i = pixel[0].as_u64().unwrap() as usize;
            close(&format!("pixel {i}"), value(i), &pixel[1], 1e-4);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn equal_sources_stay_and_order_does_not_matter(
        (w, h, a, b) in (1usize..24, 1usize..24).prop_flat_map(|(w, h)| {
            let plane = || prop::collection::vec(0.0f32..=1.0, w * h);
            (Just(w), Just(h), plane(), plane())
        })
    ) {
        for rule in Baseline::ALL {
            let same = rule.fuse(h, w, &a, &a).unwrap();
            let ab = rule.fuse(h, w, &a, &b).unwrap();
            let ba = rule.fuse(h, w, &b, &a).unwrap();
            for i in 0..w * h {
                let kept = rule == Baseline::Exposure || (same[i] - a[i]).abs() < 1e-5;
                prop_assert!(kept, "{rule}: {} for {}", same[i], a[i]);
                prop_assert!((ab[i] - ba[i]).abs() < 1e-5, "{rule}: {} and {}", ab[i], ba[i]);
                prop_assert!((0.0..=1.0).contains(&ab[i]), "{rule}: {}", ab[i]);
            }
        }
    }
}

#[test]
fn wrong_planes_and_names_are_refused() {
    for rule in Baseline::ALL {
        assert_eq!(rule.name().parse::<Baseline>().unwrap(), rule);
        let error = rule.fuse(2, 2, &[0.0; 4], &[0.0; 3]).unwrap_err();
        assert!(error.to_string().contains("4 and 3 values"), "{error}");
        assert!(rule.fuse(0, 2, &[], &[]).is_err());
        assert!(rule.bytes(3, 5).unwrap() >= 60);
    }
    let error = "mean".parse::<Baseline>().unwrap_err().to_string();
    assert!(
        error.contains("average, maximum, laplacian, gff, exposure"),
        "{error}"
    );
}
