//! Compiles `kernels/*.cu` with nvcc into fatbins that the binary embeds. Without nvcc the result is
//! a CPU-only binary and one warning. No GPU is looked for: the target may be another machine.

use std::env;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Architectures that are compiled for where nvcc knows them: Volta to Blackwell, Jetson included. CUDA 13 knows none before
/// Turing.
const ARCHS: &[u32] = &[70, 72, 75, 80, 86, 87, 89, 90, 100, 110, 120];
/// PTX is for cards that none of the above fits, and for those to come: the oldest one with all
/// the instructions that kernels use.
const PTX: u32 = 80;

fn main() {
    for name in [
        "NVCC",
        "CUDA_HOME",
        "CUDA_PATH",
        "PATH",
        "HAFUSE_CUDA",
        "HAFUSE_CUDA_ARCHS",
    ] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernels");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let sources = kernel_files();
    let wanted = env::var_os("CARGO_FEATURE_CUDA");
    let table = match wanted.map(|_| find_nvcc()) {
        None => table(&sources, None),
        Some(Ok(nvcc)) => {
            let archs = archs(&nvcc);
            compile_all(&nvcc, &archs, &sources, &out);
            table(&sources, Some((&nvcc, &archs, &out)))
        }
        Some(Err(why)) => {
            println!(
                "cargo:warning={why}: this build has no CUDA kernels and runs on the CPU only"
            );
            table(&sources, None)
        }
    };
    std::fs::write(out.join("kernels.rs"), table).expect("OUT_DIR is writable");
}

fn kernel_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir("kernels")
        .expect("kernels/ is part of the source")
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "cu"))
        .collect();
    files.sort();
    files
}

fn stem(file: &Path) -> &str {
    file.file_stem()
        .and_then(|s| s.to_str())
        .unwrap_or_default()
}

/// `NVCC`, then `CUDA_HOME` and `CUDA_PATH`, then `PATH`, then where NVIDIA's installers put it without a word on `PATH`
/// (JetPack among them), then the packages of the active Python.
fn find_nvcc() -> Result<PathBuf, String> {
    if env::var("HAFUSE_CUDA").is_ok_and(|v| v == "0") {
        return Err("HAFUSE_CUDA=0".into());
    }
    let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
    if let Some(path) = env::var_os("NVCC").map(PathBuf::from) {
        return match version(&path) {
            Some(_) => Ok(path),
            None => panic!("NVCC={} does not run; unset it or mend it", path.display()),
        };
    }
    let roots = ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(env::var_os);
    let roots = roots.map(|root| PathBuf::from(root).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = roots.chain(env::split_paths(&path)).collect();
    folders.extend(installed(Path::new("/usr/local")));
    folders.extend(python_packages().map(|p| p.join("nvidia/cu13/bin")));
    folders
        .iter()
        .map(|folder| folder.join(&name))
        .find(|p| p.is_file() && version(p).is_some())
        .ok_or_else(|| {
            "nvcc was not found (NVCC, CUDA_HOME, PATH, /usr/local/cuda*, Python's nvidia/cu13)"
                .into()
        })
}

/// `cuda/bin` of this folder, then those of `cuda-<version>`, the newest first.
fn installed(root: &Path) -> Vec<PathBuf> {
    let version = |folder: &Path| -> Option<Vec<u32>> {
        let name = folder.file_name()?.to_str()?.strip_prefix("cuda-")?;
        name.split('.').map(|part| part.parse().ok()).collect()
    };
    let entries = std::fs::read_dir(root).into_iter().flatten();
    let folders = entries.filter_map(|e| e.ok().map(|e| e.path()));
    let mut versions: Vec<(Vec<u32>, PathBuf)> =
        folders.filter_map(|f| Some((version(&f)?, f))).collect();
    versions.sort();
    let newest_first = versions.into_iter().rev().map(|(_, folder)| folder);
    let all = std::iter::once(root.join("cuda")).chain(newest_first);
    all.map(|folder| folder.join("bin")).collect()
}

fn python_packages() -> Option<PathBuf> {
    let script = "import sysconfig; print(sysconfig.get_paths()['purelib'])";
    ["python3", "python"].iter().find_map(|python| {
        let out = Command::new(python).args(["-c", script]).output().ok()?;
        let text = String::from_utf8(out.stdout).ok()?;
        out.status.success().then(|| PathBuf::from(text.trim()))
    })
}

/// E.g. "CUDA 13.0".
fn version(nvcc: &Path) -> Option<String> {
    let out = Command::new(nvcc).arg("--version").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let (_, rest) = text.split_once("release ")?;
    Some(format!("CUDA {}", rest.split(',').next()?))
}

/// The architectures asked for, or those of [`ARCHS`] that this nvcc knows.
fn archs(nvcc: &Path) -> Vec<u32> {
    if let Some(list) = env::var("HAFUSE_CUDA_ARCHS").ok().filter(|l| !l.is_empty()) {
        let parse = |a: &str| match a.trim().parse() {
            Ok(arch) => arch,
            Err(_) => {
                panic!("HAFUSE_CUDA_ARCHS: `{a}` in `{list}` is no number like 86; give e.g. 75;86")
            }
        };
        let mut archs: Vec<u32> = list
            .split([';', ',', ' '])
            .filter(|a| !a.trim().is_empty())
            .map(parse)
            .collect();
        assert!(
            !archs.is_empty(),
            "HAFUSE_CUDA_ARCHS: `{list}` names no architecture; give e.g. 75;86, or unset it"
        );
        archs.sort_unstable();
        archs.dedup();
        return archs;
    }
    known_archs(nvcc)
}

fn known_archs(nvcc: &Path) -> Vec<u32> {
    let known = Command::new(nvcc).arg("--list-gpu-code").output();
    let known = known.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).into());
    let knows = |arch: &&u32| known.lines().any(|l| l.trim() == format!("sm_{arch}"));
    let archs: Vec<u32> = ARCHS.iter().filter(knows).copied().collect();
    assert!(
        !archs.is_empty(),
        "{} knows none of {ARCHS:?}; name those it knows in HAFUSE_CUDA_ARCHS",
        nvcc.display()
    );
    archs
}

/// Compiles on as many threads as cargo allows jobs.
fn compile_all(nvcc: &Path, archs: &[u32], sources: &[PathBuf], out: &Path) {
    let jobs = env::var("NUM_JOBS").ok().and_then(|v| v.parse().ok());
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(1usize).min(sources.len()) {
            scope.spawn(|| {
                while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(text) = compile(nvcc, archs, source, out) {
                        failures.lock().expect("no thread panics").push(text);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics");
    if !failures.is_empty() {
        panic!(
            "nvcc failed; HAFUSE_CUDA=0 builds without kernels\n{}",
            failures.join("\n")
        );
    }
}

fn compile(nvcc: &Path, archs: &[u32], source: &Path, out: &Path) -> Result<(), String> {
    let target = out.join(format!("{}.fatbin", stem(source)));
    let mut command = Command::new(nvcc);
    command.args([
        "-fatbin",
        "-O3",
        "-std=c++17",
        "-Ikernels",
        "-Wno-deprecated-gpu-targets",
        "-Xfatbin=-compress-all",
    ]);
    for arch in archs {
        command.arg(format!("-gencode=arch=compute_{arch},code=sm_{arch}"));
    }
    if let Some(ptx) = ptx(archs) {
        command.arg(format!("-gencode=arch=compute_{ptx},code=compute_{ptx}"));
    }
    command.arg("-o").arg(&target).arg(source);
    let fail = |detail: &str| Err(format!("kernel {}: {detail}", source.display()));
    match command.output() {
        Ok(o) if o.status.success() => Ok(()),
        Ok(o) => fail(&String::from_utf8_lossy(&o.stderr)),
        Err(e) => fail(&e.to_string()),
    }
}

fn ptx(archs: &[u32]) -> Option<u32> {
    archs
        .iter()
        .copied()
        .find(|&a| a >= PTX)
        .or(archs.last().copied())
}

/// The Rust source that `src/device/kernels.rs` includes.
fn table(sources: &[PathBuf], built: Option<(&Path, &Vec<u32>, &Path)>) -> String {
    let mut text = String::from("/// Modules, and their images where nvcc was there.\n");
    text += "pub(super) static IMAGES: &[(&str, Option<&[u8]>)] = &[\n";
    for source in sources {
        let stem = stem(source);
        let image = match built {
            Some((_, _, out)) => {
                let file = out.join(format!("{stem}.fatbin"));
                format!("Some(&Aligned(*include_bytes!({file:?})).0)")
            }
            None => "None".into(),
        };
        let _ = writeln!(text, "    ({stem:?}, {image}),");
    }
    let archs = built.map_or(&[][..], |(_, archs, _)| archs);
    let toolkit = built.and_then(|(nvcc, ..)| version(nvcc));
    let _ = writeln!(
        text,
        "];\n/// Compute capabilities with machine code, times 10."
    );
    let _ = writeln!(text, "pub static ARCHS: &[u32] = &{archs:?};");
    let _ = writeln!(text, "/// Compute capability of the PTX, times 10.");
    let _ = writeln!(text, "pub static PTX: Option<u32> = {:?};", ptx(archs));
    let _ = writeln!(text, "/// The toolkit that compiled them.");
    let _ = writeln!(text, "pub static TOOLKIT: Option<&str> = {toolkit:?};");
    text
}

/// `tests/build.rs` compiles this file as a module.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolkits_of_installers_are_found_the_newest_first() {
        let root = tempfile::tempdir().unwrap();
        for name in ["cuda-11.8", "cuda-12.6", "cuda-9", "cuda-samples", "lib"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let found = installed(root.path());
        let expected = ["cuda", "cuda-12.6", "cuda-11.8", "cuda-9"];
        let expected = expected.map(|name| root.path().join(name).join("bin"));
        assert_eq!(found, expected);
    }

    #[cfg(unix)]
    #[test]
    fn cards_that_this_nvcc_knows_are_compiled_for() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let nvcc = root.path().join("nvcc");
        let says = "#!/bin/sh\nfor a in 53 61 62 70 72 75 80 86 87 89 90; do echo sm_$a; done\n";
        std::fs::write(&nvcc, says).unwrap();
        std::fs::set_permissions(&nvcc, PermissionsExt::from_mode(0o755)).unwrap();
        // As CUDA 11.8: a V100 and a Jetson Xavier are among them, which no PTX of ours serves.
        let archs = known_archs(&nvcc);
        assert_eq!(archs, [70, 72, 75, 80, 86, 87, 89, 90]);
        assert_eq!(ptx(&archs), Some(80));
    }
}
