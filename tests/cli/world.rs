//! A folder with pictures, models and configurations, good and bad, to run the binary in.

use hafuse::infer::Model;
use hafuse::net::{Builder, Genotype, initial_params, record_fusion};
use hafuse::tensor::io::{self, TensorMap};
use hafuse::{DType, ParamStore, Tape, Tensor};
use image::{ImageBuffer, Luma, Rgb};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const GENOTYPE: &str = r#"{"version": 1, "channels": 4,
  "ffm": [{"cell": "SC", "blocks": ["3-RB"]}, {"cell": "MS", "blocks": ["3-DC"]}],
  "target": {"cell": "DC", "blocks": ["SA"]}, "detail": {"cell": "SC", "blocks": ["CA"]}}"#;

pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let at = |name: &str| world.at(name);
        for dir in ["out", "void", "left", "right", "ir", "vi"] {
            std::fs::create_dir(at(dir)).unwrap();
        }
        world.model();
        grey(&at("a.png"), 48, 32);
        colour(&at("b.png"), 48, 32);
        colour(&at("big.png"), 40, 41);
        std::fs::copy(at("b.png"), at("out/old.png")).unwrap();
        let whole = std::fs::read(at("b.png")).unwrap();
        std::fs::write(at("cut.png"), &whole[..whole.len() / 2]).unwrap();
        std::fs::write(at("text.png"), "these are letters\n").unwrap();
        std::fs::write(at("empty.png"), "").unwrap();
        grey(&at("left/x1.png"), 48, 32);
        grey(&at("right/y1.png"), 48, 32);
        for i in 1..=4 {
            grey(&at(&format!("ir/{i}.png")), 48, 30 + i);
            colour(&at(&format!("vi/{i}.png")), 48, 30 + i);
        }
        world
    }

    fn model(&self) {
        let genotype = Genotype::from_json(GENOTYPE).unwrap();
        std::fs::write(self.at("tiny.json"), GENOTYPE).unwrap();
        std::fs::write(self.at("broken.json"), "{\"version\": 1,").unwrap();
        let mut t = Tape::new(DType::F32);
        let a = t.input("a", [1, 16, 16, 1]).unwrap();
        let b = t.input("b", [1, 16, 16, 1]).unwrap();
        let mut builder = Builder::new(&mut t);
        record_fusion(&mut builder, &genotype, (a, b)).unwrap();
        let store = ParamStore::default();
        initial_params(&builder.into_specs(), 1, DType::F32, &store).unwrap();
        let mut model = Model {
            name: "tiny".into(),
            genotype,
            about: "for tests".into(),
            weights: store.export(|_| true).unwrap(),
        };
        let path = self.at("tiny.safetensors");
        model.save(&path, true).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(self.at("cut.safetensors"), &bytes[..bytes.len() - 9]).unwrap();
        model.genotype.channels = 6;
        model.save(&self.at("misfit.safetensors"), true).unwrap();
        let one = TensorMap::from([("x".to_string(), Tensor::scalar(DType::F32, 1.0))]);
        io::save(&self.at("plain.safetensors"), &one, &BTreeMap::new()).unwrap();
        std::fs::write(self.at("unknown.toml"), "bathc = 4\n").unwrap();
        std::fs::write(self.at("syntax.toml"), "batch = 4\npatch = = 3\n").unwrap();
        std::fs::write(self.at("type.toml"), "batch = \"four\"\n").unwrap();
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The binary with arguments separated by spaces, in this folder.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hafuse"));
        command
            .args(args.split_whitespace())
            .env("XDG_CACHE_HOME", self.at("cache"))
            .current_dir(self.dir.path());
        command
    }

    pub fn run(&self, args: &str) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs what has to succeed; its standard output.
    pub fn good(&self, args: &str) -> String {
        let output = self.run(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{args}\n{out}{err}");
        out
    }

    /// Starts or resumes a run, waits for its checkpoint in `out` to be `late` enough, and kills it.
    pub fn kill(&self, args: &str, out: &str, late: impl Fn(&Path) -> bool) {
        let mut child = self
            .command(args)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let path = self.at(out).join("checkpoint.safetensors");
        while !late(&path) {
            assert_eq!(
                child.try_wait().unwrap(),
                None,
                "ended before it was killed"
            );
            assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint");
            std::thread::sleep(Duration::from_millis(3));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            !self.at(out).join("model.safetensors").exists(),
            "ended before it was killed"
        );
    }

    /// Every file below this folder with its content.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.dir.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            found.insert(folder.clone(), Vec::new());
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.clone(), std::fs::read(path).unwrap());
                }
            }
        }
        found
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A pattern that fills 16 bits.
fn pattern(x: u32, y: u32) -> u16 {
    (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729)) as u16
}

pub fn grey(path: &Path, w: u32, h: u32) {
    ImageBuffer::from_fn(w, h, |x, y| Luma([(pattern(x, y) >> 8) as u8]))
        .save(path)
        .unwrap();
}

pub fn grey16(path: &Path, w: u32, h: u32) {
    ImageBuffer::from_fn(w, h, |x, y| Luma([pattern(x, y)]))
        .save(path)
        .unwrap();
}

pub fn colour(path: &Path, w: u32, h: u32) {
    let channel = |x, y| (pattern(x, y) >> 8) as u8;
    ImageBuffer::from_fn(w, h, |x, y| Rgb([200, channel(x, y), channel(y, x) / 2]))
        .save(path)
        .unwrap();
}
