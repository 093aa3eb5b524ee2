//! Whole fusions and training steps on CUDA against the CPU.

use crate::card::{card, fault};
use crate::common::relative_error;
use hafuse::data::Picture;
use hafuse::data::dataset::{PairDataset, Scene};
use hafuse::device::Device;
use hafuse::infer::{Engine, Model, Precision};
use hafuse::net::{Genotype, initial_params, param_specs};
use hafuse::tape::SessionOptions;
use hafuse::train::{TrainConfig, Trainer};
use hafuse::{DType, ParamStore, Session, Tape, Tensor, ops};
use std::path::{Path, PathBuf};

/// A part of a sample pair.
fn sample(height: usize, width: usize) -> [Vec<f32>; 2] {
    // Another machine has them elsewhere.
    let folder = std::env::var_os("HAFUSE_SAMPLES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("samples"),
        PathBuf::from,
    );
    ["street_1_ir.png", "street_1_vi.png"].map(|name| {
        let p = Picture::read(folder.join(name)).expect("is a picture");
        let (top, left) = (150, 200);
        (0..height)
            .flat_map(|y| {
                let from = (top + y) * p.width + left;
                p.luma[from..from + width].to_vec()
            })
            .collect()
    })
}

fn psnr(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    -10.0 * (sum / a.len() as f64).log10()
}

#[test]
fn a_fused_picture_is_that_of_the_cpu() {
    let Some(device) = card() else { return };
    for (name, h, w) in [("ivif", 41, 53), ("ivif-fast", 90, 120), ("mif", 33, 40)] {
        let model = Model::builtin(name).expect("is built in");
        let [a, b] = sample(h, w);
        let fuse = |device: &Device, precision| {
            let options = SessionOptions::default();
            let mut e = Engine::on(device, precision, &model, options).expect("opens");
            let fused = e.fuse(h, w, &a, &b);
            fused.unwrap_or_else(|e| panic!("{name}: {e} {}", fault()))
        };
        let cpu = fuse(&Device::Cpu, Precision::F32);
        let single = fuse(&device, Precision::F32);
        let half = fuse(&device, Precision::F16);
        let single_error = single
            .iter()
            .zip(&cpu)
            .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        let half_psnr = psnr(&half, &single);
        println!(
            "{name}: f32 off by {single_error:.1e} from the CPU, f16 {half_psnr:.1} dB from f32"
        );
        assert!(single_error <= 2e-5, "{name}: f32 is off by {single_error}");
        assert!(half_psnr >= 50.0, "{name}: f16 has {half_psnr} dB");
    }
}

/// The network of [`GENOTYPE`] with random weights whose pictures stay mostly in
/// [0, 1], where the clamp hides nothing.
fn framed() -> Model {
    let genotype = Genotype::from_json(GENOTYPE).expect("is valid");
    let store = ParamStore::default();
    let specs = param_specs(&genotype).expect("records");
    initial_params(&specs, 7, DType::F32, &store).expect("fills");
    let mut weights = store.export(|_| true).expect("exports");
    for (name, tensor) in &mut weights {
        let head = name.contains("head");
        let values = tensor.as_mut_slice::<f32>().expect("is f32");
        for (i, v) in values.iter_mut().enumerate() {
            *v = match name.ends_with(".bias") {
                true if head => 0.5,
                true => 0.05 * (i % 5) as f32 - 0.1,
                false if head => 0.5 * *v,
                false => *v,
            };
        }
    }
    Model {
        name: "framed".into(),
        genotype,
        about: "random".into(),
        weights,
    }
}

/// A frame of mirror image and the levels of each picture: by night and by day in one batch, larger and smaller than
/// the border.
#[test]
fn framed_pictures_are_those_of_the_cpu() {
    let Some(device) = card() else { return };
    let model = framed();
    for (h, w) in [(41, 53), (9, 30), (5, 7)] {
        let [a, b] = sample(h, w);
        let batch = |x: &[f32], dark: f32| -> Vec<f32> {
            let night = x.iter().map(|v| dark * v);
            night.chain(x.iter().copied()).collect()
        };
        let (a, b) = (batch(&a, 0.5), batch(&b, 0.1));
        let fuse = |device: &Device, precision| {
            let options = SessionOptions::default();
            let mut e = Engine::on(device, precision, &model, options).expect("opens");
            let mut fused = vec![0.0; 2 * h * w];
            let result = e.fuse_batch(2, h, w, &a, &b, &mut fused);
            result.unwrap_or_else(|e| panic!("{e} {}", fault()));
            fused
        };
        let cpu = fuse(&Device::Cpu, Precision::F32);
        let inside = cpu.iter().filter(|v| (0.001..0.999).contains(*v)).count();
        assert!(2 * inside > cpu.len(), "{inside} values are not clamped");
        let single = fuse(&device, Precision::F32);
        let half = fuse(&device, Precision::F16);
        let off = single.iter().zip(&cpu).map(|(a, b)| (a - b).abs());
        let error = off.fold(0.0f32, f32::max);
        let half_psnr = psnr(&half, &cpu);
        println!("framed {w} x {h}: f32 off by {error:.1e} from the CPU, f16 {half_psnr:.1} dB");
        assert!(error <= 2e-5, "{w} x {h}: f32 is off by {error}");
        assert!(half_psnr >= 50.0, "{w} x {h}: f16 has {half_psnr} dB");
    }
}

#[test]
fn f16_on_the_cpu_is_refused() {
    let model = Model::builtin("ivif-fast").expect("is built in");
    let options = SessionOptions::default();
    let e = Engine::on(&Device::Cpu, Precision::F16, &model, options).err();
    assert!(e.is_some_and(|e| e.to_string().contains("needs a CUDA card")));
}

/// Every operator, cell and loss term that needs no feature network; the stem sees the levels.
const GENOTYPE: &str = r#"{"version": 1, "channels": 6, "frame": {"levels": true, "border": 8, "ends": 0.05},
  "ffm": [{"cell": "SC", "blocks": ["3-RB", "3-DB"]}, {"cell": "MS", "blocks": ["3-SC"]}],
  "target": {"cell": "DC", "blocks": ["SA"]}, "detail": {"cell": "SC", "blocks": ["CA", "5-DC"]}}"#;

fn trainer(device: &Device) -> Trainer {
    let keys = [
        "perceptual=none",
        "patch=16",
        "batch=2",
        "loss.feature.intensity=1",
        "loss.object.gradient=1",
        "loss.object.intensity=1",
        "loss.object.ssim=1",
        "loss.object.joint_gradient=1",
        "loss.object.maximum=1",
        "loss.object.correlation=1",
        "loss.object.differences=1",
    ]
    .map(String::from);
    let config = TrainConfig::load(None, &keys).expect("is valid");
    let wave = |k: usize| (0..24 * 24).map(|i| (i * k % 97) as f32 / 97.0).collect();
    let scene = Scene {
        name: "waves".into(),
        width: 24,
        height: 24,
        a: wave(5),
        b: wave(11),
    };
    let data = PairDataset::from_scenes(vec![scene]).expect("is a scene");
    let genotype = Genotype::from_json(GENOTYPE).expect("is valid");
    Trainer::new(config, genotype, None, data, None, device).expect("starts")
}

/// Losses and weights after three steps.
fn steps(device: &Device, stage: u8, eager: bool) -> (Vec<f64>, Vec<(String, Tensor)>) {
    let trainer = trainer(device);
    let (tape, names) = trainer.record_step(stage).expect("records");
    let options = SessionOptions {
        eager,
        ..Default::default()
    };
    let mut s = Session::with_options(&tape, trainer.store(), options).expect("binds");
    let mut losses = Vec::new();
    for step in 0..3usize {
        for (name, k) in [("a", 31), ("b", 57)] {
            let values = s.input_mut::<f32>(name).expect("is an input");
            for (i, v) in values.iter_mut().enumerate() {
                *v = ((i + 7 * step) * k % 101) as f32 / 101.0;
            }
        }
        // Night and day.
        for (name, levels) in [
            ("level_a", [0.2, 0.1, 0.5, 0.3]),
            ("level_b", [0.15, 0.2, 0.6, 0.2]),
        ] {
            let values = s.input_mut::<f32>(name).expect("is an input");
            values.copy_from_slice(&levels);
        }
        s.set_scalar("lr", 1e-3).expect("is an input");
        s.set_scalar("step", step as f64 + 1.0)
            .expect("is an input");
        s.run()
            .unwrap_or_else(|e| panic!("step {step}: {e} {}", fault()));
        for name in names.iter().chain([&"total"]) {
            losses.push(s.scalar(name).expect("is a scalar"));
        }
    }
    let weights = trainer.weights().expect("exports");
    (losses, weights.into_iter().collect())
}

#[test]
fn training_steps_are_those_of_the_cpu_eager_and_replayed() {
    let Some(device) = card() else { return };
    for stage in [1, 2] {
        let cpu = steps(&Device::Cpu, stage, false);
        let eager = steps(&device, stage, true);
        let replayed = steps(&device, stage, false);
        assert_eq!(
            eager, replayed,
            "stage {stage}: a graph replays the same bits"
        );
        let error = relative_error(&cpu.0, &eager.0);
        println!("stage {stage}: losses differ by {error:.1e}");
        assert!(error <= 1e-5, "stage {stage}: losses differ by {error:e}");
        for ((name, a), (_, b)) in cpu.1.iter().zip(&eager.1) {
            assert_eq!(a.dtype(), DType::F32);
            // Adam divides by the root of the second moment: where a gradient is nearly 0, its
            // rounding decides the direction of a step, so weights are held to the step's size.
            let worst = a
                .to_f64()
                .iter()
                .zip(b.to_f64())
                .fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst <= 3e-4, "stage {stage}: {name} differs by {worst:e}");
        }
    }
}

/// A capture once took the launches of other threads that shared its stream.
#[test]
fn sessions_of_several_threads_do_not_meet_in_a_capture() {
    let Some(device) = card() else { return };
    let run = |seed: usize| {
        for round in 0..40 {
            let mut t = Tape::new(DType::F32);
            let x = t.input("x", [1, 8, 8, 4]).expect("records");
            let mut y = x;
            for _ in 0..20 {
                y = ops::offset(&mut t, y, 1.0).expect("records");
            }
            t.output("y", y).expect("records");
            let mut s = Session::new(&t, &ParamStore::on(&device)).expect("binds");
            for run in 0..3 {
                let value = (seed + round + run) as f32;
                s.input_mut::<f32>("x").expect("is used").fill(value);
                s.run().unwrap_or_else(|e| panic!("{e} {}", fault()));
                let y = s.output::<f32>("y").expect("is there");
                assert!(
                    y.iter().all(|&v| v == value + 20.0),
                    "round {round}, run {run}"
                );
            }
        }
    };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || run(100 * seed));
        }
    });
}

#[test]
fn a_started_run_gives_its_output_when_it_is_over() {
    let Some(device) = card() else { return };
    let mut t = Tape::new(DType::F32);
    let x = t.input("x", [5]).expect("records");
    let y = ops::scale(&mut t, x, 3.0).expect("records");
    t.output("y", y).expect("records");
    let mut s = Session::new(&t, &ParamStore::on(&device)).expect("binds");
    s.input_mut::<f32>("x").expect("is used").fill(2.0);
    s.start().expect("starts");
    let early = s.output::<f32>("y").map_err(|e| e.to_string());
    assert!(early.is_err_and(|e| e.contains("call `finish` first")));
    s.finish().expect("ends");
    assert_eq!(s.output::<f32>("y").expect("is there"), [6.0; 5]);
}
