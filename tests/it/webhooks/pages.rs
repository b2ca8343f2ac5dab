//! The commands that `docs/partners` tells an operator to try, tried as they are printed.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::{CountedUpstream, FakeUpstream, TestRelay};

const PAGES: [&str; 2] = [
    include_str!("../../../docs/partners/olx.md"),
    include_str!("../../../docs/partners/impact.md"),
];

/// The blocks of a page behind this fence, without their indent.
fn blocks(page: &str, fence: &str) -> Vec<String> {
    let fence = format!("```{fence}\n");
    let bare = |block: &str| block.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
    page.split(&fence).skip(1).map(|rest| bare(rest.split("```").next().unwrap())).collect()
}

/// What a command of the shell says; none where the machine has not what it needs.
async fn shell(command: &str) -> Option<String> {
    let needed = if command.contains("openssl") { "openssl" } else { "curl" };
    let mut known = Command::new(needed);
    known.arg("help").stdout(Stdio::null()).stderr(Stdio::null());
    if known.status().await.is_err() {
        assert!(std::env::var_os("CI").is_none(), "{needed} is missing");
        eprintln!("NOT RUN: {needed} is missing");
        return None;
    }
    let output = Command::new("bash").args(["-c", command]).output().await.unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn what_is_set_up_and_tried_as_the_pages_say_arrives() {
    let (backoffice, upstream) = (CountedUpstream::start().await, FakeUpstream::start().await);
    for (page, arrivals) in PAGES.into_iter().zip([1, 2]) {
        let before = backoffice.seen().len();
        // Only the addresses are the test's own, and the other kind of `auth` is an example.
        let tables = &blocks(page, "toml")[0];
        let config = tables.replace("https://backoffice.example.net", &backoffice.url());
        let relay = TestRelay::start_with(&config, &upstream).await;
        let commands = blocks(page, "sh").into_iter().filter(|one| one.starts_with("curl "));
        let commands: Vec<String> = commands.collect();
        assert_eq!(commands.len(), arrivals);
        let mut ran = 0;
        for command in commands {
            let command = command.replace("127.0.0.1:8080", &relay.addr().to_string());
            let Some(said) = shell(&format!("{command} --silent")).await else { continue };
            ran += 1;
            assert!(said.starts_with("HTTP/1.1 200 OK"), "{command}: {said}");
            assert!(said.ends_with("\r\n\r\n"), "an answer with a body: {said}");
        }
        relay.settled().await;
        assert_eq!(backoffice.seen().len() - before, ran);
        relay.finish().await;
    }
}

#[tokio::test]
async fn the_signature_that_the_page_makes_is_the_one_of_its_example() {
    let blocks = blocks(PAGES[0], "sh");
    let command = blocks.iter().find(|one| one.contains("openssl")).unwrap();
    let known = "OLX_SECRET=test-secret object_id=4f5ee709-28d7-4b68-8716-dd912157919f \
                 transaction_id=b315c893-b42c-417a-9ecd-f060cb44cf13";
    let known = known.replace(' ', "\n");
    let Some(said) = shell(&format!("{known}\n{command}")).await else { return };
    assert_eq!(said.trim(), "f8e4392be361d8659adb3c34a30d879c3adbb4e5");
    assert!(PAGES[0].contains(&format!("x-signature: {}", said.trim())));
}
