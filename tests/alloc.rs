//! A session allocates nothing after its first run, shown by a counting allocator. Alone in its
//! binary: the allocator counts the whole process.

use hafuse::device::cpu;
use hafuse::net::{Builder, Genotype, initial_params, record_fusion};
use hafuse::ops;
use hafuse::{DType, ParamStore, Session, Tape};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// All three cells and all ten operators, forward, backward and Adam.
fn training_session() -> hafuse::Result<Session> {
    let genotype = Genotype::from_json(
        r#"{"version": 1, "channels": 8,
            "ffm": [{"cell": "DC", "blocks": ["3-DB", "5-SC"]}, {"cell": "MS", "blocks": ["3-RB", "CA"]},
                    {"cell": "SC", "blocks": ["5-DC", "SA"]}],
            "target": {"cell": "SC", "blocks": ["5-RB", "3-SC"]},
            "detail": {"cell": "SC", "blocks": ["5-DB", "3-DC"]}}"#,
    )?;
    let mut t = Tape::new(DType::F32);
    let (a, b) = (t.input("a", [2, 32, 32, 1])?, t.input("b", [2, 32, 32, 1])?);
    let (lr, step) = (t.input("lr", [])?, t.input("step", [])?);
    let mut builder = Builder::new(&mut t);
    let fused = record_fusion(&mut builder, &genotype, (a, b))?;
    let specs = builder.into_specs();
    let store = ParamStore::default();
    initial_params(&specs, 1, DType::F32, &store)?;
    let loss = hafuse::loss::intensity(&mut t, fused.output, a, None)?;
    let ssim = hafuse::loss::ssim_loss(&mut t, fused.output, b, None)?;
    let loss = ops::add(&mut t, loss, ssim)?;
    t.output("loss", loss)?;
    let params: Vec<_> = specs
        .iter()
        .map(|s| t.param(&s.name, s.shape))
        .collect::<hafuse::Result<_>>()?;
    let grads = t.grad(loss, &params)?;
    for ((spec, &p), &g) in specs.iter().zip(&params).zip(&grads) {
        let mut moment = |kind: &str| {
            let name = format!("{kind}.{}", spec.name);
            store.set(&name, &hafuse::Tensor::full(spec.shape, DType::F32, 0.0))?;
            t.param(&name, spec.shape)
        };
        let (m, v) = (moment("m")?, moment("v")?);
        ops::adam(&mut t, p, m, v, g, lr, step, Default::default())?;
    }
    Session::new(&t, &store)
}

#[test]
fn a_training_step_allocates_nothing_after_the_first() {
    let mut session = training_session().expect("records");
    session.input_mut::<f32>("a").expect("input").fill(0.25);
    session.input_mut::<f32>("b").expect("input").fill(0.75);
    session.set_scalar("lr", 1e-3).expect("input");
    // On a thread of the pool, as the trainer runs it: a hand-over from outside may allocate.
    let (during, total) = cpu::install(|| {
        session.set_scalar("step", 1.0).expect("input");
        session.run().expect("runs");
        let before = COUNT.load(Ordering::SeqCst);
        for i in 2..12 {
            session.set_scalar("step", f64::from(i)).expect("input");
            session.run().expect("runs");
        }
        let during = COUNT.load(Ordering::SeqCst) - before;
        // The counter does count.
        drop(std::hint::black_box(vec![0u8; 100]));
        (during, COUNT.load(Ordering::SeqCst) - before)
    });
    assert_eq!(during, 0, "allocations in ten training steps");
    assert!(total > 0);
}
