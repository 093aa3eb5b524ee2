//! HTML pages that need no other file.

pub use super::svg::escape;
use base64::Engine;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// A whole page; `title` is text, `body` is HTML. Nothing is loaded from anywhere: its policy forbids it.
pub fn page(title: &str, body: &str) -> String {
    document(title, body, STYLE, None)
}

/// [`page`] with rules of style and a script of its own.
///
/// The page's policy names the script by its hash: no other one runs, whatever the body holds.
pub fn scripted_page(title: &str, body: &str, style: &str, script: &str) -> String {
    document(title, body, &format!("{STYLE}{style}"), Some(script))
}

fn document(title: &str, body: &str, style: &str, script: Option<&str>) -> String {
    let title = escape(title);
    let (policy, script) = match script {
        None => (String::new(), String::new()),
        Some(text) => (
            format!(
                "; script-src '{}'; base-uri 'none'; form-action 'none'",
                hash(text)
            ),
            format!("<script>{text}</script>\n"),
        ),
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n{script}</body>\n</html>\n"
    )
}

/// A script's name in a policy.
fn hash(script: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(script)))
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A part of a page with a heading; `body` is HTML.
pub fn section(heading: &str, body: &str) -> String {
    format!(
        "<section>\n<h2>{}</h2>\n{body}\n</section>\n",
        escape(heading)
    )
}

/// A paragraph of text.
pub fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// A paragraph that should not be overlooked.
pub fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escape(text))
}

/// A figure (SVG or an `img`) with a line below it; a wide one scrolls by itself.
pub fn figure(inside: &str, caption: &str) -> String {
    let caption = match caption {
        "" => String::new(),
        text => format!("<figcaption>{}</figcaption>", escape(text)),
    };
    format!("<figure><div class=\"wide\">{inside}</div>{caption}</figure>\n")
}

/// A cell of a table: text, and whether it stands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub picked: bool,
}

impl Cell {
    /// Text that stands out if `picked`.
    pub fn picked(text: impl Into<String>, picked: bool) -> Self {
        Self {
            text: text.into(),
            picked,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::picked(text, false)
    }
}

/// A table; the first `names` columns are text, the others numbers.
pub fn table(head: &[&str], names: usize, rows: &[Vec<Cell>]) -> String {
    let mut out = String::from("<div class=\"wide\"><table>\n<thead><tr>");
    let class = |i: usize| if i < names { "" } else { " class=\"number\"" };
    // Writing to a String cannot fail.
    for (i, text) in head.iter().enumerate() {
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(i), escape(text));
    }
    out += "</tr></thead>\n<tbody>\n";
    for row in rows {
        out += "<tr>";
        for (i, cell) in row.iter().enumerate() {
            let text = escape(&cell.text);
            let text = match cell.picked {
                true => format!("<b class=\"picked\">{text}</b>"),
                false => text,
            };
            let _ = write!(out, "<td{}>{text}</td>", class(i));
        }
        out += "</tr>\n";
    }
    out + "</tbody></table></div>\n"
}

/// Names and values, in two columns.
pub fn facts(rows: &[(&str, String)]) -> String {
    let mut out = String::from("<dl>\n");
    for (name, value) in rows {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    out + "</dl>\n"
}

/// A PNG as an `img` that holds it.
pub fn png(bytes: &[u8], alt: &str) -> String {
    img("", bytes, alt)
}

/// [`png`] of this width and height that is decoded when it comes into view.
pub fn lazy_png(bytes: &[u8], alt: &str, (width, height): (usize, usize)) -> String {
    let size = format!("width=\"{width}\" height=\"{height}\"");
    img(
        &format!("loading=\"lazy\" decoding=\"async\" {size} "),
        bytes,
        alt,
    )
}

fn img(attributes: &str, bytes: &[u8], alt: &str) -> String {
    format!(
        "<img {attributes}alt=\"{}\" src=\"data:image/png;base64,{}\">",
        escape(alt),
        base64(bytes)
    )
}

const STYLE: &str = "
:root{color-scheme:light dark}
body{margin:0;background:#f4f6f8;color:#1c2530;font:15px/1.5 system-ui,\"Segoe UI\",\"DejaVu Sans\",sans-serif}
main{max-width:1160px;margin:0 auto;padding:20px}
h1{font-size:26px;margin:8px 0 12px}
h2{font-size:19px;margin:0 0 10px}
h3{font-size:15px;margin:18px 0 6px}
section{margin:34px 0 0}
p{margin:0 0 10px;max-width:90ch}
.note{background:#fdf1d7;border-left:4px solid #c98a12;padding:8px 12px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:0 0 12px}
dt{color:#566270}
dd{margin:0;overflow-wrap:anywhere}
figure{margin:0 0 14px}
figcaption{color:#566270;font-size:13px;margin-top:4px}
.wide{overflow-x:auto}
figure svg{display:block;border-radius:6px;max-width:100%;height:auto}
img{display:block;max-width:100%;height:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13.5px;margin:0 0 10px}
th,td{padding:3px 11px;border-bottom:1px solid #d9dee4;text-align:left;white-space:nowrap}
th{color:#566270;font-weight:600}
.number{text-align:right}
.picked{color:#c00f18}
.triple{display:grid;grid-template-columns:repeat(3,1fr);gap:10px;margin:0 0 14px}
.triple figure{margin:0}
@media(prefers-color-scheme:dark){
body{background:#0d1117;color:#e4e9ef}
dt,th,figcaption{color:#a3afbb}
th,td{border-color:#2f3843}
.note{background:#33290f;border-color:#d39a2c}
.picked{color:#ff7068}
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_text_is_escaped() {
        let evil = "<script>\"&'";
        let safe = "&lt;script&gt;&quot;&amp;&#39;";
        let row = vec![evil.into(), Cell::picked(evil, true)];
        let parts = [
            page(evil, ""),
            section(evil, ""),
            paragraph(evil),
            note(evil),
            figure("", evil),
            table(&[evil], 1, &[row]),
            facts(&[(evil, evil.into())]),
            png(b"", evil),
            lazy_png(b"", evil, (1, 2)),
        ];
        for part in parts {
            assert!(part.contains(safe) && !part.contains("<script"), "{part}");
        }
    }

    #[test]
    fn a_script_is_named_by_its_hash() {
        // FIPS 180-4: the hash of "abc" is ba7816bf 8f01cfea ... f20015ad.
        assert_eq!(
            hash("abc"),
            "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
        );
        let page = scripted_page("t", "b", "x{y:z}", "abc");
        assert!(
            page.contains("script-src 'sha256-ungWv48B") && page.contains("<script>abc</script>")
        );
        assert!(page.contains("x{y:z}") && !super::page("t", "b").contains("script-src"));
    }

    #[test]
    fn a_page_asks_for_nothing() {
        let page = page("t", &figure("<svg/>", ""));
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains("default-src 'none'"));
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url("));
    }
}
