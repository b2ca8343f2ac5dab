//! The real binary at its loudest: the secret of a partner's URL is found nowhere afterwards.

use crate::program::Program;
use crate::search::search;
use crate::support::{FakeUpstream, RawClient, post};

/// What the URL holds. It stands in no other word.
const SECRET: &str = "qxtoken-canary";

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_a_url_reaches_no_log_no_file_no_metric_no_answer_and_no_upstream() {
    let upstream = FakeUpstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let [config, data, secret] = ["relay.toml", "data", "token"].map(|name| dir.path().join(name));
    std::fs::write(&secret, SECRET).unwrap();
    let text = format!(
        "[spool]\nmax_bytes = \"16 MiB\"\n\
         [[source]]\nname = \"impact-events\"\nto = [\"events-api\"]\nanswer_within = \"60 s\"\n\
         auth = {{ secret_file = {secret:?} }}\n"
    );
    std::fs::write(&config, text).unwrap();
    let program = Program::start_loud_with(&config, &data, upstream.addr()).await;
    let mut said = String::new();
    let path = "/webhooks/impact";
    for (target, body, status) in [
        (format!("{path}?token={SECRET}&x=1"), r#"{"action_id":"1"}"#, 200),
        (format!("{path}?%74oken={SECRET}"), "no JSON", 200),
        (format!("{path}?token={SECRET}2"), r#"{"action_id":"2"}"#, 401),
        (format!("{path}?token=x&token={SECRET}"), r#"{"action_id":5,"items":true}"#, 200),
        (format!("{path}/{SECRET}?token={SECRET}"), "{}", 404),
    ] {
        let mut client = RawClient::connect(program.listen).await;
        let answer = client.exchange(&post(&target, "Idempotency-Key: k\r\n", body)).await;
        // One key for all: what is not the first is another request.
        assert!([status, 409].contains(&answer.status), "{target}: {}", answer.text());
        said += answer.text();
        let mut client = RawClient::connect(program.listen).await;
        let answer = client.exchange(&post(&target, "", body)).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
        said += answer.text();
        for method in ["GET", "HEAD", "OPTIONS", "PUT"] {
            let mut client = RawClient::connect(program.listen).await;
            let request = format!(
                "{method} {target}&a=1&a=2 HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n"
            );
            client.send(request.as_bytes()).await;
        }
    }
    program.settled().await;
    for page in ["/metrics", "/api/status", "/api/dead", "/api/audit"] {
        said += &program.admin(page).await;
    }
    for sent in upstream.sandbox.events(&Default::default()) {
        said += &format!("{} {:?}", sent.target, sent.headers);
        said += std::str::from_utf8(&sent.body).unwrap();
    }
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("dead letter"), "the log is loud: {log}");
    assert!(!said.contains(SECRET), "it was said: {said}");
    assert!(!log.contains(SECRET), "it was logged");
    assert!(search(&data, &[SECRET]) > 1000);
}
