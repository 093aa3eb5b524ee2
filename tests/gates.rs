//! Quality gates on the drawn scenes of `tests/data/scenes`: every built-in model for infrared and visible pictures passes them, by
//! day and by night. And the scenes are fair: good rules without a network pass, the average does not.

#[path = "cuda/card.rs"]
#[allow(dead_code)] // other tests use the rest
mod card;

use hafuse::baseline::Baseline;
use hafuse::data::{Pair, Picture, list_pairs, read_pair};
use hafuse::device::Device;
use hafuse::infer::{BUILTIN, Engine, Model, Precision};
use hafuse::metrics::border::{MARGIN, border_error, crop, reflect};
use hafuse::metrics::gates::{Gate, Reference, Tally, Verdict};
use hafuse::metrics::{Grey, measure};
use hafuse::tape::SessionOptions;
use rayon::prelude::*;
use std::path::Path;

/// Two sources of one size.
struct Scene {
    name: String,
    width: usize,
    height: usize,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Scene {
    fn read(pair: &Pair) -> Self {
        let (a, b) = read_pair(&pair.a, &pair.b).expect("are pictures of one size");
        Self {
            name: pair.stem.clone(),
            width: a.width,
            height: a.height,
            a: a.luma,
            b: b.luma,
        }
    }

    /// A part of it.
    fn window(&self, [left, top]: [usize; 2], [width, height]: [usize; 2]) -> Self {
        let cut = |plane: &[f32]| {
            let rows = plane.chunks(self.width).skip(top).take(height);
            rows.flat_map(|row| &row[left..left + width])
                .copied()
                .collect()
        };
        Self {
            name: self.name.clone(),
            width,
            height,
            a: cut(&self.a),
            b: cut(&self.b),
        }
    }

    /// It goes on by a reflection at each side.
    fn continued(&self) -> Self {
        let more = |plane| reflect(self.width, self.height, plane, MARGIN).expect("is a plane");
        Self {
            name: self.name.clone(),
            width: self.width + 2 * MARGIN,
            height: self.height + 2 * MARGIN,
            a: more(&self.a),
            b: more(&self.b),
        }
    }
}

/// The scenes whose names begin with `set` and `_`.
fn scenes(set: &str) -> Vec<Scene> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scenes");
    let pairs = list_pairs(&folder.join("ir"), &folder.join("vi")).expect("are folders");
    let of_set = |p: &&Pair| p.stem.split_once('_').is_some_and(|(of, _)| of == set);
    let scenes: Vec<Scene> = pairs.pairs.iter().filter(of_set).map(Scene::read).collect();
    assert!(!scenes.is_empty(), "no scenes of {set}");
    scenes
}

fn grey(width: usize, height: usize, luma: &[f32]) -> Grey {
    let picture = Picture::from_luma(width, height, luma.to_vec()).expect("is a picture");
    Grey::from_picture(&picture).expect("is a picture")
}

/// A fused picture and, if it is to be judged by its border, that of the continued scene.
type Fused = (Vec<f32>, Option<Vec<f32>>);

fn judge(scenes: &[Scene], fused: &[Fused]) -> Vec<Verdict> {
    let mut tally = Tally::default();
    let measured: Vec<_> = scenes
        .par_iter()
        .zip(fused)
        .map(|(s, (picture, of_continued))| {
            let [a, b, f] = [&s.a, &s.b, picture].map(|plane| grey(s.width, s.height, plane));
            let scores = measure(&a, &b, &f, &Tally::METRICS).expect("are of one size");
            let reference = Reference::of(&a, &b).expect("are of one size");
            let error = of_continued.as_ref().map(|wide| {
                let [w, h] = [s.width, s.height].map(|side| side + 2 * MARGIN);
                let inside = crop(w, h, wide, MARGIN).expect("is larger");
                border_error(&f, &grey(s.width, s.height, &inside)).expect("are of one size")
            });
            (s, [a, b, f], scores, reference, error)
        })
        .collect();
    for (s, [a, b, f], scores, reference, error) in measured {
        let added = tally.add(&s.name, [&a, &b, &f], &scores, &reference);
        added.expect("are of one size");
        if let Some(error) = error {
            tally.add_border(&s.name, error);
        }
    }
    tally.judge()
}

/// The gates that are not passed, with values and limits.
fn failures(verdicts: &[Verdict]) -> Vec<String> {
    let failed = verdicts.iter().filter(|v| v.passes == Some(false));
    failed
        .map(|v| match (&v.value, v.limit) {
            (Ok(value), Some(limit)) => format!("{} {value:.4} (limit {limit:.4})", v.gate),
            (value, _) => format!("{} {value:?}", v.gate),
        })
        .collect()
}

/// By a rule on the CPU; without `border` that gate is not judged.
fn by_rule(rule: Baseline, scenes: &[Scene], border: bool) -> Vec<Verdict> {
    let fuse = |s: &Scene| rule.fuse(s.height, s.width, &s.a, &s.b).expect("fuses");
    let both = |s: &Scene| (fuse(s), border.then(|| fuse(&s.continued())));
    let fused: Vec<Fused> = scenes.par_iter().map(both).collect();
    judge(scenes, &fused)
}

/// By a network; without `border` that gate is not judged.
fn by_model(engine: &mut Engine, scenes: &[Scene], border: bool) -> Vec<Verdict> {
    let mut fuse = |s: &Scene| {
        let fused = engine.fuse(s.height, s.width, &s.a, &s.b);
        fused.unwrap_or_else(|e| panic!("{}: {e} {}", s.name, card::fault()))
    };
    // All of one size, then all of the other: a size is planned once.
    let inside: Vec<Vec<f32>> = scenes.iter().map(&mut fuse).collect();
    let wide: Vec<Option<Vec<f32>>> = match border {
        true => scenes.iter().map(|s| Some(fuse(&s.continued()))).collect(),
        false => vec![None; scenes.len()],
    };
    let fused: Vec<Fused> = inside.into_iter().zip(wide).collect();
    judge(scenes, &fused)
}

/// Names of the built-in models for infrared and visible pictures.
fn models() -> impl Iterator<Item = &'static str> {
    let names = BUILTIN.iter().map(|(name, _)| *name);
    names.filter(|name| name.starts_with("ivif"))
}

/// Panics with all failures of all models on all sets.
fn all_models_pass(
    device: &Device,
    precision: Precision,
    sets: &[(&str, Vec<Scene>)],
    border: bool,
) {
    let mut failed = Vec::new();
    for name in models() {
        let model = Model::builtin(name).expect("is built in");
        let options = SessionOptions::default();
        let mut engine = Engine::on(device, precision, &model, options).expect("opens");
        for (set, scenes) in sets {
            let found = failures(&by_model(&mut engine, scenes, border));
            if !found.is_empty() {
                failed.push(format!("{name}, {set}: {}", found.join(", ")));
            }
        }
    }
    let place = format!("{device} in {}", precision.dtype());
    assert!(failed.is_empty(), "on {place}\n{}", failed.join("\n"));
}

/// The middle of each scene of a set.
fn windows(set: &str) -> Vec<Scene> {
    let scenes = scenes(set);
    let window = scenes.iter().map(|s| s.window([96, 72], [128, 96]));
    window.collect()
}

#[test]
fn built_in_models_pass_by_day_and_by_night() {
    let sets = ["day", "night"].map(|set| (set, scenes(set)));
    all_models_pass(&Device::Cpu, Precision::F32, &sets, true);
}

/// Windows only, and not their border, which is padded as on the CPU: what takes a card a millisecond takes the emulator seconds.
#[test]
fn built_in_models_pass_on_a_card_in_f16() {
    let Some(device) = card::card() else { return };
    let sets = ["day", "night"].map(|set| (set, windows(set)));
    all_models_pass(&device, Precision::F16, &sets, false);
}

#[test]
fn scenes_are_fair_to_good_rules_and_not_to_the_average() {
    let whole = ["day", "night", "dusk", "fog"].map(|set| (set, scenes(set), true));
    let parts = ["day", "night"].map(|set| (set, windows(set), false));
    for (set, scenes, border) in whole.into_iter().chain(parts) {
        let size = format!("{set}, {} x {}", scenes[0].width, scenes[0].height);
        // Pyramids end at borders of their own making, on real pictures too: laplacian is not judged by its border.
        for (rule, border) in [(Baseline::Exposure, border), (Baseline::Laplacian, false)] {
            let found = failures(&by_rule(rule, &scenes, border));
            assert!(found.is_empty(), "{rule}, {size}: {}", found.join(", "));
        }
        let verdicts = by_rule(Baseline::Average, &scenes, border);
        let failed: Vec<Gate> = { verdicts.iter() }
            .filter(|v| v.passes == Some(false))
            .map(|v| v.gate)
            .collect();
        assert_eq!(failed, [Gate::PlaneR2, Gate::ToneDetail], "{size}");
    }
}
