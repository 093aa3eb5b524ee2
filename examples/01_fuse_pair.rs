//! Fuses two picture files in one call, then other pairs with a model and a tone of one's own
//! choice. The results are written into the temporary folder of the system.
//!
//!     cargo run --example 01_fuse_pair    (in the root of the repository)

use hafuse::{Fuser, Picture, Tone};

/// Mean brightness, from 0 to 1.
fn mean(picture: &Picture) -> f32 {
    picture.luma.iter().sum::<f32>() / picture.luma.len() as f32
}

fn main() -> hafuse::Result<()> {
    let folder = std::env::temp_dir();

    // Infrared and visible light: the default model, on a card if there is one, else on the CPU.
    let fused = hafuse::fuse("samples/street_1_ir.png", "samples/street_1_vi.png")?;
    let path = folder.join("hafuse_street_1.png");
    fused.save(&path)?;
    let (width, height) = (fused.width, fused.height);
    println!("{width} x {height} pixels: {}", path.display());

    // MRI and PET: another model, and more contrast. A fuser keeps its model and its memory, so use
    // one for all pairs.
    let mut fuser = Fuser::builder().model("mif").tone(Tone::Auto).build()?;
    println!("{} on {}", fuser.name(), fuser.place());
    for n in 1..=2 {
        let read = |kind| Picture::read(format!("samples/brain_{n}_{kind}.png"));
        let (mri, pet) = (read("mri")?, read("pet")?);
        // Brightness is fused; the colours are those of the PET picture.
        let fused = fuser.fuse(&mri, &pet)?;
        let path = folder.join(format!("hafuse_brain_{n}.png"));
        fused.save(&path)?;
        let means = [&mri, &pet, &fused].map(mean);
        println!(
            "brightness {:.3} and {:.3}, fused {:.3}: {}",
            means[0],
            means[1],
            means[2],
            path.display()
        );
    }
    Ok(())
}
