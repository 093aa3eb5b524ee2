//! Compiles the kernels and the emulated driver with the host's C++ compiler into `libcuda.so`.
//! Only files that changed are compiled again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

fn main() {
    for variable in ["CXX", "HAFUSE_EMULATOR_SANITIZE"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rustc-check-cfg=cfg(sanitized)");
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR"));
    let root = here.join("../..");
    let root = root.canonicalize().unwrap_or(root);
    let kernels = root.join("kernels");
    for path in [&kernels, &here.join("runtime"), &here.join("faults")] {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    for file in ["emulator.h", "module.cpp", "build.rs"] {
        println!("cargo:rerun-if-changed={}", here.join(file).display());
    }
    if var("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    let Some(compiler) = find_compiler() else {
        println!(
            "cargo:warning=no C++ compiler found ($CXX, c++, g++, clang++): kernels are not tested without a GPU"
        );
        return;
    };
    let build = Build::new(compiler, &here, &kernels);
    let library = build.run().unwrap_or_else(|e| panic!("{e}"));
    println!(
        "cargo:rustc-env=HAFUSE_EMULATOR_LIBRARY={}",
        library.display()
    );
    println!(
        "cargo:rustc-env=HAFUSE_EMULATOR_IMAGES={}",
        build.out.join("images").display()
    );
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn find_compiler() -> Option<String> {
    let works = |c: &String| {
        let tried = Command::new(c).arg("--version").output();
        !c.is_empty() && tried.is_ok_and(|o| o.status.success())
    };
    let named = ["c++", "g++", "clang++"].map(str::to_owned);
    std::iter::once(var("CXX")).chain(named).find(works)
}

/// One file to compile.
struct Unit {
    source: PathBuf,
    object: PathBuf,
    arguments: Vec<String>,
}

struct Build {
    compiler: String,
    out: PathBuf,
    units: Vec<Unit>,
    link: Vec<String>,
    /// Last change of any header.
    headers: SystemTime,
}

impl Build {
    fn new(compiler: String, here: &Path, kernels: &Path) -> Build {
        let out = PathBuf::from(var("OUT_DIR"));
        let mut common: Vec<String> = [
            "-std=c++17",
            "-O2",
            "-g0",
            "-fPIC",
            "-fvisibility=hidden",
            "-fno-exceptions",
            "-pthread",
            "-U_FORTIFY_SOURCE",
        ]
        .map(str::to_owned)
        .into();
        // Its functions call each other whatever their names are elsewhere: a test takes one away.
        let mut link = ["-shared", "-pthread", "-Wl,-Bsymbolic"]
            .map(str::to_owned)
            .to_vec();
        if !var("HAFUSE_EMULATOR_SANITIZE").is_empty() {
            let sanitize = format!("-fsanitize={}", var("HAFUSE_EMULATOR_SANITIZE"));
            common.extend([sanitize.clone(), "-fno-omit-frame-pointer".to_owned()]);
            link.push(sanitize);
            println!("cargo:rustc-cfg=sanitized");
        }

        let runtime = files(&here.join("runtime"), "cpp")
            .into_iter()
            .map(|source| unit(&out, "runtime", &source, &source, &common));
        let faults = files(&here.join("faults"), "cu").into_iter().map(|cu| {
            let flags = kernel_flags(here, kernels, &cu, "faults", &common);
            unit(&out, "faults", &here.join("module.cpp"), &cu, &flags)
        });
        let modules = files(kernels, "cu").into_iter().map(|cu| {
            let flags = kernel_flags(here, kernels, &cu, &stem(&cu), &common);
            unit(&out, "kernel", &here.join("module.cpp"), &cu, &flags)
        });
        let units = runtime.chain(faults).chain(modules).collect();

        let mut headers = files(here, "h");
        headers.push(here.join("module.cpp"));
        headers.extend(files(&here.join("runtime"), "h"));
        headers.extend(files(kernels, "cuh"));
        headers.extend(files(&kernels.join("common"), "cuh"));
        let headers = headers.iter().map(|p| changed(p)).max();
        Build {
            compiler,
            out,
            units,
            link,
            headers: headers.unwrap_or_else(SystemTime::now),
        }
    }

    /// The library's path.
    fn run(&self) -> Result<PathBuf, String> {
        self.write_images().map_err(|e| format!("images: {e}"))?;
        let next = AtomicUsize::new(0);
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = workers.min(var("NUM_JOBS").parse().unwrap_or(workers));
        std::thread::scope(|scope| {
            let work = || -> Result<(), String> {
                while let Some(unit) = self.units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    self.compile(unit)?;
                }
                Ok(())
            };
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let results = threads.into_iter().map(|t| t.join().expect("a worker"));
            results.collect::<Result<Vec<()>, String>>()
        })?;
        let library = self.out.join("libcuda.so");
        let mut link = Command::new(&self.compiler);
        link.args(&self.link).arg("-Wl,-soname,libcuda.so");
        link.arg("-o").arg(&library);
        link.args(self.units.iter().map(|u| &u.object));
        run(&mut link, "libcuda.so")?;
        Ok(library)
    }

    fn compile(&self, unit: &Unit) -> Result<(), String> {
        // The command is kept beside the object, so that other flags compile it anew.
        let line = format!("{} {}", self.compiler, unit.arguments.join(" "));
        let record = unit.object.with_extension("command");
        let newest = changed(&unit.source).max(self.headers);
        let fresh = unit.object.exists()
            && changed(&unit.object) > newest
            && fs::read_to_string(&record).is_ok_and(|l| l == line);
        if fresh {
            return Ok(());
        }
        let mut command = Command::new(&self.compiler);
        run(
            command.args(&unit.arguments),
            &unit.source.display().to_string(),
        )?;
        fs::write(&record, line).map_err(|e| format!("{}: {e}", record.display()))
    }

    /// What the engine loads in place of a fatbin: the name of a kernel file.
    fn write_images(&self) -> io::Result<()> {
        let folder = self.out.join("images");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        for unit in &self.units {
            let name = unit.object.file_name().unwrap_or_default();
            let name = name.to_string_lossy();
            if name.starts_with("kernel-") {
                let stem = stem(&unit.source);
                let image = format!("hafuse-emulated:{stem}\n");
                fs::write(folder.join(format!("{stem}.fatbin")), image)?;
            }
        }
        Ok(())
    }
}

/// `main` is the file that the compiler is given, `source` the one that its changes are seen in.
fn unit(out: &Path, kind: &str, main: &Path, source: &Path, flags: &[String]) -> Unit {
    let object = out.join(format!("{kind}-{}.o", stem(source)));
    let mut arguments = flags.to_vec();
    arguments.extend(["-c", "-o"].map(str::to_owned));
    arguments.extend([&object, main].map(|p| p.display().to_string()));
    Unit {
        source: source.to_owned(),
        object,
        arguments,
    }
}

fn kernel_flags(
    here: &Path,
    kernels: &Path,
    cu: &Path,
    module: &str,
    common: &[String],
) -> Vec<String> {
    let mut flags = common.to_vec();
    flags.extend(
        [
            "-ffp-contract=off", // sums as they are written
            "-fno-math-errno",
            "-fno-strict-aliasing",     // nvcc does not assume it either
            "-fstack-clash-protection", // large frames must not step over the guard page
            // Misaligned vectors trap, as they do on a GPU.
            "-fsanitize=alignment",
            "-fsanitize-undefined-trap-on-error",
            "-Wno-unknown-pragmas",
            "-DHAFUSE_EMULATED",
        ]
        .map(str::to_owned),
    );
    // Faults then name files from the repository's root.
    let root = kernels.parent().unwrap_or(kernels);
    flags.push(format!("-fmacro-prefix-map={}/=", root.display()));
    flags.push(format!("-DHAFUSE_MODULE=\"{module}\""));
    flags.push(format!("-DHAFUSE_SOURCE=\"{}\"", cu.display()));
    flags.extend([here, kernels].map(|p| format!("-I{}", p.display())));
    flags
}

/// The files of `folder` that end in `extension`, sorted; none if there is no such folder.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    let mut found: Vec<_> = paths
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// When the file was last changed; now if that cannot be seen, which compiles anew.
fn changed(path: &Path) -> SystemTime {
    let time = fs::metadata(path).and_then(|m| m.modified());
    time.unwrap_or_else(|_| SystemTime::now())
}

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|e| format!("{what}: the C++ compiler did not start: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what} does not compile:\n{command:?}\n{errors}"))
}
