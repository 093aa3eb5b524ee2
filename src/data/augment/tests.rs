use super::super::dataset::{Batch, PairDataset};
use super::super::sampler::EpochSampler;
use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};

/// Every part off.
fn off() -> Augment {
    Augment {
        untouched: 0.0,
        exposure: 0.0,
        gamma: 0.0,
        offset: 0.0,
        contrast: 0.0,
        polarity: 0.0,
        dark: 0.0,
        saturated: 0.0,
        vignetting: 0.0,
        blur: 0.0,
        noise: 0.0,
        shift: 0.0,
        ..defaults()
    }
}

fn defaults() -> Augment {
    crate::train::TrainConfig::load(None, &[]).unwrap().augment
}

/// A picture with dark and bright parts that are not spread evenly.
fn picture(width: usize, height: usize, seed: u64) -> Vec<f32> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let (fx, fy): (f32, f32) = (rng.random(), rng.random());
    let (low, high): (f32, f32) = (rng.random(), rng.random());
    (0..width * height)
        .map(|i| {
            let (x, y) = ((i % width) as f32, (i / width) as f32);
            let wave = 0.5 + 0.5 * (0.3 * fx * x + 0.2 * fy * y).sin();
            let v = low + (high - low) * wave * x / width as f32;
            // Half of them as from a file of 8 bits.
            match seed % 16 < 8 {
                true => (v.clamp(0.0, 1.0) * 255.0).round() / 255.0,
                false => v.clamp(0.0, 1.0),
            }
        })
        .collect()
}

/// Scenes of one square size: a crop of that size is the whole picture, turned. Values are those of 8-bit pictures, which
/// [`Tones`](crate::data::tones::Tones) knows exactly.
fn whole(side: usize, seed: u64) -> PairDataset {
    let picture = |seed| -> Vec<f32> {
        let values = picture(side, side, seed);
        values
            .into_iter()
            .map(|v| (v * 255.0).round() / 255.0)
            .collect()
    };
    let scene = |i: u64| Scene {
        name: format!("p{i}"),
        width: side,
        height: side,
        a: picture(seed.wrapping_add(2 * i)),
        b: picture(seed.wrapping_add(2 * i + 1)),
    };
    PairDataset::from_scenes((0..3).map(scene).collect()).unwrap()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

/// Batches of whole pictures under `augment`, beside the same ones without.
fn batches(augment: &Augment, seed: u64, count: usize) -> Vec<(Batch, Batch)> {
    let data = whole(48, seed);
    let mut sampler = EpochSampler::new(3, seed).unwrap();
    let mut plain = sampler.clone();
    let mut each = Vec::new();
    for _ in 0..count {
        let mut pair = (Batch::new(3, 48).unwrap(), Batch::new(3, 48).unwrap());
        data.sample_batch(&mut sampler, Some(augment), &mut pair.0)
            .unwrap();
        data.sample_batch(&mut plain, None, &mut pair.1).unwrap();
        each.push(pair);
    }
    each
}

proptest! {
    #[test]
    fn levels_are_the_means_of_the_pictures(seed: u64) {
        // What does not count is off, everything else happens often.
        let augment = Augment {
            exposure: 0.7,
            gamma: 0.5,
            offset: 0.5,
            contrast: 0.5,
            polarity: 0.3,
            dark: 0.2,
            saturated: 0.2,
            vignetting: 0.5,
            ..off()
        };
        for (batch, _) in batches(&augment, seed, 10) {
            let n = 48 * 48;
            for (plane, levels) in [(&batch.a, &batch.level_a), (&batch.b, &batch.level_b)] {
                for (patch, level) in plane.chunks(n).zip(levels) {
                    prop_assert!((mean(patch) - level).abs() < 1e-4, "{} and {level}", mean(patch));
                    prop_assert!(patch.iter().all(|v| (0.0..=1.0).contains(v)));
                }
            }
        }
    }

    #[test]
    fn blur_noise_and_defaults_stay_close_to_the_levels(seed: u64) {
        for (batch, _) in batches(&defaults(), seed, 10) {
            for (plane, levels) in [(&batch.a, &batch.level_a), (&batch.b, &batch.level_b)] {
                for (patch, level) in plane.chunks(48 * 48).zip(levels) {
                    prop_assert!((mean(patch) - level).abs() < 0.02, "{} and {level}", mean(patch));
                    prop_assert!(patch.iter().all(|v| (0.0..=1.0).contains(v)));
                }
            }
        }
    }
}

#[test]
fn all_off_or_untouched_changes_nothing() {
    let untouched = Augment {
        untouched: 1.0,
        ..defaults()
    };
    for augment in [off(), untouched] {
        for (changed, plain) in batches(&augment, 5, 20) {
            assert_eq!((&changed.a, &changed.b), (&plain.a, &plain.b));
            assert_eq!(changed.level_a, plain.level_a);
            assert_eq!(changed.level_b, plain.level_b);
        }
    }
    assert!(
        Augment {
            enabled: false,
            ..defaults()
        }
        .active()
        .is_none()
    );
    // A third and what chance leaves out.
    let (mut same, mut all) = (0, 0);
    for (changed, plain) in batches(&defaults(), 6, 300) {
        let patches = changed.a.chunks(48 * 48).zip(plain.a.chunks(48 * 48));
        same += patches.filter(|(x, y)| x == y).count();
        all += 3;
    }
    let share = same as f64 / all as f64;
    assert!((0.33..0.6).contains(&share), "{share} of A untouched");
}

/// One part alone, always, in both sources.
fn only(part: impl Fn(&mut Augment)) -> Vec<(Batch, Batch)> {
    let mut augment = off();
    part(&mut augment);
    batches(&augment, 16, 20)
}

fn each_value(pairs: &[(Batch, Batch)], check: impl Fn(f32, f32) -> bool) -> bool {
    pairs.iter().all(|(changed, plain)| {
        let both = |f: fn(&Batch) -> &Vec<f32>| f(changed).iter().zip(f(plain));
        both(|b| &b.a)
            .chain(both(|b| &b.b))
            .all(|(&x, &y)| check(x, y))
    })
}

#[test]
fn each_part_does_what_it_says() {
    let close = |x: f32, y: f32| (x - y).abs() < 1e-5;
    let double = only(|a| (a.exposure, a.exposure_range) = (1.0, [2.0, 2.0]));
    assert!(each_value(&double, |x, y| close(x, (2.0 * y).min(1.0))));
    let square = only(|a| (a.gamma, a.gamma_range) = (1.0, [2.0, 2.0]));
    assert!(each_value(&square, |x, y| close(x, y * y)));
    let more = only(|a| (a.offset, a.offset_range) = (1.0, [0.25, 0.25]));
    assert!(each_value(&more, |x, y| close(x, (y + 0.25).min(1.0))));
    for (changed, plain) in only(|a| (a.contrast, a.contrast_range) = (1.0, [0.5, 0.5])) {
        for (i, level) in plain.level_b.iter().enumerate() {
            let at = i * 48 * 48;
            assert!(close(changed.b[at], level + 0.5 * (plain.b[at] - level)));
        }
    }
    for (changed, plain) in only(|a| a.polarity = 1.0) {
        assert!(
            changed
                .a
                .iter()
                .zip(&plain.a)
                .all(|(x, y)| close(*x, 1.0 - y))
        );
        assert!(changed.b == plain.b, "B keeps its polarity");
        assert!(close(changed.level_a[0], 1.0 - plain.level_a[0]));
    }
    for (changed, plain) in only(|a| a.dark = 1.0) {
        for i in 0..3 {
            let levels = [changed.level_a[i], changed.level_b[i]];
            let before = [plain.level_a[i], plain.level_b[i]];
            assert!(levels.iter().any(|l| *l <= 0.06 + 1e-4), "{levels:?}");
            assert!(levels.iter().zip(before).any(|(x, y)| close(*x, y)));
        }
    }
    let white = only(|a| (a.saturated, a.saturated_share) = (1.0, [0.3, 0.3]));
    for (changed, _) in &white {
        for i in 0..3 {
            let at = i * 48 * 48..(i + 1) * 48 * 48;
            let share =
                |p: &[f32]| p.iter().filter(|v| **v > 0.999).count() as f32 / p.len() as f32;
            let shares = [share(&changed.a[at.clone()]), share(&changed.b[at])];
            assert!(shares.iter().any(|s| *s >= 0.29), "{shares:?}");
        }
    }
    let corners = only(|a| (a.vignetting, a.vignetting_range) = (1.0, [0.4, 0.4]));
    for (changed, plain) in &corners {
        assert!(close(changed.a[0], 0.6 * plain.a[0]));
        let middle = 24 * 48 + 24;
        assert!((changed.a[middle] - plain.a[middle]).abs() < 1e-3);
    }
    let soft = only(|a| a.blur = 1.0);
    assert!(soft.iter().any(|(changed, plain)| changed.b != plain.b));
    for (changed, plain) in &soft {
        for (x, y) in changed.a.chunks(48 * 48).zip(plain.a.chunks(48 * 48)) {
            let spread = |p: &[f32]| {
                p.iter()
                    .fold((1.0f32, 0.0f32), |(l, h), v| (l.min(*v), h.max(*v)))
            };
            assert!(spread(x).0 >= spread(y).0 - 1e-5 && spread(x).1 <= spread(y).1 + 1e-5);
        }
    }
}

#[test]
fn noise_has_the_deviation_it_was_given() {
    let deviation = |value: f32, signal: f32| {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        let mut plane = vec![value; 40_000];
        add_noise(&mut plane, (0.02, signal), &mut rng);
        let m = mean(&plane);
        let variance = plane.iter().map(|v| (v - m).powi(2)).sum::<f32>() / plane.len() as f32;
        assert!((m - value).abs() < 1e-3);
        variance.sqrt()
    };
    assert!((deviation(0.5, 0.0) - 0.02).abs() < 3e-4);
    assert!((deviation(0.25, 1.0) - 0.01).abs() < 3e-4);
    assert!(deviation(0.0, 1.0) == 0.0);
}

#[test]
fn a_blur_keeps_the_sum_and_the_way_up() {
    // A point away from the border, off the diagonal.
    let mut plane = vec![0.0f32; 20 * 20];
    plane[8 * 20 + 11] = 1.0;
    let mut spare = plane.clone();
    blur(&mut plane, 20, 0.8, &mut spare);
    assert!((plane.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    let most = plane.iter().cloned().fold(0.0, f32::max);
    assert_eq!(plane[8 * 20 + 11], most);
    assert!((plane[8 * 20 + 10] - plane[7 * 20 + 11]).abs() < 1e-6);
}

#[test]
fn a_shift_moves_a_alone() {
    let scene = Scene {
        name: "x".into(),
        width: 40,
        height: 40,
        a: (0..1600).map(|i| i as f32 / 1600.0).collect(),
        b: (0..1600).map(|i| i as f32 / 1600.0).collect(),
    };
    let data = PairDataset::from_scenes(vec![scene]).unwrap();
    let augment = Augment {
        shift: 1.0,
        shift_px: 2,
        ..off()
    };
    let mut sampler = EpochSampler::new(1, 2).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut batch = Batch::new(8, 16).unwrap();
    for _ in 0..200 {
        data.sample_batch(&mut sampler, Some(&augment), &mut batch)
            .unwrap();
        for (a, b) in batch.a.chunks(256).zip(batch.b.chunks(256)) {
            let by = ((a[0] - b[0]) * 1600.0).round() as i32;
            assert!(
                a.iter()
                    .zip(b)
                    .all(|(x, y)| ((x - y) * 1600.0).round() as i32 == by)
            );
            seen.insert(by);
        }
    }
    let all = (-2..=2).flat_map(|y| (-2..=2).map(move |x| 40 * y + x));
    assert_eq!(seen, all.collect());
}

#[test]
fn values_out_of_range_are_named() {
    let fails = |key: &str| {
        let e = crate::train::TrainConfig::load(None, &[format!("augment.{key}")]).unwrap_err();
        let (text, name) = (e.to_string(), key.split('=').next().unwrap());
        assert!(text.contains(&format!("augment.{name}")), "{text}");
        assert!(!text.contains('\n'), "{text}");
        text
    };
    for key in [
        "untouched=1.5",
        "exposure=-0.1",
        "exposure_range=[0.0, 1.0]",
        "gamma_range=[0.5, 11.0]",
        "offset_range=[-2.0, 0.0]",
        "contrast_range=[-1.0, 1.0]",
        "vignetting_range=[0.0, 1.5]",
        "blur_range=[0.0, 1.0]",
        "noise_range=[0.0, nan]",
        "noise_signal=2.0",
        "shift_px=17",
        "dark_mean=nan",
    ] {
        assert!(fails(key).contains("must be in"), "{key}");
    }
    assert!(fails("gamma_range=[1.5, 0.5]").contains("goes down"));
    let both = [
        "augment.dark=0.6".to_string(),
        "augment.saturated=0.6".into(),
    ];
    let e = crate::train::TrainConfig::load(None, &both).unwrap_err();
    assert!(
        e.to_string().contains("augment.dark + augment.saturated"),
        "{e}"
    );
}

#[test]
fn a_task_has_its_own_defaults_which_files_and_options_overlay() {
    let load = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|k| k.to_string()).collect();
        crate::train::TrainConfig::load(None, &keys)
            .unwrap()
            .augment
    };
    assert_eq!(load(&["task=ivif"]), defaults());
    let mif = load(&["task=mif"]);
    assert_eq!((mif.polarity, mif.dark, mif.vignetting), (0.0, 0.0, 0.0));
    assert_eq!(mif.exposure_range, [0.8, 1.25]);
    assert_eq!(mif.noise, defaults().noise);
    assert_eq!(load(&["task=mif", "augment.dark=0.5"]).dark, 0.5);
    let search = crate::search::SearchConfig::load(None, &["task=mif".into()]).unwrap();
    assert_eq!(search.augment, mif);
}
