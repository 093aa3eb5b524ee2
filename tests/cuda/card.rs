//! The card that tests run on.

use cuda_emulator::Order;
use hafuse::device::Device;
use std::sync::OnceLock;

/// Whether tests run on a real card.
pub fn real() -> bool {
    std::env::var_os("HAFUSE_TEST_GPU").is_some_and(|v| v == "1")
}

/// The first card, emulated or real; `None`, with a printed reason, where there is neither.
///
/// # Panics
/// If `HAFUSE_REQUIRE_EMULATOR` or `HAFUSE_TEST_GPU` is 1 and there is none: a skip would hide it.
pub fn card() -> Option<Device> {
    static EMULATOR: OnceLock<Result<(), String>> = OnceLock::new();
    if !real()
        && let Err(reason) = EMULATOR.get_or_init(cuda_emulator::install)
    {
        let required = std::env::var_os("HAFUSE_REQUIRE_EMULATOR").is_some_and(|v| v == "1");
        assert!(!required, "no emulated driver: {reason}");
        println!("skipped: no emulated driver: {reason}");
        return None;
    }
    Some(Device::open("cuda").expect("a card"))
}

/// Orders in which the emulator runs the threads of a block; a real card has its own.
pub fn orders() -> &'static [Order] {
    if real() {
        &[Order::Forward, Order::Forward]
    } else {
        &[Order::Forward, Order::Reverse, Order::Random(7)]
    }
}

/// Chooses the order for launches of this thread.
pub fn set_order(order: Order) {
    if !real() {
        cuda_emulator::set_order(order);
    }
}

/// What the emulator says of the last fault on this thread.
pub fn fault() -> String {
    if real() {
        return String::new();
    }
    cuda_emulator::last_fault()
}
