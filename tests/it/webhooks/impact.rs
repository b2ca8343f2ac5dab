//! impact.com: GET and POST on one path, its secret kept to ourselves, nothing lost that came.

use crate::support::{CountedUpstream, FakeUpstream, TestRelay};

const POST: &str = include_str!("../../corpus/impact/post.json");
const REVERSED: &str = include_str!("../../corpus/impact/reversed.json");
const CAMEL: &str = include_str!("../../corpus/impact/camel.json");
const GET: &str = include_str!("../../corpus/impact/get.txt");
const HELP_PAGE: &str = include_str!("../../corpus/impact/help-page.txt");

#[tokio::test]
async fn whatever_comes_arrives_once_at_each_of_two_back_offices() {
    let (crm, books) = (CountedUpstream::start().await, CountedUpstream::start().await);
    let upstream = FakeUpstream::start().await;
    let config = format!(
        "[[destination]]\nname = \"crm\"\nbase_url = \"{}/impact\"\n\
         [[destination]]\nname = \"books\"\nbase_url = \"{}\"\ntarget = \"verbatim\"\n\
         [[source]]\nname = \"impact-events\"\nto = [\"crm\", \"books\"]\n",
        crm.url(),
        books.url()
    );
    let relay = TestRelay::start_with(&config, &upstream).await;
    let path = "/webhooks/impact?token=impact-token";
    let get =
        format!("GET {path}&{} HTTP/1.1\r\nHost: r\r\nUser-Agent: impact\r\n\r\n", GET.trim_end());
    for _ in 0..2 {
        for body in [POST, REVERSED, CAMEL] {
            let answer = relay.post(path, body).await;
            assert_eq!((answer.status, answer.text()), (200, ""));
        }
        let answer = relay.send(get.as_bytes()).await;
        assert_eq!((answer.status, answer.text()), (200, ""));
    }
    relay.settled().await;
    let object =
        r#"{"campaign_id":"10306","action_id":"1234567890","status":"APPROVED","payout":"5.00"}"#;
    let mut wanted = vec![POST, REVERSED, CAMEL, object];
    wanted.sort_unstable();
    for office in [&crm, &books] {
        let mut bodies: Vec<String> = Vec::new();
        for seen in office.seen() {
            assert_eq!(seen.method, hyper::Method::POST);
            assert!(!seen.target.contains("token"), "{}", seen.target);
            let told = format!("{:?}", seen.headers);
            assert!(!told.contains("impact-token"), "{told}");
            bodies.push(String::from_utf8(seen.body.to_vec()).unwrap());
        }
        bodies.sort_unstable();
        assert_eq!(bodies, wanted);
    }
    relay.finish().await;
}

#[tokio::test]
async fn the_help_pages_template_is_acknowledged_and_kept_byte_for_byte() {
    let upstream = FakeUpstream::start().await;
    let config = "[admin]\nreveal_token_env = \"ADMIN_TOKEN\"\n\
                  [[source]]\nname = \"impact-events\"\nto = [\"events-api\"]\n";
    let relay = TestRelay::start_with(config, &upstream).await;
    let answer = relay.post("/webhooks/impact?token=impact-token&x=1", HELP_PAGE).await;
    assert_eq!((answer.status, answer.text()), (200, ""));
    relay.settled().await;
    let token = "Authorization: Bearer hush\r\n";
    let masked = relay.admin("/api/dead", token).await;
    for secret in ["impact-token", "campaign_id", "CampaignId"] {
        assert!(!masked.text().contains(secret), "{secret}: {}", masked.text());
    }
    let letter = &masked.json()["letters"][0];
    assert_eq!(
        (&letter["reason"], &letter["source"]),
        (&"invalid".into(), &"impact-events".into())
    );
    assert_eq!(letter["target"], "/webhooks/impact?x=***");
    assert_eq!(letter["body"], format!("{} bytes", HELP_PAGE.len()));
    assert_eq!(letter["answer"], "the body is not JSON: line 1, column 9");
    let revealed = relay.admin("/api/dead?reveal=true", token).await.json();
    assert_eq!(revealed["letters"][0]["body"], HELP_PAGE);
    assert_eq!(upstream.sandbox.stats().requests, 0);
    relay.finish().await;
}
