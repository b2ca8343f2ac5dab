//! Looks whether the certificate files changed, and puts what they hold in place.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Relay;
use super::reload::Running;
use crate::clock::Clock;
use crate::http::served::Serving;
use crate::http::tls::{Contents, Files, Opened, Tls, TlsFault};
use crate::metrics::Metrics;

/// How often it is looked whether there are files by now, while there are none.
const WITHOUT_FILES: Duration = Duration::from_secs(10);

/// Shows until when the certificates in use hold. What is no number fires no alert.
pub(super) fn show(metrics: &Metrics, tls: Option<&Tls>) {
    let until = tls.and_then(Tls::validity).map(|validity| validity.until.as_millis());
    let seconds = until.map_or(f64::NAN, |until| Duration::from_millis(until).as_secs_f64());
    metrics.set("certificate_expires_timestamp_seconds", &[], seconds);
}

impl Relay {
    pub(super) fn watch_certificates(&self) {
        let watch = Watch {
            running: Arc::clone(&self.running),
            serving: self.serving.clone(),
            clock: self.public.clock.clone(),
            metrics: Arc::clone(&self.public.metrics),
            refused: None,
        };
        let last = self.shutdown.last.clone();
        self.rest.spawn(async move {
            last.run_until_cancelled(watch.run()).await;
        });
    }
}

struct Watch {
    running: Arc<std::sync::Mutex<Running>>,
    serving: Serving,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// What was told of files that could not be used, so that it is told once.
    refused: Option<String>,
}

impl Watch {
    async fn run(mut self) {
        loop {
            let files = self.files();
            let wait = files.as_ref().map_or(WITHOUT_FILES, |files| files.look_every);
            tokio::time::sleep(wait).await;
            let Some(files) = files else { continue };
            // A disk may be slow, and a file system far away.
            let reading = tokio::task::spawn_blocking(move || (files.read(), files));
            match reading.await {
                Ok((Ok(contents), files)) => self.compare(files, contents),
                Ok((Err(fault), _)) => self.refuse(&fault),
                Err(_panicked) => {}
            }
        }
    }

    fn files(&self) -> Option<Files> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.tls.as_ref().map(|opened| opened.files.clone())
    }

    /// Puts `contents` in place when they are others than those in use. A renewal writes two files:
    /// while only one is new they do not fit, and the next look finds both.
    fn compare(&mut self, files: Files, contents: Contents) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = running.tls.as_ref().filter(|opened| opened.files == files);
        // A reload came in between, and has its own.
        let Some(in_use) = in_use else { return };
        if in_use.contents == contents {
            self.refused = None;
            return;
        }
        match files.tls(&contents) {
            Ok(tls) => {
                let warning = tls.warning(self.clock.now());
                show(&self.metrics, Some(&tls));
                running.tls = Some(Opened { files, contents, tls: tls.clone() });
                self.serving.replace_tls(tls);
                drop(running);
                self.refused = None;
                tracing::info!("certificates changed and are in use");
                if let Some(warning) = warning {
                    tracing::warn!("{warning}");
                }
            }
            Err(fault) => {
                drop(running);
                self.refuse(&fault);
            }
        }
    }

    fn refuse(&mut self, fault: &TlsFault) {
        let told = fault.to_string();
        if self.refused.as_ref() != Some(&told) {
            tracing::warn!(%fault, "certificates changed and cannot be used: the old ones stay");
            self.refused = Some(told);
        }
    }
}
