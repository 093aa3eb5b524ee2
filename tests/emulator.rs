//! The emulated CUDA driver (`tests/cuda-emulator`) itself: right kernels of its `faults/` folder run as
//! they should in every order of threads, and each planted fault is found by its name.

#[path = "emulator/capture.rs"]
mod capture;
#[path = "emulator/correct.rs"]
mod correct;
#[path = "emulator/driver.rs"]
mod driver;
#[path = "emulator/faults.rs"]
mod faults;

use cuda_emulator::Order;

const ORDERS: [Order; 5] = [
    Order::Forward,
    Order::Reverse,
    Order::Random(1),
    Order::Random(2),
    Order::Random(3),
];

/// What `run` gives in each of [`ORDERS`].
fn in_all_orders<T>(mut run: impl FnMut() -> T) -> Vec<T> {
    let run_in = |order| {
        cuda_emulator::set_order(order);
        run()
    };
    let results = ORDERS.map(run_in);
    cuda_emulator::set_order(Order::Forward);
    results.into()
}

/// 0, 1, 2, ... as floats.
fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}
