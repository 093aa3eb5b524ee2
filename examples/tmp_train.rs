use hafuse::{
    data::dataset::PairDataset, infer::Model, loss::FeatureNet, net::Genotype, tensor::io, train::*,
};
use std::path::Path;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let geno = args[0].clone();
    let config = TrainConfig::load(None, &args[1..]).unwrap();
    let g = Genotype::load(Path::new(&geno)).unwrap();
    let f =
        (config.perceptual == Perceptual::Vgg).then(|| FeatureNet::load(&config.features).unwrap());
    let data = PairDataset::load(&config.data.a, &config.data.b, config.patch).unwrap();
    eprintln!("pairs {}", data.len());
    let out = config.out.clone();
    std::fs::create_dir_all(&out).unwrap();
    let ck = out.join("checkpoint.safetensors");
    let resume = ck.exists().then(|| Checkpoint::load(&ck).unwrap());
    let init = config.init.clone();
    let fresh = resume.is_none();
    let mut t = Trainer::new(config, g, f, data, resume).unwrap();
    if fresh && init.as_os_str().len() > 0 {
        let (w, _) = io::load(&init).unwrap();
        t.init_from(&w).unwrap();
    }
    println!("steps {} {}", t.steps(1), t.steps(2));
    let start = std::time::Instant::now();
    let mut n = 0;
    let mut avg: Vec<f64> = vec![];
    t.run(|e| {
        match e {
            TrainEvent::Step(r) => {
                n += 1;
                if avg.len() != r.terms.len() {
                    avg = vec![0.0; r.terms.len()];
                }
                for (a, t) in avg.iter_mut().zip(&r.terms) {
                    *a += t.1 / 50.0;
                }
                if r.step % 50 == 0 {
                    println!(
                        "s{} {}/{} lr {:.2e} {:.2} it/s {:?}",
                        r.stage,
                        r.step,
                        r.steps,
                        r.lr,
                        n as f64 / start.elapsed().as_secs_f64(),
                        r.terms
                            .iter()
                            .zip(&avg)
                            .map(|(t, a)| format!("{} {a:.4}", t.0))
                            .collect::<Vec<_>>()
                    );
                    avg.iter_mut().for_each(|a| *a = 0.0);
                }
            }
            TrainEvent::Checkpoint(t) => {
                t.checkpoint()?.save(&ck)?;
                let m = Model {
                    name: "x".into(),
                    genotype: t.genotype().clone(),
                    about: "".into(),
                    weights: t.weights()?,
                };
                m.save(&out.join("model.safetensors"), true)?;
            }
            _ => {}
        }
        Ok(())
    })
    .unwrap();
}
