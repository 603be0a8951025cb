//! A real browser that the test leads by the Chrome DevTools Protocol, over pipes: it sees the page as a person does, at any
//! width.

use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::chromium::Chromium;
use super::{PATIENCE, until};

/// One tab.
pub struct Tab {
    commands: ChildStdin,
    events: BufReader<ChildStdout>,
    calls: u64,
    session: String,
    _browser: Child,
    _chromium: Chromium,
}

impl Tab {
    /// `None`: there is no browser, which was said.
    pub async fn open() -> Option<Self> {
        let chromium = Chromium::new(&["--remote-debugging-pipe", "--hide-scrollbars"]).await?;
        let browser = chromium.command();
        // The protocol's descriptors are 3 and 4.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"])
            .arg(browser.as_std().get_program())
            .args(browser.as_std().get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut browser = command.spawn().unwrap();
        let mut tab = Self {
            commands: browser.stdin.take().unwrap(),
            events: BufReader::new(browser.stdout.take().unwrap()),
            calls: 0,
            session: String::new(),
            _browser: browser,
            _chromium: chromium,
        };
        let target = tab.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = tab.call("Target.attachToTarget", attach).await;
        attached["sessionId"].as_str().unwrap().clone_into(&mut tab.session);
        tab.call("Page.enable", json!({})).await;
        Some(tab)
    }

    /// Calls a method; gives its result.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.commands
            .write_all(format!("{message}\0").as_bytes())
            .await
            .unwrap();
        let answered = async {
            loop {
                let mut event = Vec::new();
                assert!(
                    self.events.read_until(0, &mut event).await.unwrap() > 0,
                    "{method}: the browser has ended"
                );
                event.pop();
                let event: Value = serde_json::from_slice(&event).unwrap();
                if event["id"] == id {
                    break event;
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answered).await.expect(method);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// As wide as a person's window.
    pub async fn resize(&mut self, width: u32, height: u32, scale: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Whether the person likes it dark.
    pub async fn dark(&mut self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Opens an address as if it were typed, and waits until it is loaded.
    pub async fn typed(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")
            .await;
    }

    /// The value of an expression in the page.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params).await;
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    pub async fn until(&mut self, expression: &str) {
        let tab = tokio::sync::Mutex::new(self);
        until(expression, || async { tab.lock().await.eval(expression).await == true }).await;
    }

    /// A picture of the page, PNG: from one place, in pixels of the page from its top, to another.
    pub async fn picture(&mut self, from: u64, to: u64) -> Vec<u8> {
        let width = self.eval("innerWidth").await;
        let clip = json!({ "x": 0, "y": from, "width": width, "height": to - from, "scale": 1 });
        let params = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = self.call("Page.captureScreenshot", params).await;
        STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }
}
