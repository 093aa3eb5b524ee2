use super::curve::{MAX_GAIN, MAX_SHIFT, PERCENTILES, SAFE};
use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};

/// Levels of 8 bits that are neither black nor white lie between these.
const BLACK: f32 = 1.0 / 255.0;
const WHITE: f32 = 254.0 / 255.0;

/// A picture between two levels, dark or bright in the main, with a few values anywhere.
fn picture([a, b]: [f32; 2], power: f32, odd: f64, levels: f32, seed: u64) -> Vec<f32> {
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(seed);
    let mut value = || match rng.random_bool(odd) {
        true => rng.random::<f32>(),
        false => a + (b - a) * rng.random::<f32>().powf(power),
    };
    (0..4000)
        .map(|_| (value() * levels).round() / levels)
        .collect()
}

/// [`picture`]s of 8 and 16 bits and between: flat, dark, bright, full, with and without outliers.
fn pictures() -> impl Strategy<Value = Vec<f32>> {
    let end = || {
        prop_oneof![
            0.0f32..=1.0,
            0.0f32..=0.05,
            0.95f32..=1.0,
            Just(0.0),
            Just(1.0)
        ]
    };
    let power = prop_oneof![Just(1.0f32), 0.1f32..10.0];
    let odd = prop_oneof![Just(0.0), Just(0.003), 0.0f64..0.1];
    let levels = prop_oneof![Just(255.0f32), Just(65535.0), Just(1e6)];
    (end(), end(), power, odd, levels, any::<u64>())
        .prop_map(|(a, b, power, odd, levels, seed)| picture([a, b], power, odd, levels, seed))
}

fn toned(tone: Tone, plane: &[f32]) -> Vec<f32> {
    let mut toned = plane.to_vec();
    tone.apply(&mut toned).unwrap();
    toned
}

fn mean(plane: &[f32]) -> f64 {
    plane.iter().map(|&v| f64::from(v)).sum::<f64>() / plane.len() as f64
}

/// The curve of `auto` for a picture, with its percentiles; `None` where the picture stays.
fn curve(plane: &[f32]) -> Option<(Curve, [f64; 2])> {
    let histogram = Histogram::of(plane)?;
    let [low, high] = PERCENTILES.map(|p| histogram.percentile(p));
    Some((Curve::auto(&histogram, low, high)?, [low, high]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn order_is_kept(plane in pictures(), low in 0.0f64..50.0, high in 50.1f64..=100.0) {
        for tone in [Tone::Auto, Tone::Percentiles { low, high }] {
            let toned = toned(tone, &plane);
            let mut pairs: Vec<_> = plane.iter().zip(&toned).collect();
            pairs.sort_by(|a, b| a.0.total_cmp(b.0));
            for p in pairs.windows(2) {
                prop_assert!(p[0].1 <= p[1].1, "{tone}: {p:?}");
            }
            prop_assert!(toned.iter().all(|v| (0.0..=1.0).contains(v)), "{tone}");
        }
    }

    #[test]
    fn auto_makes_nothing_black_or_white(plane in pictures()) {
        for (&x, y) in plane.iter().zip(toned(Tone::Auto, &plane)) {
            prop_assert!(y >= x.min(SAFE as f32), "{x} -> {y}");
            prop_assert!(y <= x.max(1.0 - SAFE as f32), "{x} -> {y}");
            prop_assert!(x <= BLACK || y > BLACK, "{x} -> {y}");
            prop_assert!(x >= WHITE || y < WHITE, "{x} -> {y}");
        }
    }

    #[test]
    fn auto_never_narrows_and_keeps_the_level(plane in pictures()) {
        let moved = (mean(&toned(Tone::Auto, &plane)) - mean(&plane)).abs();
        // Shoulders and the width of a bin come on top.
        prop_assert!(moved <= MAX_SHIFT + 0.02, "the mean moved by {moved}");
        if let Some((curve, [low, high])) = curve(&plane) {
            let [a, b] = [low, high].map(|x| f64::from(curve.at(x as f32)));
            prop_assert!(b - a >= high - low - 1e-6, "{low} {high} -> {a} {b}");
        }
    }

    #[test]
    fn auto_has_a_slope_without_jumps(plane in pictures()) {
        let Some((curve, _)) = curve(&plane) else {
            return Ok(());
        };
        let (min, max) = { plane.iter() }
            .fold((1.0f32, 0.0f32), |(a, b), &v| (a.min(v), b.max(v)));
        let steps = 2000;
        let x = |i: usize| min + (max - min) * i as f32 / steps as f32;
        let knots = curve.knots();
        let step = f64::from(x(1) - x(0));
        if step < 2e-5 {
            return Ok(());
        }
        let slope = |i: usize| f64::from(curve.at(x(i + 1)) - curve.at(x(i))) / step;
        let noise = 4e-7 / step;
        for i in 0..steps {
            // The first piece of a shoulder is steeper.
            let safe = SAFE as f32..1.0 - SAFE as f32;
            let limit = match safe.contains(&x(i)) && safe.contains(&x(i + 1)) {
                true => MAX_GAIN,
                false => 2.0,
            };
            prop_assert!(slope(i) <= limit + noise, "{} at {}", slope(i), x(i));
        }
        // At a knot both sides have one slope, as far as steps shorter than the pieces tell.
        for knot in knots.into_iter().filter(|k| (min + 2e-3..max - 2e-3).contains(k))
        {
            let slope = |to: f32| f64::from(curve.at(knot + to) - curve.at(knot)) / f64::from(to);
            let [left, right] = [-1e-4, 1e-4].map(slope);
            prop_assert!((left - right).abs() < 0.06, "{left} and {right} at {knot}: {curve:?}");
        }
    }

    #[test]
    fn percentiles_are_those_of_sorted_values(plane in pictures(), percent in 0.0f64..=100.0) {
        let histogram = Histogram::of(&plane).unwrap();
        let mut sorted = plane.clone();
        sorted.sort_by(f32::total_cmp);
        let rank = (percent / 100.0 * plane.len() as f64).ceil() as usize;
        let exact = f64::from(sorted[rank.max(1) - 1]);
        let found = histogram.percentile(percent);
        prop_assert!((found - exact).abs() <= 1.0 / BINS as f64 + 1e-7, "{found}, {exact}");
        prop_assert_eq!(histogram.percentile(0.0), f64::from(sorted[0]));
        prop_assert_eq!(histogram.percentile(100.0), f64::from(sorted[plane.len() - 1]));
        prop_assert!((histogram.mean() - mean(&plane)).abs() < 1.0 / BINS as f64);
    }

    #[test]
    fn constant_pictures_stay(level in 0.0f32..=1.0, size in 0usize..70_000) {
        let plane = vec![level; size];
        for tone in [Tone::None, Tone::Auto, Tone::Percentiles { low: 0.5, high: 99.5 }] {
            prop_assert_eq!(&toned(tone, &plane), &plane);
        }
    }

    #[test]
    fn text_is_read_back(low in 0.0f64..100.0, part in 0.001f64..=1.0) {
        let high = low + (100.0 - low) * part;
        for tone in [Tone::None, Tone::Auto, Tone::Percentiles { low, high }] {
            prop_assert_eq!(tone.to_string().parse::<Tone>().unwrap(), tone);
        }
    }
}

#[test]
fn auto_on_known_pictures() {
    let ramp = |a: f32, b: f32| -> Vec<f32> {
        (0..=1000)
            .map(|i| a + (b - a) * i as f32 / 1000.0)
            .collect()
    };
    let ends = |plane: &[f32]| [0, 500, 1000].map(|i| (plane[i] * 1000.0).round() / 1000.0);
    for (name, [a, b], expected) in [
        (
            "fog: the greatest gain about the mean",
            [0.4, 0.6],
            [0.35, 0.5, 0.65],
        ),
        (
            "night: brighter, black stays",
            [0.0, 0.3],
            [0.0, 0.225, 0.45],
        ),
        (
            "bright: darker, white stays",
            [0.7, 1.0],
            [0.55, 0.775, 1.0],
        ),
        ("nearly all of the range", [0.1, 0.9], [0.015, 0.5, 0.985]),
        ("all of it", [0.0, 1.0], [0.0, 0.5, 1.0]),
    ] {
        let found = ends(&toned(Tone::Auto, &ramp(a, b)));
        let far = found
            .iter()
            .zip(expected)
            .any(|(f, e)| (f - e).abs() > 0.002);
        assert!(!far, "{name}: {found:?}, not {expected:?}");
    }
    let full = ramp(0.0, 1.0);
    assert_eq!(toned(Tone::Auto, &full), full);
}

#[test]
fn all_levels_of_16_bits_stay_apart() {
    let mut plane: Vec<f32> = (0..=65535u16).map(|v| f32::from(v) / 65535.0).collect();
    // Most values in the middle: the gain is the greatest, and both shoulders are in use.
    plane.extend(vec![0.4; 9_000_000]);
    plane.extend(vec![0.6; 9_000_000]);
    let (curve, _) = curve(&plane).unwrap();
    assert!(curve.at(0.6) - curve.at(0.4) > 0.29);
    for pair in plane[..65536].windows(2) {
        assert!(curve.at(pair[0]) < curve.at(pair[1]), "{pair:?}");
    }
}

#[test]
fn percentiles_are_put_at_black_and_white() {
    let plane: Vec<f32> = (0..1000).map(|i| i as f32 / 999.0).collect();
    let toned = toned("10,60".parse().unwrap(), &plane);
    for (i, y) in toned.into_iter().enumerate() {
        let expected = ((i as f32 / 1000.0 - 0.1) / 0.5).clamp(0.0, 1.0);
        assert!((y - expected).abs() < 3e-3, "{i}: {y}, not {expected}");
    }
    let mut two = vec![0.5; 1000];
    two[7] = 0.9;
    let before = two.clone();
    Tone::Percentiles {
        low: 0.5,
        high: 99.5,
    }
    .apply(&mut two)
    .unwrap();
    assert_eq!(two, before, "one pixel in a thousand is no range");
}

#[test]
fn what_is_not_finite_stays_and_what_is_outside_is_clamped() {
    let mut plane: Vec<f32> = (0..1000).map(|i| 0.3 + 0.0003 * i as f32).collect();
    plane.extend([f32::NAN, -0.5, f32::INFINITY, 1.5, f32::NEG_INFINITY]);
    for tone in [
        Tone::Auto,
        "0,100".parse().unwrap(),
        "20,80".parse().unwrap(),
    ] {
        for (x, y) in plane.iter().zip(toned(tone, &plane)) {
            match x.is_finite() {
                true => assert!((0.0..=1.0).contains(&y), "{tone}: {x} -> {y}"),
                false => assert_eq!(x.to_bits(), y.to_bits(), "{tone}"),
            }
        }
        assert!(toned(tone, &[f32::NAN; 3]).iter().all(|v| v.is_nan()));
        assert!(toned(tone, &[]).is_empty());
    }
    assert_eq!(toned(Tone::None, &[-1.0, 2.0]), [-1.0, 2.0]);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let plane: Vec<f32> = { picture([0.2, 0.7], 2.0, 0.01, 1e6, 5).into_iter() }
        .cycle()
        .take(100_003)
        .collect();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| toned(Tone::Auto, &plane))
    };
    let one = with(1);
    assert_ne!(one, plane);
    assert!([2, 3, 7].into_iter().all(|threads| with(threads) == one));
}

#[test]
fn tones_that_are_none_are_refused() {
    for (text, what) in [
        ("", "`` is not known"),
        ("Auto", "none, auto or two percentages"),
        ("5", "`5` is not known"),
        ("1,2,3", "`1,2,3` is not known"),
        ("a,b", "`a,b` is not known"),
        ("99,1", "percentiles 99 and 1"),
        ("5,5", "LOW < HIGH"),
        ("-1,99", "-1 and 99"),
        ("1,100.5", "100.5"),
        ("nan,99", "NaN"),
        ("0,inf", "inf"),
    ] {
        let error = text.parse::<Tone>().unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{text}");
        assert!(error.to_string().contains(what), "{text}: {error}");
    }
    let wrong = Tone::Percentiles {
        low: 9.0,
        high: 1.0,
    };
    let mut plane = [0.1, 0.9];
    assert!(wrong.apply(&mut plane).is_err());
    assert_eq!(plane, [0.1, 0.9]);
}
