use hafuse::{data::*, infer::*};
use std::path::Path;
fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let mut e = Engine::new(&Model::open(&a[0]).unwrap()).unwrap();
    std::fs::create_dir_all(&a[3]).unwrap();
    let l = list_pairs(Path::new(&a[1]), Path::new(&a[2])).unwrap();
    let pick: Vec<usize> = a[4].split(',').map(|v| v.parse().unwrap()).collect();
    for i in pick {
        let p = &l.pairs[i];
        let x = Picture::read(&p.a).unwrap();
        let y = Picture::read(&p.b).unwrap();
        let f = e.fuse(x.height, x.width, &x.luma, &y.luma).unwrap();
        // sheet: a | b | f
        let (w, h) = (x.width, x.height);
        let mut s = vec![0.0; 3 * w * h];
        for r in 0..h {
            for (k, src) in [&x.luma, &y.luma, &f].into_iter().enumerate() {
                s[(r * 3 + k) * w..(r * 3 + k + 1) * w].copy_from_slice(&src[r * w..(r + 1) * w]);
            }
        }
        Picture::from_luma(3 * w, h, s)
            .unwrap()
            .write(
                &Path::new(&a[3]).join(format!("{}.png", p.stem)),
                WriteOptions::default(),
            )
            .unwrap();
        let m = f.iter().sum::<f32>() / f.len() as f32;
        let sd = (f.iter().map(|v| (v - m) * (v - m)).sum::<f32>() / f.len() as f32).sqrt() * 255.0;
        println!("{} mean {:.1} sd {:.2}", p.stem, m * 255.0, sd);
    }
}
