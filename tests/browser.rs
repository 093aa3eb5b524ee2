//! The page of a comparison in a real browser: Chromium, driven over its debugging pipe.
//!
//! `HAFUSE_CHROMIUM` names the browser; else `chromium`, `chromium-browser` or `google-chrome` is looked for on PATH.
//! Without one the test says so and passes.
#![cfg(unix)]

use hafuse::data::Picture;
use hafuse::metrics::{Metric, Undefined};
use hafuse::report::compare::{Shots, page};
use hafuse::report::scores::{Row, Scores};
use hafuse::report::sheet::Scene;
use hafuse::tone::Tone;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// For the whole test: a browser that hangs fails it.
const LIMIT: Duration = Duration::from_secs(60);
const EVIL: &str = "\"'</script><script>evil()</script><img src=x onerror=evil()>&";

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("HAFUSE_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|dir| names.map(|n| dir.join(n)))
        .find(|p| p.is_file())
}

/// A browser with one tab.
struct Tab {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Value,
    last: u64,
    started: Instant,
    /// What came while an answer was waited for.
    events: VecDeque<Value>,
}

impl Tab {
    fn open(browser: &Path, profile: &Path) -> Self {
        // The pipe's ends are the descriptors 3 and 4: there the shell puts its own 0 and 1.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec 3<&0 4>&1 </dev/null >/dev/null; exec \"$@\"",
                "sh",
            ])
            .arg(browser)
            .args(["--headless", "--no-sandbox", "--remote-debugging-pipe"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--window-size=1200,900"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = child.stdout.take().unwrap();
        let (send, receive) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(from).split(0) {
                let message = message.ok().and_then(|m| serde_json::from_slice(&m).ok());
                if message.is_none_or(|m| send.send(m).is_err()) {
                    return;
                }
            }
        });
        let mut tab = Self {
            child,
            to,
            from: receive,
            session: Value::Null,
            last: 0,
            started: Instant::now(),
            events: VecDeque::new(),
        };
        let target = tab.ask("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        tab.session = tab.ask("Target.attachToTarget", target)["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.ask(&format!("{domain}.enable"), json!({}));
        }
        tab
    }

    fn next(&mut self, what: &str) -> Value {
        let left = LIMIT.saturating_sub(self.started.elapsed());
        self.from
            .recv_timeout(left)
            .unwrap_or_else(|e| panic!("{what}: no answer from the browser ({e})"))
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .unwrap_or_else(|e| panic!("{method}: the browser does not run ({e})"));
        loop {
            let answer = self.next(method);
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    /// Opens a page and waits until it has loaded.
    fn load(&mut self, url: &str) {
        self.ask("Page.navigate", json!({"url": url}));
        let loaded = |e: &Value| e["method"] == "Page.loadEventFired";
        while !self.events.iter().any(loaded) {
            let event = self.next("load");
            self.events.push_back(event);
        }
    }

    /// The value of an expression or promise.
    fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", params);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    fn mouse(&mut self, kind: &str, at: (f64, f64), more: Value) {
        let mut params = json!({"type": kind, "x": at.0, "y": at.1});
        for (name, value) in more.as_object().into_iter().flatten() {
            params[name] = value.clone();
        }
        self.ask("Input.dispatchMouseEvent", params);
    }

    fn click(&mut self, at: (f64, f64)) {
        for kind in ["mousePressed", "mouseReleased"] {
            self.mouse(kind, at, json!({"button": "left", "clickCount": 1}));
        }
    }

    fn key(&mut self, key: &str) {
        let text = if key.len() == 1 { key } else { "" };
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            _ => 0,
        };
        let text = if key == "Enter" { "\r" } else { text };
        let params =
            json!({"type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code});
        self.ask("Input.dispatchKeyEvent", params);
        self.ask(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key}),
        );
    }

    /// The middle of the first element of this selector, brought into view.
    fn middle(&mut self, selector: &str) -> (f64, f64) {
        let at = self.eval(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}}); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        (at[0].as_f64().unwrap(), at[1].as_f64().unwrap())
    }

    /// Names in the first column of the first table.
    fn names(&mut self) -> Vec<String> {
        let rows = self.eval(
            "[...document.querySelector('table.sortable').tBodies[0].rows].map(r => r.cells[0].textContent)",
        );
        serde_json::from_value(rows).unwrap()
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 3 methods, means 2, 10 and none for EN; 8 scenes.
fn sample() -> String {
    let values = [("b", [1.0, 3.0]), (EVIL, [9.0, 11.0]), ("none", [0.0, 0.0])];
    let rows = values.map(|(name, values)| Row {
        name: name.into(),
        origin: "somewhere".into(),
        tone: Tone::None,
        scores: values
            .iter()
            .enumerate()
            .map(|(i, &v)| {
                let score = match name {
                    "none" => Err(Undefined::NoEdges),
                    _ => Ok(v),
                };
                (format!("{i} {EVIL}"), vec![score, score])
            })
            .collect(),
    });
    let scores = Scores {
        metrics: vec![Metric::En, Metric::Mse],
        pairs: 2,
        unpaired: 0,
        folders: ["ir".into(), "vi".into()],
        rows: rows.into(),
        gates: vec![],
        problems: vec![EVIL.into()],
    };
    let picture = |k: usize| {
        let luma = (0..64 * 48).map(|i| ((i * k) % 251) as f32 / 250.0);
        Picture::from_luma(64, 48, luma.collect()).unwrap()
    };
    let scene = |i: usize| Scene {
        name: format!("{i} {EVIL}"),
        a: picture(i + 1),
        b: picture(i + 2),
        fused: vec![Some(picture(i + 3)), Some(picture(i + 4)), None],
        crops: vec![],
    };
    let sources = ["infrared", EVIL];
    let names: Vec<&str> = scores.rows.iter().map(|r| r.name.as_str()).collect();
    let scenes = (0..8).map(|i| Shots::of(&scene(i), sources, &names).unwrap());
    page(&scores, scenes.collect(), sources)
}

/// Lenses that are shown and hold something.
const LENSES: &str = "[...document.querySelectorAll('.lens')].filter(l => !l.hidden && l.offsetWidth > 20 \
    && l.toDataURL() !== Object.assign(document.createElement('canvas'), {width: l.width, height: l.height}).toDataURL()).length";

#[test]
fn a_page_sorts_magnifies_and_breaks_no_rule_in_a_browser() {
    let Some(browser) = browser() else {
        println!("skipped: no Chromium on PATH and none in HAFUSE_CHROMIUM");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("compare.html");
    std::fs::write(&file, sample()).unwrap();
    let mut tab = Tab::open(&browser, &dir.path().join("profile"));
    tab.load(&format!("file://{}", file.display()));

    sorts(&mut tab);
    shows_pictures(&mut tab);
    magnifies(&mut tab);

    for event in &tab.events {
        let text = event.to_string();
        let told = [
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Log.entryAdded",
        ];
        assert!(!told.iter().any(|t| event["method"] == *t), "{text}");
        if event["method"] == "Network.requestWillBeSent" {
            let url = event["params"]["request"]["url"].as_str().unwrap();
            let known = url.starts_with("data:") || url.ends_with("/compare.html");
            assert!(known, "the page asks for {url}");
        }
    }

    // The policy stands: what is not the page's own script does not run, and the browser says so.
    let ran = tab.eval(
        "new Promise(done => { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; \
         document.body.append(s); setTimeout(() => done(window.ran ?? 0), 50); })",
    );
    assert_eq!(ran, 0);
    let refused =
        |e: &Value| e["method"] == "Log.entryAdded" && e.to_string().contains("script-src");
    assert!(tab.events.iter().any(refused), "{:?}", tab.events.back());
}

fn sorts(tab: &mut Tab) {
    assert_eq!(tab.names(), ["b", EVIL, "none"]);
    // The best first, then the worst; what has no value stays last.
    let en = tab.middle("th:nth-child(2) button");
    let order = "document.querySelector('th:nth-child(2)').getAttribute('aria-sort')";
    tab.click(en);
    assert_eq!(tab.names(), [EVIL, "b", "none"]);
    assert_eq!(tab.eval(order), "descending");
    tab.click(en);
    assert_eq!(tab.names(), ["b", EVIL, "none"]);
    assert_eq!(tab.eval(order), "ascending");
    // Lower is better for MSE; by keyboard this time.
    tab.eval("document.querySelector('th:nth-child(3) button').focus()");
    tab.key("Enter");
    assert_eq!(tab.names(), ["b", EVIL, "none"]);
    assert_eq!(tab.eval(order), Value::Null);
    tab.key("Enter");
    assert_eq!(tab.names(), [EVIL, "b", "none"]);
    let names = tab.middle("th:nth-child(1) button");
    tab.click(names);
    tab.click(names);
    assert_eq!(tab.names(), ["none", "b", EVIL]);
}

fn shows_pictures(tab: &mut Tab) {
    let loaded = tab.eval(
        "Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode(); })) \
         .then(() => [...document.images].filter(i => i.naturalWidth === 64).length)",
    );
    assert_eq!(loaded, 8 * 4);
    let seen = "[...document.querySelectorAll('.scene')].filter(s => s.offsetHeight > 0).length";
    assert_eq!(tab.eval(seen), 1);
    let next = tab.middle("#chooser button:last-of-type");
    tab.click(next);
    let heading = "[...document.querySelectorAll('.scene')].find(s => !s.hidden).querySelector('h3').textContent";
    assert_eq!(tab.eval(heading), format!("1 {EVIL}"));
}

fn magnifies(tab: &mut Tab) {
    assert_eq!(tab.eval(LENSES), 0);
    let view = tab.middle(".scene:not([hidden]) .view");
    tab.mouse("mouseMoved", view, json!({}));
    assert_eq!(tab.eval(LENSES), 4);
    let pixels = "(() => { const l = document.querySelector('.lens:not([hidden])'); return l.toDataURL(); })()";
    let before = tab.eval(pixels);
    tab.mouse("mouseMoved", (view.0 - 60.0, view.1 - 40.0), json!({}));
    let moved = tab.eval(pixels);
    assert_ne!(before, moved);
    // The wheel scrolls the page until the picture was clicked.
    let scale = "document.querySelector('#how output').textContent";
    tab.click(view);
    tab.mouse("mouseWheel", view, json!({"deltaX": 0, "deltaY": -2000}));
    assert_eq!(tab.eval(scale), "6×");
    tab.key("-");
    assert_eq!(tab.eval(scale), "5×");
    let larger = tab.eval(pixels);
    tab.key("ArrowLeft");
    assert_ne!(tab.eval(pixels), larger);
    tab.mouse("mouseMoved", (5.0, 5.0), json!({}));
    assert_eq!(tab.eval(LENSES), 0);
    // By keyboard alone: Tab leads to the pair, Escape ends.
    tab.eval("document.querySelector('#chooser button:last-of-type').focus()");
    tab.key("Tab");
    assert_eq!(tab.eval(LENSES), 4);
    tab.key("+");
    assert_eq!(tab.eval(scale), "6×");
    tab.key("Escape");
    assert_eq!(tab.eval(LENSES), 0);
    // A click on another picture of the pair moves the focus there; the lens stays.
    let view = tab.middle(".scene:not([hidden]) .view");
    let other = tab.middle(".scene:not([hidden]) figure:nth-child(2) .view");
    for at in [view, other] {
        tab.click(at);
        assert_eq!(tab.eval(LENSES), 4);
    }
    tab.click((5.0, 5.0));
    assert_eq!(tab.eval(LENSES), 0);
    // A tap shows it until the next tap elsewhere.
    for (at, lenses) in [(view, 4), (other, 4), ((5.0, 5.0), 0)] {
        let points = json!([{"x": at.0, "y": at.1}]);
        for (kind, points) in [("touchStart", points), ("touchEnd", json!([]))] {
            tab.ask(
                "Input.dispatchTouchEvent",
                json!({"type": kind, "touchPoints": points}),
            );
        }
        assert_eq!(tab.eval(LENSES), lenses);
    }
}
