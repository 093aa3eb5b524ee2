//! What a batch of training patches costs, with and without augmentation.
//!
//! `cargo bench --bench sampling -- IR VI`: milliseconds of a batch of 8 patches of 64 x 64 and of 4 of 128 x 128.

use hafuse::Result;
use hafuse::data::{Augment, Batch, EpochSampler, Folders, PairDataset};
use hafuse::train::TrainConfig;
use std::path::Path;
use std::time::Instant;

const ROUNDS: u32 = 400;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let [a, b] = args.as_slice() else {
        println!("give two folders: cargo bench --bench sampling -- IR VI");
        return Ok(());
    };
    let start = Instant::now();
    let folder = |path: &String| Folders::from(Path::new(path));
    let data = PairDataset::load(&folder(a), &folder(b), &[], 128)?.balanced(0.5);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} pairs in {} sets loaded in {seconds:.2} s",
        data.len(),
        data.sets()
    );
    let usual = TrainConfig::load(None, &[])?.augment;
    for (batch, patch) in [(8, 64), (4, 128)] {
        let all = Augment {
            untouched: 0.0,
            exposure: 1.0,
            gamma: 1.0,
            contrast: 1.0,
            vignetting: 1.0,
            blur: 1.0,
            noise: 1.0,
            ..usual
        };
        for (name, augment) in [
            ("none", None),
            ("default", Some(&usual)),
            ("everything", Some(&all)),
        ] {
            let mut patches = Batch::new(batch, patch)?;
            let mut sampler = EpochSampler::new(data.len(), 1)?;
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                let start = Instant::now();
                data.sample_batch(&mut sampler, augment, &mut patches)?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            let mean = times.iter().sum::<f64>() / times.len() as f64;
            println!(
                "{batch} patches of {patch} x {patch}, augmentation {name}: median {:.3} ms, mean {mean:.3} ms",
                times[times.len() / 2]
            );
        }
    }
    Ok(())
}
