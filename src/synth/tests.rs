use super::*;

const SCENES: [Scene; 6] = [
    Scene::Street,
    Scene::StreetDay,
    Scene::StreetDusk,
    Scene::StreetNight,
    Scene::StreetFog,
    Scene::Brain,
];

#[test]
fn a_seed_fixes_every_byte_and_another_seed_changes_them() {
    for scene in SCENES {
        let pair = render(scene, 5, 48, 36).unwrap();
        assert_eq!(pair, render(scene, 5, 48, 36).unwrap());
        let other = render(scene, 6, 48, 36).unwrap();
        assert_ne!(pair.a, other.a);
        assert_ne!(pair.b, other.b);
    }
}

#[test]
fn any_size_from_8x8_up_is_drawn_and_smaller_ones_are_refused() {
    for scene in SCENES {
        for (w, h) in [(8, 8), (9, 31), (57, 8), (33, 47), (8, 100)] {
            let pair = render(scene, 1, w, h).unwrap();
            assert_eq!(pair.a.dimensions(), (w, h));
            assert_eq!(pair.b.dimensions(), (w, h));
        }
        for (w, h) in [(7, 8), (8, 7), (0, 0), (MAX_SIDE + 1, 8)] {
            let error = render(scene, 1, w, h).unwrap_err();
            assert!(matches!(error, Error::Config { .. }), "{error}");
            assert!(error.to_string().contains(&format!("{w}x{h}")), "{error}");
        }
    }
}

#[test]
fn pictures_use_the_range_of_grey_without_flooding() {
    for seed in 0..4 {
        let street = render(Scene::Street, seed, 160, 120).unwrap();
        let (dark, bright) = ends(street.a.as_raw());
        assert!(dark < 60 && bright > 135, "ir of {seed}: {dark}..{bright}");
        let (dark, bright) = ends(street.b.as_raw());
        assert!(dark < 45 && bright > 170, "vi of {seed}: {dark}..{bright}");
        let mean = street.b.as_raw().iter().map(|&v| u64::from(v)).sum::<u64>() / (160 * 120 * 3);
        assert!(mean < 100, "a night, but the mean is {mean}");
        let brain = render(Scene::Brain, seed, 96, 96).unwrap();
        assert_eq!(brain.b.get_pixel(0, 0).0, [0; 3], "PET has a black ground");
        assert!(brain.a.get_pixel(0, 0).0[0] < 16, "MRI has a dark ground");
        let (dark, bright) = ends(brain.a.as_raw());
        assert!(dark < 10 && bright > 160, "mri of {seed}: {dark}..{bright}");
        let coloured = brain.b.pixels().any(|p| p.0[0].abs_diff(p.0[2]) > 80);
        assert!(coloured, "PET is in colour");
    }
}

/// 1st and 99.5th percentile.
fn ends(bytes: &[u8]) -> (u8, u8) {
    let mut sorted = bytes.to_vec();
    sorted.sort_unstable();
    (sorted[sorted.len() / 100], sorted[sorted.len() * 199 / 200])
}

#[test]
fn edges_of_both_sensors_line_up_best_without_a_shift() {
    for scene in &SCENES[..5] {
        for seed in 0..3 {
            let pair = render(*scene, seed, 240, 180).unwrap();
            let (a, b) = (edges(&pair.a), edges(&grey(&pair)));
            assert_eq!(best_shift(&a, &b, 240, 180), (0, 0), "{scene:?} {seed}");
        }
    }
}

fn grey(pair: &SynthPair) -> image::GrayImage {
    image::imageops::grayscale(&pair.b)
}

#[test]
fn a_seed_is_one_street_at_every_hour() {
    let draw = |scene, seed| edges(&render(scene, seed, 240, 180).unwrap().a);
    let alike = |a: &[f32], b: &[f32]| {
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        product(a, b) / (product(a, a) * product(b, b)).sqrt()
    };
    for seed in 0..3 {
        let day = draw(Scene::StreetDay, seed);
        for scene in [Scene::StreetDusk, Scene::StreetNight, Scene::StreetFog] {
            let same = alike(&day, &draw(scene, seed));
            let other = alike(&day, &draw(scene, seed + 1));
            assert!(same > other + 0.1, "{scene:?} {seed}: {same}, {other}");
        }
    }
}

/// Mean and some percentiles of a picture, in grey levels.
struct Levels {
    mean: f64,
    /// 5, 50, 95, 99.
    at: [u8; 4],
}

fn levels(picture: &image::GrayImage) -> Levels {
    let mut sorted = picture.as_raw().clone();
    sorted.sort_unstable();
    let sum: u64 = sorted.iter().map(|&v| u64::from(v)).sum();
    Levels {
        mean: sum as f64 / sorted.len() as f64,
        at: [5, 50, 95, 99].map(|percent| sorted[(sorted.len() - 1) * percent / 100]),
    }
}

#[test]
fn night_is_dark_to_both_cameras_but_for_lamps_and_people() {
    for seed in 0..8 {
        let pair = render(Scene::StreetNight, seed, 320, 240).unwrap();
        let (ir, vi) = (levels(&pair.a), levels(&grey(&pair)));
        assert!((20.0..=65.0).contains(&vi.mean), "{seed}: {}", vi.mean);
        // Unlit walls and road are visible, lamps glow.
        assert!(vi.at[0] >= 5 && (15..=60).contains(&vi.at[1]), "{seed}");
        let glowing = grey(&pair).as_raw().iter().filter(|&&v| v >= 240).count();
        assert!(glowing >= 100, "{seed}: {glowing}");
        assert!((15.0..=60.0).contains(&ir.mean), "{seed}: {}", ir.mean);
        assert!(ir.at[2] < 90, "{seed}: {:?}", ir.at);
        let hot = pair.a.as_raw().iter().filter(|&&v| v >= 150).count();
        assert!(hot >= 50, "{seed}: {hot} pixels of people and cars");
    }
}

#[test]
fn day_has_a_bright_sky_that_is_cold_and_a_bright_warm_road() {
    let (w, h) = (320, 240);
    let mut yellow: Vec<u8> = Vec::new();
    for seed in 0..8 {
        let pair = render(Scene::StreetDay, seed, w, h).unwrap();
        let (ir, vi) = (levels(&pair.a), levels(&grey(&pair)));
        assert!((110.0..=165.0).contains(&vi.mean), "{seed}: {}", vi.mean);
        assert!(vi.at[3] >= 240, "{seed}: {:?}", vi.at);
        assert!((90.0..=150.0).contains(&ir.mean), "{seed}: {}", ir.mean);
        // Above the far end there is nothing but sky.
        let sky = image::imageops::crop_imm(&pair.a, w * 9 / 20, 0, w / 10, h / 12).to_image();
        let [low, _, high, _] = levels(&sky).at;
        assert!(high < 40 && high - low >= 4, "{seed}: {low} to {high}");
        // Lines on the road: yellow, bright in the sun, not white.
        let line = |p: &image::Rgb<u8>| i32::from(p.0[0]) - i32::from(p.0[2]) > 80;
        let brightness = grey(&pair);
        let places = pair.b.enumerate_pixels().zip(brightness.pixels());
        let places = places.filter(|((_, y, p), _)| *y > h * 3 / 5 && line(p));
        yellow.extend(places.map(|(_, g)| g.0[0]));
    }
    yellow.sort_unstable();
    assert!(yellow.len() > 500, "{}", yellow.len());
    let [most, half] = [9, 5].map(|tenths| yellow[yellow.len() * tenths / 10]);
    assert!((190..=235).contains(&most) && half >= 180, "{half}, {most}");
}

#[test]
fn fog_takes_the_contrast_and_dusk_lies_between_day_and_night() {
    for seed in 0..4 {
        let of = |scene| levels(&grey(&render(scene, seed, 160, 120).unwrap()));
        let fog = of(Scene::StreetFog);
        assert!(fog.at[0] > 90 && fog.at[2] < 200, "{seed}: {:?}", fog.at);
        let means = [Scene::StreetNight, Scene::StreetDusk, Scene::StreetDay].map(|s| of(s).mean);
        assert!(means.is_sorted(), "{seed}: {means:?}");
    }
}

#[test]
fn head_is_in_the_same_place_for_both_scanners() {
    for seed in 0..3 {
        let pair = render(Scene::Brain, seed, 128, 128).unwrap();
        let grey: Vec<f32> = pair.a.as_raw().iter().map(|&v| f32::from(v > 60)).collect();
        let glow = |p: &image::Rgb<u8>| f32::from(p.0.iter().any(|&v| v > 90));
        let warm: Vec<f32> = pair.b.pixels().map(glow).collect();
        let (a, b) = (centre(&grey, 128), centre(&warm, 128));
        let off = (a.0 - b.0).abs().max((a.1 - b.1).abs());
        assert!(off < 3.0, "brain {seed}: {a:?} and {b:?}");
        let outside = grey.iter().zip(&warm).enumerate();
        let rim = 0.48 * 128.0;
        for (i, (_, w)) in outside.filter(|(_, (_, w))| **w > 0.0) {
            let (x, y) = ((i % 128) as f32 - 63.5, (i / 128) as f32 - 63.5);
            assert!(
                w * (x * x + y * y).sqrt() < rim,
                "activity outside the head"
            );
        }
    }
}

fn centre(mask: &[f32], width: usize) -> (f32, f32) {
    let mut sum = [0.0f32; 3];
    for (i, m) in mask.iter().enumerate() {
        sum[0] += m;
        sum[1] += m * (i % width) as f32;
        sum[2] += m * (i / width) as f32;
    }
    (sum[1] / sum[0], sum[2] / sum[0])
}

/// Gradient magnitude with strong edges compressed, so that no single light decides.
fn edges(image: &image::GrayImage) -> Vec<f32> {
    let (w, h) = (image.width() as usize, image.height() as usize);
    let at = |x: usize, y: usize| f32::from(image.as_raw()[y * w + x]);
    let mut out = vec![0.0; w * h];
    for y in 1..h - 1 {
        for x in 1..w - 1 {
            let gx = at(x + 1, y) - at(x - 1, y);
            let gy = at(x, y + 1) - at(x, y - 1);
            out[y * w + x] = (gx * gx + gy * gy).sqrt().min(40.0);
        }
    }
    out
}

fn best_shift(a: &[f32], b: &[f32], w: i32, h: i32) -> (i32, i32) {
    let score = |dx: i32, dy: i32| -> f64 {
        let mut sum = 0.0;
        for y in 4..h - 4 {
            for x in 4..w - 4 {
                let other = ((y + dy) * w + x + dx) as usize;
                sum += f64::from(a[(y * w + x) as usize] * b[other]);
            }
        }
        sum
    };
    let shifts = (-3..=3).flat_map(|dy| (-3..=3).map(move |dx| (dx, dy)));
    shifts
        .max_by(|p, q| score(p.0, p.1).total_cmp(&score(q.0, q.1)))
        .unwrap()
}

#[test]
fn committed_sample_is_what_the_generator_draws() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let open = |name: &str| image::open(folder.join(name)).unwrap();
    let drawn = render(Scene::Street, 9, 480, 360).unwrap();
    let close = |a: &[u8], b: &[u8]| {
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.abs_diff(*y) <= 2)
    };
    let ir = open("street_1_ir.png").into_luma8();
    assert!(close(&ir, &drawn.a), "remake samples/ (see its README)");
    let vi = open("street_1_vi.png").into_rgb8();
    assert!(close(&vi, &drawn.b), "remake samples/ (see its README)");
}

#[test]
fn committed_scenes_are_what_the_generator_draws() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scenes");
    let mut drawn = Vec::new();
    for (name, scene, seed) in [
        ("day_1", Scene::StreetDay, 9),
        ("day_2", Scene::StreetDay, 3),
        ("dusk_1", Scene::StreetDusk, 24),
        ("fog_1", Scene::StreetFog, 6),
        ("night_1", Scene::StreetNight, 9),
        ("night_2", Scene::StreetNight, 15),
    ] {
        let pair = render(scene, seed, 320, 240).unwrap();
        let open = |sensor: &str| {
            let path = folder.join(sensor).join(format!("{name}.png"));
            image::open(path).unwrap()
        };
        let remake = "is not what is drawn; remake it (see tests/data/scenes/README.md)";
        let ir = open("ir").into_luma8();
        assert!(ir == pair.a, "ir/{name}.png {remake}");
        let vi = open("vi").into_rgb8();
        assert!(vi == pair.b, "vi/{name}.png {remake}");
        drawn.push(format!("{name}.png"));
    }
    for sensor in ["ir", "vi"] {
        let files = std::fs::read_dir(folder.join(sensor)).unwrap();
        let mut names: Vec<String> = files
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, drawn, "{sensor}");
    }
}
