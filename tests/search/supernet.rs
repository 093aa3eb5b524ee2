//! The supernet against the derived network, and gradients of alpha and beta.

use crate::common::relative_error;
use crate::fixtures::{SPACE, choose, genotype, rest_genotype, table};
use hafuse::net::{
    Builder, Genotype, NetworkPlan, ParamSpec, SearchSpace, Searched, derived_name, initial_params,
    is_architecture_param, record_fusion,
};
use hafuse::search::record_lat;
use hafuse::{DType, ParamStore, Result, Session, Tape, Tensor, Var, ops};
use std::collections::{BTreeMap, BTreeSet};

/// A network on a fixed pair: its output, and the mean square of it as a loss.
struct Net {
    tape: Tape,
    plan: NetworkPlan,
    specs: Vec<ParamSpec>,
    loss: Var,
}

fn net(dtype: DType, size: usize, plan: impl Fn(&mut Builder<'_>) -> Result<NetworkPlan>) -> Net {
    let mut t = Tape::new(dtype);
    let wave = |k: usize| {
        let values = (0..size * size)
            .map(|i| (i * k % 97) as f64 / 97.0)
            .collect();
        Tensor::from_vec([1, size, size, 1], values).unwrap()
    };
    let a = t.constant(&wave(31)).unwrap();
    let b = t.constant(&wave(57)).unwrap();
    let mut builder = Builder::new(&mut t);
    let plan = plan(&mut builder).unwrap();
    let fused = record_fusion(&mut builder, plan.clone(), (a, b)).unwrap();
    let specs = builder.into_specs();
    let square = ops::square(&mut t, fused.output).unwrap();
    let loss = ops::mean_all(&mut t, square).unwrap();
    t.output("output", fused.output).unwrap();
    Net {
        tape: t,
        plan,
        specs,
        loss,
    }
}

/// Outputs the gradients of the loss with respect to these parameters, by their names.
fn gradients(n: &mut Net, names: impl Fn(&str) -> bool) -> Vec<String> {
    let specs: Vec<&ParamSpec> = n.specs.iter().filter(|s| names(&s.name)).collect();
    let params: Vec<Var> = specs.iter().map(|s| n.tape.param_vars()[&s.name]).collect();
    let grads = n.tape.grad(n.loss, &params).unwrap();
    for (s, g) in specs.iter().zip(grads) {
        n.tape.output(&s.name, g).unwrap();
    }
    specs.iter().map(|s| s.name.clone()).collect()
}

#[test]
fn a_supernet_driven_one_hot_is_the_derived_network() {
    for g in [genotype(), rest_genotype()] {
        check_one_hot(&g, Searched::All);
        check_one_hot(&g, Searched::Object { ffm: &g.ffm });
    }
}

/// Output and gradients of the supernet with these layers searched, all of them driven to `g`.
fn check_one_hot(g: &Genotype, searched: Searched<'_>) {
    let mut supernet = net(DType::F32, 20, |b| {
        NetworkPlan::searched(b, &SPACE, searched)
    });
    let mut derived = net(DType::F32, 20, |_| Ok(g.into()));
    let store = ParamStore::default();
    initial_params(&supernet.specs, 5, DType::F32, &store).unwrap();
    choose(&store, g, DType::F32);
    let own = ParamStore::default();
    let mut twins = BTreeMap::new();
    for s in &supernet.specs {
        if let Some(name) = derived_name(g, &s.name) {
            own.set(&name, &store.get(&s.name).unwrap()).unwrap();
            twins.insert(name, s.name.clone());
        }
    }
    let names = gradients(&mut derived, |_| true);
    assert_eq!(names.len(), twins.len(), "each weight has one twin");
    let all = gradients(&mut supernet, |n| !is_architecture_param(n));
    let mut a = Session::new(&supernet.tape, &store).unwrap();
    let mut b = Session::new(&derived.tape, &own).unwrap();
    a.run().unwrap();
    b.run().unwrap();
    let same = |x: &str, y: &str| {
        let (x, y) = (a.get(x).unwrap().to_f64(), b.get(y).unwrap().to_f64());
        relative_error(&x, &y)
    };
    assert!(same("output", "output") <= 1e-5);
    for name in &names {
        let error = same(&twins[name], name);
        assert!(error <= 1e-5, "{name}: {error:e}");
    }
    // What is not chosen gets no gradient at all.
    let chosen: BTreeSet<&String> = twins.values().collect();
    let rest: Vec<&String> = all.iter().filter(|n| !chosen.contains(n)).collect();
    assert!(!rest.is_empty());
    for name in rest {
        assert!(
            a.get(name).unwrap().to_f64().iter().all(|&v| v == 0.0),
            "{name}"
        );
    }
}

#[test]
fn a_partly_fixed_supernet_shares_the_names_of_the_whole() {
    let g = genotype();
    let whole = net(DType::F32, 16, |b| {
        NetworkPlan::searched(b, &SPACE, Searched::All)
    });
    let part = net(DType::F32, 16, |b| {
        NetworkPlan::searched(b, &SPACE, Searched::Object { ffm: &g.ffm })
    });
    let all: BTreeSet<&str> = whole.specs.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(all.len(), whole.specs.len(), "names are unique");
    assert!(part.specs.iter().all(|s| all.contains(s.name.as_str())));
    let ffm = |n: &Net| {
        n.specs
            .iter()
            .filter(|s| s.name.starts_with("ffm."))
            .count()
    };
    assert!(ffm(&part) * 5 < ffm(&whole));
    assert!(all.contains("ffm.cell0.SC.block0.3-SC.depthwise1.weight"));
    assert!(all.contains("ofm.target.cell.MS.scale4.block1.SA.conv1.bias"));
}

#[test]
fn gradients_of_alpha_and_beta_match_differences() {
    let dtype = DType::F64;
    let space = SearchSpace {
        channels: 2,
        cells: 1,
        blocks: 1,
        ..SPACE
    };
    let mut n = net(dtype, 12, |b| {
        NetworkPlan::searched(b, &space, Searched::All)
    });
    // LAT takes part as it does in a search.
    let lat = record_lat(&mut n.tape, n.plan.layers(), &table()).unwrap();
    let charge = ops::scale(&mut n.tape, lat, 0.01).unwrap();
    n.loss = ops::add(&mut n.tape, n.loss, charge).unwrap();
    n.tape.output("loss", n.loss).unwrap();
    let names = gradients(&mut n, is_architecture_param);
    assert_eq!(names.len(), 3 * (1 + 3));
    let store = ParamStore::default();
    initial_params(&n.specs, 9, dtype, &store).unwrap();
    let mut s = Session::new(&n.tape, &store).unwrap();
    s.run().unwrap();
    let analytic: Vec<Vec<f64>> = names.iter().map(|n| s.get(n).unwrap().to_f64()).collect();
    for (name, analytic) in names.iter().zip(&analytic) {
        let v = store.get(name).unwrap();
        let mut numeric = Vec::new();
        for j in 0..v.shape().len() {
            let mut at = |d: f64| {
                let mut moved = v.clone();
                moved.as_mut_slice::<f64>().unwrap()[j] += d;
                store.set(name, &moved).unwrap();
                s.run().unwrap();
                s.scalar("loss").unwrap()
            };
            let h = 1e-3;
            numeric.push((8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h));
        }
        store.set(name, &v).unwrap();
        let error = relative_error(analytic, &numeric);
        assert!(
            error <= 1e-6,
            "{name}: {error:e}\n{analytic:?}\n{numeric:?}"
        );
    }
}

#[test]
fn computing_cells_again_gives_the_same_gradients_in_less_memory() {
    let space = |recompute| SearchSpace { recompute, ..SPACE };
    let build = |recompute| {
        net(DType::F64, 20, |b| {
            NetworkPlan::searched(b, &space(recompute), Searched::All)
        })
    };
    let (mut kept, mut again) = (build(false), build(true));
    let store = ParamStore::default();
    initial_params(&kept.specs, 5, DType::F64, &store).unwrap();
    let names = gradients(&mut kept, |_| true);
    assert_eq!(gradients(&mut again, |_| true), names);
    let mut a = Session::new(&kept.tape, &store).unwrap();
    let mut b = Session::new(&again.tape, &store).unwrap();
    a.run().unwrap();
    b.run().unwrap();
    let of = |s: &Session, name: &str| s.get(name).unwrap().to_f64();
    assert_eq!(of(&a, "output"), of(&b, "output"));
    for name in &names {
        let error = relative_error(&of(&b, name), &of(&a, name));
        assert!(error <= 1e-12, "{name}: {error:e}");
    }
    let (a, b) = (a.arena_bytes(), b.arena_bytes());
    assert!(5 * b < 3 * a, "{b} bytes against {a}");
}
