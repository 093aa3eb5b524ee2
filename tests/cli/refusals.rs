//! What goes wrong ends with the documented exit code and one line that says thing, value and way
//! out; nothing is left behind and nothing that was there is changed.

use super::world::{World, text};
use std::process::{Command, Output, Stdio};

/// Arguments, exit code, what the message holds. `OUT` becomes a new and then an existing file,
/// `TINY` a model that works, `TRAIN` arguments that would train.
type Case = (&'static str, i32, &'static [&'static str]);

const TRAIN: &str =
    "--set genotype=tiny.json --a ir --b vi --perceptual none --out run --set patch=16";

const CASES: &[Case] = &[
    // Pictures.
    (
        "fuse a.png big.png -o OUT TINY",
        3,
        &["a.png", "48x32", "big.png", "40x41", "resize"],
    ),
    (
        "fuse no.png b.png -o OUT TINY",
        3,
        &["no.png", "no such file", "check the path"],
    ),
    (
        "fuse cut.png b.png -o OUT TINY",
        3,
        &["cut.png", "damaged or cut short", "save it again"],
    ),
    (
        "fuse a.png text.png -o OUT TINY",
        3,
        &["text.png", "not PNG", "convert"],
    ),
    (
        "fuse empty.png b.png -o OUT TINY",
        3,
        &["empty.png", "0 bytes", "save it again"],
    ),
    (
        "fuse ir b.png -o OUT TINY",
        2,
        &["ir is a folder", "b.png is a file", "two folders"],
    ),
    (
        "fuse left right -o new TINY",
        3,
        &["left", "x1.png", "y1.png", "alike"],
    ),
    ("fuse left void -o new TINY", 3, &["void", "it is empty"]),
    ("fuse left left -o new TINY", 3, &["left", "two folders"]),
    // Models.
    (
        "fuse a.png b.png -o OUT --model nosuch",
        2,
        &["--model", "`nosuch`", "built-in"],
    ),
    (
        "fuse a.png b.png -o OUT --model no.safetensors",
        3,
        &["no.safetensors", "no such file", "built-in"],
    ),
    (
        "fuse a.png b.png -o OUT --model misfit.safetensors",
        3,
        &["misfit.safetensors", "genotype needs"],
    ),
    (
        "fuse a.png b.png -o OUT --model plain.safetensors",
        3,
        &["plain.safetensors", "no hafuse model", "hafuse train"],
    ),
    (
        "fuse a.png b.png -o OUT --model cut.safetensors",
        3,
        &["cut.safetensors", "not a whole"],
    ),
    (
        "fuse a.png b.png -o OUT --model text.png",
        3,
        &["text.png", "not a whole safetensors"],
    ),
    (
        "export --onnx OUT --model nosuch",
        2,
        &["--model", "`nosuch`", "built-in"],
    ),
    (
        "export --onnx OUT --model misfit.safetensors",
        3,
        &["misfit.safetensors", "genotype needs"],
    ),
    (
        "export --onnx OUT --size 0x48",
        2,
        &["--size", "0x48", "640x480"],
    ),
    ("export --onnx OUT --batch 0", 2, &["--batch", "0"]),
    (
        "export --onnx out",
        4,
        &["out", "is a folder", "name a file"],
    ),
    (
        "export --onnx a.png/x.onnx",
        4,
        &["a.png/x.onnx", "is a file", "another path"],
    ),
    (
        "export --onnx tiny.safetensors --model tiny.safetensors",
        4,
        &["tiny.safetensors", "is one of the inputs"],
    ),
    ("export --model ivif", 2, &["--onnx"]),
    (
        "bench net --device cpu --exchange plain.safetensors TINY",
        3,
        &["plain.safetensors", "`a`"],
    ),
    (
        "bench net --device cpu --resident TINY",
        2,
        &["--resident", "the CPU makes none", "--device cuda"],
    ),
    (
        "bench net --resident --eager TINY",
        2,
        &["--resident", "--eager"],
    ),
    ("info --runs 3", 2, &["--run"]),
    (
        "info --model misfit.safetensors",
        3,
        &["misfit.safetensors"],
    ),
    (
        "info --genotype broken.json",
        3,
        &["broken.json", "genotype"],
    ),
    // Outputs.
    (
        "fuse a.png b.png -o a.png/x.png TINY",
        4,
        &["a.png/x.png", "is a file", "another path"],
    ),
    (
        "fuse a.png b.png -o out TINY",
        4,
        &["out", "is a folder", "name a file"],
    ),
    (
        "fuse a.png b.png -o x.bmp TINY",
        2,
        &["x.bmp", ".bmp", "use .png"],
    ),
    (
        "fuse a.png b.png -o x TINY",
        2,
        &["output x", "without extension", "use .png"],
    ),
    (
        "fuse a.png b.png -o a.png TINY",
        4,
        &["a.png", "is one of the inputs", "another output"],
    ),
    (
        "fuse a.png b.png -o out/../b.png TINY",
        4,
        &["b.png", "is one of the inputs"],
    ),
    (
        "fuse a.png b.png -o x.jpg --bits 16 TINY",
        2,
        &["x.jpg", "16", "use .png"],
    ),
    (
        "fuse a.png b.png -o OUT --format png TINY",
        2,
        &["--format", "extension of --out"],
    ),
    ("fuse ir vi -o ir TINY", 4, &["ir", "is one of the inputs"]),
    (
        "fuse ir vi -o a.png TINY",
        4,
        &["a.png", "is a file", "name a folder"],
    ),
    (
        "fuse ir vi -o new.png TINY",
        2,
        &["new.png", "name a folder"],
    ),
    (
        "fuse ir vi -o a.png/new TINY",
        4,
        &["a.png/new", "is a file"],
    ),
    ("synth a.png/data --count 1", 4, &["a.png/data"]),
    // Usage, where clap adds lines of its own.
    ("fuse a.png b.png TINY", 2, &["--out <OUT>", "--help"]),
    (
        "fuse a.png b.png -o OUT --quality 0 TINY",
        2,
        &["--quality", "1..=100"],
    ),
    (
        "fuse a.png b.png -o OUT --bits 12 TINY",
        2,
        &["--bits", "8, 16"],
    ),
    ("fuze a.png b.png", 2, &["fuze", "fuse"]),
    ("info --size 3", 2, &["--size", "640x480"]),
    (
        "info --genotype tiny.json --size 60000x60000 --run",
        2,
        &["--size", "60000x60000", "GB", "smaller"],
    ),
    ("info --threads 0", 2, &["--threads", "1..=1024"]),
    // Training.
    ("train no.toml", 3, &["no.toml", "--print-config"]),
    ("train unknown.toml", 2, &["unknown.toml", "bathc", "batch"]),
    ("train syntax.toml", 2, &["syntax.toml", "line 2"]),
    ("train type.toml", 2, &["type.toml", "four"]),
    (
        "train TRAIN --set batch",
        2,
        &["--set", "`batch`", "KEY=VALUE"],
    ),
    (
        "train TRAIN --set stage1.lr=-1",
        2,
        &["stage1.lr", "-1", "above 0"],
    ),
    ("train TRAIN --set stage3.lr=1", 2, &["stage3"]),
    (
        "train --a ir --b vi",
        2,
        &["features", "--features FILE", "--perceptual none"],
    ),
    (
        "train TRAIN --perceptual vgg --features no.safetensors",
        3,
        &["no.safetensors", "--perceptual none"],
    ),
    (
        "train TRAIN --perceptual vgg --features plain.safetensors",
        3,
        &["plain.safetensors", "features.0"],
    ),
    ("train --perceptual none", 2, &["data.a", "--a DIR"]),
    (
        "train TRAIN --set genotype=nosuch",
        2,
        &["genotype", "`nosuch`", "built-in"],
    ),
    ("train TRAIN --set genotype=no.json", 3, &["no.json"]),
    (
        "train TRAIN --set genotype=broken.json",
        3,
        &["broken.json"],
    ),
    (
        "train TRAIN --set init=plain.safetensors",
        3,
        &["plain.safetensors", "`x`", "genotype"],
    ),
    (
        "train TRAIN --set patch=32",
        3,
        &["ir/1.png", "48x31", "lower the patch"],
    ),
    ("train TRAIN --a void", 3, &["void", "it is empty"]),
    (
        "train TRAIN --out a.png/run",
        4,
        &["a.png/run", "is a file"],
    ),
    (
        "train TRAIN --resume",
        2,
        &["--resume", "run", "without --resume"],
    ),
];

fn arguments(args: &str, out: &str) -> String {
    let train = args.replace("TRAIN", TRAIN);
    // What follows wins; clap takes each of these options once.
    let words: Vec<&str> = train.split_whitespace().collect();
    let mut kept: Vec<&str> = Vec::new();
    let mut i = 0;
    while i < words.len() {
        let once = ["--a", "--b", "--out", "--perceptual"].contains(&words[i]);
        if once && words[i + 1..].contains(&words[i]) {
            i += 2;
            continue;
        }
        kept.push(words[i]);
        i += 1;
    }
    kept.join(" ")
        .replace("OUT", out)
        .replace("TINY", "--model tiny.safetensors")
}

fn check(args: &str, output: &Output, code: i32, fragments: &[&str]) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args}\n{out}{err}");
    let errors = err.lines().filter(|l| l.starts_with("error:")).count();
    assert_eq!(errors, 1, "{args}\n{err}");
    if !err.contains("For more information, try") {
        assert_eq!(err.lines().count(), 1, "{args}\n{err}");
    }
    for never in ["panicked", ".part"] {
        assert!(!err.contains(never), "{args}\n{err}");
    }
    assert_eq!(out, "", "{args}");
    for fragment in fragments {
        assert!(err.contains(fragment), "{args}: no `{fragment}` in\n{err}");
    }
}

#[test]
fn refusals_name_the_thing_the_value_and_the_way_out() {
    let world = World::new();
    let before = world.files();
    for (args, code, fragments) in CASES {
        let outs = if args.contains(" OUT") { 2 } else { 1 };
        for out in &["out/new.png", "out/old.png"][..outs] {
            let args = arguments(args, out);
            check(&args, &world.run(&args), *code, fragments);
            assert_eq!(world.files(), before, "{args} left or changed something");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn folders_that_take_no_files_are_found_before_the_work() {
    let world = World::new();
    for (args, fragments) in [
        (
            "fuse a.png b.png -o /proc/x.png --model tiny.safetensors",
            &["/proc/x.png", "another folder"],
        ),
        (
            "fuse ir vi -o /proc/new --model tiny.safetensors",
            &["/proc/new", "another folder"],
        ),
        (
            "train --perceptual none --a ir --b vi --out /proc/new",
            &["/proc/new", "another folder"],
        ),
    ] {
        check(args, &world.run(args), 4, fragments);
    }
}

/// The limit on file sizes stands for a full disk: a write fails half way.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_file_and_no_new_one() {
    let world = World::new();
    let before = world.files();
    let limited = |blocks: u32, args: &str| {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_hafuse")]);
        command.args(args.split_whitespace());
        command.current_dir(world.at("")).output().unwrap()
    };
    for out in ["out/new.png", "out/old.png"] {
        let args = format!("fuse a.png b.png -o {out} --model tiny.safetensors");
        check(&args, &limited(1, &args), 4, &[out, "File too large"]);
        assert_eq!(world.files(), before, "{out}");
    }
    let args = arguments(
        "train TRAIN --set checkpoint_every=1 --set log_every=1000",
        "",
    );
    let output = limited(8, &args);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("checkpoint.safetensors"));
    let left: Vec<_> = world
        .files()
        .into_keys()
        .filter(|p| !before.contains_key(p))
        .collect();
    let names: Vec<_> = left.iter().map(|p| p.file_name().unwrap()).collect();
    assert_eq!(names, ["run", "config.toml", "metrics.jsonl"]);
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_may_be_full_or_closed() {
    let world = World::new();
    let full = std::fs::File::create("/dev/full").unwrap();
    let output = world.command("info").stdout(full).output().unwrap();
    check(
        "info > /dev/full",
        &output,
        4,
        &["standard output", "No space left"],
    );
    for args in ["--help", "info --genotype tiny.json --tape"] {
        let mut child = world
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args}");
        assert_eq!(text(&output.stderr), "", "{args}");
    }
}
