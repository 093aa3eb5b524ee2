//! LAT and its table.

use crate::common::relative_error;
use crate::fixtures::{SPACE, choose, genotype, table};
use hafuse::device::Device;
use hafuse::net::{
    Builder, LayerPlan, NetworkPlan, OpKind, Pick, Searched, initial_params, layer_names,
};
use hafuse::search::latency::LatencyEntry;
use hafuse::search::{Effort, LatencyKey, LatencyTable, Method, read_layers, record_lat};
use hafuse::{DType, ParamStore, Session, Tape};

/// Eq. 3 written out: entries are in the order of `entries`: 10 operators at 1, 2, 4, stem, head,
/// MS.down2, down4, fuse1, fuse2, fuse4, DC.split, DC.fuse, aggregation.
#[test]
fn lat_is_equation_3_by_hand() {
    let ms = |i: usize| 1.0 + i as f64 / 8.0;
    let op = |k: usize, i: usize| match k {
        0 => ms(i),
        1 => 2.0 * ms(i),
        _ => ms(i) + ms(10 + i) + ms(20 + i),
    };
    let rest = [
        0.0,
        ms(37) + 2.0 * ms(38),
        ms(32) + ms(33) + ms(34) + ms(35) + ms(36),
    ];
    let names: Vec<String> = table().entries.iter().map(|e| e.name.clone()).collect();
    assert_eq!(
        names[30..],
        [
            "stem",
            "head",
            "MS.down2",
            "MS.down4",
            "MS.fuse1",
            "MS.fuse2",
            "MS.fuse4",
            "DC.split",
            "DC.fuse",
            "aggregation"
        ]
    );
    let dtype = DType::F64;
    let mut t = Tape::new(dtype);
    let mut builder = Builder::new(&mut t);
    let plan = NetworkPlan::searched(&mut builder, &SPACE, Searched::All).unwrap();
    let specs = builder.into_specs();
    let lat = record_lat(&mut t, plan.layers(), &table()).unwrap();
    // The weights themselves, after the softmax, as the equation has them.
    let mut weights = Vec::new();
    for layer in plan.layers() {
        let LayerPlan::Mix { beta, cells } = layer else {
            panic!("is mixed")
        };
        weights.push(*beta);
        for pick in cells.iter().flat_map(|c| &c.blocks) {
            let Pick::Mix(alpha, _) = pick else {
                panic!("is mixed")
            };
            weights.push(*alpha);
        }
    }
    let grads = t.grad(lat, &weights).unwrap();
    t.output("lat", lat).unwrap();
    for (i, (w, g)) in weights.iter().zip(grads).enumerate() {
        t.output(&format!("w{i}"), *w).unwrap();
        t.output(&format!("g{i}"), g).unwrap();
    }
    let store = ParamStore::default();
    initial_params(&specs, 3, dtype, &store).unwrap();
    let mut s = Session::new(&t, &store).unwrap();
    s.run().unwrap();
    let get = |name: String| s.get(&name).unwrap().to_f64();
    let mut expected = 0.0;
    for layer in 0..4 {
        let first = 7 * layer;
        let beta = get(format!("w{first}"));
        let mut d_beta = Vec::new();
        for k in 0..3 {
            let mut cell = rest[k];
            for block in 0..2 {
                let at = first + 1 + 2 * k + block;
                let alpha = get(format!("w{at}"));
                cell += (0..10).map(|i| alpha[i] * op(k, i)).sum::<f64>();
                let d_alpha: Vec<f64> = (0..10).map(|i| beta[k] * op(k, i)).collect();
                assert!(relative_error(&d_alpha, &get(format!("g{at}"))) < 1e-14);
            }
            expected += beta[k] * cell;
            d_beta.push(cell);
        }
        assert!(relative_error(&d_beta, &get(format!("g{first}"))) < 1e-14);
    }
    assert!((s.scalar("lat").unwrap() / expected - 1.0).abs() < 1e-14);
    let layers = read_layers(&store, &layer_names(2), &SPACE).unwrap();
    assert!((table().relaxed(&layers).unwrap() / expected - 1.0).abs() < 1e-12);

    // A chosen network: weights of 0 and 1, and its stems, heads and aggregation.
    let g = genotype();
    let index = |k: OpKind| k as usize;
    let by_hand: f64 = g
        .cells()
        .map(|(_, gene)| {
            let k = gene.cell as usize;
            rest[k] + gene.blocks.iter().map(|&b| op(k, index(b))).sum::<f64>()
        })
        .sum();
    assert!((table().lat(&g).unwrap() - by_hand).abs() < 1e-12);
    let whole = by_hand + 3.0 * (ms(30) + ms(31)) + ms(39);
    assert!((table().predict(&g).unwrap() - whole).abs() < 1e-12);
    choose(&store, &g, dtype);
    s.run().unwrap();
    assert!((s.scalar("lat").unwrap() - by_hand).abs() < 1e-9);
}

#[test]
fn a_measured_table_is_whole_and_survives_the_disk() {
    let key = LatencyKey {
        width: 20,
        height: 13,
        ..table().key
    };
    let effort = Effort {
        runs: 1,
        cold: true,
    };
    let measured = LatencyTable::measure(&Device::Cpu, key.clone(), effort, |_| {}).unwrap();
    measured.check(&key, false).unwrap();
    assert!(measured.entries.iter().all(|e| e.timing.median_ms > 0.0));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.json");
    measured.save(&path).unwrap();
    let read = LatencyTable::load(&path).unwrap();
    assert_eq!(read.entries.len(), 40);
    assert_eq!(read.key, key);
    let each = |e: &LatencyEntry| (e.turns, e.copies, e.cold);
    assert!(read.entries.iter().all(|e| each(e) == (1, 1, false)));
    assert_eq!(read.method, Method::Nodes);
    // One of before tables named their method.
    let text = std::fs::read_to_string(&path).unwrap();
    let old = [
        "\"method\": \"nodes\",",
        "\"turns\": 1,",
        "\"copies\": 1,",
        "\"cold\": false,",
    ];
    let old = old
        .iter()
        .fold(text.clone(), |text, key| text.replace(key, ""));
    assert!(old.len() < text.len());
    std::fs::write(&path, old).unwrap();
    assert_eq!(LatencyTable::load(&path).unwrap(), read);
    std::fs::write(&path, "{}").unwrap();
    let e = LatencyTable::load(&path).unwrap_err().to_string();
    assert!(e.contains("bench ops") && !e.contains('\n'), "{e}");
}
