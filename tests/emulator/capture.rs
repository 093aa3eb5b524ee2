//! Graphs: what a capture records, and what it forbids.

use crate::driver::{Fault, Gpu, Handle, Kernel, Memory, check, gpu};
use crate::ramp;
use std::ptr::null_mut;

#[repr(C)]
#[derive(Clone, Copy)]
struct Sum {
    x: u64,
    y: u64,
    n: i32,
}

const GLOBAL: i32 = 0;
const THREAD_LOCAL: i32 = 1;
const RELAXED: i32 = 2;

impl Gpu {
    fn begin(&self, stream: Handle, mode: i32) -> Result<(), Fault> {
        // SAFETY: the driver checks the handle.
        check(unsafe { (self.cuStreamBeginCapture_v2)(stream, mode) })
    }

    /// Ends the capture; the executable graph.
    fn end(&self, stream: Handle) -> Result<Handle, Fault> {
        let (mut graph, mut executable) = (null_mut(), null_mut());
        // SAFETY: the pointers outlive the calls.
        unsafe {
            check((self.cuStreamEndCapture)(stream, &mut graph))?;
            check((self.cuGraphInstantiateWithFlags)(
                &mut executable,
                graph,
                0,
            ))?;
            check((self.cuGraphDestroy)(graph))?;
        }
        Ok(executable)
    }
}

#[test]
fn a_graph_replays_what_was_captured() {
    let Some(gpu) = gpu() else { return };
    let stream = gpu.stream();
    let kernel = Kernel::new(*gpu, "block_sum").on(stream);
    let x = Memory::of(*gpu, &[1_f32; 256]);
    let y = Memory::of(*gpu, &ramp(4));
    gpu.begin(stream, THREAD_LOCAL).expect("a capture");
    {
        let mut params = Sum {
            x: x.pointer,
            y: y.pointer,
            n: 256,
        };
        kernel.run(2, 64, params).expect("recorded");
        params.y += 8;
        kernel.run(1, 64, params).expect("recorded");
        // SAFETY: within `x`.
        let filled = unsafe { (gpu.cuMemsetD8Async)(x.pointer, 0, 128 * 4, stream) };
        check(filled).expect("recorded");
    }
    let graph = gpu.end(stream).expect("a graph");
    assert_eq!(y.read::<f32>(), ramp(4), "a capture runs nothing");
    // SAFETY: live handles.
    let launch = || check(unsafe { (gpu.cuGraphLaunch)(graph, stream) });
    launch().expect("a replay");
    assert_eq!(y.read::<f32>(), [128.0, 128.0, 256.0, 3.0]);
    launch().expect("a second replay");
    assert_eq!(y.read::<f32>(), [64.0, 64.0, 128.0, 3.0]);

    drop(x);
    let fault = launch().expect_err("its memory is gone");
    assert!(fault.text.contains("block_sum"), "{fault:?}");
    // SAFETY: live handles, once.
    unsafe {
        check((gpu.cuGraphExecDestroy)(graph)).expect("destroyed");
        check((gpu.cuStreamSynchronize)(stream)).expect("no capture any more");
        check((gpu.cuStreamDestroy_v2)(stream)).expect("destroyed");
        check((gpu.cuGraphLaunch)(graph, stream)).expect_err("no such graph");
    }
}

#[test]
fn what_ran_between_two_events_is_counted() {
    let Some(gpu) = gpu() else { return };
    let stream = gpu.stream();
    let kernel = Kernel::new(*gpu, "block_sum").on(stream);
    let x = Memory::of(*gpu, &[1_f32; 256]);
    let y = Memory::of(*gpu, &ramp(4));
    let params = |y| Sum {
        x: x.pointer,
        y,
        n: 256,
    };
    gpu.begin(stream, THREAD_LOCAL).expect("a capture");
    for at in [y.pointer, y.pointer, y.pointer + 8] {
        kernel.run(1, 64, params(at)).expect("recorded");
    }
    let graph = gpu.end(stream).expect("a graph");
    let [from, to] = [null_mut(); 2].map(|mut event| {
        // SAFETY: the pointer outlives the call.
        check(unsafe { (gpu.cuEventCreate)(&mut event, 0) }).expect("an event");
        event
    });
    let time = |work: &dyn Fn()| {
        let mut ms = 0.0;
        // SAFETY: live handles, and the pointer outlives the call.
        unsafe {
            check((gpu.cuEventRecord)(from, stream)).expect("recorded");
            work();
            check((gpu.cuEventRecord)(to, stream)).expect("recorded");
            check((gpu.cuEventElapsedTime)(&mut ms, from, to)).expect("a time");
        }
        let work = cuda_emulator::work_between_events();
        (work.launches, work.different, work.copies)
    };
    let launched = time(&|| {
        for _ in 0..2 {
            // SAFETY: live handles.
            check(unsafe { (gpu.cuGraphLaunch)(graph, stream) }).expect("a replay");
        }
    });
    assert_eq!(launched, (6, 2, 0));
    let copied = time(&|| {
        // SAFETY: within `y`.
        check(unsafe { (gpu.cuMemsetD8Async)(y.pointer, 0, 16, stream) }).expect("filled");
        y.read::<f32>();
        kernel.run(1, 64, params(y.pointer)).expect("runs");
    });
    assert_eq!(copied, (1, 1, 2));
}

#[test]
fn a_capture_forbids_waiting() {
    let Some(gpu) = gpu() else { return };
    let stream = gpu.stream();
    // SAFETY: the driver checks handles and forbids the calls before it uses a pointer.
    let (synchronize, allocate) = (
        || check(unsafe { (gpu.cuStreamSynchronize)(stream) }),
        || check(unsafe { (gpu.cuMemAlloc_v2)(&mut 0, 64) }),
    );
    let null = gpu.begin(null_mut(), GLOBAL).expect_err("the null stream");
    assert_eq!(null.code, 900, "{null:?}");

    for mode in [GLOBAL, THREAD_LOCAL, RELAXED] {
        gpu.begin(stream, mode).expect("a capture");
        let again = gpu.begin(stream, mode).expect_err("it captures already");
        assert_eq!(again.code, 401, "{again:?}");
        let waited = synchronize().expect_err("no waiting");
        assert_eq!(waited.code, 900, "{waited:?}");
        assert!(waited.text.contains("cuStreamSynchronize"), "{waited:?}");
        let spoilt = gpu
            .end(stream)
            .expect_err("the call has spoilt the capture");
        assert_eq!(spoilt.code, 901, "{spoilt:?}");
        synchronize().expect("the capture is over");
        let over = gpu.end(stream).expect_err("no capture");
        assert_eq!(over.code, 401, "{over:?}");
    }

    // Allocations: forbidden in the thread, or in all threads, or allowed.
    for (mode, here, elsewhere) in [(GLOBAL, 900, 900), (THREAD_LOCAL, 900, 0), (RELAXED, 0, 0)] {
        let code = |result: Result<(), Fault>| result.map_or_else(|f| f.code, |()| 0);
        gpu.begin(stream, mode).expect("a capture");
        let other = std::thread::scope(|scope| {
            let calls = gpu.calls;
            let other = scope.spawn(move || {
                calls.bind();
                // SAFETY: as above.
                check(unsafe { (calls.cuMemAlloc_v2)(&mut 0, 64) })
            });
            other.join().expect("no panic")
        });
        assert_eq!(code(other), elsewhere, "mode {mode}");
        assert_eq!(code(allocate()), here, "mode {mode}");
        assert_eq!(gpu.end(stream).is_ok(), here == 0, "mode {mode}");
    }
}
