//! What is timed on a card: replays of graphs, without copies, on values of their own.

use crate::card::{card, fault, work};
use cuda_emulator::Work;
use hafuse::device::Device;
use hafuse::infer::{Engine, Model, Precision};
use hafuse::search::{Effort, LatencyKey, LatencyTable, Method, latency, warm_up};
use hafuse::tape::{Replay, SessionOptions};
use hafuse::{DType, ParamStore, Session, Tape, ops};
use std::time::{Duration, Instant};

/// Two kernels, that of the mean in two launches.
fn tape() -> Tape {
    let mut t = Tape::new(DType::F32);
    let x = t.input("x", [1, 9, 7, 3]).expect("records");
    let y = ops::scale(&mut t, x, 3.0).expect("records");
    let y = ops::offset(&mut t, y, 1.0).expect("records");
    let sum = ops::sum_all(&mut t, y).expect("records");
    t.output("y", y).expect("records");
    t.output("sum", sum).expect("records");
    t
}

fn session(device: &Device, value: f32) -> Session {
    let mut s = Session::new(&tape(), &ParamStore::on(device)).expect("binds");
    s.input_mut::<f32>("x").expect("is used").fill(value);
    s
}

/// Launches of a run.
fn launches(s: &Session) -> u64 {
    let nodes = s.times().map(|(v, _)| s.kernels(v).len());
    nodes.sum::<usize>() as u64
}

#[test]
fn a_replay_launches_whole_runs_and_copies_nothing() {
    let Some(device) = card() else { return };
    let mut s = session(&device, 2.0);
    s.run().expect("runs");
    let (before, each) = (s.get("y").expect("is there").to_f64(), launches(&s));
    assert!(each >= 3, "{each}");
    let mut replay = Replay::new(std::slice::from_mut(&mut s), 3).expect("captures");
    assert_eq!((replay.turns(), replay.copies()), (3, 1));
    let seconds = replay
        .seconds(4)
        .unwrap_or_else(|e| panic!("{e} {}", fault()));
    assert!(seconds > 0.0);
    if let Some(work) = work() {
        let expected = Work {
            launches: 4 * 3 * each,
            different: each,
            copies: 0,
        };
        assert_eq!(work, expected);
    }
    drop(replay);
    s.run().expect("runs");
    assert_eq!(s.get("y").expect("is there").to_f64(), before);
    assert_eq!(s.scalar("sum").expect("is there"), 7.0 * 189.0);
}

#[test]
fn turns_are_taken_on_other_memory() {
    let Some(device) = card() else { return };
    let mut sessions: Vec<_> = (0..3).map(|i| session(&device, i as f32)).collect();
    let each = launches(&sessions[0]);
    let mut replay = Replay::new(&mut sessions, 7).expect("captures");
    assert!(replay.seconds(1).expect("replays") > 0.0);
    if let Some(work) = work() {
        assert_eq!((work.launches, work.different), (7 * each, 3 * each));
    }
    drop(replay);
    for (i, s) in sessions.iter_mut().enumerate() {
        s.run().expect("runs");
        let expected = 3.0 * i as f32 + 1.0;
        let y = s.output::<f32>("y").expect("is there");
        assert!(y.iter().all(|&v| v == expected), "{i}");
    }
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let refused = |s: &mut [Session], words: &str| {
        let e = Replay::new(s, 1).err().expect("is refused").to_string();
        assert!(e.contains(words), "{e}");
    };
    refused(&mut [], "only a card replays");
    refused(&mut [session(&Device::Cpu, 1.0)], "only a card replays");
    let Some(device) = card() else { return };
    let both = &mut [session(&device, 1.0), session(&Device::Cpu, 1.0)];
    refused(both, "is of a card");
    let store = ParamStore::on(&device);
    let options = SessionOptions {
        profile: true,
        ..Default::default()
    };
    let profiled = Session::with_options(&tape(), &store, options).expect("binds");
    refused(&mut [profiled], "measures no nodes");
    let mut t = Tape::new(DType::F32);
    let [w, m] = ["w", "m"].map(|name| {
        let value = hafuse::Tensor::full([2], DType::F32, 1.0);
        store.set(name, &value).expect("uploads");
        t.param(name, [2]).expect("records")
    });
    let lr = t.input("lr", []).expect("records");
    let g = ops::scale(&mut t, w, 2.0).expect("records");
    ops::sgd(&mut t, w, m, g, lr, ops::SgdOptions::default()).expect("records");
    let update = Session::new(&t, &store).expect("binds");
    refused(&mut [update], "updates no parameters");
    let kept = store.get("w").expect("is there").to_f64();
    assert_eq!(kept, [1.0; 2], "nothing has run");
}

#[test]
fn a_resident_fusion_is_the_network_alone() {
    let Some(device) = card() else { return };
    let model = Model::builtin("ivif-fast").expect("is built in");
    let (h, w) = (16, 20);
    let wave = |k: usize| (0..h * w).map(|i| (i * k % 97) as f32 / 96.0).collect();
    let (a, b): (Vec<f32>, Vec<f32>) = (wave(5), wave(11));
    for precision in [Precision::F32, Precision::F16] {
        let options = SessionOptions::default();
        let mut engine = Engine::on(&device, precision, &model, options).expect("opens");
        let before = engine.fuse(h, w, &a, &b).expect("fuses");
        let mut replay = engine.replay(1, h, w).expect("captures");
        assert!(replay.seconds(1).expect("replays") > 0.0);
        let one = work();
        assert!(replay.seconds(3).expect("replays") > 0.0);
        if let (Some(one), Some(three)) = (one, work()) {
            assert!(one.launches > 20, "{one:?}");
            assert_eq!(three.launches, 3 * one.launches);
            assert_eq!((one.copies, three.copies), (0, 0));
        }
        drop(replay);
        assert_eq!(engine.fuse(h, w, &a, &b).expect("fuses"), before);
    }
    let mut cpu = Engine::new(&model).expect("opens");
    cpu.fuse(h, w, &a, &b).expect("fuses");
    assert!(cpu.replay(1, h, w).is_err());
}

#[test]
fn entries_of_a_table_take_turns_on_copies_that_exceed_the_cache() {
    let Some(device) = card() else { return };
    let (width, height, c) = (24, 17, 4);
    let measure = |name: &str, cold| {
        let key = LatencyKey::here(&device, DType::F16, (width, height), c);
        let mut list = latency::entries(width, height, c);
        list.retain(|e| e.name == name);
        let effort = Effort { runs: 1, cold };
        let table = LatencyTable::measure_entries(&device, key, list, effort, |_| {});
        let table = table.unwrap_or_else(|e| panic!("{e} {}", fault()));
        assert_eq!(table.method, Method::Graph);
        table.entries.into_iter().next().expect("one entry")
    };
    for name in ["head", "DC.split"] {
        let row = measure(name, true);
        let each = row.kernels.len() as u64;
        assert!(row.timing.median_ms > 0.0);
        assert!(row.turns >= 50 && row.turns % row.copies == 0, "{row:?}");
        assert!(row.copies > 1, "{row:?}");
        if let Some(work) = work() {
            assert!(row.cold, "{row:?}");
            let expected = Work {
                launches: row.turns as u64 * each,
                different: row.copies as u64 * each,
                copies: 0,
            };
            assert_eq!(work, expected, "{name}");
        }
    }
    let warm = measure("head", false);
    assert_eq!((warm.copies, warm.cold), (1, false));
    if let Some(work) = work() {
        assert_eq!(work.different, warm.kernels.len() as u64);
    }
}

#[test]
fn a_card_works_for_half_a_second_before_a_run_counts() {
    let Some(device) = card() else { return };
    let mut s = session(&device, 1.0);
    let (begun, mut runs) = (Instant::now(), 0);
    let run = || {
        runs += 1;
        s.run()
    };
    warm_up(&device, 1, run).expect("runs");
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert!(runs > 1);
}
