//! Steps of the supernet: time, planned and held memory and the share of each operator. Both sessions
//! of a stage are held at once, as a search does.
//!
//! `cargo bench --bench search`, or with other channels, batch and patch `-- 32 8 64`; `-- recompute` computes cells
//! again instead of keeping their values, `-- --device cuda` takes a card. There the step whose shares are shown launches its
//! kernels one by one, the others replay a graph.
//!
//! `-- 8 8 64 --step weights|beta|alpha --dump FILE` is the side of `benches/peers/supernet.py`: it
//! writes parameters, inputs and the gradients of a first step of stage 1 as safetensors, then runs a
//! step for every line of its standard input and answers with its seconds as JSON.

use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::search::{
    Effort, LatencyKey, LatencyTable, Phase, SearchConfig, Searcher, Timing, Update, warm_up,
};
use hafuse::tape::Source;
use hafuse::tensor::io;
use hafuse::{Error, Result, Session, SessionOptions, Tape, Tensor};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

fn searcher(device: &Device, [channels, batch, patch]: [usize; 3]) -> Result<Searcher> {
    // The paper's network and losses, which the peers have.
    let keys = [
        "perceptual=none".to_string(),
        "loss.recipe=paper".to_string(),
        "space.frame.levels=false".to_string(),
        "space.frame.border=0".to_string(),
        "latency.unit=ms".to_string(),
        "weights.optimizer=sgd".to_string(),
        "architecture.estimator=relaxed".to_string(),
        "space.frame.ends=0".to_string(),
        format!("space.channels={channels}"),
        format!("batch={batch}"),
        format!("patch={patch}"),
        format!(
            "space.recompute={}",
            std::env::args().any(|a| a == "recompute")
        ),
    ];
    let config = SearchConfig::load(None, &keys)?;
    let key = LatencyKey {
        device: device.to_string(),
        dtype: "f32".into(),
        width: 16,
        height: 16,
        channels,
        version: "0".into(),
    };
    let effort = Effort {
        runs: 1,
        cold: false,
    };
    let table = LatencyTable::measure(device, key, effort, |_| {})?;
    let scene = |i: usize| Scene {
        name: i.to_string(),
        width: patch,
        height: patch,
        a: vec![0.4; patch * patch],
        b: vec![0.6; patch * patch],
    };
    let data = PairDataset::from_scenes((0..2 * batch).map(scene).collect())?;
    Searcher::new(config, table, None, &data, None, device)
}

/// Times a step; its session and the median seconds.
fn measure(s: &Searcher, stage: u8, update: Update, last: bool) -> Result<(Session, f64)> {
    const RUNS: usize = 3;
    let start = Instant::now();
    let tape = s.record_step(stage, update)?;
    let options = SessionOptions {
        profile: last,
        ..SessionOptions::default()
    };
    let mut session = Session::with_options(&tape, s.store(), options)?;
    let planned = start.elapsed();
    fill_inputs(s, &mut session, update)?;
    warm_up(s.store().device(), 1, || session.run())?;
    let timing = Timing::of(0, RUNS, || {
        let start = Instant::now();
        session.run()?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    let median = timing.median_ms / 1e3;
    println!(
        "stage {stage} {:<24} {:7.1} ms  arena {:5.0} MB  {} nodes, planned in {:.2} s",
        format!("{update:?}"),
        median * 1e3,
        session.arena_bytes() as f64 / 1e6,
        session.times().count(),
        planned.as_secs_f64(),
    );
    if last {
        let mut share: BTreeMap<&str, Duration> = BTreeMap::new();
        for (var, time) in session.times() {
            if let Source::Op(op) = &tape.nodes()[var.index()].source {
                *share.entry(op.name()).or_default() += time;
            }
        }
        let total: Duration = share.values().sum();
        let mut share: Vec<_> = share.into_iter().collect();
        share.sort_by_key(|&(_, t)| std::cmp::Reverse(t));
        for (name, time) in share.into_iter().take(15) {
            let percent = 100.0 * time.as_secs_f64() / total.as_secs_f64();
            println!("  {name:<28} {percent:5.1} %");
        }
    }
    Ok((session, median))
}

/// A stage as a search runs it: the session of the weights is held beside one of the architecture.
fn measure_stage(s: &Searcher, stage: u8) -> Result<()> {
    let (weights, omega) = measure(s, stage, Update::Weights, stage == 1)?;
    let mut beside = 0;
    for &phase in s.schedule().phases() {
        let (session, seconds) = measure(s, stage, Update::Architecture(phase), false)?;
        // As a search says it: both halves' patches over both steps.
        let patches = 2.0 * s.config().batch as f64 / (omega + seconds);
        println!("stage {stage} weights + {phase:?}: {patches:.1} patches/s");
        beside = beside.max(session.arena_bytes());
    }
    println!(
        "stage {stage} both sessions: {:.0} MB",
        (weights.arena_bytes() + beside) as f64 / 1e6
    );
    Ok(())
}

fn fill_inputs(s: &Searcher, session: &mut Session, update: Update) -> Result<()> {
    for (name, k) in [("a", 31), ("b", 57)] {
        let values = session.input_mut::<f32>(name)?;
        for (i, v) in values.iter_mut().enumerate() {
            *v = (i * k % 101) as f32 / 101.0;
        }
    }
    match update {
        Update::Weights => session.set_scalar("lr", 1e-6),
        Update::Architecture(_) => session.set_scalar("charge", s.charge()?),
    }
}

/// One kind of step for a peer: what it must reproduce, then a step on demand.
fn serve(s: &Searcher, step: &str, dump: Option<&str>) -> Result<()> {
    let update = match step {
        "weights" => Update::Weights,
        "beta" => Update::Architecture(Phase::Cells),
        "alpha" => Update::Architecture(Phase::Operators),
        _ => {
            let detail = format!("is {step}; give weights, beta or alpha");
            return Err(Error::config("--step", detail));
        }
    };
    let tape = s.record_step(1, update)?;
    let mut session = Session::new(&tape, s.store())?;
    fill_inputs(s, &mut session, update)?;
    let mut tensors = io::TensorMap::new();
    let used = |name: &str| name.starts_with("ffm.") || name.contains(".ffm.");
    let moment = |name: &str| name.starts_with("optimizer.");
    for (name, value) in s.store().export(|n| used(n) && !moment(n))? {
        tensors.insert(format!("param/{name}"), value);
    }
    for name in ["a", "b"] {
        let values = session.input_mut::<f32>(name)?.to_vec();
        let n = s.config().patch;
        let shape = [s.config().batch, n, n, 1];
        tensors.insert(format!("input/{name}"), Tensor::from_vec(shape, values)?);
    }
    session.run()?;
    if let Some(file) = dump {
        gradients(s, &tape, &session, &mut tensors)?;
        let outputs = tape.output_vars().keys();
        let outputs = outputs.filter(|name| !name.starts_with("gradient."));
        let outputs = outputs.map(|name| Ok((name.clone(), session.scalar(name)?)));
        let json = |e: serde_json::Error| Error::Internal(e.to_string());
        let (config, table) = (s.config(), s.table());
        let outputs = outputs.collect::<Result<BTreeMap<_, _>>>()?;
        let meta = [
            ("outputs", serde_json::to_string(&outputs).map_err(json)?),
            ("config", serde_json::to_string(config).map_err(json)?),
            ("table", serde_json::to_string(table).map_err(json)?),
        ];
        let meta = meta.map(|(k, v)| (k.to_string(), v)).into();
        io::write_atomic(Path::new(file), &io::serialize(&tensors, &meta)?)?;
    }
    warm_up(s.store().device(), 0, || session.run())?;
    println!("ready");
    for _ in std::io::stdin().lock().lines() {
        let start = Instant::now();
        session.run()?;
        println!("{{\"seconds\": {}}}", start.elapsed().as_secs_f64());
        std::io::stdout().flush().ok();
    }
    Ok(())
}

/// Adds `grad/NAME` of every parameter that the step updates: an output, or the first moment after a first step of SGD.
fn gradients(
    s: &Searcher,
    tape: &Tape,
    session: &Session,
    tensors: &mut io::TensorMap,
) -> Result<()> {
    for name in tape.param_vars().keys() {
        if let Some(param) = name.strip_prefix("optimizer.m.") {
            tensors.insert(format!("grad/{param}"), s.store().get(name)?);
        }
    }
    for name in tape.output_vars().keys() {
        if let Some(param) = name.strip_prefix("gradient.") {
            tensors.insert(format!("grad/{param}"), session.get(name)?);
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let flag = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1).map(String::as_str)
    };
    let device = Device::open(flag("--device").unwrap_or("cpu"))?;
    let given: Vec<usize> = args.iter().filter_map(|a| a.parse().ok()).collect();
    if let Some(step) = flag("--step") {
        let &[channels, batch, patch] = &given[..] else {
            let detail = "wants channels, batch and patch too, e.g. 8 8 64";
            return Err(Error::config("--step", detail));
        };
        return serve(
            &searcher(&device, [channels, batch, patch])?,
            step,
            flag("--dump"),
        );
    }
    let sizes = match given[..] {
        [channels, batch, patch] => vec![[channels, batch, patch]],
        _ => vec![[8, 8, 64], [32, 8, 64]],
    };
    for size in sizes {
        let [channels, batch, patch] = size;
        println!("C = {channels}, {batch} patches of {patch} x {patch} on {device}");
        let s = searcher(&device, size)?;
        println!(
            "parameters and optimiser state: {:.0} MB",
            s.store().bytes() as f64 / 1e6
        );
        for stage in [1, 2] {
            measure_stage(&s, stage)?;
        }
        if let Some(bytes) = hafuse::device::memory::peak_bytes() {
            let mb = bytes as f64 / 1e6;
            println!("most memory held so far, by the whole process: {mb:.0} MB");
        }
    }
    Ok(())
}
