use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// Every value tells its scene and place; B is A + 1000.
fn scene(name: &str, index: usize, width: usize, height: usize) -> Scene {
    let a: Vec<f32> = (0..width * height)
        .map(|i| (index * 10_000 + i) as f32)
        .collect();
    let b = a.iter().map(|v| v + 1000.0).collect();
    Scene {
        name: name.to_string(),
        width,
        height,
        a,
        b,
    }
}

fn named(names: &[String]) -> PairDataset {
    let each = names.iter().enumerate();
    PairDataset::from_scenes(each.map(|(i, n)| scene(n, i, 7, 5)).collect()).unwrap()
}

fn dataset(n: usize) -> PairDataset {
    named(&(0..n).map(|i| format!("s{i}")).collect::<Vec<_>>())
}

/// Sets `a`, `b`, ... of so many pairs, whose numbers are far apart.
fn with_sets(sizes: &[usize]) -> PairDataset {
    let letters = "abcdefgh".chars();
    let names = sizes
        .iter()
        .zip(letters)
        .flat_map(|(&n, c)| (0..n).map(move |i| format!("{c}_{}", 1000 * i)));
    named(&names.collect::<Vec<_>>())
}

/// The pairs of so many draws.
fn draws(data: &PairDataset, sampler: &mut EpochSampler, count: usize) -> Vec<usize> {
    let each = (0..count).map(|_| sampler.draw(&data.shares).0);
    each.collect()
}

fn names(d: &PairDataset) -> Vec<String> {
    d.scenes().map(|s| s.name.clone()).collect()
}

#[test]
fn batches_cover_each_epoch_once_with_equal_crops_in_both() {
    let data = dataset(6);
    let mut sampler = EpochSampler::new(6, 3).unwrap();
    let mut batch = Batch::new(4, 3).unwrap();
    let mut drawn = Vec::new();
    let mut corners = HashSet::new();
    for _ in 0..60 {
        data.sample_batch(&mut sampler, None, &mut batch).unwrap();
        assert!(batch.a.iter().zip(&batch.b).all(|(x, y)| x + 1000.0 == *y));
        for (patch, level) in batch.a.chunks(9).zip(&batch.level_a) {
            let index = patch[0] as usize / 10_000;
            assert_eq!(
                *level,
                (index * 10_000 + 17) as f32,
                "the mean of the scene"
            );
            drawn.push(index);
            corners.insert(patch[0] as usize % 10_000);
        }
    }
    let mut orders = HashSet::new();
    for epoch in drawn.chunks(6) {
        orders.insert(epoch.to_vec());
        assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 6, "{epoch:?}");
    }
    assert!(orders.len() > 30, "each epoch has its own order");
    assert_eq!(sampler.epoch(), 39);
    // Top left corners under all symmetries reach every pixel of 7x5.
    assert_eq!(corners.len(), 35);
}

#[test]
fn a_restored_sampler_draws_the_same_sequence() {
    let augment = crate::train::TrainConfig::load(None, &[]).unwrap().augment;
    for data in [dataset(5), with_sets(&[1, 4]).balanced(0.5)] {
        let mut sampler = EpochSampler::new(5, u64::MAX).unwrap();
        let mut batch = Batch::new(3, 2).unwrap();
        let draw = |sampler: &mut EpochSampler, batch: &mut Batch| {
            data.sample_batch(sampler, Some(&augment), batch).unwrap();
        };
        for _ in 0..13 {
            draw(&mut sampler, &mut batch);
            let text = serde_json::to_string(&sampler).unwrap();
            let value = serde_json::to_value(&sampler).unwrap();
            let mut whole = sampler.clone();
            let mut from_text: EpochSampler = serde_json::from_str(&text).unwrap();
            let mut from_value: EpochSampler = serde_json::from_value(value).unwrap();
            for _ in 0..20 {
                draw(&mut whole, &mut batch);
                for other in [&mut from_text, &mut from_value] {
                    let mut again = Batch::new(3, 2).unwrap();
                    draw(other, &mut again);
                    assert_eq!(
                        (&batch.a, &batch.b, &batch.level_a, &batch.level_b),
                        (&again.a, &again.b, &again.level_a, &again.level_b)
                    );
                }
            }
            assert_eq!(whole, from_text);
        }
        let mut other = Batch::new(3, 2).unwrap();
        draw(&mut EpochSampler::new(5, 1).unwrap(), &mut other);
        assert_ne!(batch.a, other.a, "another seed");
    }
}

#[test]
fn a_balance_of_one_is_the_order_without_sets() {
    let (one, two) = (dataset(6), with_sets(&[2, 4]).balanced(1.0));
    let sequence = |data: &PairDataset| draws(data, &mut EpochSampler::new(6, 9).unwrap(), 60);
    assert_eq!(sequence(&one), sequence(&two));
    assert_eq!(sequence(&one), sequence(&two.balanced(0.5).balanced(1.0)));
}

proptest! {
    #[test]
    fn sets_are_drawn_by_their_shares_and_all_pairs_before_one_again(
        sizes in prop::collection::vec(1usize..40, 1..7),
        balance in prop::sample::select(vec![0.0, 0.3, 0.5, 1.0]),
        seed: u64,
    ) {
        let data = with_sets(&sizes).balanced(balance);
        let all: usize = sizes.iter().sum();
        let weights = sizes.iter().map(|&n| (n as f64).powf(balance));
        let total: f64 = weights.clone().sum();
        let quotas: Vec<f64> = weights.map(|w| all as f64 * w / total).collect();
        let mut sampler = EpochSampler::new(all, seed).unwrap();
        let mut set_of = Vec::new();
        for (set, &n) in sizes.iter().enumerate() {
            set_of.extend(vec![set; n]);
        }
        let epochs = 60;
        let mut of_set = vec![Vec::new(); sizes.len()];
        for _ in 0..epochs {
            let mut counts = vec![0usize; sizes.len()];
            for pair in draws(&data, &mut sampler, all) {
                counts[set_of[pair]] += 1;
                of_set[set_of[pair]].push(pair);
            }
            for (count, quota) in counts.iter().zip(&quotas) {
                prop_assert!((*count as f64 - quota).abs() < 1.0 + 1e-6, "{counts:?} of {quotas:?}");
            }
        }
        for ((drawn, &n), quota) in of_set.iter().zip(&sizes).zip(&quotas) {
            // Rounding is right on average: 60 draws of 0 or 1 have a deviation of less than 4.
            prop_assert!((drawn.len() as f64 - epochs as f64 * quota).abs() < 24.0);
            // Rounds end within epochs, which mix them, but never differ by more than the rounds of an epoch.
            let mut times: BTreeMap<usize, usize> = BTreeMap::new();
            drawn.iter().for_each(|&p| *times.entry(p).or_default() += 1);
            if drawn.len() >= n {
                prop_assert_eq!(times.len(), n, "every pair is reached");
            }
            let (low, high) = (times.values().min().unwrap(), times.values().max().unwrap());
            prop_assert!(high - low <= 1, "{times:?}");
        }
        // A sampler restored in a late epoch goes on as this one.
        let text = serde_json::to_string(&sampler).unwrap();
        let mut restored: EpochSampler = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(draws(&data, &mut sampler, 3 * all), draws(&data, &mut restored, 3 * all));
    }

    #[test]
    fn no_scene_is_split(
        numbers in prop::collection::vec(0u64..600, 2..60),
        gap in 0u64..60,
        share in 0.0f64..0.6,
        seed: u64,
    ) {
        let numbers: HashSet<u64> = numbers.into_iter().collect();
        let list: Vec<String> = numbers
            .iter()
            .map(|n| match n % 3 {
                0 => format!("x_{n:04}"),
                1 => format!("x_{n:04}_q{}", n % 4),
                _ => format!("y_v{n}"),
            })
            .collect();
        let data = named(&list);
        let check = |first: &PairDataset, second: &PairDataset| {
            let number = |name: &str| -> (bool, u64) {
                let digits: String = name[2..].trim_start_matches('v').chars().take_while(char::is_ascii_digit).collect();
                (name.starts_with('x'), digits.parse().unwrap())
            };
            let (x, y) = (names(first), names(second));
            for n in &x {
                for m in &y {
                    let ((s, n), (t, m)) = (number(n), number(m));
                    assert!(s != t || n.abs_diff(m) > gap, "{n} and {m}");
                }
            }
            let both: HashSet<String> = x.iter().chain(&y).cloned().collect();
            assert_eq!((both.len(), x.len() + y.len()), (list.len(), list.len()));
        };
        let scenes = data.scene_groups(gap).len();
        match data.split_even(gap, seed) {
            Ok((first, second)) => check(&first, &second),
            Err(_) => prop_assert_eq!(scenes, 1),
        }
        let most = ((share * list.len() as f64).ceil() as usize).max(1);
        let small = data.scene_groups(gap).iter().filter(|s| s.len() <= most).count();
        let expected = small.min((share * scenes as f64).round() as usize);
        match data.hold_out(&[], share, gap, seed) {
            Ok((train, Some(held))) => {
                check(&train, &held);
                prop_assert_eq!(held.scene_groups(gap).len(), expected);
            }
            Ok((_, None)) => prop_assert_eq!(expected, 0),
            Err(_) => prop_assert_eq!(expected, scenes, "nothing would be left"),
        }
        // What matches is held out, and what is held out is never drawn.
        let pattern = list[0].clone();
        if scenes > 1 {
            let (train, held) = data.hold_out(std::slice::from_ref(&pattern), 0.0, gap, seed).unwrap();
            check(&train, held.as_ref().unwrap());
            prop_assert!(names(held.as_ref().unwrap()).contains(&pattern));
            let mut batch = Batch::new(list.len(), 2).unwrap();
            let mut sampler = EpochSampler::new(train.len(), seed).unwrap();
            for _ in 0..3 {
                train.sample_batch(&mut sampler, None, &mut batch).unwrap();
                prop_assert!(batch.a.chunks(4).all(|p| p[0] as usize / 10_000 != 0));
            }
        }
    }
}

#[test]
fn halves_are_disjoint_even_and_repeatable() {
    let data = dataset(9);
    let (x, y) = data.split_even(50, 4).unwrap();
    assert_eq!((x.len(), y.len()), (5, 4));
    let all: HashSet<String> = names(&x).into_iter().chain(names(&y)).collect();
    assert_eq!(all.len(), 9);
    assert_eq!(names(&x), names(&data.split_even(50, 4).unwrap().0));
    assert!((0..20).any(|seed| names(&data.split_even(50, seed).unwrap().0) != names(&x)));
    assert!(dataset(1).split_even(50, 0).is_err());
    // One scene of two frames, and two scenes.
    let plain = named(&["1".to_string(), "2".to_string()]);
    assert!(plain.split_even(50, 0).is_ok());
    let frames = named(&["x_1".to_string(), "x_2".to_string()]);
    let text = frames.split_even(50, 0).unwrap_err().to_string();
    assert!(
        text.contains("scene_gap") && text.contains("2 pairs"),
        "{text}"
    );
    assert!(frames.split_even(0, 0).is_ok());
}

#[test]
fn what_holds_out_wrongly_is_an_error() {
    let data = named(&["x_1".to_string(), "x_2".to_string(), "y_2".to_string()]);
    let fails = |patterns: &[&str], share| {
        let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
        data.hold_out(&patterns, share, 50, 0)
            .unwrap_err()
            .to_string()
    };
    let text = fails(&["x_*", "z*"], 0.0);
    assert!(
        text.contains("`z*`") && text.contains("x_1") && text.contains("data.hold_out"),
        "{text}"
    );
    assert!(fails(&["?_?"], 0.0).contains("all 3 pairs"));
    assert!(fails(&[], 1.0).contains("data.validation"));
    let (train, held) = data.hold_out(&[], 0.0, 50, 0).unwrap();
    assert_eq!((train.len(), held.is_none()), (3, true));
    let (train, held) = data.hold_out(&["x_2".to_string()], 0.0, 50, 0).unwrap();
    assert_eq!(
        (names(&train), names(&held.unwrap())),
        (vec!["y_2".into()], vec!["x_1".into(), "x_2".into()])
    );
}

#[test]
fn wrong_use_is_an_error() {
    let data = dataset(2);
    let mut sampler = EpochSampler::new(2, 0).unwrap();
    for (batch, patch) in [(0, 3), (2, 0), (usize::MAX, 2), (2, usize::MAX)] {
        assert!(Batch::new(batch, patch).is_err());
    }
    let err = data
        .sample_batch(&mut sampler, None, &mut Batch::new(1, 6).unwrap())
        .unwrap_err();
    assert!(err.to_string().contains("7x5"), "{err}");
    let mut other = EpochSampler::new(3, 0).unwrap();
    let mut batch = Batch::new(4, 3).unwrap();
    assert!(data.sample_batch(&mut other, None, &mut batch).is_err());
    assert!(EpochSampler::new(0, 0).is_err());
    assert!(PairDataset::from_scenes(vec![]).is_err());
    let short = Scene {
        a: vec![0.0],
        ..scene("s", 0, 2, 2)
    };
    assert!(PairDataset::from_scenes(vec![short]).is_err());
}
