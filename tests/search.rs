//! The search through the library: supernet, LAT, schedule, determinism, refusals.

mod common;

use common::relative_error;
use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::net::{
    Builder, CellKind, Genotype, LayerPlan, NetworkPlan, OpKind, ParamSpec, SearchSpace, Searched,
    alpha_name, beta_name, derived_name, initial_params, is_architecture_param, layer_names,
    record_fusion,
};
use hafuse::search::latency::{LatencyEntry, entries};
use hafuse::search::{
    LatencyKey, LatencyTable, SearchConfig, SearchEvent, Searcher, Timing, read_layers, record_lat,
};
use hafuse::{DType, ParamStore, Result, Session, Tape, Tensor, Var, ops};
use std::collections::{BTreeMap, BTreeSet};

const C: usize = 4;
const SPACE: SearchSpace = SearchSpace {
    channels: C,
    cells: 2,
    blocks: 2,
    alpha_std: 0.3,
    beta_std: 0.3,
};

/// Every cell, and every operator but two.
const GENOTYPE: &str = r#"{"version": 1, "channels": 4,
  "ffm": [{"cell": "SC", "blocks": ["5-SC", "SA"]}, {"cell": "MS", "blocks": ["3-DC", "3-RB"]}],
  "target": {"cell": "DC", "blocks": ["CA", "3-DB"]}, "detail": {"cell": "MS", "blocks": ["5-DC", "3-SC"]}}"#;

/// A table whose entry `i` takes `1 + i / 8` ms.
fn table() -> LatencyTable {
    let (width, height) = (24, 16);
    let entry = |(i, name): (usize, String)| {
        let ms = 1.0 + i as f64 / 8.0;
        let timing = Timing {
            median_ms: ms,
            low_ms: ms,
            high_ms: ms,
            runs: 1,
        };
        LatencyEntry {
            name,
            shape: Vec::new(),
            timing,
            flops: 0,
            bytes: 0,
            percent: None,
            kernels: Vec::new(),
        }
    };
    let names = entries(width, height, C).into_iter().map(|e| e.name);
    LatencyTable {
        format: 1,
        key: LatencyKey {
            device: "cpu".into(),
            dtype: "f32".into(),
            width,
            height,
            channels: C,
            version: "0".into(),
        },
        cache_flushed: false,
        entries: names.enumerate().map(entry).collect(),
    }
}

/// A network on a fixed pair: its output, and the mean square of it as a loss.
struct Net {
    tape: Tape,
    plan: NetworkPlan,
    specs: Vec<ParamSpec>,
    loss: Var,
}

fn net(dtype: DType, size: usize, plan: impl Fn(&mut Builder<'_>) -> Result<NetworkPlan>) -> Net {
    let mut t = Tape::new(dtype);
    let wave = |k: usize| {
        let values = (0..size * size)
            .map(|i| (i * k % 97) as f64 / 97.0)
            .collect();
        Tensor::from_vec([1, size, size, 1], values).unwrap()
    };
    let a = t.constant(&wave(31)).unwrap();
    let b = t.constant(&wave(57)).unwrap();
    let mut builder = Builder::new(&mut t);
    let plan = plan(&mut builder).unwrap();
    let fused = record_fusion(&mut builder, plan.clone(), a, b).unwrap();
    let specs = builder.into_specs();
    let square = ops::square(&mut t, fused.output).unwrap();
    let loss = ops::mean_all(&mut t, square).unwrap();
    t.output("output", fused.output).unwrap();
    Net {
        tape: t,
        plan,
        specs,
        loss,
    }
}

/// Outputs the gradients of the loss with respect to these parameters, by their names.
fn gradients(n: &mut Net, names: impl Fn(&str) -> bool) -> Vec<String> {
    let specs: Vec<&ParamSpec> = n.specs.iter().filter(|s| names(&s.name)).collect();
    let params: Vec<Var> = specs.iter().map(|s| n.tape.param_vars()[&s.name]).collect();
    let grads = n.tape.grad(n.loss, &params).unwrap();
    for (s, g) in specs.iter().zip(grads) {
        n.tape.output(&s.name, g).unwrap();
    }
    specs.iter().map(|s| s.name.clone()).collect()
}

fn genotype() -> Genotype {
    Genotype::from_json(GENOTYPE).unwrap()
}

/// A vector with one large entry: its softmax is 1 there and 0 elsewhere.
fn one_hot(n: usize, at: usize, dtype: DType) -> Tensor {
    let values = (0..n).map(|i| if i == at { 1e4 } else { 0.0 }).collect();
    Tensor::from_vec([n], values)
        .map(|t: Tensor| t.to_dtype(dtype))
        .unwrap()
}

/// Drives alpha and beta to `g`.
fn choose(store: &ParamStore, g: &Genotype, dtype: DType) {
    for (layer, gene) in g.cells() {
        store
            .set(&beta_name(&layer), &one_hot(3, gene.cell as usize, dtype))
            .unwrap();
        for cell in CellKind::ALL {
            for (i, &kind) in gene.blocks.iter().enumerate() {
                let name = alpha_name(&layer, cell, i);
                store
                    .set(&name, &one_hot(10, kind as usize, dtype))
                    .unwrap();
            }
        }
    }
}

#[test]
fn a_supernet_driven_one_hot_is_the_derived_network() {
    let g = genotype();
    let mut supernet = net(DType::F32, 20, |b| {
        NetworkPlan::searched(b, &SPACE, Searched::All)
    });
    let mut derived = net(DType::F32, 20, |_| Ok((&g).into()));
    let store = ParamStore::default();
    initial_params(&supernet.specs, 5, DType::F32, &store).unwrap();
    choose(&store, &g, DType::F32);
    let own = ParamStore::default();
    let mut twins = BTreeMap::new();
    for s in &supernet.specs {
        if let Some(name) = derived_name(&g, &s.name) {
            own.set(&name, &store.get(&s.name).unwrap()).unwrap();
            twins.insert(name, s.name.clone());
        }
    }
    let names = gradients(&mut derived, |_| true);
    assert_eq!(names.len(), twins.len(), "each weight has one twin");
    let all = gradients(&mut supernet, |n| !is_architecture_param(n));
    let mut a = Session::new(&supernet.tape, &store).unwrap();
    let mut b = Session::new(&derived.tape, &own).unwrap();
    a.run().unwrap();
    b.run().unwrap();
    let same = |x: &str, y: &str| {
        let (x, y) = (a.get(x).unwrap().to_f64(), b.get(y).unwrap().to_f64());
        relative_error(&x, &y)
    };
    assert!(same("output", "output") <= 1e-5);
    for name in &names {
        let error = same(&twins[name], name);
        assert!(error <= 1e-5, "{name}: {error:e}");
    }
    // What is not chosen gets no gradient at all.
    let chosen: BTreeSet<&String> = twins.values().collect();
    for name in all.iter().filter(|n| !chosen.contains(n)) {
        assert!(
            a.get(name).unwrap().to_f64().iter().all(|&v| v == 0.0),
            "{name}"
        );
    }
}

#[test]
fn a_partly_fixed_supernet_shares_the_names_of_the_whole() {
    let g = genotype();
    let whole = net(DType::F32, 16, |b| {
        NetworkPlan::searched(b, &SPACE, Searched::All)
    });
    let part = net(DType::F32, 16, |b| {
        NetworkPlan::searched(b, &SPACE, Searched::Object { ffm: &g.ffm })
    });
    let all: BTreeSet<&str> = whole.specs.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(all.len(), whole.specs.len(), "names are unique");
    assert!(part.specs.iter().all(|s| all.contains(s.name.as_str())));
    let ffm = |n: &Net| {
        n.specs
            .iter()
            .filter(|s| s.name.starts_with("ffm."))
            .count()
    };
    assert!(ffm(&part) * 5 < ffm(&whole));
    assert!(all.contains("ffm.cell0.SC.block0.3-SC.depthwise1.weight"));
    assert!(all.contains("ofm.target.cell.MS.scale4.block1.SA.conv1.bias"));
}

#[test]
fn gradients_of_alpha_and_beta_match_differences() {
    let dtype = DType::F64;
    let space = SearchSpace {
        channels: 2,
        cells: 1,
        blocks: 1,
        ..SPACE
    };
    let mut n = net(dtype, 12, |b| {
        NetworkPlan::searched(b, &space, Searched::All)
    });
    // LAT takes part as it does in a search.
    let lat = record_lat(&mut n.tape, n.plan.layers(), &table()).unwrap();
    let charge = ops::scale(&mut n.tape, lat, 0.01).unwrap();
    n.loss = ops::add(&mut n.tape, n.loss, charge).unwrap();
    n.tape.output("loss", n.loss).unwrap();
    let names = gradients(&mut n, is_architecture_param);
    assert_eq!(names.len(), 3 * (1 + 3));
    let store = ParamStore::default();
    initial_params(&n.specs, 9, dtype, &store).unwrap();
    let mut s = Session::new(&n.tape, &store).unwrap();
    s.run().unwrap();
    let analytic: Vec<Vec<f64>> = names.iter().map(|n| s.get(n).unwrap().to_f64()).collect();
    for (name, analytic) in names.iter().zip(&analytic) {
        let v = store.get(name).unwrap();
        let mut numeric = Vec::new();
        for j in 0..v.shape().len() {
            let mut at = |d: f64| {
                let mut moved = v.clone();
                moved.as_mut_slice::<f64>().unwrap()[j] += d;
                store.set(name, &moved).unwrap();
                s.run().unwrap();
                s.scalar("loss").unwrap()
            };
            let h = 1e-3;
            numeric.push((8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h));
        }
        store.set(name, &v).unwrap();
        let error = relative_error(analytic, &numeric);
        assert!(
            error <= 1e-6,
            "{name}: {error:e}\n{analytic:?}\n{numeric:?}"
        );
    }
}

/// Eq. 3 written out: entries are in the order of `entries`: 10 operators at 1, 2, 4, stem, head,
/// MS.down2, down4, fuse1, fuse2, fuse4, DC.split, DC.fuse, aggregation.
#[test]
fn lat_is_equation_3_by_hand() {
    let ms = |i: usize| 1.0 + i as f64 / 8.0;
    let op = |k: usize, i: usize| match k {
        0 => ms(i),
        1 => 2.0 * ms(i),
        _ => ms(i) + ms(10 + i) + ms(20 + i),
    };
    let rest = [
        0.0,
        ms(37) + 2.0 * ms(38),
        ms(32) + ms(33) + ms(34) + ms(35) + ms(36),
    ];
    let names: Vec<String> = table().entries.iter().map(|e| e.name.clone()).collect();
    assert_eq!(
        names[30..],
        [
            "stem",
            "head",
            "MS.down2",
            "MS.down4",
            "MS.fuse1",
            "MS.fuse2",
            "MS.fuse4",
            "DC.split",
            "DC.fuse",
            "aggregation"
        ]
    );
    let dtype = DType::F64;
    let mut t = Tape::new(dtype);
    let mut builder = Builder::new(&mut t);
    let plan = NetworkPlan::searched(&mut builder, &SPACE, Searched::All).unwrap();
    let specs = builder.into_specs();
    let lat = record_lat(&mut t, plan.layers(), &table()).unwrap();
    // The weights themselves, after the softmax, as the equation has them.
    let mut weights = Vec::new();
    for layer in plan.layers() {
        let LayerPlan::Mix { beta, cells } = layer else {
            panic!("is mixed")
        };
        weights.push(*beta);
        for pick in cells.iter().flat_map(|c| &c.blocks) {
            let hafuse::net::Pick::Mix(alpha) = pick else {
                panic!("is mixed")
            };
            weights.push(*alpha);
        }
    }
    let grads = t.grad(lat, &weights).unwrap();
    t.output("lat", lat).unwrap();
    for (i, (w, g)) in weights.iter().zip(grads).enumerate() {
        t.output(&format!("w{i}"), *w).unwrap();
        t.output(&format!("g{i}"), g).unwrap();
    }
    let store = ParamStore::default();
    initial_params(&specs, 3, dtype, &store).unwrap();
    let mut s = Session::new(&t, &store).unwrap();
    s.run().unwrap();
    let get = |name: String| s.get(&name).unwrap().to_f64();
    let mut expected = 0.0;
    for layer in 0..4 {
        let first = 7 * layer;
        let beta = get(format!("w{first}"));
        let mut d_beta = Vec::new();
        for k in 0..3 {
            let mut cell = rest[k];
            for block in 0..2 {
                let at = first + 1 + 2 * k + block;
                let alpha = get(format!("w{at}"));
                cell += (0..10).map(|i| alpha[i] * op(k, i)).sum::<f64>();
                let d_alpha: Vec<f64> = (0..10).map(|i| beta[k] * op(k, i)).collect();
                assert!(relative_error(&d_alpha, &get(format!("g{at}"))) < 1e-14);
            }
            expected += beta[k] * cell;
            d_beta.push(cell);
        }
        assert!(relative_error(&d_beta, &get(format!("g{first}"))) < 1e-14);
    }
    assert!((s.scalar("lat").unwrap() / expected - 1.0).abs() < 1e-14);
    let layers = read_layers(&store, &layer_names(2), 2).unwrap();
    assert!((table().relaxed(&layers).unwrap() / expected - 1.0).abs() < 1e-12);

    // A chosen network: weights of 0 and 1, and its stems, heads and aggregation.
    let g = genotype();
    let index = |k: OpKind| k as usize;
    let by_hand: f64 = g
        .cells()
        .map(|(_, gene)| {
            let k = gene.cell as usize;
            rest[k] + gene.blocks.iter().map(|&b| op(k, index(b))).sum::<f64>()
        })
        .sum();
    assert!((table().lat(&g).unwrap() - by_hand).abs() < 1e-12);
    let whole = by_hand + 3.0 * (ms(30) + ms(31)) + ms(39);
    assert!((table().predict(&g).unwrap() - whole).abs() < 1e-12);
    choose(&store, &g, dtype);
    s.run().unwrap();
    assert!((s.scalar("lat").unwrap() - by_hand).abs() < 1e-9);
}

fn scenes(count: usize) -> PairDataset {
    let scene = |i: usize| {
        let wave = |k: usize| (0..24 * 24).map(|j| (j * k % 97) as f32 / 97.0).collect();
        Scene {
            name: format!("waves{i}"),
            width: 24,
            height: 24,
            a: wave(5 + i),
            b: wave(11 + i),
        }
    };
    PairDataset::from_scenes((0..count).map(scene).collect()).unwrap()
}

fn config(keys: &[&str]) -> Result<SearchConfig> {
    let base = [
        "perceptual=none",
        "patch=16",
        "batch=2",
        "space.channels=4",
        "space.blocks=1",
        "epochs.n=4",
        "epochs.m=2",
        "epochs.t=1",
        "epochs.s=2",
        "architecture.lr=0.05",
    ];
    let keys: Vec<String> = base.iter().chain(keys).map(|k| k.to_string()).collect();
    SearchConfig::load(None, &keys)
}

fn searcher(keys: &[&str]) -> Searcher {
    Searcher::new(
        config(keys).unwrap(),
        table(),
        None,
        &scenes(4),
        None,
        &Device::Cpu,
    )
    .unwrap()
}

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
    let trace = |strategy: &str| {
        let mut s = searcher(&[strategy]);
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
    let (found, genotype, ffm, moved) = trace("strategy=collaborative");
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
    let (found, ..) = trace("strategy=naive");
    assert_eq!(
        found,
        vec!["alpha_F alpha_O beta_F beta_O omega_F omega_O"; 12]
    );
}

#[test]
fn a_stopped_search_resumes_to_the_same_bits() {
    let finish = |mut s: Searcher| {
        let mut losses = Vec::new();
        s.run(|event| {
            if let SearchEvent::Step(r) = event {
                losses.push((r.train.to_bits(), r.val.to_bits(), r.lat.to_bits()));
            }
            Ok(())
        })
        .unwrap();
        let end = s.checkpoint().unwrap();
        (losses, end.tensors, s.genotype().unwrap())
    };
    let whole = finish(searcher(&[]));
    assert!(whole == finish(searcher(&[])), "the same seed");
    assert!(whole.1 != finish(searcher(&["seed=2"])).1, "another seed");
    for stop in [1, 4, 8] {
        let mut s = searcher(&[]);
        let mut epochs = 0;
        let stopped = s.run(|event| {
            if let SearchEvent::Epoch(_) = event {
                epochs += 1;
                if epochs == stop {
                    return Err(hafuse::Error::Stopped("here".into()));
                }
            }
            Ok(())
        });
        assert!(stopped.is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        s.checkpoint().unwrap().save(&path).unwrap();
        let checkpoint = hafuse::train::Checkpoint::load(&path).unwrap();
        let again = Searcher::new(
            config(&[]).unwrap(),
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
        (&["space.operators=1"], &["operators"]),
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
        assert_eq!(e.exit_code(), 2, "{e}");
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
    let mut holes = table();
    holes.entries.retain(|e| e.name != "5-RB@2");
    refused("a hole".into(), start(&[], holes, 4), &["hole", "5-RB@2"]);
    let mut nan = table();
    nan.entries[7].timing.median_ms = f64::NAN;
    refused("no time".into(), start(&[], nan, 4), &["5-DB@1", "NaN"]);
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

#[test]
fn a_measured_table_is_whole_and_survives_the_disk() {
    let key = LatencyKey {
        width: 20,
        height: 13,
        ..table().key
    };
    let effort = hafuse::search::latency::Effort {
        runs: 1,
        flush: true,
    };
    let measured = LatencyTable::measure(&Device::Cpu, key.clone(), effort, |_| {}).unwrap();
    measured.check(&key, false).unwrap();
    assert!(measured.entries.iter().all(|e| e.timing.median_ms > 0.0));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.json");
    measured.save(&path).unwrap();
    let read = LatencyTable::load(&path).unwrap();
    assert_eq!(read.entries.len(), 40);
    assert_eq!(read.key, key);
    std::fs::write(&path, "{}").unwrap();
    let e = LatencyTable::load(&path).unwrap_err().to_string();
    assert!(e.contains("bench ops") && !e.contains('\n'), "{e}");
}
