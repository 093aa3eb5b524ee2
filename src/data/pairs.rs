//! Two folders of pictures, matched by name.

use super::Picture;
use crate::{Error, Result};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];
/// What may follow a name after `_`, `-`, `.` or a space to say the modality.
const MODALITIES: [&str; 12] = [
    "ir", "infrared", "thermal", "vi", "vis", "visible", "rgb", "mri", "mr", "ct", "pet", "spect",
];

/// Pixels of a picture beside which the other one is decoded, whatever its size; while a larger one is decoded its file and
/// samples take too much.
const BOTH_AT_ONCE: usize = 1 << 20;

/// Two pictures of one scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The common name; unique in its list, so fit to name results.
    pub stem: String,
    /// File of source A (infrared, MRI).
    pub a: PathBuf,
    /// File of source B (visible, PET).
    pub b: PathBuf,
}

/// The pairs of two folders and what has no partner, each in natural order (2 before 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairList {
    /// Pairs that matched by name.
    pub pairs: Vec<Pair>,
    /// Files of folder A without a partner.
    pub only_a: Vec<PathBuf>,
    /// Files of folder B without a partner.
    pub only_b: Vec<PathBuf>,
}

type Stems = BTreeMap<String, PathBuf>;

/// Reads two pictures of one size.
///
/// # Errors
/// [`Error::Input`] if one cannot be read or their sizes differ.
pub fn read_pair(a: &Path, b: &Path) -> Result<(Picture, Picture)> {
    let (path, other) = (a, b);
    let (a, b) = if Picture::size(a).is_ok_and(|(w, h)| w * h <= BOTH_AT_ONCE) {
        let (a, b) = rayon::join(|| Picture::read(a), || Picture::read(b));
        (a?, b?)
    } else {
        (Picture::read(a)?, Picture::read(b)?)
    };
    let (w, h) = (a.width, a.height);
    if (w, h) == (b.width, b.height) {
        return Ok((a, b));
    }
    Err(Error::input(
        path,
        format!(
            "is {w}x{h} but {} is {}x{}; register and resize both to one size first",
            other.display(),
            b.width,
            b.height
        ),
    ))
}

/// Matches the pictures (png, jpg, jpeg, bmp, tif, tiff) of two folders by file stem.
///
/// Equal stems match first, then stems that differ in case only, then stems that are equal without
/// a modality suffix (`x_ir.png` and `x_vi.png`, `x-mri.png` and `x.png`). Hidden files, folders
/// and other files are passed over.
///
/// # Errors
/// [`Error::Input`] if a folder is missing or has no pictures, or if a name is ambiguous (`x.png` and `x.jpg` in one
/// folder), if both are the same folder or no two names match.
pub fn list_pairs(dir_a: &Path, dir_b: &Path) -> Result<PairList> {
    let list = match_names(dir_a, dir_b)?;
    if let (Ok(real_a), Ok(real_b)) = (dir_a.canonicalize(), dir_b.canonicalize())
        && real_a == real_b
    {
        return Err(Error::input(
            dir_a,
            "both sources are this folder; put the two modalities into two folders",
        ));
    }
    if list.pairs.is_empty() {
        return Err(Error::input(
            dir_a,
            format!(
                "no name here ({}) matches one in {} ({}); name the two pictures of a scene alike, as 01.png and 01.png or 01_ir.png and 01_vi.png",
                sample_names(&list.only_a),
                dir_b.display(),
                sample_names(&list.only_b)
            ),
        ));
    }
    Ok(list)
}

/// See [`list_pairs`]; either folder may have no match.
///
/// # Errors
/// As there.
pub(crate) fn match_names(dir_a: &Path, dir_b: &Path) -> Result<PairList> {
    let (mut a, mut b) = (scan(dir_a)?, scan(dir_b)?);
    // (common name, name in A, file in A, file in B)
    let mut found: Vec<(String, String, PathBuf, PathBuf)> = Vec::new();
    let same: fn(&str) -> String = str::to_string;
    let fold: fn(&str) -> String = |s| s.to_lowercase();
    let strip: fn(&str) -> String = |s| without_modality(s).to_lowercase();
    for key in [same, fold, strip] {
        let (by_key_a, by_key_b) = (by_key(&a, key), by_key(&b, key));
        for (k, stems_a) in &by_key_a {
            let Some(stems_b) = by_key_b.get(k) else {
                continue;
            };
            let stem_a = only(stems_a, &a, dir_a)?;
            let stem_b = only(stems_b, &b, dir_b)?;
            if let (Some(file_a), Some(file_b)) = (a.remove(stem_a), b.remove(stem_b)) {
                let common = if stem_a == stem_b {
                    stem_a
                } else if key(stem_a) == stem_a.to_lowercase() {
                    // A carries no suffix (or only the case differs).
                    stem_a
                } else {
                    without_modality(stem_a)
                };
                found.push((common.to_string(), stem_a.clone(), file_a, file_b));
            }
        }
    }
    // Two pairs of one common name (x and x_ir in A) would overwrite each other's results.
    let distinct: BTreeSet<&String> = found.iter().map(|f| &f.0).collect();
    let clash = distinct.len() < found.len();
    let mut pairs: Vec<Pair> = found
        .into_iter()
        .map(|(common, stem_a, a, b)| Pair {
            stem: if clash { stem_a } else { common },
            a,
            b,
        })
        .collect();
    pairs.sort_by(|x, y| natural(&x.stem, &y.stem));
    Ok(PairList {
        pairs,
        only_a: sorted(a),
        only_b: sorted(b),
    })
}

fn scan(dir: &Path) -> Result<Stems> {
    let fail = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::input(dir, "no such folder; check the path"),
        std::io::ErrorKind::NotADirectory => {
            Error::input(dir, "is a file; name the folder that holds the pictures")
        }
        _ => Error::input(dir, e),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        files.push(entry.map_err(fail)?.path());
    }
    // read_dir has no order of its own; messages should not change from run to run.
    files.sort();
    let mut stems = Stems::new();
    let mut others = Vec::new();
    for path in files {
        let (Some(name), Some(stem)) = (path.file_name(), path.file_stem()) else {
            continue;
        };
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if !has_picture_extension(&path) || !path.is_file() {
            others.push(name.into_owned());
            continue;
        }
        let stem = stem.to_string_lossy().into_owned();
        if let Some(first) = stems.get(&stem) {
            return Err(twice(dir, first, &path));
        }
        stems.insert(stem, path);
    }
    if stems.is_empty() {
        let found = match others.len() {
            0 => "it is empty".to_string(),
            _ => format!("it has only {}", enumerate(&others)),
        };
        return Err(Error::input(
            dir,
            format!(
                "no pictures in this folder ({}): {found}",
                EXTENSIONS.join(", ")
            ),
        ));
    }
    Ok(stems)
}

fn has_picture_extension(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| EXTENSIONS.iter().any(|x| e.eq_ignore_ascii_case(x)))
}

fn twice(dir: &Path, first: &Path, second: &Path) -> Error {
    let name = |p: &Path| {
        p.file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    };
    Error::input(
        dir,
        format!(
            "{} and {} stand for the same scene; keep one of them",
            name(first),
            name(second)
        ),
    )
}

/// `x_ir` to `x`; names that would become empty stay.
fn without_modality(stem: &str) -> &str {
    match stem.rfind(['_', '-', '.', ' ']) {
        Some(at)
            if at > 0
                && MODALITIES
                    .iter()
                    .any(|m| stem[at + 1..].eq_ignore_ascii_case(m)) =>
        {
            &stem[..at]
        }
        _ => stem,
    }
}

fn by_key(stems: &Stems, key: fn(&str) -> String) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for stem in stems.keys() {
        out.entry(key(stem)).or_default().push(stem.clone());
    }
    out
}

fn only<'s>(candidates: &'s [String], stems: &Stems, dir: &Path) -> Result<&'s String> {
    match candidates {
        [one] => Ok(one),
        [first, second, ..] => Err(twice(dir, &stems[first], &stems[second])),
        [] => Err(Error::Internal("a stem key without a stem".into())),
    }
}

fn sorted(stems: Stems) -> Vec<PathBuf> {
    let mut rest: Vec<(String, PathBuf)> = stems.into_iter().collect();
    rest.sort_by(|x, y| natural(&x.0, &y.0));
    rest.into_iter().map(|(_, path)| path).collect()
}

/// The first few names of files and how many there are.
pub(crate) fn sample_names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths
        .iter()
        .filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned()))
        .collect();
    enumerate(&names)
}

/// The first few names and how many there are.
fn enumerate(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let head = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => head,
        more => format!("{head} and {more} more"),
    }
}

/// Compares runs of digits as numbers, all else byte by byte; a total order.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    while let (Some(&p), Some(&q)) = (x.first(), y.first()) {
        if p.is_ascii_digit() && q.is_ascii_digit() {
            let (m, rest_x) = number(x);
            let (n, rest_y) = number(y);
            // Without leading zeros the longer number is the larger one.
            match m.len().cmp(&n.len()).then_with(|| m.cmp(n)) {
                Ordering::Equal => (x, y) = (rest_x, rest_y),
                other => return other,
            }
        } else if p == q {
            (x, y) = (&x[1..], &y[1..]);
        } else {
            return p.cmp(&q);
        }
    }
    x.len().cmp(&y.len()).then_with(|| a.cmp(b))
}

fn number(s: &[u8]) -> (&[u8], &[u8]) {
    let end = s
        .iter()
        .position(|c| !c.is_ascii_digit())
        .unwrap_or(s.len());
    let zeros = s[..end].iter().take_while(|&&c| c == b'0').count();
    (&s[zeros..end], &s[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        dir
    }

    fn stems(a: &[&str], b: &[&str]) -> Result<Vec<String>> {
        let (a, b) = (folder(a), folder(b));
        Ok(list_pairs(a.path(), b.path())?
            .pairs
            .into_iter()
            .map(|p| p.stem)
            .collect())
    }

    fn message(a: &[&str], b: &[&str]) -> String {
        let text = stems(a, b).unwrap_err().to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        text
    }

    #[test]
    fn stems_match_in_natural_order_and_the_rest_is_listed() {
        let a = folder(&[
            "10.png",
            "2.JPG",
            "1.tif",
            "x.bmp",
            ".hidden.png",
            "notes.txt",
        ]);
        let b = folder(&["1.jpeg", "2.png", "10.TIFF", "y.png"]);
        std::fs::create_dir(a.path().join("y.png")).unwrap();
        let list = list_pairs(a.path(), b.path()).unwrap();
        let names: Vec<&str> = list.pairs.iter().map(|p| p.stem.as_str()).collect();
        assert_eq!(names, ["1", "2", "10"]);
        assert!(list.pairs[1].a.ends_with("2.JPG") && list.pairs[1].b.ends_with("2.png"));
        assert_eq!(list.only_a, [a.path().join("x.bmp")]);
        assert_eq!(list.only_b, [b.path().join("y.png")]);
    }

    #[test]
    fn natural_order_is_total() {
        let mut names = ["b", "a10", "a2", "a02", "a", "a2b", "a1c10", "a1c9", ""];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["", "a", "a1c9", "a1c10", "a02", "a2", "a2b", "a10", "b"]
        );
    }

    #[test]
    fn case_and_modality_suffixes_match_after_equal_names() {
        assert_eq!(stems(&["x_ir.png"], &["x_vi.png"]).unwrap(), ["x"]);
        assert_eq!(stems(&["s1-MRI.png"], &["s1-PET.png"]).unwrap(), ["s1"]);
        assert_eq!(stems(&["s1_pet.png"], &["s1.png"]).unwrap(), ["s1"]);
        assert_eq!(stems(&["Scene.png"], &["scene.png"]).unwrap(), ["Scene"]);
        assert_eq!(stems(&["X_IR.png"], &["x_vis.png"]).unwrap(), ["X"]);
        assert_eq!(stems(&["a_ir.png"], &["a_ir.png"]).unwrap(), ["a_ir"]);
        assert_eq!(
            stems(&["A.png", "a.png"], &["a.png", "A.png"]).unwrap(),
            ["A", "a"]
        );
        // `_ir` alone is a name, not a suffix.
        assert!(stems(&["_ir.png"], &["_vi.png"]).is_err());
    }

    #[test]
    fn common_names_stay_unique() {
        let names = stems(&["x.png", "x_ir.png"], &["x.png", "x_vi.png"]).unwrap();
        assert_eq!(names, ["x", "x_ir"]);
    }

    #[test]
    fn ambiguous_names_are_refused() {
        let text = message(&["a.png", "a.jpg"], &["a.png"]);
        assert!(text.contains("a.jpg and a.png"), "{text}");
        let text = message(&["x-ir.png", "x_ir.png"], &["x_vi.png"]);
        assert!(text.contains("x-ir.png and x_ir.png"), "{text}");
    }

    #[test]
    fn nothing_to_match_says_what_was_found() {
        let text = message(&["a.png", "b.png", "c.png", "d.png", "e.png"], &["z.png"]);
        assert!(
            text.contains("a.png, b.png, c.png, d.png and 1 more"),
            "{text}"
        );
        assert!(text.contains("z.png"), "{text}");
        let text = message(&["a.gif"], &["a.png"]);
        assert!(
            text.contains("no pictures") && text.contains("a.gif"),
            "{text}"
        );
        assert!(message(&["a.png"], &[]).contains("it is empty"));
        let a = folder(&["a.png"]);
        let same = list_pairs(a.path(), a.path()).unwrap_err().to_string();
        assert!(same.contains("both sources are this folder"), "{same}");
        // Results may be the sources themselves.
        assert_eq!(match_names(a.path(), a.path()).unwrap().pairs.len(), 1);
        let missing = list_pairs(&a.path().join("no"), a.path()).unwrap_err();
        assert!(missing.to_string().contains("no such folder"), "{missing}");
        let file = list_pairs(&a.path().join("a.png"), a.path()).unwrap_err();
        assert!(file.to_string().contains("is a file"), "{file}");
    }
}
