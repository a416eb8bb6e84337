//! Steps of a flow, and what a flow may do to its server: the counterpart of `steps.mjs`.
use std::{
    future::Future,
    io::{BufRead, BufReader, Write},
    os::{fd::FromRawFd, unix::net::UnixStream},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The time limit of a step.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// How long [`until`] waits for a condition.
const CONDITION_LIMIT: Duration = Duration::from_secs(40);

pub struct Steps {
    pub url: String,
}

/// A suffix that no earlier name has.
pub fn unique() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    format!("{:x}", now.as_micros())
}

impl Steps {
    pub fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().collect();
        let url = arguments
            .iter()
            .position(|argument| argument == "--url")
            .and_then(|index| arguments.get(index + 1));
        Self {
            url: url.expect("--url").clone(),
        }
    }

    pub fn fresh(&self, name: &str) -> String {
        format!("{name}{}", unique())
    }

    pub fn has_operator(&self) -> bool {
        std::env::var("NODE_CHANNEL_FD").is_ok()
    }

    /// Runs one step, and writes its outcome. Returns its value if it succeeded.
    pub async fn step<A>(&self, name: &str, run: impl Future<Output = Result<A>>) -> Option<A> {
        let outcome = match tokio::time::timeout(STEP_LIMIT, run).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("took too long")),
        };
        let line = match &outcome {
            Ok(_) => json!({ "name": name, "ok": true }),
            Err(error) => json!({ "name": name, "ok": false, "error": describe(error) }),
        };
        println!("STEP {line}");
        outcome.ok()
    }
}

/// An error with its causes, cut to a length that a table can show.
fn describe(error: &anyhow::Error) -> String {
    format!("{error:#}").chars().take(300).collect()
}

/// Calls `look` every 100 ms until it returns a value, and returns that.
pub async fn until<A, F: Future<Output = Option<A>>>(what: &str, mut look: impl FnMut() -> F) -> Result<A> {
    let deadline = tokio::time::Instant::now() + CONDITION_LIMIT;
    loop {
        if let Some(seen) = look().await {
            return Ok(seen);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("waited in vain for: {what}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Kills and restarts the server, by a message to the program that runs the flow.
pub async fn kill_server() -> Result<()> {
    tokio::task::spawn_blocking(|| {
        let descriptor: i32 = std::env::var("NODE_CHANNEL_FD")?.parse()?;
        // SAFETY: Node.js hands the descriptor to this process, and nothing else here uses it.
        let mut channel = unsafe { UnixStream::from_raw_fd(descriptor) };
        channel.set_nonblocking(false)?;
        writeln!(channel, "{}", json!({ "id": 1, "call": "killAndRestart" }))?;
        let mut line = String::new();
        BufReader::new(&channel).read_line(&mut line)?;
        std::mem::forget(channel);
        let answer: Value = serde_json::from_str(&line).context("no answer")?;
        match answer.get("error") {
            Some(error) => bail!("{error}"),
            None => Ok(()),
        }
    })
    .await?
}
