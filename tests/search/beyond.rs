//! What goes beyond Algorithm 1: how far a decision travels, what it is made of, what it costs.

use crate::fixtures::{config, scenes, searcher, table};
use hafuse::device::Device;
use hafuse::search::{EpochReport, SearchEvent, Searcher};
use std::collections::BTreeSet;

/// What each inner epoch says, and beta of the first cell after it.
fn reports(keys: &[&str]) -> Vec<EpochReport> {
    let mut reports = Vec::new();
    let ran = searcher(keys).run(|event| {
        if let SearchEvent::Epoch(report) = event {
            reports.push(report.clone());
        }
        Ok(())
    });
    ran.unwrap();
    reports
}

/// Adam's first step has the length of the rate, whatever the gradient: it says which gradient it took.
#[test]
fn a_step_is_made_of_the_mean_gradient_of_an_epoch_and_goes_as_far_as_the_travel_says() {
    // Two inner epochs of beta in each stage, a step each.
    let keys = [
        "data.patches_per_pair=2",
        "architecture.average=0",
        "architecture.travel=3",
    ];
    let reports = reports(&keys);
    let first = &reports[0];
    let gradient = first.gradients.iter().find(|g| g.name == "beta.ffm.cell0");
    let gradient = gradient.expect("beta learns in the first inner epoch");
    assert!(gradient.mean.iter().all(|g| g.abs() > 1e-6));
    assert!(gradient.std.iter().all(|s| *s > 0.0));
    assert!(first.gradients.iter().all(|g| !g.name.contains("ofm")));
    let logits: Vec<f64> = first.layers[0].beta.iter().map(|b| b.ln()).collect();
    for (i, j) in [(0, 1), (1, 2)] {
        let expected = -1.5 * (gradient.mean[i].signum() - gradient.mean[j].signum());
        let found = logits[i] - logits[j];
        assert!((found - expected).abs() < 1e-3, "{found} for {expected}");
    }
}

#[test]
fn fixed_patches_are_the_same_in_each_epoch() {
    // Nothing learns, so that only patches can make a difference.
    let losses = |fixed: &str| {
        let still = [
            "weights.lr=1e-30",
            "architecture.lr=1e-30",
            "epochs.m=4",
            fixed,
        ];
        let reports = reports(&still);
        let losses = reports.iter().map(|r| r.val.unwrap().to_bits());
        losses.collect::<BTreeSet<u64>>().len()
    };
    assert_eq!(losses("architecture.fixed_patches=true"), 1);
    assert_eq!(losses("architecture.fixed_patches=false"), 12);
}

/// Made-up times: networks take 36 to 83 ms.
#[test]
fn a_target_is_met_and_lambda_adapts_to_it() {
    for target in [40.0, 55.0, 70.0] {
        let key = format!("latency.target={target} ms");
        let keys = [
            key.as_str(),
            "architecture.travel=6",
            "epochs.n=16",
            "epochs.m=8",
        ];
        let mut s = searcher(&keys);
        let mut lambdas = Vec::new();
        let ran = s.run(|event| {
            if let SearchEvent::Epoch(r) = event {
                lambdas.push(r.lambda);
            }
            Ok(())
        });
        ran.unwrap();
        let ms = s.table().predict(&s.genotype().unwrap()).unwrap();
        println!(
            "{target} ms: {ms} ms, lambda {:.4} to {:.4}",
            lambdas[0], lambdas[47]
        );
        // Waves without a scene want no slow operator, so that only the upper limit binds.
        assert!(ms <= target, "{ms} for {target}");
        assert!(
            lambdas[1] != lambdas[0] && lambdas[24] == lambdas[0],
            "anew in stage 2"
        );
    }
    let refused = |keys: &[&str], parts: &[&str]| {
        let made = config(keys).and_then(|c| {
            Searcher::new(c, table(), None, &scenes(4), None, &Device::Cpu).map(|_| ())
        });
        let e = made.unwrap_err();
        assert!(matches!(e, hafuse::Error::Config { .. }));
        for part in parts {
            assert!(e.to_string().contains(part), "{e}");
        }
    };
    refused(
        &["latency.target=9 ms"],
        &["9 ms is less than", "by the table"],
    );
    refused(&["latency.target=fast"], &["latency.target", "50 ms"]);
    refused(&["latency.target=-3 ms"], &["latency.target"]);
    refused(
        &["latency.target=50 ms", "latency.lambda=0"],
        &["latency.lambda", "above 0"],
    );
}

/// A search that charges for the share of the uniform supernet is one that charges for milliseconds.
#[test]
fn a_charge_without_a_unit_is_the_same_for_a_slower_device() {
    let uniform = |keys: &[&str], times: f64| {
        let mut slow = table();
        for entry in &mut slow.entries {
            entry.timing.median_ms *= times;
        }
        let config = config(keys).unwrap();
        Searcher::new(config, slow, None, &scenes(4), None, &Device::Cpu)
    };
    let keys = ["latency.unit=uniform", "latency.lambda=0.2"];
    let [fast, slow] = [1.0, 8.0].map(|times| uniform(&keys, times).unwrap());
    let lat = |s: &Searcher| {
        s.table()
            .relaxed(&searcher(&["architecture.alpha_std=0"]).layers().unwrap())
    };
    for s in [&fast, &slow] {
        let share = s.charge().unwrap() * lat(s).unwrap();
        assert!((share - 0.2).abs() < 1e-12, "{share}");
    }
    assert_eq!(
        uniform(&["latency.lambda=0.2"], 8.0)
            .unwrap()
            .charge()
            .unwrap(),
        0.2
    );
    let end = |mut s: Searcher| {
        s.run(|_| Ok(())).unwrap();
        s.layers().unwrap()
    };
    assert_eq!(end(fast), end(slow));
    let e = uniform(&keys, 0.0).map(|_| ()).unwrap_err().to_string();
    assert!(e.starts_with("latency.unit"), "{e}");
}
