//! Verdicts of the gates as text: a table for each method, or one of all sets.

use super::Scores;
use super::text::{escape_latex, escape_markdown, line, quote};
use crate::metrics::gates::{Gate, Limit, Rule, Verdict};
use crate::tone::Tone;
use serde_json::{Value, json};

/// A method's verdicts over one set of pictures.
pub struct Judged {
    /// `None` where all pictures are one set.
    pub set: Option<String>,
    pub method: String,
    pub tone: Tone,
    pub pictures: usize,
    /// In the order of [`Gate::ALL`].
    pub verdicts: Vec<Verdict>,
}

impl Judged {
    /// Gates that are not passed, and all that could be judged.
    fn count(&self) -> (usize, usize) {
        let judged = self.verdicts.iter().filter_map(|v| v.passes);
        judged.fold((0, 0), |(failed, all), passes| {
            (failed + usize::from(!passes), all + 1)
        })
    }

    /// `passes`, or `fails 2 of 10`.
    fn outcome(&self) -> String {
        match self.count() {
            (0, _) => "passes".into(),
            (failed, all) => format!("fails {failed} of {all}"),
        }
    }

    /// Method and set: `gff on TNO`.
    fn whose(&self) -> String {
        match &self.set {
            Some(set) => format!("{} on {set}", self.method),
            None => self.method.clone(),
        }
    }
}

impl Scores {
    /// Gates that are not passed, and all that could be judged, of all methods and sets.
    pub fn count_gates(&self) -> (usize, usize) {
        let counts = self.gates.iter().map(Judged::count);
        counts.fold((0, 0), |(failed, all), (f, a)| (failed + f, all + a))
    }

    /// What the gates are for that a method does not pass, and why verdicts have no value.
    pub(super) fn gate_remarks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for gate in Gate::ALL {
            let of = |j| verdicts_of(j, gate).map(move |v| (j, v));
            let found: Vec<(&Judged, &Verdict)> = self.gates.iter().flat_map(of).collect();
            if found.iter().any(|(_, v)| v.passes == Some(false)) {
                lines.push(format!("gate {}: {}", gate.label(), gate.why()));
            }
            for (judged, verdict) in &found {
                if let (Err(reason), Some(_)) = (verdict.value, verdict.passes) {
                    let (gate, whose) = (gate.label(), judged.whose());
                    lines.push(format!("gate {gate} of {whose}: no value: {reason}"));
                }
            }
            // Of a folder as of any other.
            if let Some((_, verdict)) = found.iter().find(|(_, v)| v.passes.is_none())
                && let Err(reason) = verdict.value
            {
                lines.push(format!(
                    "gate {}, where there is none: {reason}",
                    gate.label()
                ));
            }
        }
        lines
    }

    /// The tables; empty if the gates were not asked for.
    pub(super) fn gates_markdown(&self) -> String {
        let mut out = String::new();
        let table = |head: &[String]| line(head) + &line(&vec!["---".to_string(); head.len()]);
        let in_sets = self.gates.iter().any(|j| j.set.is_some());
        if in_sets {
            let head = ["set", "method", "pictures"].map(String::from).into_iter();
            let gates = Gate::ALL.iter().map(|g| g.label().to_string());
            let head: Vec<String> = head.chain(gates).chain(["gates".to_string()]).collect();
            out += &format!("\n## gates of each set\n\n{}", table(&head));
            for judged in &self.gates {
                let set = judged.set.as_deref().unwrap_or_default();
                let mut cells = [set, judged.method.as_str()].map(escape_markdown).to_vec();
                cells.push(judged.pictures.to_string());
                cells.extend(judged.verdicts.iter().map(short));
                cells.push(judged.outcome());
                out += &line(&cells);
            }
            return out;
        }
        for judged in &self.gates {
            out += &format!(
                "\n## gates of {}: {}\n\n",
                escape_markdown(&judged.method),
                judged.outcome()
            );
            out += &table(&["gate", "limit", "value", "passes"].map(String::from));
            for v in &judged.verdicts {
                let [limit, value] = [limit(v), value(v, judged.pictures)];
                let cells = [
                    v.gate.label().into(),
                    limit,
                    escape_markdown(&value),
                    yes(v).into(),
                ];
                out += &line(&cells);
            }
        }
        out
    }

    /// One table of all verdicts for a paper.
    pub(super) fn gates_latex(&self) -> String {
        if self.gates.is_empty() {
            return String::new();
        }
        let mut out = String::from(
            "\\begin{tabular}{llllll}\n\\hline\nset & method & gate & limit & value & passes \\\\\n\\hline\n",
        );
        for judged in &self.gates {
            for v in &judged.verdicts {
                let set = judged.set.as_deref().unwrap_or("all");
                let (limit, value) = (limit(v), value(v, judged.pictures));
                let cells = [set, &judged.method, v.gate.label(), &limit, &value, yes(v)];
                out += &format!("{} \\\\\n", cells.map(escape_latex).join(" & "));
            }
        }
        out + "\\hline\n\\end{tabular}\n"
    }

    /// A line for each set, method and gate; an empty field where there is no value.
    pub fn gates_csv(&self) -> String {
        let mut out =
            String::from("set,method,tone,gate,limit,value,pictures,worst,worst_picture,passes\n");
        for judged in &self.gates {
            for v in &judged.verdicts {
                let number = |x: Option<f64>| x.map_or(String::new(), |x| x.to_string());
                let (worst, picture) = v.worst.clone().unzip();
                let fields = [
                    quote(judged.set.as_deref().unwrap_or_default()),
                    quote(&judged.method),
                    quote(&judged.tone.to_string()),
                    v.gate.name().to_string(),
                    number(v.limit),
                    number(v.value.ok()),
                    v.pictures.to_string(),
                    number(worst),
                    quote(&picture.unwrap_or_default()),
                    v.passes.map_or(String::new(), |p| p.to_string()),
                ];
                out += &format!("{}\n", fields.join(","));
            }
        }
        out
    }

    /// All verdicts for scripts; null if the gates were not asked for.
    pub(super) fn gates_json(&self) -> Value {
        let verdict = |v: &Verdict| {
            let bound = match v.gate.limit() {
                Limit::AtMost(_) => "at most",
                Limit::AtLeast { .. } => "at least",
            };
            let worst = v.worst.as_ref();
            json!({
                "gate": v.gate.name(), "bound": bound, "limit": v.limit, "value": v.value.ok(),
                "pictures": v.pictures, "passes": v.passes,
                "worst": worst.map(|(value, name)| json!({"value": value, "picture": name})),
                "undefined": v.value.err().map(|reason| reason.to_string()),
            })
        };
        let judged = |j: &Judged| {
            let verdicts: Vec<Value> = j.verdicts.iter().map(verdict).collect();
            json!({"set": j.set, "method": j.method, "tone": j.tone.to_string(), "pictures": j.pictures,
                   "passes": j.count().0 == 0, "verdicts": verdicts})
        };
        match self.gates.is_empty() {
            true => Value::Null,
            false => self.gates.iter().map(judged).collect(),
        }
    }
}

fn verdicts_of(judged: &Judged, gate: Gate) -> impl Iterator<Item = &Verdict> {
    judged.verdicts.iter().filter(move |v| v.gate == gate)
}

/// The limit, and what it is of: `>= 0.5812 (maximum - 0.07)`.
fn limit(v: &Verdict) -> String {
    match (v.gate.limit(), v.limit) {
        (Limit::AtMost(most), _) => format!("<= {most}"),
        (Limit::AtLeast { rule, times, less }, limit) => {
            let rule = match rule {
                Rule::Maximum => "maximum",
                Rule::Average => "average",
            };
            let mut of = rule.to_string();
            if times != 1.0 {
                of = format!("{times} {of}");
            }
            if less != 0.0 {
                of = format!("{of} - {less}");
            }
            match limit {
                Some(limit) => format!(">= {limit:.4} ({of})"),
                None => format!(">= {of}"),
            }
        }
    }
}

/// The value with what goes with it: the worst picture, the maximum of a border, over how many pictures if not all.
fn value(v: &Verdict, pictures: usize) -> String {
    let Ok(value) = v.value else {
        return "-".into();
    };
    let mut beside = Vec::new();
    if v.pictures != pictures {
        beside.push(format!("n = {}", v.pictures));
    }
    match &v.worst {
        Some((most, name)) if v.gate == Gate::Border => {
            beside.push(format!("at most {most}, {name}"))
        }
        Some((most, name)) if *most > 0.0 => beside.push(name.clone()),
        _ => {}
    }
    match beside.is_empty() {
        true => format!("{value:.4}"),
        false => format!("{value:.4} ({})", beside.join("; ")),
    }
}

/// The value, with the limit if it is not kept.
fn short(v: &Verdict) -> String {
    let value = v
        .value
        .map_or("-".to_string(), |value| format!("{value:.4}"));
    match (v.passes, v.limit) {
        (Some(false), Some(limit)) => {
            let sign = match v.gate.limit() {
                Limit::AtMost(_) => ">",
                Limit::AtLeast { .. } => "<",
            };
            format!("**{value}** ({sign} {limit:.4})")
        }
        (Some(false), None) => format!("**{value}**"),
        _ => value,
    }
}

fn yes(v: &Verdict) -> &'static str {
    match v.passes {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;
    use crate::metrics::Undefined;

    fn verdict(gate: Gate, value: f64, limit: f64, passes: bool) -> Verdict {
        Verdict {
            gate,
            value: Ok(value),
            pictures: 2,
            worst: None,
            limit: Some(limit),
            passes: Some(passes),
        }
    }

    fn judged(set: Option<&str>) -> Scores {
        let border = Verdict {
            value: Err(Undefined::NotFused),
            passes: None,
            ..verdict(Gate::Border, 0.0, 1.5, true)
        };
        let worst = Verdict {
            worst: Some((18.0, "a_1 |".into())),
            ..verdict(Gate::NewBlackWorst, 18.0, 5.0, false)
        };
        let mut scores = report();
        scores.gates = vec![Judged {
            set: set.map(String::from),
            method: "x_1".into(),
            tone: Tone::Auto,
            pictures: 2,
            verdicts: vec![worst, verdict(Gate::Fidelity, 0.7, 0.65, true), border],
        }];
        scores
    }

    #[test]
    fn a_method_has_a_table_of_its_gates() {
        let scores = judged(None);
        assert_eq!(scores.count_gates(), (1, 2));
        let text = scores.markdown(false);
        for part in [
            "\n## gates of x_1: fails 1 of 2\n",
            "| new black of the worst picture, % | <= 5 | 18.0000 (a_1 \\|) | no |",
            "| VIF | >= 0.6500 (0.95 average) | 0.7000 | yes |",
            "| border error, levels | <= 1.5 | - | - |",
            "- gate new black of the worst picture, %: a mean hides",
            "- gate border error, levels, where there is none: only what is fused here",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let tex = scores.latex();
        assert!(
            tex.contains(
                "all & x\\_1 & VIF & \\textgreater{}= 0.6500 (0.95 average) & 0.7000 & yes"
            ),
            "{tex}"
        );
        assert!(
            report().latex().matches("tabular").count() == 2
                && !report().markdown(false).contains("gate")
        );
    }

    #[test]
    fn sets_have_a_row_each() {
        let text = judged(Some("TNO")).markdown(false);
        let row = "| TNO | x_1 | 2 | **18.0000** (> 5.0000) | 0.7000 | - | fails 1 of 2 |";
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn scripts_get_every_verdict() {
        let scores = judged(Some("TNO"));
        let csv = scores.gates_csv();
        assert!(
            csv.contains("\nTNO,x_1,auto,new_black_worst,5,18,2,18,a_1 |,false\n"),
            "{csv}"
        );
        assert!(
            csv.ends_with("\nTNO,x_1,auto,border_error,1.5,,2,,,\n"),
            "{csv}"
        );
        let v: Value = serde_json::from_str(&scores.json().unwrap()).unwrap();
        assert_eq!(v["gates"][0]["tone"], "auto");
        let verdicts = &v["gates"][0]["verdicts"];
        assert_eq!(
            verdicts[0]["worst"],
            json!({"value": 18.0, "picture": "a_1 |"})
        );
        assert_eq!(verdicts[1]["bound"], "at least");
        assert_eq!(
            (&verdicts[2]["value"], &verdicts[2]["passes"]),
            (&Value::Null, &Value::Null)
        );
        let v: Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(v["gates"], Value::Null);
    }
}
