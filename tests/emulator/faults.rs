//! Each planted fault is found, under its name, and the next launch works.

use crate::driver::{Calls, Fault, Kernel, Memory, check, gpu, load_module};
use crate::{in_all_orders, ramp};
use std::ptr::null_mut;

#[repr(C)]
#[derive(Clone, Copy)]
struct Copy3 {
    x: u64,
    y: u64,
    n: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Order2 {
    x: u64,
    y: u64,
}

/// Runs a kernel of faults/memory.cu on 64 floats.
fn run(calls: &'static Calls, kernel: &str, threads: u32, n: i32) -> (Result<(), Fault>, Vec<f32>) {
    let x = Memory::of(calls, &ramp(64));
    let y = Memory::of(calls, &ramp(64));
    let (xp, yp) = (x.pointer, y.pointer);
    let result = Kernel::new(calls, kernel).run(1, threads, Copy3 { x: xp, y: yp, n });
    (result, y.read())
}

/// The fault's name, code, and other words in it; then a right launch.
#[track_caller]
fn expect(calls: &'static Calls, result: Result<(), Fault>, name: &str, code: i32, words: &[&str]) {
    let fault = result.expect_err(name);
    let (found, _) = fault.text.split_once(':').unwrap_or_default();
    assert_eq!((found, fault.code), (name, code), "{fault:?}");
    for word in words {
        assert!(fault.text.contains(word), "no {word:?} in {fault:?}");
    }
    assert_eq!(cuda_emulator::last_fault(), fault.text);
    let (result, y) = run(calls, "copy", 64, 64);
    result.expect("a launch after a fault");
    assert_eq!(y, ramp(64));
    assert_eq!(cuda_emulator::last_fault(), "");
}

const GLOBAL: &str = "out-of-bounds global read or write";
const SHARED: &str = "out-of-bounds shared access";
const DIVERGENT: &str = "divergent barrier";

#[test]
fn global_accesses_out_of_bounds() {
    let Some(gpu) = gpu() else { return };
    let kernel = Kernel::new(*gpu, "copy");
    let long = Memory::of(*gpu, &ramp(300));
    let short = Memory::of(*gpu, &ramp(260));
    let (x, y, n) = (short.pointer, long.pointer, 300);
    let read = kernel.launch([2, 1, 1], [16, 16, 1], Copy3 { x, y, n });
    // The kernel counts in x alone: no thread of 16 x 16 goes beyond 32.
    read.expect("within bounds");
    let read = kernel.run(2, 256, Copy3 { x, y, n });
    let place = "0 bytes past the end of an allocation of 1040 bytes; kernel faults/copy, \
                 block (1, 0, 0), thread (4, 0, 0)";
    expect(*gpu, read, GLOBAL, 700, &["read", place]);
    let (x, y) = (y, x);
    let written = kernel.run(2, 256, Copy3 { x, y, n });
    expect(*gpu, written, GLOBAL, 700, &[place]);
    let null = kernel.run(1, 32, Copy3 { x: 0, y, n });
    expect(*gpu, null, GLOBAL, 700, &["in no allocation"]);
    let freed = Memory::of(*gpu, &ramp(64)).pointer;
    let used = kernel.run(1, 32, Copy3 { x: freed, y, n });
    expect(*gpu, used, GLOBAL, 700, &["freed"]);
}

#[test]
fn bytes_beside_an_allocation() {
    let Some(gpu) = gpu() else { return };
    if cuda_emulator::SANITIZED {
        return; // see below
    }
    // 61 floats leave 12 bytes up to the guard page, and most of a page before them.
    let x = Memory::of(*gpu, &ramp(61));
    for n in [61, -1] {
        let (x, y) = (x.pointer, x.pointer);
        let launched = Kernel::new(*gpu, "write_beside").run(1, 1, Copy3 { x, y, n });
        let at = format!("byte {} of an allocation of 244 bytes", n * 4);
        expect(
            *gpu,
            launched,
            "guard overwritten",
            700,
            &[&at, "faults/write_beside"],
        );
    }
    // A read of them is no number.
    let y = Memory::of(*gpu, &ramp(64));
    let (x, y_at) = (x.pointer, y.pointer);
    let launched = Kernel::new(*gpu, "copy").run(1, 64, Copy3 { x, y: y_at, n: 62 });
    launched.expect("not seen by itself");
    let y: Vec<f32> = y.read();
    assert!(y[60] == 60.0 && y[61].is_nan() && y[62] == 62.0, "{y:?}");
}

/// AddressSanitizer ends the process at the access, so that each is planted in a process of its own.
#[test]
fn what_the_sanitizer_finds() {
    const PLANT: &str = "HAFUSE_PLANTED_KERNEL";
    let Some(gpu) = gpu() else { return };
    if !cuda_emulator::SANITIZED {
        return;
    }
    if let Ok(kernel) = std::env::var(PLANT) {
        let n = if kernel == "local_write" { 4 } else { -1 };
        let (result, _) = run(*gpu, &kernel, 1, n);
        panic!("went on after the access: {result:?}");
    }
    for (kernel, report) in [
        ("write_beside", "use-after-poison"),
        ("local_write", "stack-buffer-overflow"),
    ] {
        let this = std::env::current_exe().expect("the test's path");
        let output = std::process::Command::new(this)
            .args(["--exact", "faults::what_the_sanitizer_finds"])
            .arg("--nocapture")
            .env(PLANT, kernel)
            .output()
            .expect("a second process");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(report), "{kernel}: {text}");
    }
}

#[test]
fn misaligned_vector() {
    let Some(gpu) = gpu() else { return };
    let (right, y) = run(*gpu, "read_pack_beside", 1, 4);
    right.expect("aligned to 16");
    assert_eq!(y[..5], [4.0, 5.0, 6.0, 7.0, 4.0]);
    let (wrong, _) = run(*gpu, "read_pack_beside", 1, 1);
    expect(
        *gpu,
        wrong,
        "misaligned address",
        716,
        &["read_pack_beside"],
    );
}

#[test]
fn integer_division_by_zero() {
    if cfg!(not(target_arch = "x86_64")) {
        return; // others give 0
    }
    let Some(gpu) = gpu() else { return };
    assert_eq!(run(*gpu, "divide", 1, 2).1[0], 3.0);
    let (divided, _) = run(*gpu, "divide", 1, 0);
    expect(*gpu, divided, "division by zero", 719, &["faults/divide"]);
}

#[test]
fn too_many_local_variables() {
    let Some(gpu) = gpu() else { return };
    let (result, _) = run(*gpu, "deep_stack", 1, 0);
    expect(*gpu, result, "stack overflow", 714, &["faults/deep_stack"]);
}

#[test]
fn shared_accesses_out_of_bounds() {
    let Some(gpu) = gpu() else { return };
    for kernel in ["shared_read", "shared_write"] {
        let (right, _) = run(*gpu, kernel, 64, 63);
        right.expect("within bounds");
        let (wrong, _) = run(*gpu, kernel, 64, 64);
        expect(
            *gpu,
            wrong,
            SHARED,
            700,
            &["byte 256 of array tile, which has 256", kernel],
        );
        // Whole pages before it.
        let (wrong, _) = run(*gpu, kernel, 64, -1024);
        expect(*gpu, wrong, SHARED, 700, &["byte -4096", kernel]);
    }
    if cuda_emulator::SANITIZED {
        return;
    }
    let (beside, _) = run(*gpu, "shared_write_beside", 1, 63);
    expect(
        *gpu,
        beside,
        "guard overwritten",
        700,
        &["byte 252 of shared array tile"],
    );
}

#[test]
fn unwritten_memory_is_nan() {
    let Some(gpu) = gpu() else { return };
    let new = Memory::new(*gpu, 64 * 4);
    let y = Memory::of(*gpu, &ramp(128));
    let (x, y_at) = (new.pointer, y.pointer);
    let copied = Kernel::new(*gpu, "copy").run(1, 64, Copy3 { x, y: y_at, n: 64 });
    copied.expect("in bounds");
    let read: Vec<f32> = y.read();
    assert!(read[..64].iter().all(|v| v.is_nan()), "{read:?}");
    let halves: Vec<half::f16> = new.read();
    assert!(halves.iter().all(|v| v.is_nan()));

    // Shared memory is new in each block, whatever the block before has written.
    let launched = Kernel::new(*gpu, "shared_unwritten").run(2, 64, Copy3 { x, y: y_at, n: 0 });
    launched.expect("in bounds");
    let read: Vec<f32> = y.read();
    assert!(read[..64].iter().all(|&v| v == 1.0), "{read:?}");
    assert!(read[64..].iter().all(|v| v.is_nan()), "{read:?}");
}

/// The bits that a kernel of faults/barriers.cu gives in each order.
fn bits(calls: &'static Calls, kernel: &str, blocks: u32, threads: u32) -> Vec<Vec<u32>> {
    let x = Memory::of(calls, &ramp(512));
    in_all_orders(|| {
        let y = Memory::of(calls, &[0_f32; 512]);
        let (x, y_at) = (x.pointer, y.pointer);
        let launched = Kernel::new(calls, kernel).run(blocks, threads, Order2 { x, y: y_at });
        launched.expect("no fault, only wrong values");
        y.read()
    })
}

#[test]
fn missing_barriers_change_bits() {
    let Some(gpu) = gpu() else { return };
    for (kernel, blocks) in [
        ("missing_barrier", 2),
        ("missing_second_barrier", 2),
        ("missing_sync_warp", 2),
        ("blocks_race", 4),
    ] {
        let bits = bits(*gpu, kernel, blocks, if blocks == 4 { 128 } else { 256 });
        assert_ne!(bits[0], bits[1], "{kernel}: forward and reverse");
        assert_ne!(bits[0], bits[2], "{kernel}: forward and random");
        assert_ne!(bits[2], bits[3], "{kernel}: two seeds");
    }
}

#[test]
fn copies_without_a_wait() {
    let Some(gpu) = gpu() else { return };
    let bits_of = bits(*gpu, "missing_wait", 1, 64);
    for bits in &bits_of[..2] {
        let values: &[f32] = bytemuck::cast_slice(&bits[..256]);
        assert!(values.iter().all(|v| v.is_nan()), "{values:?}");
    }
    assert_ne!(bits_of[0], bits_of[2]);

    let bits = bits(*gpu, "early_copy", 1, 64);
    assert_eq!(bits[0], bits[1], "copies are made at the wait");
    assert_ne!(bits[0], bits[2], "some are made at once");
}

#[test]
fn divergent_barriers() {
    let Some(gpu) = gpu() else { return };
    let x = Memory::of(*gpu, &ramp(256));
    let y = Memory::of(*gpu, &ramp(256));
    for (kernel, words) in [
        ("divergent_barrier", "barriers.cu"),
        ("early_exit", "63 of 64 threads wait"),
        (
            "divergent_shuffle",
            "lanes 0000ffff of ffffffff are in warp_shuffle",
        ),
        ("mixed_collectives", "sync_warp"),
    ] {
        in_all_orders(|| {
            let (x, y) = (x.pointer, y.pointer);
            let result = Kernel::new(*gpu, kernel).run(1, 64, Order2 { x, y });
            expect(*gpu, result, DIVERGENT, 719, &[words, kernel]);
        });
    }
}

#[test]
fn wrong_parameters() {
    let Some(gpu) = gpu() else { return };
    let x = Memory::of(*gpu, &ramp(64));
    let (x, y, n) = (x.pointer, x.pointer, 64);
    let kernel = Kernel::new(*gpu, "copy");
    let params = Copy3 { x, y, n };
    kernel.run_sized(params, 24).expect("the right size");
    for bytes in [16, 20, 32] {
        let launched = kernel.run_sized(params, bytes);
        expect(*gpu, launched, "parameter size", 1, &["24", "faults/copy"]);
    }
    let none = kernel.launch_raw([1; 3], [1; 3], 0, null_mut(), null_mut());
    expect(*gpu, none, "parameter size", 1, &["none"]);
}

#[test]
fn launch_limits() {
    let Some(gpu) = gpu() else { return };
    let x = Memory::of(*gpu, &ramp(1024));
    let params = Copy3 {
        x: x.pointer,
        y: x.pointer,
        n: 64,
    };
    let kernel = Kernel::new(*gpu, "copy");
    let launch = |grid, block| kernel.launch(grid, block, params);
    let (one, many) = ([1; 3], "too many threads");
    expect(
        *gpu,
        launch(one, [257, 1, 1]),
        many,
        701,
        &["KERNEL allows 256"],
    );
    expect(*gpu, launch(one, [32, 33, 1]), many, 1, &["(32, 33, 1)"]);
    expect(*gpu, launch(one, [1, 1, 65]), many, 1, &[]);
    expect(*gpu, launch([0, 1, 1], one), "empty grid", 1, &[]);
    expect(*gpu, launch(one, [64, 0, 1]), "empty grid", 1, &[]);
    expect(*gpu, launch([1 << 31, 1, 1], one), "grid too large", 1, &[]);
    expect(*gpu, launch([1, 65536, 1], one), "grid too large", 1, &[]);
    expect(*gpu, launch([1, 1, 65536], one), "grid too large", 1, &[]);
    launch([1, 65535, 1], one).expect("a grid at the limit");

    let kernel = Kernel::new(*gpu, "too_much_shared");
    let launched = kernel.run(1, 32, params);
    let much = "too much shared memory";
    expect(
        *gpu,
        launched,
        much,
        701,
        &["49408 bytes with array second"],
    );
    let mut pointers = [(&raw const params).cast_mut().cast()];
    let launched = kernel.launch_raw(one, one, 49153, pointers.as_mut_ptr(), null_mut());
    expect(*gpu, launched, much, 1, &["49153 dynamic bytes"]);
}

#[test]
fn wrong_frees_copies_and_modules() {
    let Some(gpu) = gpu() else { return };
    let mut pointer = 0;
    // SAFETY: the driver checks ranges, which is what this asks of it; host memory has 64 bytes.
    unsafe {
        check((gpu.cuMemAlloc_v2)(&mut pointer, 60)).expect("memory");
        let mut host = [0_u8; 64];
        let to = host.as_mut_ptr().cast();
        let copied = check((gpu.cuMemcpyDtoH_v2)(to, pointer, 61));
        expect(
            *gpu,
            copied,
            "invalid value",
            1,
            &["61 bytes", "past the end"],
        );
        let copied = check((gpu.cuMemcpyHtoD_v2)(pointer + 4, to, 60));
        expect(
            *gpu,
            copied,
            "invalid value",
            1,
            &["cuMemcpyHtoD", "past the end"],
        );
        let filled = check((gpu.cuMemsetD8Async)(pointer - 1, 0, 1, null_mut()));
        expect(*gpu, filled, "invalid value", 1, &["in no allocation"]);
        check((gpu.cuMemFree_v2)(pointer)).expect("the first free");
        let freed = check((gpu.cuMemFree_v2)(pointer));
        expect(*gpu, freed, "double free", 1, &[]);
        let freed = check((gpu.cuMemFree_v2)(16));
        expect(*gpu, freed, "free of what was not allocated", 1, &[]);
        let empty = check((gpu.cuMemAlloc_v2)(&mut pointer, 0));
        expect(*gpu, empty, "invalid value", 1, &[]);
        let large = check((gpu.cuMemAlloc_v2)(&mut pointer, 1 << 40));
        expect(*gpu, large, "out of memory", 2, &[]);
    }
    let binary = load_module(*gpu, "\x7fELF").map(drop);
    expect(*gpu, binary, "no binary for GPU", 209, &[]);
    let unknown = load_module(*gpu, "hafuse-emulated:nothing\n").map(drop);
    expect(*gpu, unknown, "invalid image", 200, &["nothing.cu"]);
}
