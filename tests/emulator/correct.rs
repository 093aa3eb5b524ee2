//! Right kernels: the values of plain loops, the same bits in every order.

use crate::driver::{Kernel, Memory, gpu, params_bytes};
use crate::{ORDERS, in_all_orders, ramp};
use half::f16;
use rand::{Rng, SeedableRng};

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// All results are the same; one of them.
#[track_caller]
fn agree<T: PartialEq + std::fmt::Debug>(results: Vec<T>) -> T {
    for (result, order) in results.iter().zip(ORDERS) {
        assert_eq!(result, &results[0], "{order:?}");
    }
    results.into_iter().next().expect("an order")
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Sum {
    x: u64,
    y: u64,
    n: i32,
}

#[test]
fn block_sum_with_barriers_and_shuffles() {
    let Some(gpu) = gpu() else { return };
    let (n, blocks, threads) = (5000, 3, 96);
    let values = random(n, 1);
    let x = Memory::of(*gpu, &values);
    let sums = agree(in_all_orders(|| {
        let y = Memory::new(*gpu, blocks * 4);
        let (x, y_at, n) = (x.pointer, y.pointer, n as i32);
        let launched =
            Kernel::new(*gpu, "block_sum").run(blocks as u32, threads, Sum { x, y: y_at, n });
        launched.expect("a right kernel");
        y.read::<u32>()
    }));
    for (block, &sum) in sums.iter().enumerate() {
        let of_block = |i: &usize| i / threads as usize % blocks == block;
        let expected: f64 = (0..n).filter(of_block).map(|i| values[i] as f64).sum();
        let error = (f32::from_bits(sum) as f64 - expected).abs();
        assert!(error <= 1e-5, "block {block}: off by {error}");
    }
    assert_eq!(params_bytes(*gpu, "block_sum"), size_of::<Sum>() as u32);
}

#[test]
fn indices_in_three_dimensions() {
    let Some(gpu) = gpu() else { return };
    let (grid, block) = ([3, 2, 4], [5, 3, 2]);
    let y = agree(in_all_orders(|| {
        let y = Memory::new(*gpu, 24 * 30 * 3 * 4);
        let launched = Kernel::new(*gpu, "indices").launch(grid, block, y.pointer);
        launched.expect("a right kernel");
        y.read::<i32>()
    }));
    for (i, found) in y.chunks(3).enumerate() {
        let (block, thread) = (i as i32 / 30, i as i32 % 30);
        let last = (thread / 15).min(1) + (block / 6).max(1) * 10;
        assert_eq!(found, [block, thread, last]);
    }
}

#[test]
fn shuffles() {
    let Some(gpu) = gpu() else { return };
    // The last warp has 8 lanes.
    let threads = 72;
    let y = agree(in_all_orders(|| {
        let y = Memory::new(*gpu, threads * 3 * 4);
        let launched = Kernel::new(*gpu, "shuffles").run(1, threads as u32, y.pointer);
        launched.expect("a right kernel");
        y.read::<u32>()
    }));
    for t in 0..threads {
        let (warp, lane) = (t / 32 * 32, t % 32);
        let down = if lane + 3 < 32 { lane + 3 } else { lane };
        for (i, source) in [lane ^ 5, down, 3].into_iter().enumerate() {
            let found = f32::from_bits(y[i * threads + t]);
            let expected = warp + source;
            // A lane that does not exist has no value.
            let right = match expected < threads {
                true => found == expected as f32,
                false => found.is_nan(),
            };
            assert!(right, "shuffle {i} of thread {t}: {found}");
        }
    }
}

#[test]
fn exchange_within_a_warp() {
    let Some(gpu) = gpu() else { return };
    let y = agree(in_all_orders(|| {
        let y = Memory::new(*gpu, 128 * 4);
        let launched = Kernel::new(*gpu, "swap_in_warp").run(1, 128, y.pointer);
        launched.expect("a right kernel");
        y.read::<f32>()
    }));
    let expected: Vec<f32> = (0..128).map(|t| (t ^ 1) as f32).collect();
    assert_eq!(y, expected);
}

#[test]
fn matrix_product() {
    let Some(gpu) = gpu() else { return };
    let halves = |n, seed| -> Vec<f16> { random(n, seed).into_iter().map(f16::from_f32).collect() };
    let (a, b, d) = (halves(256, 2), halves(128, 3), random(128, 4));
    let (a_at, b_at) = (Memory::of(*gpu, &a), Memory::of(*gpu, &b));
    let product = agree(in_all_orders(|| {
        let d_at = Memory::of(*gpu, &d);
        let params = [a_at.pointer, b_at.pointer, d_at.pointer];
        let launched = Kernel::new(*gpu, "product").run(1, 32, params);
        launched.expect("a right kernel");
        d_at.read::<u32>()
    }));
    for (i, &found) in product.iter().enumerate() {
        let (row, col) = (i / 8, i % 8);
        let term = |k: usize| a[row * 16 + k].to_f64() * b[k * 8 + col].to_f64();
        let expected = d[i] as f64 + (0..16).map(term).sum::<f64>();
        let error = (f32::from_bits(found) as f64 - expected).abs();
        // 16 additions of terms below 1.
        assert!(
            error <= 16.0 * f64::from(f32::EPSILON) * 17.0,
            "{row}, {col}: off by {error}"
        );
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Convert {
    x: u64,
    y: u64,
    z: u64,
    n: i32,
}

#[test]
fn all_halves_and_roundings() {
    let Some(gpu) = gpu() else { return };
    let same = |found: f16, expected: f16| {
        found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
    };
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    // Every half, what lies half way to the next and on both sides of that, and beyond the range.
    let mut floats: Vec<f32> = Vec::new();
    for &h in &halves {
        let next = f16::from_bits(h.to_bits().wrapping_add(1));
        let middle = (h.to_f32() + next.to_f32()) / 2.0;
        floats.extend([h.to_f32(), middle, middle.next_up(), middle.next_down()]);
    }
    floats.extend([
        65519.996,
        65520.0,
        1e30,
        -65520.0,
        f32::MIN_POSITIVE,
        1e-45,
        f32::MAX,
    ]);

    let convert = |kernel: &str, x: &Memory, n: usize| {
        let (y, z) = (Memory::new(*gpu, n * 4), Memory::new(*gpu, n * 2));
        let params = Convert {
            x: x.pointer,
            y: y.pointer,
            z: z.pointer,
            n: n as i32,
        };
        let launched = Kernel::new(*gpu, kernel).run(n.div_ceil(256) as u32, 256, params);
        launched.expect("a right kernel");
        (y.read::<f32>(), z.read::<f16>())
    };
    let (wide, back) = convert("convert_f16", &Memory::of(*gpu, &halves), halves.len());
    for ((&h, &f), &b) in halves.iter().zip(&wide).zip(&back) {
        let exact = f.to_bits() == h.to_f32().to_bits() || f.is_nan() && h.is_nan();
        assert!(exact && same(b, h), "{:#06x} -> {f} -> {b}", h.to_bits());
    }
    let (_, narrow) = convert("convert_f32", &Memory::of(*gpu, &floats), floats.len());
    for (&f, &h) in floats.iter().zip(&narrow) {
        assert!(same(h, f16::from_f32(f)), "{f:e} -> {h}");
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Pipeline {
    x: u64,
    y: u64,
    steps: i32,
}

#[test]
fn asynchronous_copies_through_two_buffers() {
    let Some(gpu) = gpu() else { return };
    let steps = 5;
    let values = ramp(256 * steps);
    let x = Memory::of(*gpu, &values);
    let y = agree(in_all_orders(|| {
        let y = Memory::new(*gpu, 256 * 4);
        let params = Pipeline {
            x: x.pointer,
            y: y.pointer,
            steps: steps as i32,
        };
        let launched = Kernel::new(*gpu, "pipeline").run(1, 64, params);
        launched.expect("a right kernel");
        y.read::<f32>()
    }));
    let expected: Vec<f32> = (0..256)
        .map(|i| (0..steps).map(|step| values[step * 256 + i]).sum())
        .collect();
    assert_eq!(y, expected);
}

#[test]
fn threads_launch_at_once_with_orders_of_their_own() {
    let Some(gpu) = gpu() else { return };
    let calls = gpu.calls;
    let values = random(4096, 5);
    let run = |order| {
        calls.bind();
        cuda_emulator::set_order(order);
        let (x, y) = (Memory::of(calls, &values), Memory::new(calls, 16 * 4));
        let params = Sum {
            x: x.pointer,
            y: y.pointer,
            n: 4096,
        };
        let wrong = Sum { n: 5000, ..params };
        let mut sums = Vec::new();
        for _ in 0..100 {
            let kernel = Kernel::new(calls, "block_sum");
            kernel.run(16, 128, params).expect("a right kernel");
            sums.push(y.read::<u32>());
            // Faults in one thread leave the others alone.
            kernel.run(16, 128, wrong).expect_err("beyond the end");
        }
        agree(sums)
    };
    let sums = std::thread::scope(|scope| {
        let threads = ORDERS.map(|order| scope.spawn(move || run(order)));
        threads.map(|t| t.join().expect("no panic"))
    });
    agree(sums.into());
}

#[test]
fn memory_returns_to_the_baseline() {
    let Some(gpu) = gpu() else { return };
    let info = || {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both outlive the call.
        let code = unsafe { (gpu.cuMemGetInfo_v2)(&mut free, &mut total) };
        assert_eq!(code, 0);
        (free, total)
    };
    let (before, total) = info();
    assert_eq!(cuda_emulator::bytes_in_use(), total - before);
    let a = Memory::new(*gpu, 1000);
    let b = Memory::new(*gpu, 24);
    assert_eq!(info(), (before - 1024, total));
    assert_eq!(cuda_emulator::bytes_in_use(), total - before + 1024);
    drop((a, b));
    assert_eq!(info(), (before, total));
}

#[test]
fn events_measure_time() {
    let Some(gpu) = gpu() else { return };
    let mut events = [std::ptr::null_mut(); 2];
    let mut elapsed = -1.0;
    let began = std::time::Instant::now();
    // SAFETY: the pointers outlive the calls.
    let codes = unsafe {
        let created = events.each_mut().map(|e| (gpu.cuEventCreate)(e, 0));
        let first = (gpu.cuEventRecord)(events[0], std::ptr::null_mut());
        std::thread::sleep(std::time::Duration::from_millis(5));
        let last = (gpu.cuEventRecord)(events[1], std::ptr::null_mut());
        let read = (gpu.cuEventElapsedTime)(&mut elapsed, events[0], events[1]);
        let destroyed = events.map(|e| (gpu.cuEventDestroy_v2)(e));
        [created, [first, last], [read, 0], destroyed]
    };
    assert_eq!(codes, [[0; 2]; 4]);
    assert!(
        elapsed >= 5.0 && elapsed <= began.elapsed().as_secs_f32() * 1e3,
        "{elapsed} ms"
    );
}
