//! The page of a comparison: what methods scored and what they made of the pictures.

use super::boxplot::boxplots;
use super::html::{self, escape, facts, figure, note, paragraph, section};
use super::pictures::reduced_to;
use super::scores::{Mark, Scores, rank};
use super::sheet::Scene;
use crate::Result;
use crate::data::Picture;
use std::collections::HashMap;
use std::fmt::Write;

/// Larger pictures are embedded reduced: the magnifier shows what is left.
pub const MAX_SIDE: usize = 1024;
/// More scenes than these are shown one at a time.
const SCENES: usize = 6;
const STYLE: &str = include_str!("compare.css");
const SCRIPT: &str = include_str!("compare.js");

/// The pictures of a scene as a page shows them: of at most [`MAX_SIDE`] pixels a side, as PNG within HTML. A page of many
/// scenes needs only these at once, not the scenes.
pub struct Shots {
    name: String,
    html: String,
}

impl Shots {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the scene has not one place for each of `methods` or pictures of several
    /// sizes; those of encoding pictures.
    pub fn of(scene: &Scene, sources: [&str; 2], methods: &[&str]) -> Result<Self> {
        scene.check(methods.len())?;
        let mut html = format!(
            "<div class=\"scene\">\n{}\n<div class=\"shots\">\n",
            heading(&scene.name)
        );
        let labels = sources.into_iter().chain(methods.iter().copied());
        for (label, picture) in labels.zip(scene.pictures()) {
            let view = match picture {
                Some(p) => shot(p, &format!("{label} of {}", scene.name))?,
                None => "<div class=\"none\">no picture</div>".into(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                html,
                "<figure>{view}<figcaption>{}</figcaption></figure>",
                escape(label)
            );
        }
        html += "</div>\n</div>\n";
        let name = scene.name.clone();
        Ok(Self { name, html })
    }
}

fn heading(scene: &str) -> String {
    format!("<h3>{}</h3>", escape(scene))
}

/// Whether a [`page`] shows a scene of this name.
pub fn shows(page: &str, scene: &str) -> bool {
    page.contains(&heading(scene))
}

fn shot(picture: &Picture, alt: &str) -> Result<String> {
    let small = reduced_to(MAX_SIDE, picture);
    let img = html::lazy_png(&small.to_png()?, alt, (small.width, small.height));
    Ok(format!("<div class=\"view\">{img}</div>"))
}

/// One HTML page that needs no other file and no network: facts, the table of means, a table of pictures for each
/// metric, box plots, and the scenes with a magnifier that shows the same place in all pictures of a scene.
///
/// Tables sort by a click on a column's head. Without scripts the page shows all of it, unsorted and unmagnified.
/// `sources` names A and B. The page holds every picture of `scenes`, so give it a choice of a large set.
pub fn page(scores: &Scores, scenes: Vec<Shots>, sources: [&str; 2]) -> String {
    let mut body = overview(scores, sources);
    body += &section("Means", &means(scores));
    let caption = "Box: quartiles and median. Whiskers: up to 1.5 interquartile ranges. Circles: values beyond. Diamond: mean.";
    let plots = figure(&boxplots(scores), caption);
    body += &section("Spread over the pictures", &plots);
    body += &section("Picture by picture", &by_picture(scores));
    if !scenes.is_empty() {
        body += &section("Pictures", &pictures(scenes));
    }
    let version = env!("CARGO_PKG_VERSION");
    body += &paragraph(&format!("Made by hafuse {version}, `hafuse compare`."));
    let title = match scores.rows.len() {
        1 => format!("{} on {} pairs", scores.rows[0].name, scores.pairs),
        n => format!("{n} methods on {} pairs", scores.pairs),
    };
    html::scripted_page(&title, &body, STYLE, SCRIPT)
}

/// Where everything came from and how it was judged.
fn overview(scores: &Scores, sources: [&str; 2]) -> String {
    let mut body = match &scores.problems[..] {
        [] => String::new(),
        [one] => note(one),
        [first, ..] => note(&format!(
            "{} problems, all of them in the notes below; the first: {first}",
            scores.problems.len()
        )),
    };
    let mut rows = vec![
        ("version", format!("hafuse {}", env!("CARGO_PKG_VERSION"))),
        (sources[0], format!("A: {}", scores.folders[0].display())),
        (sources[1], format!("B: {}", scores.folders[1].display())),
        ("pairs", scores.pairs.to_string()),
        ("judged as", "8-bit grey (BT.601)".into()),
    ];
    for row in &scores.rows {
        let n = row.scores.len();
        rows.push((&row.name, format!("{}, {n} pictures", row.origin)));
    }
    body += &facts(&rows);
    body += "<details><summary>Conventions and notes</summary>\n<ul>\n";
    for line in scores.remarks() {
        let _ = writeln!(body, "<li>{}</li>", escape(&line));
    }
    body + "</ul>\n</details>\n"
}

/// A column that sorts its best value first.
struct Column {
    label: String,
    higher_is_better: bool,
}

#[derive(Clone, Default)]
struct Value {
    text: String,
    /// What the cell is sorted by; `None` comes last.
    value: Option<f64>,
    mark: Mark,
}

impl Value {
    /// A dash for what has no value.
    fn new(value: Option<f64>, mark: Mark, after: &str) -> Self {
        Self {
            text: value.map_or("-".into(), |v| format!("{v:.4}{after}")),
            value,
            mark,
        }
    }
}

/// A table whose rows the script sorts; the first column holds names.
fn sortable(label: &str, first: &str, columns: &[Column], rows: &[(String, Vec<Value>)]) -> String {
    let mut out = format!(
        "<div class=\"wide\"><table class=\"sortable\" aria-label=\"{}\">\n<thead><tr><th scope=\"col\">{}</th>",
        escape(label),
        escape(first)
    );
    for c in columns {
        let first = match c.higher_is_better {
            true => "descending",
            false => "ascending",
        };
        let _ = write!(
            out,
            "<th scope=\"col\" class=\"number\" data-first=\"{first}\">{}</th>",
            escape(&c.label)
        );
    }
    out += "</tr></thead>\n<tbody>\n";
    for (name, values) in rows {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(name));
        for v in values {
            let key = v
                .value
                .map_or(String::new(), |v| format!(" data-value=\"{v}\""));
            let (open, close) = match v.mark {
                Mark::None => ("", ""),
                Mark::Best => ("<b class=\"picked\">", "</b>"),
                Mark::Second => ("<u>", "</u>"),
            };
            let _ = write!(
                out,
                "<td class=\"number\"{key}>{open}{}{close}</td>",
                escape(&v.text)
            );
        }
        out += "</tr>\n";
    }
    out + "</tbody></table></div>\n"
}

fn means(scores: &Scores) -> String {
    let mut rows: Vec<(String, Vec<Value>)> = { scores.rows.iter() }
        .map(|r| (r.name.clone(), Vec::new()))
        .collect();
    let mut columns = Vec::new();
    for (k, metric) in scores.metrics.iter().enumerate() {
        for ((_, values), mean) in rows.iter_mut().zip(scores.column(k)) {
            values.push(mean.map_or(Value::new(None, Mark::None, ""), |m| {
                Value::new(Some(m.mean), m.mark, &m.spread("±"))
            }));
        }
        columns.push(Column {
            label: metric.heading(),
            higher_is_better: metric.higher_is_better(),
        });
    }
    let text = "Mean and standard deviation over the pictures. The best is red and bold, the second underlined; equal \
                figures share a place. A mean over fewer pictures than others says so (n) and takes no place.";
    paragraph(text) + &sortable("means", "method", &columns, &rows)
}

/// A table of pictures and methods for each metric, all of them closed at first.
fn by_picture(scores: &Scores) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut place = HashMap::new();
    for (name, _) in scores.rows.iter().flat_map(|r| &r.scores) {
        place.entry(name.as_str()).or_insert_with(|| {
            names.push(name);
            names.len() - 1
        });
    }
    let mut body = String::new();
    for (k, metric) in scores.metrics.iter().enumerate() {
        let higher_is_better = metric.higher_is_better();
        let mut found = vec![vec![None; scores.rows.len()]; names.len()];
        for (i, row) in scores.rows.iter().enumerate() {
            for (name, v) in row.values(k) {
                found[place[name]][i] = Some(v);
            }
        }
        let values = |found: &Vec<Option<f64>>| {
            let marks = rank(found, higher_is_better);
            let cells = found.iter().zip(marks);
            cells.map(|(v, mark)| Value::new(*v, mark, "")).collect()
        };
        let rows: Vec<(String, Vec<Value>)> = { names.iter().zip(&found) }
            .map(|(name, found)| (name.to_string(), values(found)))
            .collect();
        let columns: Vec<Column> = { scores.rows.iter() }
            .map(|r| Column {
                label: r.name.clone(),
                higher_is_better,
            })
            .collect();
        let _ = write!(
            body,
            "<details><summary>{} <small>convention: {}</small></summary>\n{}</details>\n",
            escape(&metric.heading()),
            escape(metric.convention()),
            sortable(metric.label(), "picture", &columns, &rows)
        );
    }
    body
}

fn pictures(scenes: Vec<Shots>) -> String {
    let mut body = String::from(
        "<p id=\"how\" hidden>Point at a picture: the same place is enlarged in all pictures of the pair. \
         With the keyboard: Tab to the pair, arrows move, + and − change the scale (<output>4×</output>), Esc ends. \
         After a click on a picture the wheel changes the scale too.</p>\n",
    );
    if scenes.len() > SCENES {
        body += "<p id=\"chooser\" hidden><label>Pair <select>";
        for scene in &scenes {
            let _ = write!(body, "<option>{}</option>", escape(&scene.name));
        }
        body += "</select></label> <button type=\"button\">previous</button> <button type=\"button\">next</button></p>\n";
    }
    for scene in scenes {
        body += &scene.html;
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metric, Undefined};
    use crate::report::samples::{self, grey};
    use crate::report::scores::Row;
    use crate::tone::Tone;

    const EVIL: &str = "</td><script>alert(1)</script>\"'&";

    fn scores() -> Scores {
        let row = |name: &str, values: &[f64]| Row {
            name: name.into(),
            origin: format!("{name}/folder"),
            tone: Tone::None,
            scores: values
                .iter()
                .enumerate()
                .map(|(i, &v)| (format!("{i}{EVIL}"), vec![Ok(v), Ok(v)]))
                .collect(),
        };
        let mut rows = vec![
            row(EVIL, &[1.0, 2.0]),
            row("y", &[3.0, 4.0, 5.0]),
            row("z", &[2.0, 9.0, 4.0]),
        ];
        rows[0].scores[0].1[1] = Err(Undefined::NoEdges);
        Scores {
            metrics: vec![Metric::En, Metric::Mse],
            pairs: 3,
            unpaired: 1,
            folders: [EVIL.into(), "b".into()],
            rows,
            gates: vec![],
            problems: vec![format!("{EVIL} is missing")],
        }
    }

    fn scene(name: String) -> Scene {
        let fused = vec![Some(grey(1500, 3, 0.5)), None, Some(grey(1500, 3, 0.5))];
        let scene = samples::scene(1500, 3, fused, vec![]);
        Scene { name, ..scene }
    }

    fn shots(scene: Scene) -> Result<Shots> {
        Shots::of(&scene, [EVIL, "visible"], &[EVIL, "y", "z"])
    }

    #[test]
    fn a_page_is_whole_and_escaped_and_asks_for_nothing() {
        let scenes = (0..7).map(|i| shots(scene(format!("{i}{EVIL}"))).unwrap());
        let page = page(&scores(), scenes.collect(), [EVIL, "visible"]);
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("alert(1)</script>") && page.contains("&lt;/td&gt;&lt;script&gt;"));
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--") && !SCRIPT.contains('\r'));
        for word in [
            "http:", "https:", "url(", "@import", "<link", "src=\"/", "href=",
        ] {
            // The name of SVG is no address.
            let page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
            assert!(!page.contains(word), "{word}");
        }
        // The script and base64 may spell it.
        let (start, end) = (page.find("</style>"), page.find("data:image"));
        assert!(!page[start.unwrap()..end.unwrap()].contains("NaN"));
        for tag in [
            "table", "details", "figure", "div", "section", "td", "th", "p",
        ] {
            let opened = page.matches(&format!("<{tag} ")).count()
                + page.matches(&format!("<{tag}>")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 7 * 4);
        assert_eq!(page.matches("<option>").count(), 7);
        assert!(shows(&page, &format!("6{EVIL}")) && !shows(&page, EVIL));
        assert_eq!(page.matches("no picture</div>").count(), 7);
        assert!(page.contains("width=\"750\" height=\"2\""), "reduced by 2");
    }

    #[test]
    fn tables_mark_the_best_and_dash_what_is_missing() {
        let page = page(&scores(), vec![], ["a", "b"]);
        for part in [
            // The first method lacks a picture.
            "data-value=\"1.5\">1.5000 ± 0.5000 (n = 2)</td>",
            "data-value=\"4\">4.0000 ± 0.8165</td>",
            "data-value=\"5\"><b class=\"picked\">5.0000 ± 2.9439</b>",
            "<td class=\"number\">-</td>",
            "data-first=\"ascending\">MSE (lower is better)",
            // Picture 0: EN 1, 3, 2.
            "data-value=\"3\"><b class=\"picked\">3.0000</b></td><td class=\"number\" data-value=\"2\"><u>2.0000</u>",
            "<summary>MSE (lower is better) <small>convention: Evaluation-for-Image-Fusion</small>",
            "is missing</p>",
        ] {
            assert!(page.contains(part), "no {part}");
        }
        assert!(!page.contains("class=\"scene\"") && !page.contains("id=\"chooser\""));
    }

    #[test]
    fn scenes_must_fit_the_methods() {
        let mut scene = scene("s".into());
        scene.fused.pop();
        let e = shots(scene).err().unwrap();
        assert!(e.to_string().contains("2 methods, there are 3"), "{e}");
    }
}
