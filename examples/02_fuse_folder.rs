//! Fuses the pairs of two folders, hears of each pair, stops early, and goes on where it stopped.
//! The folders are made from the samples in a temporary directory.
//!
//!     cargo run --example 02_fuse_folder    (in the root of the repository)

use hafuse::{FolderEvent, FolderOptions, fuse_folder};
use std::ops::ControlFlow;

/// The first run is to stop after so many pairs.
const ENOUGH: usize = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let [a, b, out] = ["a", "b", "fused"].map(|name| directory.path().join(name));
    std::fs::create_dir(&a)?;
    std::fs::create_dir(&b)?;
    // Pairs are matched by name; endings such as _ir and _vi may stay.
    for (scene, of_a, of_b) in [("street", "ir", "vi"), ("brain", "mri", "pet")] {
        for n in 1..=2 {
            for (folder, kind) in [(&a, of_a), (&b, of_b)] {
                let name = format!("{scene}_{n}_{kind}.png");
                std::fs::copy(format!("samples/{name}"), folder.join(&name))?;
            }
        }
    }

    let options = FolderOptions::default().jobs(1);
    let mut done = 0;
    let report = fuse_folder(&a, &b, &out, &options, |event| {
        match event {
            FolderEvent::Begun { pairs, .. } => println!("{pairs} pairs"),
            FolderEvent::Pair { name, failure, .. } => {
                done += 1;
                let what = failure.map_or("fused".into(), |e| e.to_string());
                println!("{name}: {what}");
            }
            _ => {}
        }
        match done < ENOUGH {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    // A pair that was begun when the callback said so is still written.
    let (written, total) = (report.outputs.len(), report.total);
    println!(
        "cancelled: {}, {written} of {total} written",
        report.cancelled
    );

    let options = options.resume(true);
    let report = fuse_folder(&a, &b, &out, &options, |_| ControlFlow::Continue(()))?;
    let (skipped, written) = (report.skipped, report.outputs.len());
    println!("again: {skipped} were there, {written} more written");
    let [decode, network, encode] = report.seconds.shares();
    println!("time: reading {decode:.0} %, network {network:.0} %, writing {encode:.0} %");
    Ok(())
}
