//! Every fault of a source's `auth`, told with place and remedy.

use beacon_relay::clock::Timestamp;
use beacon_relay::config::{Layers, Plan};
use beacon_relay::source::auth::Auth;

/// The plan of a source with these lines, and one secret in the environment.
fn plan(lines: &str) -> Result<Plan, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    let source = format!(
        "[[source]]\nname = \"hook\"\nkind = \"notification\"\npath = \"/hook/{{shop}}\"\n\
         schema = \"schemas/ad-event.json\"\n{lines}\n"
    );
    std::fs::write(&file, source).unwrap();
    let environment = vec![("SECRET".to_owned(), "hush-1\n hush-2 \n\n".to_owned())];
    let layers = Layers { file: Some(file), environment, ..Layers::default() };
    layers.plan().map_err(|faults| faults.to_string())
}

const ON: &str = "to = [\"events-api\"]";

#[test]
fn a_type_asks_for_its_settings_and_takes_no_others() {
    let hmac = r#"type = "hmac", digest = "sha1", header = "x-s", over = ["body:/a"]"#;
    for (auth, told) in [
        ("", "source \"hook\".auth is missing"),
        ("auth = {}", "auth.type is missing"),
        (r#"auth = { type = "hmac2" }"#, "auth.type is \"hmac2\""),
        (r#"auth = { type = "none", header = "x" }"#, "auth.header is not a setting"),
        ("auth = []", "auth is an empty list"),
        (r#"auth = [{ type = "none" }]"#, "type stands among others"),
        (r#"auth = { type = "hmac", secret_env = "SECRET" }"#, "auth.over is missing"),
        (r#"auth = { type = "hmac", secret_env = "SECRET" }"#, "auth.digest is missing"),
        (&format!("auth = {{ {hmac} }}"), "auth.secret_env is missing"),
        (
            &format!("auth = {{ {hmac}, secret_env = \"NONE\" }}"),
            "the variable NONE, which is not set",
        ),
        (
            &format!("auth = {{ {}, secret_env = \"SECRET\" }}", hmac.replace("body:/a", "body:a")),
            "auth.over holds \"body:a\"",
        ),
        (
            &format!(
                "auth = {{ {}, secret_env = \"SECRET\" }}",
                hmac.replace("body:/a", "path:/b")
            ),
            "path has no segment {b}, which path:/b chooses",
        ),
        (
            &format!("auth = {{ {}, secret_env = \"SECRET\" }}", hmac.replace("x-s", "x s")),
            "auth.header is no header's name",
        ),
        (
            r#"auth = { type = "url-token", query = "", secret_env = "SECRET" }"#,
            "auth.query names no member",
        ),
        (r#"auth = { type = "network" }"#, "auth.allow is missing"),
        (r#"auth = { type = "network", allow = ["0.0.0.0/0"] }"#, "holds every address"),
    ] {
        let faults = plan(&format!("{ON}\n{auth}")).unwrap_err();
        assert!(faults.contains(told), "{told:?} is not in:\n{faults}");
        assert!(!faults.contains("hush"), "{faults}");
    }
}

#[test]
fn what_is_signed_is_one_item() {
    let auth = r#"auth = { type = "hmac", digest = "sha1", header = "x-s", over = ["payload"], secret_env = "SECRET" }"#;
    let faults = plan(&format!("{ON}\n{auth}\nmany = true")).unwrap_err();
    assert!(faults.contains("many is no way to send what is signed as one"), "{faults}");
    assert!(plan(&format!("{ON}\n{}\nmany = true", r#"auth = { type = "none" }"#)).is_ok());
}

#[test]
fn what_is_written_is_what_is_asked_for() {
    for (auth, told) in [
        (
            r#"auth = { type = "hmac", digest = "sha1", header = "X-S", over = ["body:/a", "path:shop"], secret_env = "SECRET" }"#,
            "an HMAC-SHA1 over body:/a path:/shop in x-s",
        ),
        (r#"auth = { type = "url-token", query = "t", secret_env = "SECRET" }"#, "a token in ?t="),
        (
            r#"auth = [{ type = "network", allow = ["10.0.0.0/8"] }, { type = "url-token", query = "t", secret_env = "SECRET" }]"#,
            "an address in 10.0.0.0/8, and a token in ?t=",
        ),
        (r#"auth = { type = "none" }"#, "nothing: anyone may post"),
        (r#"auth = { type = "clients" }"#, "the key of a client"),
    ] {
        let plan = plan(&format!("{ON}\n{auth}")).unwrap();
        let source = plan.sources.last().unwrap();
        assert_eq!(source.auth.to_string(), told);
        let warned = plan.warnings(Timestamp::EPOCH).iter().any(|line| line.contains("anyone"));
        assert_eq!(warned, matches!(&source.auth, Auth::Own(proofs) if proofs.is_empty()));
    }
}

#[test]
fn a_built_in_partner_takes_its_secret_from_a_file_and_other_means_to_know_it() {
    let dir = tempfile::tempdir().unwrap();
    let (file, secret) = (dir.path().join("relay.toml"), dir.path().join("secret"));
    std::fs::write(&secret, "hush\n").unwrap();
    for (auth, told) in [
        (format!("{{ secret_file = {secret:?} }}"), "an HMAC-SHA1 over body:/object_id"),
        ("{ type = \"none\" }".to_owned(), "nothing: anyone may post"),
        (
            "{ type = \"network\", allow = [\"192.0.2.0/24\"] }".to_owned(),
            "an address in 192.0.2.0",
        ),
    ] {
        let table = format!("[[source]]\nname = \"olx-adverts\"\n{ON}\nauth = {auth}\n");
        std::fs::write(&file, table).unwrap();
        let plan = Layers { file: Some(file.clone()), ..Layers::default() }.plan();
        let plan = plan.unwrap_or_else(|faults| panic!("{auth}: {faults}"));
        let own = plan.sources.last().unwrap().auth.to_string();
        assert!(own.starts_with(told), "{own}");
    }
}

#[test]
fn a_source_is_off_while_it_names_no_destination_and_then_needs_its_secret() {
    let auth = r#"auth = { type = "url-token", query = "t", secret_env = "NONE" }"#;
    let off = plan(&format!("to = []\n{auth}")).unwrap();
    assert_eq!(off.sources.len(), 4);
    assert!(off.off.iter().any(|name| name.as_str() == "hook"));
    let on = plan(&format!("{ON}\n{auth}\ntest_values = [{{ at = \"/a\", is = [\"b\"] }}]"))
        .unwrap_err();
    assert!(on.contains("the variable NONE, which is not set"), "{on}");
    assert!(on.contains("the configuration has 1 fault"), "{on}");
    let wrong = plan(&format!("to = []\n{}", auth.replace("\"t\"", "1"))).unwrap_err();
    assert!(wrong.contains("auth.query is a number, not a text"), "{wrong}");
    let missing = plan(auth).unwrap_err();
    assert!(missing.contains("source \"hook\".to is missing"), "{missing}");
}
