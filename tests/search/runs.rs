//! Whole searches: schedule, determinism, refusals.

use crate::fixtures::{config, scenes, searcher, table};
use hafuse::data::{Batch, EpochSampler, PairDataset};
use hafuse::device::Device;
use hafuse::net::{CellKind, OpKind, derived_name};
use hafuse::search::{LatencyKey, LatencyTable, Phase, SearchEvent, Searcher, Update};
use hafuse::{DType, Error, Result, Session, Tensor};
use std::collections::BTreeSet;

/// What changes from one inner epoch to the next, from Algorithm 1 alone.
#[test]
fn each_epoch_changes_what_algorithm_1_says() {
    let groups = |name: &str| -> &'static str {
        let part = |s: &str| s.starts_with("ffm.");
        match name {
            n if n.starts_with("optimizer.") => "",
            n if n.starts_with("alpha.") => {
                if part(&n[6..]) {
                    "alpha_F"
                } else {
                    "alpha_O"
                }
            }
            n if n.starts_with("beta.") => {
                if part(&n[5..]) {
                    "beta_F"
                } else {
                    "beta_O"
                }
            }
            n if part(n) => "omega_F",
            _ => "omega_O",
        }
    };
    let trace = |keys: &[&str]| {
        let mut s = searcher(keys);
        let values = |s: &Searcher| s.store().export(|_| true).unwrap();
        let mut before = values(&s);
        let mut trace: Vec<String> = Vec::new();
        let mut moved_in_stage_2 = BTreeSet::new();
        let mut ffm = None;
        s.run(|event| {
            let SearchEvent::Checkpoint(s) = event else {
                return Ok(());
            };
            let now = values(s);
            let mut changed = BTreeSet::new();
            for (name, value) in &now {
                if !groups(name).is_empty() && *value != before[name] {
                    changed.insert(groups(name));
                    if s.progress().stage == 2 && groups(name) == "omega_F" {
                        moved_in_stage_2.insert(name.clone());
                    }
                }
            }
            before = now;
            if s.progress().stage == 1 {
                ffm = Some(s.genotype()?.ffm);
            }
            trace.push(changed.into_iter().collect::<Vec<_>>().join(" "));
            Ok(())
        })
        .unwrap();
        let genotype = s.genotype().unwrap();
        assert_eq!(
            trace.pop().as_deref(),
            Some(""),
            "the last checkpoint repeats"
        );
        (trace, genotype, ffm.unwrap(), moved_in_stage_2)
    };
    let (found, genotype, ffm, moved) = trace(&["strategy=collaborative"]);
    let stage1 = ["beta_F omega_F", "alpha_F omega_F", "alpha_F omega_F"];
    let stage2 = [
        "beta_O omega_F omega_O",
        "alpha_O omega_F omega_O",
        "alpha_O omega_F omega_O",
    ];
    assert_eq!(found, [stage1, stage1, stage2, stage2].concat());
    // Stage 2 keeps the FFM that stage 1 found, and trains its weights alone.
    assert_eq!(genotype.ffm, ffm);
    assert!(!moved.is_empty());
    for name in moved {
        assert!(derived_name(&genotype, &name).is_some(), "{name}");
    }
    let naive = "alpha_F alpha_O beta_F beta_O omega_F omega_O";
    let (found, ..) = trace(&["strategy=naive"]);
    assert_eq!(found, vec![naive; 12]);

    // Beyond it: the weights alone first, in each stage.
    let (found, ..) = trace(&["epochs.warmup=2", "architecture.average=0"]);
    let warm = [["omega_F"; 2], ["omega_F omega_O"; 2]];
    // A step for each round.
    let once = |[cells, operators, _]: [&'static str; 3], weights| [cells, weights, operators];
    let one = once(stage1, warm[0][0]);
    let two = once(stage2, warm[1][0]);
    assert_eq!(
        found,
        [&warm[0][..], &one, &one, &warm[1][..], &two, &two].concat()
    );
    let (found, ..) = trace(&["strategy=naive", "epochs.warmup=1"]);
    assert_eq!(found, [&["omega_F omega_O"][..], &[naive; 12]].concat());
}

/// Lines 3 to 14 of Algorithm 1 by hand, on the tapes alone: each step of the weights on a batch of one
/// half, then one of the architecture on a batch of the other; first beta, then alpha.
#[test]
fn an_epoch_takes_the_right_half_in_the_right_order() {
    let start = || {
        let config = config(&["epochs.s=1"]).unwrap();
        Searcher::new(config, table(), None, &scenes(8), None, &Device::Cpu).unwrap()
    };
    let bits = |v: f64| v.to_bits();
    let mut s = start();
    let (train, val) = s.halves();
    let names = |half: &PairDataset| -> BTreeSet<String> {
        half.scenes().map(|s| s.name.clone()).collect()
    };
    assert_eq!((train.len(), val.len()), (4, 4));
    assert!(names(train).is_disjoint(&names(val)));
    let mut losses = Vec::new();
    let mut epochs = 0;
    let stopped = s.run(|event| {
        match event {
            SearchEvent::Step(r) => losses.push((bits(r.train), bits(r.val.unwrap()))),
            SearchEvent::Epoch(_) => epochs += 1,
            SearchEvent::Checkpoint(_) => {}
        }
        match epochs {
            2 => Err(Error::Stopped("here".into())),
            _ => Ok(()),
        }
    });
    assert!(stopped.is_err());
    // What is kept between the inner epochs of a round has no part in steps of single batches.
    let state = |s: &Searcher| s.store().export(|n| !n.starts_with("optimizer.mean."));
    let ran = state(&s).unwrap();

    let by_hand = |swapped: bool| {
        let s = start();
        let (mut train, mut val) = s.halves();
        if swapped {
            (train, val) = (val, train);
        }
        let (mut of_train, mut of_val) = (s.progress().train.clone(), s.progress().val.clone());
        let session = |update| {
            let tape = s.record_step(1, update).unwrap();
            Session::new(&tape, s.store()).unwrap()
        };
        let mut weights = session(Update::Weights);
        let [beta, alpha] = [Phase::Cells, Phase::Operators].map(|phase| {
            let descent = s.record_descent(1, phase).unwrap();
            (
                session(Update::Architecture(phase)),
                Session::new(&descent, s.store()).unwrap(),
            )
        });
        let charge = s.charge().unwrap();
        let step = |session: &mut Session, data: &PairDataset, sampler: &mut EpochSampler| {
            let mut batch = Batch::new(2, 16).unwrap();
            let augment = s.config().augment;
            data.sample_batch(sampler, augment.active(), &mut batch)
                .unwrap();
            session.input_mut("a").unwrap().copy_from_slice(&batch.a);
            session.input_mut("b").unwrap().copy_from_slice(&batch.b);
            for (name, means, deviations) in [
                ("level_a", &batch.level_a, &batch.deviation_a),
                ("level_b", &batch.level_b, &batch.deviation_b),
            ] {
                let pairs = means
                    .iter()
                    .zip(deviations)
                    .flat_map(|(&m, &d): (&f32, &f32)| [m, d.hypot(1e-3)]);
                let levels = pairs.collect::<Vec<f32>>();
                session.input_mut(name).unwrap().copy_from_slice(&levels);
            }
            if session.uses_input("charge") {
                session.set_scalar("charge", charge).unwrap();
            }
            session.run().unwrap();
            bits(session.scalar("loss").unwrap())
        };
        let mut losses = Vec::new();
        // Two rounds of one epoch of each, of two steps each.
        let all = 2.0 * 2.0 * 2.0;
        for (epoch, (mut gradients, mut descent)) in [beta, alpha].into_iter().enumerate() {
            for i in 0..2 {
                let done = (2 * epoch + i) as f64;
                let lr = 0.001 * 0.5 * (1.0 + (std::f64::consts::PI * done / all).cos());
                weights.set_scalar("lr", lr).unwrap();
                let omega = step(&mut weights, train, &mut of_train);
                losses.push((omega, step(&mut gradients, val, &mut of_val)));
                let names = gradients.tape().output_vars().keys().cloned();
                let names: Vec<String> = names.filter(|n| n.starts_with("gradient.")).collect();
                assert!(!names.is_empty());
                for name in names {
                    descent.set(&name, &gradients.get(&name).unwrap()).unwrap();
                }
                descent.set_scalar("lr", 0.05).unwrap();
                descent.set_scalar("step", (i + 1) as f64).unwrap();
                descent.run().unwrap();
            }
        }
        (losses, state(&s).unwrap())
    };
    assert!(by_hand(false) == (losses, ran));
    assert!(by_hand(true).0 != by_hand(false).0);
}

#[test]
fn a_stopped_search_resumes_to_the_same_bits() {
    resumes(&[]);
    resumes(&[
        "epochs.warmup=1",
        "architecture.average=0",
        "architecture.fixed_patches=true",
    ]);
    resumes(&[
        "architecture.estimator=sampled",
        "architecture.average=0",
        "weights.optimizer=adam",
    ]);
}

fn resumes(keys: &[&str]) {
    let finish = |mut s: Searcher| {
        let mut losses = Vec::new();
        s.run(|event| {
            if let SearchEvent::Step(r) = event {
                let of = |v: Option<f64>| v.map(f64::to_bits);
                losses.push((r.train.to_bits(), of(r.val), of(r.lat)));
            }
            Ok(())
        })
        .unwrap();
        let end = s.checkpoint().unwrap();
        (losses, end.tensors, s.genotype().unwrap())
    };
    let whole = finish(searcher(keys));
    assert!(whole == finish(searcher(keys)), "the same seed");
    let other = [keys, &["seed=2"]].concat();
    assert!(whole.1 != finish(searcher(&other)).1, "another seed");
    // Within a round, at the end of a stage, in the next.
    for stop in [1, 4, 6, 8] {
        let mut s = searcher(keys);
        let mut epochs = 0;
        let stopped = s.run(|event| {
            if let SearchEvent::Epoch(_) = event {
                epochs += 1;
                if epochs == stop {
                    return Err(Error::Stopped("here".into()));
                }
            }
            Ok(())
        });
        assert!(stopped.is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        let mut saved = s.checkpoint().unwrap();
        if keys.is_empty() {
            // Weights have one moment. An older file had two.
            let of_weight = |n: &&String| n.starts_with("optimizer.v.ffm.");
            assert_eq!(saved.tensors.keys().find(of_weight), None);
            let m = { saved.tensors.keys() }.find(|n| n.starts_with("optimizer.m.ffm."));
            let v = m.unwrap().replacen(".m.", ".v.", 1);
            saved.tensors.insert(v, Tensor::scalar(DType::F32, 0.0));
        }
        saved.save(&path).unwrap();
        let checkpoint = hafuse::train::Checkpoint::load(&path).unwrap();
        let again = Searcher::new(
            config(keys).unwrap(),
            table(),
            None,
            &scenes(4),
            Some(checkpoint),
            &Device::Cpu,
        );
        let rest = finish(again.unwrap());
        assert!(
            rest.1 == whole.1 && rest.2 == whole.2,
            "stopped after {stop}"
        );
        assert!(whole.0.ends_with(&rest.0), "losses after {stop}");
    }
}

#[test]
fn planned_memory_is_that_of_both_sessions_of_the_larger_stage() {
    let s = searcher(&["space.blocks=2"]);
    let held = |stage| {
        let bytes = |update| {
            let tape = s.record_step(stage, update).unwrap();
            Session::new(&tape, s.store()).unwrap().arena_bytes()
        };
        let phases = [Phase::Cells, Phase::Operators].map(Update::Architecture);
        bytes(Update::Weights) + phases.map(bytes).into_iter().max().unwrap()
    };
    let planned = s.planned_bytes().unwrap();
    assert_eq!(planned, held(1).max(held(2)));
    let again = searcher(&["space.blocks=2", "space.recompute=true"]);
    assert!(again.planned_bytes().unwrap() < planned);
}

/// lambda so large that nothing else counts: the cheapest candidates win.
#[test]
fn a_large_lambda_finds_the_cheapest_network() {
    let keys = [
        "latency.lambda=1000",
        "epochs.n=20",
        "epochs.m=10",
        "architecture.alpha_std=0",
    ];
    let mut s = searcher(&keys);
    s.run(|_| Ok(())).unwrap();
    for (_, gene) in s.genotype().unwrap().cells() {
        assert_eq!(
            (gene.cell, gene.blocks[0]),
            (CellKind::Successive, OpKind::ALL[0])
        );
    }
    let mean = |l: f64| table().relaxed(&s.layers().unwrap()).unwrap() < l;
    let uniform = searcher(&["architecture.alpha_std=0"]).layers().unwrap();
    assert!(mean(table().relaxed(&uniform).unwrap()));
}

#[test]
fn a_charge_that_is_no_longer_a_number_stops_the_search() {
    let mut large = table();
    for entry in &mut large.entries {
        entry.timing.median_ms = 1e38;
    }
    let (config, data) = (config(&[]).unwrap(), scenes(4));
    let mut s = Searcher::new(config, large, None, &data, None, &Device::Cpu).unwrap();
    let e = s.run(|_| Ok(())).unwrap_err();
    let text = e.to_string();
    assert!(matches!(e, Error::Diverged(_)), "{e}");
    assert!(
        text.contains("lambda LAT became inf at stage 1, inner epoch 1"),
        "{e}"
    );
    assert!(text.contains("lower latency.lambda"), "{e}");
}

#[test]
fn bad_configurations_are_one_clear_line() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["latency.lambda=-1"],
            &["latency.lambda", "0 or above", "-1"],
        ),
        (&["latency.lambda=nan"], &["latency.lambda", "NaN"]),
        (&["epochs.m=9"], &["epochs.m", "9 rounds", "4 in all"]),
        (
            &["epochs.t=0", "epochs.s=0"],
            &["epochs.t + epochs.s", "above 0"],
        ),
        (&["strategy=random"], &["random", "collaborative", "naive"]),
        (
            &["space.operators=[]"],
            &["space.operators", "at least one"],
        ),
        (&["space.kinds=[\"XX\"]"], &["XX", "SC"]),
        (
            &["architecture.samples=1"],
            &["architecture.samples", "2 to 64"],
        ),
        (
            &["architecture.explore=2"],
            &["architecture.explore", "[0, 1]"],
        ),
        (&["space.channels=0"], &["space.channels", "above 0"]),
        (&["patch=8"], &["patch", "at least 16"]),
        (&["architecture.beta1=1"], &["architecture.beta1", "[0, 1)"]),
        (
            &["batch=3"],
            &["batch", "4 pairs", "2 for validation", "patches_per_pair"],
        ),
        (&["perceptual=vgg"], &["features", "--perceptual none"]),
        (
            &["space.channels=6"],
            &["4 channels", "the search has 6", "bench ops"],
        ),
    ];
    let without = "perceptual gradient intensity ssim feature target edges rows mask structure";
    let without = without.split(' ').map(|k| format!("loss.object.{k}=0"));
    let without: Vec<String> = without.chain(["loss.range=0".into()]).collect();
    let without: Vec<&str> = without.iter().map(String::as_str).collect();
    let start = |keys: &[&str], table: LatencyTable, pairs| {
        let s = Searcher::new(
            config(keys)?,
            table,
            None,
            &scenes(pairs),
            None,
            &Device::Cpu,
        );
        s.map(|_| ())
    };
    let refused = |what: String, result: Result<()>, parts: &[&str]| {
        let e = result.expect_err(&what);
        assert!(matches!(e, Error::Config { .. }), "{e}");
        let e = e.to_string();
        assert!(!e.contains('\n'), "{e}");
        for part in parts {
            assert!(e.contains(part), "{what}: no `{part}` in: {e}");
        }
    };
    for (keys, parts) in cases {
        refused(keys.join(" "), start(keys, table(), 4), parts);
    }
    refused(
        "one pair".into(),
        start(&["batch=1"], table(), 1),
        &["1 pair", "at least 2"],
    );
    // Stage 2 has nothing to learn by: said before stage 1.
    let nothing = ["loss", "all weights are 0"];
    refused("no loss".into(), start(&without, table(), 4), &nothing);
    let whole = [&without[..], &["epochs.m=4"]].concat();
    assert!(start(&whole, table(), 4).is_ok(), "has no stage 2");
    let mut holes = table();
    holes.entries.retain(|e| e.name != "5-RB@2");
    refused("a hole".into(), start(&[], holes, 4), &["hole", "5-RB@2"]);
    let mut nan = table();
    nan.entries[7].timing.median_ms = f64::NAN;
    refused("no time".into(), start(&[], nan, 4), &["5-DB@1", "NaN"]);
    for side in [0, (1 << 16) + 1] {
        let mut flat = table();
        flat.key.width = side;
        refused(
            "no size".into(),
            start(&[], flat, 4),
            &["each side must be 1 to 65536"],
        );
    }
    // A table of another device, dtype, size or version is taken only if asked for.
    let here = table().key;
    let others = [
        LatencyKey {
            device: "cuda:0 (Orin)".into(),
            ..here.clone()
        },
        LatencyKey {
            dtype: "f16".into(),
            ..here.clone()
        },
        LatencyKey {
            width: 640,
            ..here.clone()
        },
        LatencyKey {
            version: "1".into(),
            ..here.clone()
        },
    ];
    for (wanted, what) in others.iter().zip(["device", "dtype", "size", "version"]) {
        refused(
            what.into(),
            table().check(wanted, false),
            &[what, "--latency FILE"],
        );
        assert!(table().check(wanted, true).is_ok());
    }
    assert!(table().check(&here, false).is_ok());
}
