//! What partners send beside a JSON body in a POST, and what nobody can use.

use crate::support::{CountedUpstream, FakeUpstream, RawAnswer, TestRelay};

/// A source that keeps what it cannot use and goes to two back offices, both here.
fn hook(url: &str, more: &str) -> String {
    format!(
        "[admin]\nreveal_token_env = \"ADMIN_TOKEN\"\n\
         [[destination]]\nname = \"one\"\nbase_url = \"{url}/one\"\n\
         [[destination]]\nname = \"two\"\nbase_url = \"{url}/two\"\n\
         [[source]]\nname = \"hook\"\nkind = \"notification\"\npath = \"/hook\"\n\
         schema = \"schemas/ad-event.json\"\nto = [\"one\", \"two\"]\nanswer = {{ status = 200 }}\n\
         auth = {{ type = \"url-token\", query = \"t\", secret_env = \"ADMIN_TOKEN\" }}\n{more}\n"
    )
}

const WHOLE: &str = "decode = { GET = \"query\", POST = \"json-or-form\" }\n\
                     dedupe = { key = [\"payload\"], window = \"24 h\" }\non_invalid = \"dead-letter\"";

async fn asks(relay: &TestRelay, method: &str, target: &str) -> RawAnswer {
    relay.send(format!("{method} {target} HTTP/1.1\r\nHost: r\r\n\r\n").as_bytes()).await
}

fn is_empty(answer: &RawAnswer, status: u16) {
    assert_eq!((answer.status, answer.text()), (status, ""));
}

#[tokio::test]
async fn a_get_is_an_item_and_goes_out_as_an_object_of_texts() {
    let (backoffice, upstream) = (CountedUpstream::start().await, FakeUpstream::start().await);
    let relay = TestRelay::start_with(&hook(&backoffice.url(), WHOLE), &upstream).await;
    let query = "payout=5.00&t=hush&user_id=a%20b+c&when=2024-09-10T10:42:38+02:00&e=";
    is_empty(&asks(&relay, "GET", &format!("/hook?{query}")).await, 200);
    let body = r#"{"payout":"5.00","user_id":"a b c","when":"2024-09-10T10:42:38+02:00","e":""}"#;
    relay.settled().await;
    let arrived = backoffice.seen();
    let mut targets: Vec<&str> = arrived.iter().map(|event| &*event.target).collect();
    targets.sort_unstable();
    assert_eq!(targets, ["/one", "/two"]);
    for event in &arrived {
        assert_eq!(event.body, body);
        assert_eq!(event.headers["content-type"], "application/json");
    }
    // The same again, in whichever way, is one notification.
    is_empty(&asks(&relay, "GET", &format!("/hook?{query}")).await, 200);
    is_empty(&relay.post("/hook?t=hush", body).await, 200);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let pairs = query.replace("t=hush&", "");
    is_empty(&relay.post_with("/hook?t=hush", form, pairs).await, 200);
    is_empty(&relay.post_with("/hook?t=hush", form, body).await, 200);
    relay.settled().await;
    assert_eq!(backoffice.seen().len(), 2);
    for target in ["/hook?payout=5.00&user_id=u", "/hook?t=wrong"] {
        assert_eq!(asks(&relay, "GET", target).await.status, 401, "{target}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn who_only_looks_whether_the_path_is_there_does_nothing() {
    let backoffice = FakeUpstream::start().await;
    let relay = TestRelay::start_with(&hook(&backoffice.url(""), WHOLE), &backoffice).await;
    is_empty(&asks(&relay, "HEAD", "/hook?t=hush&user_id=u").await, 200);
    let options = asks(&relay, "OPTIONS", "/hook?t=hush&user_id=u").await;
    is_empty(&options, 200);
    assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    assert_eq!(asks(&relay, "PUT", "/hook?t=hush").await.status, 405);
    relay.finish().await;

    let relay = TestRelay::start_with(&hook(&backoffice.url(""), ""), &backoffice).await;
    is_empty(&asks(&relay, "GET", "/hook?user_id=u").await, 200);
    assert_eq!(asks(&relay, "GET", "/v1/beacon/click/1").await.status, 405);
    relay.settled().await;
    assert_eq!(relay.status().await["ledger"]["store"]["stored"], 0);
    relay.finish().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_acknowledged_and_kept_as_it_came() {
    let mut backoffice = FakeUpstream::start().await;
    let mut relay = TestRelay::start_with(&hook(&backoffice.url(""), WHOLE), &backoffice).await;
    let json = "Content-Type: application/json\r\n";
    let xml = "Content-Type: text/xml\r\n";
    let broken = "{ \"secret value\" {\"a\":1}\u{0}";
    for (head, body) in [(json, broken), (xml, "<a/>"), (json, ""), (json, r#"{"user_id":5}"#)] {
        is_empty(&relay.post_with("/hook?t=hush", head, body).await, 200);
    }
    is_empty(&asks(&relay, "GET", "/hook?user_id=1&t=hush&user_id=2").await, 200);
    // Not from whoever is not known.
    assert_eq!(relay.post("/hook?t=x", broken).await.status, 401);
    relay.settled().await;
    relay.restart().await;
    let listed = relay.admin("/api/dead?destination=one&limit=100", "").await;
    assert!(!listed.text().contains("secret value"), "{}", listed.text());
    let listed = listed.json();
    let letters = listed["letters"].as_array().unwrap();
    assert_eq!(letters.len(), 5, "{listed:#}");
    for letter in letters {
        assert_eq!((&letter["reason"], &letter["attempts"]), (&"invalid".into(), &0.into()));
    }
    let told: Vec<String> = letters.iter().map(|letter| letter["answer"].to_string()).collect();
    assert!(told[0].contains("not JSON") || told[0].contains("malformed"), "{told:?}");
    assert!(told[3].contains("/user_id") && told[3].contains("type"), "{told:?}");
    assert!(told[4].contains("the query names a key twice"), "{told:?}");
    let token = "Authorization: Bearer hush\r\n";
    let revealed = relay.admin("/api/dead?destination=two&reveal=true&limit=100", token).await;
    let bodies = revealed.json();
    assert_eq!(bodies["letters"][0]["body"], broken);
    assert_eq!(bodies["letters"][4]["body"], "user_id=1&user_id=2");
    assert_eq!(backoffice.sandbox.events(&Default::default()).len(), 0);
    // An operator who puts it back in line wants it sent as it is.
    let id = letters[0]["id"].as_str().unwrap();
    let replay = format!("{{\"ids\":[\"{id}\"]}}");
    assert_eq!(relay.steer("POST", "/api/dead/replay", "", &replay).await.status, 200);
    assert_eq!(backoffice.next_event().await.body, broken);
    relay.settled().await;
    relay.finish().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_seen_at_once_though_its_destination_takes_nothing() {
    let backoffice = FakeUpstream::start().await;
    let mut relay = TestRelay::start_with(&hook(&backoffice.url(""), WHOLE), &backoffice).await;
    for name in ["one", "two"] {
        let pause = format!("/api/destinations/{name}/pause");
        assert_eq!(relay.steer("POST", &pause, "", "").await.status, 200);
    }
    for body in ["<a/>", "{", "{"] {
        is_empty(&relay.post("/hook?t=hush", body).await, 200);
    }
    is_empty(&relay.post("/hook?t=hush", r#"{"user_id":"waits"}"#).await, 200);
    let letters = async |relay: &TestRelay| {
        let listed = relay.admin("/api/dead?reason=invalid&limit=100", "").await.json();
        let letters = listed["letters"].as_array().unwrap().clone();
        assert!(letters.iter().all(|one| one["attempts"] == 0), "{listed:#}");
        letters.len()
    };
    // What is answered is there: nothing is waited for.
    let there = letters(&relay).await;
    let metrics = relay.admin("/metrics", "").await.text().to_owned();
    for name in ["one", "two"] {
        let line = format!(
            "beacon_relay_deliveries_total{{destination=\"{name}\",outcome=\"dead\"}} {}",
            there / 2
        );
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let status = relay.status().await;
    assert_eq!(status["ledger"]["store"]["spooled"], 2, "{status:#}");
    relay.restart().await;
    assert_eq!((letters(&relay).await, there % 2), (there, 0));
    assert!(there >= 4, "{there} letters of what came");
    assert_eq!(backoffice.sandbox.events(&Default::default()).len(), 0);
    relay.finish().await;
}

#[tokio::test]
async fn a_member_is_known_in_any_case_and_sent_on_as_it_came_or_as_the_schema_has_it() {
    let (backoffice, upstream) = (CountedUpstream::start().await, FakeUpstream::start().await);
    let any = hook(&backoffice.url(), &format!("{WHOLE}\nnames = \"any-case\""));
    let relay = TestRelay::start_with(&any, &upstream).await;
    let body = r#"{"UserId":"u","n":1.00}"#;
    is_empty(&relay.post("/hook?t=hush", body).await, 200);
    is_empty(&relay.post("/hook?t=hush", r#"{"n":1,"user_id":"u"}"#).await, 200);
    relay.settled().await;
    let seen = backoffice.seen();
    assert_eq!(seen.len(), 2, "it is the same");
    assert_eq!(seen[0].body, body);
    relay.finish().await;

    let rewritten = any.replace("any-case", "rewritten");
    let relay = TestRelay::start_with(&rewritten, &upstream).await;
    is_empty(&asks(&relay, "GET", "/hook?UserId=u&t=hush&x=1").await, 200);
    relay.settled().await;
    assert_eq!(backoffice.seen()[2].body, r#"{"user_id":"u","x":"1"}"#);
    relay.finish().await;
}
