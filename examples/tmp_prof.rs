use hafuse::{data::dataset::PairDataset, loss::FeatureNet, net::Genotype, train::*, *};
use std::path::Path;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let config = TrainConfig::load(None, &args[1..]).unwrap();
    let g = Genotype::load(Path::new(&args[0])).unwrap();
    for p in net::count_parts(&g, 448, 620).unwrap() {
        println!("{p:?}");
    }
    let f =
        (config.perceptual == Perceptual::Vgg).then(|| FeatureNet::load(&config.features).unwrap());
    let data = PairDataset::load(&config.data.a, &config.data.b, config.patch).unwrap();
    let t = Trainer::new(config, g, f, data, None).unwrap();
    for stage in [1, 2] {
        let (tape, _) = t.record_step(stage).unwrap();
        let mut s = Session::with_options(
            &tape,
            t.store(),
            SessionOptions {
                profile: true,
                poison: false,
            },
        )
        .unwrap();
        println!("arena {} MB", s.arena_bytes() / 1000000);
        s.set_scalar("lr", 0.0).unwrap();
        s.set_scalar("step", 1.0).unwrap();
        let mut best = vec![1e9f64; 5000];
        for _ in 0..5 {
            s.run().unwrap();
            for (i, r) in s.report().iter().enumerate() {
                best[i] = best[i].min(r.time.as_secs_f64());
            }
        }
        let mut by: std::collections::BTreeMap<&str, (f64, f64, usize)> = Default::default();
        for (r, b) in s.report().iter().zip(&best) {
            let e = by.entry(r.op).or_default();
            e.0 += b * 1e3;
            e.1 += r.cost.flops as f64 / 1e9;
            e.2 += 1;
        }
        let mut v: Vec<_> = by.into_iter().collect();
        v.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
        println!(
            "stage {stage} total {:.1} ms",
            v.iter().map(|x| x.1.0).sum::<f64>()
        );
        for (n, (ms, gf, c)) in v.iter().take(24) {
            println!(
                "  {n:<26} {ms:8.2} ms {gf:8.3} GF  x{c} {:.1} GF/s",
                gf / ms * 1e3
            );
        }
        let mut w: Vec<_> = s.report().into_iter().zip(best).collect();
        w.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (r, b) in w.iter().take(12) {
            println!(
                "     {:<26} {:<20} {:?} {:.2} ms {:.1} GF/s",
                r.scope,
                r.op,
                r.shape,
                b * 1e3,
                r.cost.flops as f64 / b / 1e9
            );
        }
    }
}
