//! Which pairs belong together: folders, patterns of names, sets and scenes.

use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use wildmatch::WildMatch;

/// Folders of one source: in a file one string, or a list of strings; none is the empty string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders(Vec<PathBuf>);

impl From<Vec<PathBuf>> for Folders {
    /// Empty paths name no folder and are dropped.
    fn from(mut folders: Vec<PathBuf>) -> Self {
        folders.retain(|f| !f.as_os_str().is_empty());
        Self(folders)
    }
}

impl From<&Path> for Folders {
    fn from(folder: &Path) -> Self {
        Self::from(vec![folder.to_path_buf()])
    }
}

impl Deref for Folders {
    type Target = [PathBuf];

    fn deref(&self) -> &[PathBuf] {
        &self.0
    }
}

impl fmt::Display for Folders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(|p| p.display().to_string()).collect();
        f.write_str(&names.join(", "))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(PathBuf),
    More(Vec<PathBuf>),
}

impl<'de> Deserialize<'de> for Folders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = OneOrMore::deserialize(deserializer);
        match read.map_err(|_| serde::de::Error::custom("a folder, or a list of folders"))? {
            OneOrMore::One(folder) => Ok(Self::from(vec![folder])),
            OneOrMore::More(folders) => Ok(Self::from(folders)),
        }
    }
}

impl Serialize for Folders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [] => "".serialize(serializer),
            [one] => one.serialize(serializer),
            more => more.serialize(serializer),
        }
    }
}

/// Patterns of names: `*` stands for any text, `?` for one character.
#[derive(Clone, Debug)]
pub struct Patterns(Vec<(String, WildMatch)>);

impl Patterns {
    pub fn new(patterns: &[String]) -> Self {
        let each = patterns.iter();
        Self(each.map(|p| (p.clone(), WildMatch::new(p))).collect())
    }

    /// Whether one of the patterns matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|(_, p)| p.matches(name))
    }

    /// Refuses a pattern that matches none of the names; `key` is where it was given.
    ///
    /// # Errors
    /// [`Error::Config`] with the first such pattern and a few of the names.
    pub fn check_used(&self, key: &str, names: &[&str]) -> Result<()> {
        let unused = |(_, p): &&(String, WildMatch)| !names.iter().any(|n| p.matches(n));
        match self.0.iter().find(unused) {
            None => Ok(()),
            Some((text, _)) => {
                let first: Vec<&str> = names.iter().take(4).copied().collect();
                let detail = format!(
                    "`{text}` matches no pair; names are without folder and extension, as {}",
                    first.join(", ")
                );
                Err(Error::config(key, detail))
            }
        }
    }
}

/// The set that a name belongs to within its folder: what is before the first `_`, nothing for all without one.
pub fn set_name(stem: &str) -> &str {
    stem.split_once('_').map_or("", |(set, _)| set)
}

/// What is before and after a number.
type Around<'a> = (&'a str, &'a str);

/// A name without its last number, and that number; `None` if it has none.
///
/// What follows the number is passed over where it is short: `_q0` (a letter or two, up to two digits), or up to 3
/// characters that are no digits.
fn numbered(stem: &str) -> Option<(Around<'_>, u64)> {
    let whole = last_number(stem);
    let cut = last_number(without_part(stem));
    let ((before, after), number) = cut.or(whole)?;
    let after = if after.chars().count() <= 3 {
        ""
    } else {
        after
    };
    Some(((before, after), number))
}

/// `x_q0` without `_q0`.
fn without_part(stem: &str) -> &str {
    let Some(at) = stem.rfind(['_', '-']) else {
        return stem;
    };
    let part = &stem[at + 1..];
    let letters = part.bytes().take_while(u8::is_ascii_alphabetic).count();
    let digits = &part[letters..];
    let short = (1..=2).contains(&letters) && digits.len() <= 2;
    match short && digits.bytes().all(|c| c.is_ascii_digit()) {
        true => &stem[..at],
        false => stem,
    }
}

/// What is before and after the last digits of a name, and their number.
fn last_number(stem: &str) -> Option<(Around<'_>, u64)> {
    let end = stem.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = stem[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |i| {
            i + stem[i..].chars().next().map_or(1, char::len_utf8)
        });
    // More digits than fit: all of them are the same number, which joins scenes instead of splitting one.
    let number = stem[start..end].parse().unwrap_or(u64::MAX);
    Some(((&stem[..start], &stem[end..]), number))
}

/// Groups pairs, given as (set, name), into scenes; each is a list of places in `pairs`.
///
/// A scene: pairs of one set whose names differ only in their last number, each at most `gap` from the next one. Pairs
/// without a number, and all others, are scenes of their own. Sorted by their first pair.
pub fn scenes_of(pairs: &[(u32, &str)], gap: u64) -> Vec<Vec<usize>> {
    let mut scenes: Vec<Vec<usize>> = Vec::new();
    let mut runs: BTreeMap<(u32, Around), Vec<(u64, usize)>> = BTreeMap::new();
    for (i, &(set, name)) in pairs.iter().enumerate() {
        match numbered(name) {
            Some((key, number)) => runs.entry((set, key)).or_default().push((number, i)),
            None => scenes.push(vec![i]),
        }
    }
    for mut run in runs.into_values() {
        run.sort_unstable();
        for part in run.chunk_by(|x, y| y.0 - x.0 <= gap) {
            let mut scene: Vec<usize> = part.iter().map(|&(_, i)| i).collect();
            scene.sort_unstable();
            scenes.push(scene);
        }
    }
    scenes.sort_unstable();
    scenes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenes(names: &[&str], gap: u64) -> Vec<Vec<String>> {
        let pairs: Vec<(u32, &str)> = names.iter().map(|n| (0, *n)).collect();
        let name = |i: &usize| names[*i].to_string();
        let each = scenes_of(&pairs, gap).into_iter();
        each.map(|s| s.iter().map(name).collect()).collect()
    }

    #[test]
    fn sets_are_what_is_before_the_first_underline() {
        let names = [
            ("LLVIP_010002_q0", "LLVIP"),
            ("FLIR_video_02807", "FLIR"),
            ("25015", ""),
            ("_x_1", ""),
            ("a-b_", "a-b"),
        ];
        for (name, set) in names {
            assert_eq!(set_name(name), set);
        }
    }

    #[test]
    fn scenes_are_runs_of_numbers() {
        let names = [
            "L_010002_q0",
            "L_010030",
            "L_010080_q3",
            "L_010131",
            "M_0111_1716_0000",
            "M_0111_1716_0019",
            "M_0111_1753_0000",
            "N_00003N",
            "N_00004D",
            "N_00005-big",
            "man",
            "manwithbag",
        ];
        assert_eq!(
            scenes(&names, 50),
            [
                vec!["L_010002_q0", "L_010030", "L_010080_q3"],
                vec!["L_010131"],
                vec!["M_0111_1716_0000", "M_0111_1716_0019"],
                vec!["M_0111_1753_0000"],
                vec!["N_00003N", "N_00004D"],
                vec!["N_00005-big"],
                vec!["man"],
                vec!["manwithbag"],
            ]
        );
        assert_eq!(scenes(&names[..4], 0).len(), 4);
        // Slices of two series.
        let slices = ["2006", "2015", "33006", "33008"];
        assert_eq!(
            scenes(&slices, 50),
            [slices[..2].to_vec(), slices[2..].to_vec()]
        );
        assert_eq!(scenes(&names[..4], 51).len(), 1);
        // The order of the list does not matter, and parts of one frame stay together whatever the gap.
        assert_eq!(
            scenes(&["x_9", "x_7_q1", "x_8", "x_7_q0"], 0),
            [vec!["x_9"], vec!["x_7_q1", "x_7_q0"], vec!["x_8"]]
        );
        // Numbers that do not fit are no panic; letters of any script are none either.
        let long = "1".repeat(40);
        let names = [format!("x_{long}"), "x_é7é".into(), "é".into(), "_".into()];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(scenes(&names, 50).len(), 4);
        // A suffix that is all there is of a number counts.
        assert_eq!(scenes(&["x-a1", "x-a2"], 50).len(), 1);
    }

    #[test]
    fn sets_of_other_folders_are_other_scenes() {
        assert_eq!(scenes_of(&[(0, "x_1"), (1, "x_1"), (0, "x_2")], 5).len(), 2);
    }

    #[test]
    fn folders_are_one_or_more() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Data {
            a: Folders,
        }
        for (text, count) in [
            ("a = \"\"\n", 0),
            ("a = \"x\"\n", 1),
            ("a = [\"x\", \"y\"]\n", 2),
        ] {
            let data: Data = toml::from_str(text).unwrap();
            assert_eq!(data.a.len(), count);
            assert_eq!(toml::to_string(&data).unwrap(), text);
        }
        let one: Data = toml::from_str("a = [\"x\"]").unwrap();
        assert_eq!(toml::to_string(&one).unwrap(), "a = \"x\"\n");
        let wrong = toml::from_str::<Data>("a = 3").unwrap_err().to_string();
        assert!(wrong.contains("a folder, or a list of folders"), "{wrong}");
    }

    #[test]
    fn patterns_match_whole_names() {
        let patterns = Patterns::new(&["L_*".into(), "x?".into()]);
        for (name, hit) in [("L_1", true), ("xL_1", false), ("x1", true), ("x12", false)] {
            assert_eq!(patterns.matches(name), hit, "{name}");
        }
        assert!(patterns.check_used("key", &["L_", "xy"]).is_ok());
        let text = patterns.check_used("key", &["L_"]).unwrap_err().to_string();
        assert!(text.contains("key") && text.contains("`x?`"), "{text}");
        assert!(Patterns::new(&[]).check_used("key", &[]).is_ok());
    }
}
