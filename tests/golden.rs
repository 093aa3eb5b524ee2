//! The network, the losses and their target, gradients and Adam against an independent implementation in JAX
//! (`tests/golden/make_golden.py`, which also lists what the files hold).
//!
//! `cargo test --test golden -- --nocapture` prints the worst error of each group.

mod common;

use common::relative_error;
use hafuse::loss::{self, ExposureOptions, FeatureNet, is_feature_param};
use hafuse::net::{
    Builder, CellGene, FrameGene, Fused, Genotype, GuidedFilterGene, OpKind, ParamSpec, Sources,
    record_cell, record_ffm, record_fusion, record_operator,
};
use hafuse::ops::{self, AdamOptions};
use hafuse::tape::SessionOptions;
use hafuse::tensor::io::{self, TensorMap};
use hafuse::train::{Terms, TrainConfig, record_feature_loss, record_object_loss};
use hafuse::{DType, ParamStore, Result, Session, Tape, Tensor, Var};
use std::collections::BTreeMap;
use std::path::PathBuf;

const BOTH: [DType; 2] = [DType::F32, DType::F64];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.safetensors"))
}

/// A golden file and the comparisons made with it.
struct Golden {
    tensors: TensorMap,
    meta: BTreeMap<String, String>,
    dtype: DType,
    f32_limit: f64,
    /// Worst error of each group, and the tensor that has it.
    worst: BTreeMap<String, (f64, String)>,
    failed: Vec<String>,
}

impl Golden {
    fn load(name: &str, dtype: DType) -> Self {
        let (tensors, meta) = io::load(&path(name)).unwrap();
        Self {
            tensors,
            meta,
            dtype,
            f32_limit: 1e-5,
            worst: BTreeMap::new(),
            failed: Vec::new(),
        }
    }

    fn tensor(&self, name: &str) -> &Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("the golden file has no {name}"))
    }

    /// An input or weight: stored as f32, so both precisions get the same number.
    fn given(&self, name: &str) -> Tensor {
        let t = self.tensor(name);
        assert_eq!(t.dtype(), DType::F32, "{name} is not exact");
        t.to_dtype(self.dtype)
    }

    /// Names of the tensors below `prefix`, without it.
    fn below(&self, prefix: &str) -> Vec<String> {
        let names = self.tensors.keys();
        names
            .filter_map(|k| k.strip_prefix(prefix).map(str::to_string))
            .collect()
    }

    fn json<T: serde::de::DeserializeOwned>(&self, key: &str) -> T {
        serde_json::from_str(&self.meta[key]).unwrap()
    }

    /// Notes the error of `found` against the golden tensor `name`.
    fn compare(&mut self, group: &str, name: &str, found: &Tensor) {
        let golden = self.tensor(name);
        assert_eq!(golden.shape(), found.shape(), "shape of {name}");
        let (stored, golden) = (golden.dtype(), golden.to_f64());
        self.note(
            group,
            name,
            relative_error(&golden, &found.to_f64()),
            stored,
        );
    }

    fn note(&mut self, group: &str, name: &str, error: f64, stored: DType) {
        let limit = match (self.dtype, stored) {
            (DType::F32, _) => self.f32_limit,
            (_, DType::F32) => 1e-6, // the golden value itself is rounded
            _ => 1e-12,
        };
        if error.is_nan() || error > limit {
            self.failed
                .push(format!("{name}: {error:.2e} > {limit:.0e}"));
        }
        let group = format!("{group} (golden {stored})");
        let entry = self.worst.entry(group).or_default();
        if entry.1.is_empty() || error.is_nan() || error > entry.0 {
            *entry = (error, name.to_string());
        }
    }

    fn finish(self) {
        for (group, (error, name)) in &self.worst {
            println!("{}: {group}: worst {error:.2e} at {name}", self.dtype);
        }
        let failed = self.failed;
        assert!(
            failed.is_empty(),
            "{} differ in {}: {failed:#?}",
            failed.len(),
            self.dtype
        );
    }

    /// Puts the parameters of `specs` into a store; the file must hold these and no others.
    fn params(&self, specs: &[ParamSpec], prefix: &str) -> ParamStore {
        let mut names: Vec<_> = specs.iter().map(|s| s.name.clone()).collect();
        names.sort_unstable();
        assert_eq!(names, self.below(prefix), "parameters below {prefix}");
        let store = ParamStore::default();
        for s in specs {
            let value = self.given(&format!("{prefix}{}", s.name));
            store.set(&s.name, &value).unwrap();
        }
        store
    }
}

/// Sessions of these tests read no memory that nobody wrote.
fn session(t: &Tape, store: &ParamStore) -> Session {
    let options = SessionOptions {
        poison: true,
        ..Default::default()
    };
    Session::with_options(t, store, options).unwrap()
}

fn param_vars(t: &mut Tape, specs: &[ParamSpec]) -> Vec<Var> {
    let param = |s: &ParamSpec| t.param(&s.name, s.shape).unwrap();
    specs.iter().map(param).collect()
}

/// Output and all gradients of what `record` records, against the golden case `name`.
fn check_block(
    golden: &mut Golden,
    name: &str,
    record: impl FnOnce(&mut Builder<'_>, Var) -> Result<Var>,
) {
    let mut t = Tape::new(golden.dtype);
    let (x, g) = (
        golden.given(&format!("{name}/x")),
        golden.given(&format!("{name}/g")),
    );
    let xv = t.input("x", x.shape()).unwrap();
    let gv = t.input("g", g.shape()).unwrap();
    let mut b = Builder::new(&mut t);
    let y = record(&mut b, xv).unwrap();
    let specs = b.into_specs();
    let mut wrt = vec![xv];
    wrt.extend(param_vars(&mut t, &specs));
    let grads = t.vjp(y, gv, &wrt).unwrap();
    t.output("y", y).unwrap();
    t.output("dx", grads[0]).unwrap();
    for (s, &d) in specs.iter().zip(&grads[1..]) {
        t.output(&format!("dw/{}", s.name), d).unwrap();
    }
    let store = golden.params(&specs, &format!("{name}/w/"));
    let mut s = session(&t, &store);
    s.set("x", &x).unwrap();
    s.set("g", &g).unwrap();
    s.run().unwrap();
    for output in t.output_vars().keys() {
        let group = format!("{name} {}", output.split('/').next().unwrap());
        let found = s.get(output).unwrap();
        golden.compare(&group, &format!("{name}/{output}"), &found);
    }
}

#[test]
fn the_ten_operators() {
    for dtype in BOTH {
        let mut golden = Golden::load("operators", dtype);
        for kind in OpKind::ALL {
            let name = serde_json::to_value(kind).unwrap();
            let name = name.as_str().unwrap();
            check_block(&mut golden, name, |b, x| record_operator(b, kind, x));
        }
        golden.finish();
    }
}

#[derive(serde::Deserialize)]
struct CellCase {
    gene: CellGene,
    guided_filter: GuidedFilterGene,
}

#[test]
fn the_three_cells() {
    for dtype in BOTH {
        let mut golden = Golden::load("cells", dtype);
        let cases: BTreeMap<String, CellCase> = golden.json("genes");
        assert_eq!(cases.len(), 3);
        for (name, case) in cases {
            check_block(&mut golden, &name, |b, x| {
                record_cell(b, &case.gene, case.guided_filter, x)
            });
        }
        golden.finish();
    }
}

#[test]
fn feature_networks() {
    for dtype in BOTH {
        let mut golden = Golden::load("features", dtype);
        for file in ["features_grey", "features_colour"] {
            let net = FeatureNet::load(&path(file)).unwrap();
            let store = ParamStore::default();
            net.install(&store, dtype).unwrap();
            let mut t = Tape::new(dtype);
            let x = t.input("x", golden.tensor("x").shape()).unwrap();
            let taps = net.record(&mut t, x, net.taps()).unwrap();
            assert_eq!(taps.len(), 5);
            let mut dx: Option<Var> = None;
            for (i, &tap) in taps.iter().enumerate() {
                let g = t.input(&format!("g{i}"), t.shape(tap)).unwrap();
                let d = t.vjp(tap, g, &[x]).unwrap()[0];
                dx = Some(match dx {
                    None => d,
                    Some(sum) => ops::add(&mut t, sum, d).unwrap(),
                });
                t.output(&format!("tap{i}"), tap).unwrap();
            }
            t.output("dx", dx.unwrap()).unwrap();
            let mut s = session(&t, &store);
            s.set("x", &golden.given("x")).unwrap();
            for i in 0..taps.len() {
                s.set(&format!("g{i}"), &golden.given(&format!("{file}/g{i}")))
                    .unwrap();
            }
            s.run().unwrap();
            for output in t.output_vars().keys() {
                let found = s.get(output).unwrap();
                golden.compare(file, &format!("{file}/{output}"), &found);
            }
        }
        golden.finish();
    }
}

/// Inputs of these names, set by [`set_inputs`].
fn input_vars<const N: usize>(t: &mut Tape, golden: &Golden, names: [&str; N]) -> [Var; N] {
    names.map(|name| t.input(name, golden.tensor(name).shape()).unwrap())
}

fn set_inputs(s: &mut Session, golden: &Golden, names: &[&str]) {
    for name in names {
        if s.uses_input(name) {
            s.set(name, &golden.given(name)).unwrap();
        }
    }
}

/// Runs the tape and compares each output with the golden tensor of its name.
fn check_outputs(golden: &mut Golden, t: &Tape, store: &ParamStore, inputs: &[&str]) {
    let mut s = session(t, store);
    set_inputs(&mut s, golden, inputs);
    s.run().unwrap();
    for name in t.output_vars().keys() {
        let group = name.split('/').next().unwrap().to_string();
        golden.compare(&group, name, &s.get(name).unwrap());
    }
}

/// By night, at dusk and by day, with given levels.
#[test]
fn the_exposure_aware_target() {
    for dtype in BOTH {
        let mut golden = Golden::load("exposure", dtype);
        let options: ExposureOptions = golden.json("exposure");
        assert_eq!(options, ExposureOptions::default());
        let mut t = Tape::new(dtype);
        let names = ["a", "b", "levels_a", "levels_b"];
        let [a, b, la, lb] = input_vars(&mut t, &golden, names);
        let target = loss::exposure_target(&mut t, (a, b), [la, lb], &options).unwrap();
        t.output("fused", target.fused).unwrap();
        t.output("of_a", target.of_a).unwrap();
        t.output("of_b", target.of_b).unwrap();
        t.output("share", target.share).unwrap();
        check_outputs(&mut golden, &t, &ParamStore::default(), &names);
        golden.finish();
    }
}

/// With given levels and with those of the pictures themselves.
#[test]
fn levels_and_balance() {
    for dtype in BOTH {
        let mut golden = Golden::load("exposure", dtype);
        let mut t = Tape::new(dtype);
        let names = [
            "balance/a",
            "balance/b",
            "balance/g",
            "levels_a",
            "levels_b",
        ];
        let [a, b, g, la, lb] = input_vars(&mut t, &golden, names);
        let own = [a, b].map(|x| ops::picture_levels(&mut t, x).unwrap());
        for (at, levels) in [("balance", [la, lb]), ("whole", own)] {
            let y = ops::balance(&mut t, a, b, levels).unwrap();
            t.output(&format!("{at}/y"), y).unwrap();
            let wrt = [a, b, la, lb];
            let wrt = if at == "whole" { &wrt[..2] } else { &wrt[..] };
            let parts = ["da", "db", "dlevels_a", "dlevels_b"];
            for (part, d) in parts.iter().zip(t.vjp(y, g, wrt).unwrap()) {
                t.output(&format!("{at}/{part}"), d).unwrap();
            }
        }
        t.output("whole/levels_a", own[0]).unwrap();
        t.output("whole/levels_b", own[1]).unwrap();
        check_outputs(&mut golden, &t, &ParamStore::default(), &names);
        golden.finish();
    }
}

/// The sources of the golden network.
const SOURCES: [&str; 4] = ["a", "b", "levels_a", "levels_b"];

/// A recorded stage of a task: the terms of its loss, and the outputs of the network it has.
struct Recorded {
    tape: Tape,
    terms: Terms,
    images: BTreeMap<&'static str, Var>,
    specs: Vec<ParamSpec>,
    features: Option<FeatureNet>,
}

/// `task`: `ivif`, `mif` or `none` (ivif without a feature network, with pictures that bend at the ends of the scale).
fn record_stage(golden: &Golden, task: &str, stage: &str) -> Recorded {
    let key = if task == "none" { "bent" } else { "genotype" };
    let genotype = Genotype::from_json(&golden.meta[key]).unwrap();
    assert_eq!(genotype.frame.ends > 0.0, task == "none");
    let mut overrides: Vec<String> = golden.json("overrides");
    let files: BTreeMap<String, String> = golden.json("features");
    let features = files.get(task).map(|f| FeatureNet::load(&path(f)).unwrap());
    let name = if task == "none" { "ivif" } else { task };
    overrides.push(format!("task={name}"));
    let config = TrainConfig::load(None, &overrides).unwrap();
    let net = features.as_ref();
    let mut tape = Tape::new(golden.dtype);
    let t = &mut tape;
    let [a, b, la, lb] = input_vars(t, golden, SOURCES);
    let levels = Some([la, lb]);
    let sources = Sources { a, b, levels };
    if let Some(net) = net {
        let of = |t: &mut Tape, x| {
            let taps = net.record(t, x, 4).unwrap();
            loss::structure(t, &taps).unwrap()
        };
        let (sa, sb) = (of(t, a), of(t, b));
        let sigma = loss::adaptive_weights(t, sa, sb, config.loss.adaptive_scale).unwrap();
        t.output("sigma0", sigma[0]).unwrap();
        t.output("sigma1", sigma[1]).unwrap();
    }
    let mut builder = Builder::new(t);
    let (terms, images, specs) = if stage == "stage1" {
        let feature = record_ffm(&mut builder, &genotype, sources).unwrap();
        let specs = builder.into_specs();
        let terms = record_feature_loss(t, net, &config.loss, feature, sources).unwrap();
        (terms, vec![("feature", feature.picture)], specs)
    } else {
        let fused = record_fusion(&mut builder, &genotype, sources).unwrap();
        let specs = builder.into_specs();
        let terms = record_object_loss(t, net, config.task, &config.loss, &fused, sources).unwrap();
        let Fused {
            feature,
            target,
            detail,
            mask,
            output,
            ..
        } = fused;
        let images = vec![
            ("feature", feature),
            ("target", target),
            ("detail", detail),
            ("mask", mask),
            ("output", output),
        ];
        (terms, images, specs)
    };
    Recorded {
        tape,
        terms,
        images: images.into_iter().collect(),
        specs,
        features,
    }
}

/// The golden weights of the parameters of `specs`, and the feature network's.
fn network_params(golden: &Golden, r: &Recorded) -> ParamStore {
    let store = ParamStore::default();
    for s in &r.specs {
        let value = golden.given(&format!("w/{}", s.name));
        store.set(&s.name, &value).unwrap();
    }
    if let Some(net) = &r.features {
        net.install(&store, golden.dtype).unwrap();
        assert!(r.specs.iter().all(|s| !is_feature_param(&s.name)));
    }
    store
}

fn check_stage(golden: &mut Golden, task: &str, stage: &str) {
    let mut r = record_stage(golden, task, stage);
    let store = network_params(golden, &r);
    let at = format!("{task}/{stage}");
    let t = &mut r.tape;

    // Terms, total and pictures.
    let mut names: Vec<String> = r.terms.terms.iter().map(|(n, _)| n.to_string()).collect();
    names.sort_unstable();
    assert_eq!(names, golden.below(&format!("{at}/term/")), "terms of {at}");
    let mut outputs: Vec<(String, String)> = Vec::new(); // group, golden name = output name
    let mut output = |t: &mut Tape, group: String, name: String, v: Var| {
        t.output(&name, v).unwrap();
        outputs.push((group, name));
    };
    for (name, v) in &r.terms.terms {
        output(t, format!("{at} terms"), format!("{at}/term/{name}"), *v);
    }
    let total = r.terms.total;
    output(t, format!("{at} terms"), format!("{at}/total"), total);
    if task != "none" {
        for (name, v) in &r.images {
            output(t, "images".into(), name.to_string(), *v);
        }
    }
    let mut zeros = Vec::new();
    if task != "none" {
        // Gradients of each term by the network's pictures. Of ivif, those that are not in the file are 0.
        let listed = golden.below(&format!("{at}/dimage/"));
        let mut seen = 0;
        let terms = r.terms.terms.iter().map(|(n, _)| *n);
        let covered = terms.filter(|n| listed.iter().any(|l| l.starts_with(&format!("{n}/"))));
        assert!(task == "mif" || covered.count() == r.terms.terms.len());
        for (term, v) in r.terms.terms.clone() {
            let (images, wrt): (Vec<_>, Vec<_>) = r.images.iter().map(|(k, v)| (*k, *v)).unzip();
            for (image, d) in images.iter().zip(t.grad(v, &wrt).unwrap()) {
                let name = format!("{term}/{image}");
                if listed.contains(&name) {
                    let name = format!("{at}/dimage/{name}");
                    output(t, format!("{at} d term / d image"), name, d);
                    seen += 1;
                } else if task == "ivif" {
                    let name = format!("{at}/zero/{name}");
                    t.output(&name, d).unwrap();
                    zeros.push(name);
                }
            }
        }
        assert_eq!(seen, listed.len(), "{listed:?}");
    }
    let heads = |s: &&ParamSpec| task != "none" || s.name.contains(".head.");
    let specs: Vec<ParamSpec> = r.specs.iter().filter(heads).cloned().collect();
    let mut names: Vec<_> = specs.iter().map(|s| s.name.clone()).collect();
    names.sort_unstable();
    assert!(!names.is_empty() && names == golden.below(&format!("{at}/dw/")));
    let wrt = param_vars(t, &specs);
    for (s, d) in specs.iter().zip(t.grad(total, &wrt).unwrap()) {
        let name = format!("{at}/dw/{}", s.name);
        output(t, format!("{at} d total / d parameter"), name, d);
    }
    let mut s = session(t, &store);
    set_inputs(&mut s, golden, &SOURCES);
    s.run().unwrap();
    for name in zeros {
        let found = s.get(&name).unwrap().to_f64();
        assert!(found.iter().all(|&v| v == 0.0), "{name}");
    }
    for (group, name) in outputs {
        let found = s.get(&name).unwrap();
        golden.compare(&group, &name, &found);
    }
    if task != "none" {
        let name = format!("{task}/sigma");
        let sigma = golden.tensor(&name).to_f64(); // [sample, source]
        for source in 0..2 {
            let of: Vec<f64> = sigma.iter().skip(source).step_by(2).copied().collect();
            let found = s.get(&format!("sigma{source}")).unwrap().to_f64();
            let error = relative_error(&of, &found);
            golden.note(&format!("{task} sigma"), &name, error, DType::F64);
        }
    }
}

#[test]
fn the_slope_is_the_golden_one() {
    let golden = Golden::load("network", DType::F64);
    let slope: f64 = golden.meta["slope"].parse().unwrap();
    assert_eq!(f64::from(hafuse::net::SLOPE), slope);
}

#[test]
fn network_losses_and_gradients() {
    for dtype in BOTH {
        let mut golden = Golden::load("network", dtype);
        for task in ["ivif", "mif", "none"] {
            for stage in ["stage1", "stage2"] {
                check_stage(&mut golden, task, stage);
            }
        }
        golden.finish();
    }
}

/// With the levels of the pictures themselves and ends that bend, and without a frame, where the stem sees both sources
/// alone.
#[test]
fn networks_of_whole_pictures() {
    for dtype in BOTH {
        let mut golden = Golden::load("network", dtype);
        for (at, key) in [("whole", "bent"), ("plain", "plain")] {
            let genotype = Genotype::from_json(&golden.meta[key]).unwrap();
            assert_eq!(genotype.frame == FrameGene::default(), at == "plain");
            let mut t = Tape::new(dtype);
            let [a, b] = input_vars(&mut t, &golden, ["a", "b"]);
            let mut builder = Builder::new(&mut t);
            let fused = record_fusion(&mut builder, &genotype, (a, b)).unwrap();
            let specs = builder.into_specs();
            t.output(&format!("{at}/feature"), fused.feature).unwrap();
            t.output(&format!("{at}/output"), fused.output).unwrap();
            let store = ParamStore::default();
            for s in &specs {
                let mut value = golden.given(&format!("w/{}", s.name));
                if (at, s.name.as_str()) == ("plain", "ffm.stem.weight") {
                    let [h, w, _, c] = value.shape().padded4();
                    let taps = value.to_f64();
                    let kept = taps.chunks(4 * c).flat_map(|tap| tap[..2 * c].to_vec());
                    let kept = Tensor::from_vec([h, w, 2, c], kept.collect::<Vec<f64>>());
                    value = kept.unwrap().to_dtype(dtype);
                }
                store.set(&s.name, &value).unwrap();
            }
            check_outputs(&mut golden, &t, &store, &["a", "b"]);
        }
        golden.finish();
    }
}

#[test]
fn three_adam_steps() {
    for dtype in BOTH {
        let network = Golden::load("network", dtype);
        let mut golden = Golden::load("adam", dtype);
        // Adam divides by the root of the squared gradient: where that is all rounding, so is the step.
        golden.f32_limit = 1e-4;
        let mut r = record_stage(&network, "ivif", "stage2");
        let store = network_params(&network, &r);
        let t = &mut r.tape;
        let lr = t.input("lr", []).unwrap();
        let step = t.input("step", []).unwrap();
        let wrt = param_vars(t, &r.specs);
        let grads = t.grad(r.terms.total, &wrt).unwrap();
        for ((s, &param), &grad) in r.specs.iter().zip(&wrt).zip(&grads) {
            let moments = ["m", "v"].map(|k| {
                let name = format!("adam.{k}.{}", s.name);
                let zero = Tensor::full(s.shape, dtype, 0.0);
                store.set(&name, &zero).unwrap();
                t.param(&name, s.shape).unwrap()
            });
            let [m, v] = moments;
            ops::adam(t, param, m, v, grad, lr, step, AdamOptions::default()).unwrap();
        }
        let mut session = session(t, &store);
        set_inputs(&mut session, &network, &SOURCES);
        session.set_scalar("lr", golden.json("lr")).unwrap();
        let steps: u32 = golden.json("steps");
        for k in 1..=steps {
            session.set_scalar("step", f64::from(k)).unwrap();
            session.run().unwrap();
        }
        assert_eq!(golden.below("").len(), r.specs.len());
        for s in &r.specs {
            let before = network.given(&format!("w/{}", s.name)).to_f64();
            let found = store.get(&s.name).unwrap().to_f64();
            let change = golden.tensor(&s.name).to_f64();
            let after: Vec<f64> = before.iter().zip(&change).map(|(w, d)| w + d).collect();
            let error = relative_error(&after, &found);
            golden.note("parameters after", &s.name, error, DType::F32);
            if dtype == DType::F64 {
                let moved: Vec<f64> = before.iter().zip(&found).map(|(w, f)| f - w).collect();
                let error = relative_error(&change, &moved);
                golden.note("change of parameters", &s.name, error, DType::F32);
            }
        }
        golden.finish();
    }
}
