//! Where the time goes: first each kind of operator in a whole fusion with the default model, then
//! the candidates of the search by themselves, from a latency table. The device may be named.
//!
//!     cargo run --example 08_latency [auto|cpu|cuda]

use hafuse::infer::{DEFAULT_MODEL, Engine, Model, Precision};
use hafuse::net::OpKind;
use hafuse::search::{Effort, LatencyKey, LatencyTable, latency};
use hafuse::{Device, Result, SessionOptions};
use std::collections::BTreeMap;

const WIDTH: usize = 160;
const HEIGHT: usize = 120;

fn main() -> Result<()> {
    let device = Device::open(&std::env::args().nth(1).unwrap_or("auto".into()))?;
    let precision = Precision::default_on(&device);
    let model = Model::builtin(DEFAULT_MODEL)?;
    let options = SessionOptions {
        profile: true,
        ..SessionOptions::default()
    };
    let mut engine = Engine::on(&device, precision, &model, options)?;
    let (a, b) = (vec![0.3; WIDTH * HEIGHT], vec![0.6; WIDTH * HEIGHT]);
    // The first run also warms up; the report is of the last one.
    for _ in 0..3 {
        engine.fuse(HEIGHT, WIDTH, &a, &b)?;
    }
    let nodes = engine.report(1, HEIGHT, WIDTH)?;
    let mut operators: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for node in &nodes {
        let (count, ms) = operators.entry(node.op).or_default();
        *count += 1;
        *ms += node.time.as_secs_f64() * 1e3;
    }
    let mut operators: Vec<_> = operators.into_iter().collect();
    operators.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let place = precision.place(&device);
    println!("{} on {place}, {WIDTH} x {HEIGHT}", model.name);
    println!("operator             nodes        ms");
    for (name, (count, ms)) in operators {
        println!("{name:<20} {count:>5} {ms:>9.3}");
    }

    // Pictures with 16 channels at full size.
    let mut entries = latency::entries(WIDTH, HEIGHT, 16);
    let wanted = OpKind::ALL.map(|kind| latency::operator_at(kind, 1));
    entries.retain(|e| wanted.contains(&e.name));
    let key = LatencyKey::here(&device, precision.dtype(), (WIDTH, HEIGHT), 16);
    let effort = Effort {
        runs: 5,
        cold: true,
    };
    let table = LatencyTable::measure_entries(&device, key, entries, effort, |_| {})?;
    println!("\n{}, {}, 16 channels", table.key.device, table.key.dtype);
    println!("candidate  median ms      25 %      75 %");
    for row in &table.entries {
        let (name, t) = (&row.name, row.timing);
        let [median, low, high] = [t.median_ms, t.low_ms, t.high_ms];
        println!("{name:<10} {median:>9.3} {low:>9.3} {high:>9.3}");
    }
    Ok(())
}
