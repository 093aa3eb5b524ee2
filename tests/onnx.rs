//! Exported models: their structure, and their numbers in ONNX Runtime where a Python has it.
//!
//! The Python is that of `HAFUSE_PYTHON`, which must have onnxruntime then, else `python3`.

use hafuse::export::proto::{AttributeProto, DataType, Dimension, ModelProto, ValueInfoProto};
use hafuse::export::{Dims, onnx};
use hafuse::infer::{BUILTIN, Engine, Model};
use hafuse::net::{
    CellGene, CellKind, FrameGene, Genotype, GuidedFilterGene, OpKind, initial_params, param_specs,
};
use hafuse::onnx::OPSET;
use hafuse::tensor::io::{self, TensorMap};
use hafuse::{DType, Error, ParamStore, Tensor};
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

const TOLERANCE: f64 = 1e-4;

/// Width and height. ONNX mirrors once, so sides are larger than the border of a frame.
const SIZES: [(usize, usize); 4] = [(17, 18), (21, 17), (33, 20), (64, 48)];
/// Of networks without a frame.
const PLAIN_SIZES: [(usize, usize); 4] = [(1, 1), (7, 5), (33, 20), (64, 48)];

/// The standard operators of opset 17 that a network of ours may use.
const STANDARD: [&str; 25] = [
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Exp",
    "GlobalAveragePool",
    "LeakyRelu",
    "Max",
    "Min",
    "Mul",
    "Pad",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "Relu",
    "Reshape",
    "Resize",
    "Shape",
    "Sigmoid",
    "Slice",
    "Sqrt",
    "Sub",
];

/// A network of one kind of operator and cell, with random weights and biases whose pictures stay
/// mostly in [0, 1], where the clamp hides nothing.
fn small(cell: CellKind, kind: OpKind, frame: FrameGene) -> Model {
    let gene = CellGene {
        cell,
        blocks: vec![kind],
    };
    let genotype = Genotype {
        version: Genotype::VERSION,
        channels: 6,
        ffm: vec![gene.clone()],
        target: gene.clone(),
        detail: gene,
        guided_filter: GuidedFilterGene {
            radius: 3,
            eps: 1e-3,
        },
        frame,
    };
    let store = ParamStore::default();
    initial_params(&param_specs(&genotype).unwrap(), 7, DType::F32, &store).unwrap();
    let mut weights = store.export(|_| true).unwrap();
    let mut rng = Pcg64Mcg::seed_from_u64(5);
    for (name, tensor) in &mut weights {
        let (scale, centre) = match name.as_str() {
            "ffm.head.bias" | "ofm.target.head.bias" | "ofm.detail.head.bias" => (0.0, 0.5),
            _ if name.ends_with("head.weight") => (0.3, 0.0),
            _ => (1.0, 0.0),
        };
        for v in tensor.as_mut_slice::<f32>().unwrap() {
            *v = match name.ends_with(".bias") {
                true => centre + 0.1 * (1.0 - centre) * rng.random_range(-1.0..1.0f32),
                false => *v * scale,
            };
        }
    }
    Model {
        name: match genotype.frame == FrameGene::default() {
            true => format!("{}-{}", cell.name(), kind.name()),
            false => format!("{}-{} framed", cell.name(), kind.name()),
        },
        genotype,
        about: "random".into(),
        weights,
    }
}

/// The frame of the built-in models.
const FRAME: FrameGene = FrameGene {
    levels: true,
    border: 16,
    ends: 0.05,
};

/// With a frame and without.
fn all_small() -> Vec<Model> {
    let each = |frame| {
        let cells = CellKind::ALL.into_iter();
        cells.flat_map(move |cell| OpKind::ALL.map(|kind| small(cell, kind, frame)))
    };
    each(FRAME).chain(each(FrameGene::default())).collect()
}

fn builtin() -> Vec<Model> {
    let names = BUILTIN.iter().map(|(name, _)| *name);
    names.map(|name| Model::builtin(name).unwrap()).collect()
}

/// As a reader of the file has it.
fn read_back(model: &Model, dims: Dims) -> ModelProto {
    let bytes = onnx(model, dims).unwrap();
    ModelProto::decode(bytes.as_slice()).unwrap()
}

fn dims_of(value: &ValueInfoProto) -> Vec<String> {
    let tensor = value.kind.as_ref().unwrap().tensor_type.as_ref().unwrap();
    assert_eq!(tensor.elem_type(), DataType::Float);
    let dims = tensor.shape.as_ref().unwrap().dim.iter();
    dims.map(|d| match d.value.as_ref().unwrap() {
        Dimension::Value(n) => n.to_string(),
        Dimension::Param(name) => name.clone(),
    })
    .collect()
}

/// What any reader relies on: values are defined once and before their use, initializers are whole,
/// operators are standard.
fn check_structure(file: &ModelProto) {
    assert_eq!((file.ir_version, file.opset_import.len()), (8, 1));
    assert_eq!(file.opset_import[0].version, OPSET);
    assert_eq!(file.opset_import[0].domain, "");
    assert_eq!(file.producer_name, "hafuse");
    let graph = file.graph.as_ref().unwrap();
    let mut known = BTreeSet::new();
    for name in graph.input.iter().map(|v| &v.name) {
        assert!(known.insert(name), "{name} twice");
    }
    for t in &graph.initializer {
        assert!(known.insert(&t.name), "{} twice", t.name);
        let size = match t.data_type() {
            DataType::Float => 4,
            DataType::Int64 => 8,
            DataType::Undefined => panic!("{} has no type", t.name),
        };
        let count: i64 = t.dims.iter().product();
        assert_eq!(t.raw_data.len() as i64, size * count, "{}", t.name);
    }
    let mut names = BTreeSet::new();
    let mut used = BTreeSet::new();
    for node in &graph.node {
        assert!(STANDARD.contains(&&*node.op_type), "{}", node.op_type);
        assert_eq!(node.domain, "");
        assert!(names.insert(&node.name), "{} twice", node.name);
        for input in node.input.iter().filter(|n| !n.is_empty()) {
            assert!(
                known.contains(input),
                "{} before {input} is there",
                node.name
            );
            used.insert(input);
        }
        for output in &node.output {
            assert!(known.insert(output), "{output} twice");
        }
    }
    let outputs: Vec<&String> = graph.output.iter().map(|v| &v.name).collect();
    assert_eq!(outputs, ["fused"]);
    used.extend(outputs);
    assert_eq!(used, known, "something is there for nothing");
}

#[test]
fn every_operator_in_every_cell_becomes_a_sound_graph() {
    for model in all_small().iter().chain(&builtin()) {
        let open = read_back(model, Dims::default());
        let fixed = Dims {
            batch: Some(2),
            size: Some((20, 33)),
        };
        let fixed = read_back(model, fixed);
        for (file, dims) in [
            (&open, ["batch", "1", "height", "width"]),
            (&fixed, ["2", "1", "20", "33"]),
        ] {
            check_structure(file);
            let graph = file.graph.as_ref().unwrap();
            for value in graph.input.iter().chain(&graph.output) {
                assert_eq!(dims_of(value), dims, "{}: {}", model.name, value.name);
            }
        }
        // The nodes do not depend on what is fixed.
        assert_eq!(open.graph.unwrap().node, fixed.graph.unwrap().node);
    }
}

#[test]
fn kernels_keep_their_values_and_the_file_says_what_it_is() {
    let model = Model::builtin("ivif-fast").unwrap();
    let file = read_back(&model, Dims::default());
    let props: BTreeMap<_, _> = file
        .metadata_props
        .iter()
        .map(|p| (p.key.as_str(), p.value.as_str()))
        .collect();
    assert_eq!(props["hafuse.model"], "ivif-fast");
    assert_eq!(props["hafuse.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(props["hafuse.hash"].len(), 16);
    assert_eq!(
        Genotype::from_json(props["hafuse.genotype"]).unwrap(),
        model.genotype
    );

    let graph = file.graph.unwrap();
    let name = "ffm.cell0.block0.depthwise.weight";
    let ours = model.weights[name].to_dtype(DType::F32);
    let ours = ours.as_slice::<f32>().unwrap();
    let theirs = graph.initializer.iter().find(|t| t.name == name).unwrap();
    assert_eq!(theirs.dims, [16, 1, 3, 3]);
    let value = |i: usize| f32::from_le_bytes(theirs.raw_data[4 * i..][..4].try_into().unwrap());
    for (tap, channel) in [(0, 0), (5, 0), (0, 7), (8, 15)] {
        assert_eq!(value(channel * 9 + tap), ours[tap * 16 + channel]);
    }
    let node = graph
        .node
        .iter()
        .find(|n| n.input.contains(&name.to_string()));
    let node = node.unwrap();
    let attribute =
        |name: &str| -> &AttributeProto { node.attribute.iter().find(|a| a.name == name).unwrap() };
    assert_eq!(attribute("pads").ints, [2; 4]);
    assert_eq!(attribute("dilations").ints, [2; 2]);
    assert_eq!(attribute("group").i, Some(16));
}

#[test]
fn what_cannot_be_exported_says_why() {
    let mut model = small(CellKind::Successive, OpKind::Residual3, FRAME);
    model.weights.remove("ffm.stem.bias");
    let error = onnx(&model, Dims::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Weights(m) if m.contains("ffm.stem.bias")),
        "{error}"
    );

    let model = small(CellKind::Successive, OpKind::Residual3, FRAME);
    for (size, says) in [
        ((0, 4), "4 x 0"),
        ((40, 16), "16 x 40"),
        ((16, 17), "17 x 16"),
    ] {
        let dims = Dims {
            batch: None,
            size: Some(size),
        };
        let error = onnx(&model, dims).unwrap_err();
        assert!(
            matches!(error, Error::Config { .. }) && error.to_string().contains(says),
            "{error}"
        );
    }

    // An operator that inference does without, by its default.
    let entries = hafuse::ops::registry::registry();
    let cases = entries.iter().flat_map(|e| (e.cases)());
    let op = cases.map(|c| c.op).find(|op| op.name() == "max_pool2d");
    let op = op.unwrap();
    let error = op.onnx(&mut hafuse::onnx::Graph::new(), &[]).unwrap_err();
    assert!(
        matches!(error, Error::Config { .. }) && error.to_string().contains("max_pool2d"),
        "{error}"
    );
}

/// A Python with onnxruntime, or why there is none.
fn python() -> Result<String, String> {
    let named = std::env::var("HAFUSE_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let found = Command::new(&python)
        .args(["-c", "import onnxruntime, numpy"])
        .output();
    let detail = match found {
        Ok(o) if o.status.success() => return Ok(python),
        Ok(o) => String::from_utf8_lossy(&o.stderr)
            .lines()
            .last()
            .unwrap_or("")
            .to_string(),
        Err(e) => e.to_string(),
    };
    match named {
        Some(_) => panic!("HAFUSE_PYTHON={python} has no onnxruntime: {detail}"),
        None => Err(format!("{python}: {detail}; name one in HAFUSE_PYTHON")),
    }
}

/// Writes `NAME.onnx` and `NAME.safetensors` with what the engine computes for these batches and sizes.
fn write_cases(
    folder: &Path,
    name: &str,
    model: &Model,
    dims: Dims,
    cases: &[(usize, (usize, usize))],
) {
    let bytes = onnx(model, dims).unwrap();
    std::fs::write(folder.join(format!("{name}.onnx")), bytes).unwrap();
    let mut engine = Engine::new(model).unwrap();
    let mut rng = Pcg64Mcg::seed_from_u64(3);
    let mut tensors = TensorMap::new();
    let (mut inside, mut all) = (0, 0);
    for &(n, (width, height)) in cases {
        let len = n * width * height;
        // Smooth as pictures are, with noise on top; each of a batch darker and flatter than the one before.
        let mut picture = |phase: f32| -> Vec<f32> {
            (0..len)
                .map(|i| {
                    let wave = 0.35 * (i as f32 * 0.07 + phase).sin();
                    let v = 0.5 + wave + rng.random_range(-0.15..0.15);
                    v * 0.6f32.powi((i / (width * height)) as i32)
                })
                .collect()
        };
        let (a, b) = (picture(0.0), picture(2.0));
        let mut fused = vec![0.0; len];
        engine
            .fuse_batch(n, height, width, &a, &b, &mut fused)
            .unwrap();
        inside += fused.iter().filter(|v| (0.001..0.999).contains(*v)).count();
        all += len;
        for (part, values) in [("a", a), ("b", b), ("fused", fused)] {
            let tensor = Tensor::from_vec([n, 1, height, width], values).unwrap();
            tensors.insert(format!("{n}x{width}x{height}/{part}"), tensor);
        }
    }
    assert!(
        2 * inside > all,
        "{name}: {inside} of {all} values are not clamped"
    );
    let path = folder.join(format!("{name}.safetensors"));
    io::save(&path, &tensors, &BTreeMap::new()).unwrap();
}

#[test]
fn onnx_runtime_computes_what_we_compute() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return println!("not judged by ONNX Runtime: {reason}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let batches = |sizes: [(usize, usize); 4]| -> Vec<_> {
        let each = [1, 3].into_iter();
        each.flat_map(|n| sizes.map(|s| (n, s))).collect()
    };
    let models: Vec<_> = all_small().into_iter().chain(builtin()).collect();
    for (i, model) in models.iter().enumerate() {
        let all = match model.genotype.frame.border {
            0 => batches(PLAIN_SIZES),
            _ => batches(SIZES),
        };
        write_cases(folder.path(), &model.name, model, Dims::default(), &all);
        // Each batch and size with several models; with the built-in ones, the largest.
        let case @ (n, (width, height)) = match i {
            60.. => (1 + i % 2, SIZES[3]),
            _ => all[i % all.len()],
        };
        let dims = Dims {
            batch: Some(n),
            size: Some((height, width)),
        };
        let name = format!("{}, fixed {n}x{width}x{height}", model.name);
        write_cases(folder.path(), &name, model, dims, &[case]);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx_judge.py");
    let output = Command::new(python)
        .arg(script)
        .arg(folder.path())
        .output()
        .unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}{errors}");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 2 * models.len(), "{text}{errors}");
    println!(
        "{:<32} {:>10}  in case",
        format!("ONNX Runtime {}", lines[0]["onnxruntime"]),
        "difference"
    );
    let mut failures = Vec::new();
    for line in &lines {
        // `null` stands for NaN.
        let difference = line["difference"].as_f64().unwrap_or(f64::INFINITY);
        println!(
            "{:<32} {difference:>10.1e}  {}",
            line["model"].as_str().unwrap(),
            line["case"]
        );
        if difference > TOLERANCE {
            failures.push(line.to_string());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
