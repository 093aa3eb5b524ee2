//! The card that tests run on.

use cuda_emulator::{Order, Work};
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

/// Orders in which the emulator runs the threads of a block; a real card has its own, and runs twice, as the bits must be the
/// same. `HAFUSE_TEST_ONCE=1`: one order, once, for tools that make every run long.
pub fn orders() -> &'static [Order] {
    orders_of(
        real(),
        std::env::var_os("HAFUSE_TEST_ONCE").is_some_and(|v| v == "1"),
    )
}

fn orders_of(real: bool, once: bool) -> &'static [Order] {
    match (once, real) {
        (true, _) => &[Order::Forward],
        (false, true) => &[Order::Forward, Order::Forward],
        (false, false) => &[Order::Forward, Order::Reverse, Order::Random(7)],
    }
}

#[test]
fn once_is_one_order() {
    assert_eq!(orders_of(false, true), orders_of(true, true));
    assert_eq!(orders_of(true, true).len(), 1);
    assert_eq!(orders_of(true, false).len(), 2);
    assert_eq!(orders_of(false, false).len(), 3);
}

/// Chooses the order for launches of this thread.
pub fn set_order(order: Order) {
    if !real() {
        cuda_emulator::set_order(order);
    }
}

/// What ran between the two events of the time that was asked for last; `None` on a real card, which does not count.
#[allow(dead_code)] // tests of memory have no use for it
pub fn work() -> Option<Work> {
    (!real()).then(cuda_emulator::work_between_events)
}

/// What the emulator says of the last fault on this thread.
pub fn fault() -> String {
    if real() {
        return String::new();
    }
    cuda_emulator::last_fault()
}
