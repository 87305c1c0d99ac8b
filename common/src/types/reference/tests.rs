use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn read(text: &str) -> Reference {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn the_first_part_is_a_registry_with_a_point_a_colon_or_as_localhost() {
    for (text, registry, path, tag) in [
        ("busybox", None, "busybox", None),
        ("busybox:1.36", None, "busybox", Some("1.36")),
        ("user/image:tag", None, "user/image", Some("tag")),
        (
            "registry.example.org/img",
            Some("registry.example.org"),
            "img",
            None,
        ),
        ("reg:5000/a/b/c:x", Some("reg:5000"), "a/b/c", Some("x")),
        ("localhost/img", Some("localhost"), "img", None),
        ("[::1]:5000/img", Some("[::1]:5000"), "img", None),
        (
            "10.0.0.1:5000/onedock/img-7",
            Some("10.0.0.1:5000"),
            "onedock/img-7",
            None,
        ),
        (
            "docker.io/busybox",
            Some("docker.io"),
            "library/busybox",
            None,
        ),
        ("index.docker.io/u/i", Some("docker.io"), "u/i", None),
    ] {
        let reference = read(text);
        assert_eq!(
            reference.registry().map(RegistryName::as_str),
            registry,
            "{text}"
        );
        assert_eq!(reference.path().as_str(), path, "{text}");
        assert_eq!(reference.tag().map(Tag::as_str), tag, "{text}");
        assert_eq!(read(&reference.to_string()), reference, "{text}");
    }
    let pinned = read(&format!("r.example/a:t@sha256:{HEX}"));
    assert_eq!(pinned.digest().map(Digest::hex), Some(HEX));
}

#[test]
fn an_unqualified_name_takes_the_default_registry_and_docker_hub_its_library() {
    let local: RegistryName = "registry.local:5000".parse().unwrap();
    let hub = RegistryName::docker_hub();
    let given = |text: &str, r: &RegistryName| read(text).with_default_registry(r).to_string();
    assert_eq!(given("busybox:1", &local), "registry.local:5000/busybox:1");
    assert_eq!(given("busybox:1", &hub), "docker.io/library/busybox:1");
    assert_eq!(given("u/i", &hub), "docker.io/u/i");
    assert_eq!(given("quay.io/u/i", &local), "quay.io/u/i");
    assert_eq!(hub.endpoint_host(), "registry-1.docker.io");
    assert_eq!(local.endpoint_host(), "registry.local:5000");
    assert_eq!(local.host(), "registry.local");
}

#[test]
fn attack_22_a_registry_by_its_address_has_one_spelling() {
    for bad in [
        "2130706433:5000/a",
        "127.1:5000/a",
        "127.0.0.01:5000/a",
        "0177.0.0.1:5000/a",
        "0x7f000001:5000/a",
        "0x7f.0.0.1:5000/a",
        "127.0.0.0x1/a",
        "r.example.5/a",
        "1.2.3.4.5/a",
        "256.1.1.1/a",
        "[::ffff:127.0.0.1]:5000/a",
        "[0:0:0:0:0:0:0:1]:5000/a",
        "[::0001]:5000/a",
        "[FD00::1]:5000/a",
    ] {
        let error = bad.parse::<Reference>().unwrap_err();
        assert!(matches!(error, BadReference::Address(_)), "{bad}: {error}");
    }
    for (good, port) in [
        ("127.0.0.1:5000/a", 5000),
        ("[::1]:5000/a", 5000),
        ("[fd00::1]/a", 443),
        ("5.example/a", 443),
        ("r0x1.example/a", 443),
        ("r5:80/a", 80),
    ] {
        assert_eq!(read(good).registry().unwrap().port(), port, "{good}");
    }
}

#[test]
fn attack_21_tricks_with_names_are_refused() {
    let long_host = format!("{}.org/img", "a".repeat(64));
    let long_path = "a/".repeat(200) + "a";
    let huge = "a".repeat(10 * 1024);
    let id = HEX.to_owned();
    for bad in [
        "",
        "/",
        "/img",
        "img/",
        "a//b",
        "evil.com/",
        "evil.com/…@sha256",
        "img@sha256",
        "img@sha256:../../x",
        "img@md5:abc",
        "img@",
        "img:",
        "img:-x",
        "img:a b",
        "img:a/b",
        "img:a:b",
        "Img",
        "user/Img",
        "REG.example.org/img",
        "localhost:5000/../x",
        "localhost:5000/a/./b",
        "localhost:0/a",
        "localhost:05000/a",
        "localhost:70000/a",
        "localhost:/a",
        "localhost:+80/a",
        "host:5000:6000/a",
        "user@host.org/a",
        "-host.org/a",
        "host-.org/a",
        "host..org/a",
        "xn--é.org/a",
        "ехаmple.org/a",
        "a\u{200b}b",
        "a b",
        " img",
        "img ",
        "img\n",
        "img\0",
        "img?size=1",
        "img#x",
        "img%2f",
        "a___b",
        "a.-b",
        "a..b",
        "_a",
        "a_",
        "-a",
        "[::1/img",
        "[::1]x/img",
        "[1.2.3.4]:5/img",
        "http://host/img",
        "docker://img",
        &long_host,
        &long_path,
        &huge,
        &id,
    ] {
        assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
    }
    let refused = |text: &str| text.parse::<Reference>().unwrap_err();
    let named = BadReference::Path("Img".into());
    assert_eq!(refused("Img"), named);
    assert!(named.to_string().contains("\"Img\""));
    assert!("t".repeat(128).parse::<Tag>().is_ok());
    assert!("t".repeat(129).parse::<Tag>().is_err());
}

#[test]
fn the_longest_reference_is_read_and_a_longer_one_refused_by_its_length() {
    let label = "a".repeat(63);
    let host = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    let (path, tag) = ("p".repeat(255), "t".repeat(128));
    let longest = format!("{host}:65535/{path}:{tag}@sha256:{HEX}");
    assert_eq!((longest.len(), TEXT_LIMIT), (716, 716));
    assert_eq!(read(&longest).to_string(), longest);
    for more in ["0", "00"] {
        let refused = format!("{longest}{more}").parse::<Reference>();
        let length = longest.len() + more.len();
        assert_eq!(refused, Err(BadReference::TooLong(length)));
    }
}

#[test]
fn a_registry_s_host_stands_before_its_port_and_without_brackets() {
    for (text, host) in [
        ("[::1]", "::1"),
        ("[::1]:5000", "::1"),
        ("host", "host"),
        ("host:5000", "host"),
    ] {
        assert_eq!(text.parse::<RegistryName>().unwrap().host(), host);
    }
}

#[test]
fn a_source_names_registry_and_digest_and_a_path_may_leave_them_out() {
    let text = format!("docker://registry.local:5000/onedock/img-7@sha256:{HEX}");
    let source: Source = text.parse().unwrap();
    assert_eq!(source.to_string(), text);
    assert_eq!(
        source.repository().to_string(),
        "registry.local:5000/onedock/img-7"
    );
    assert_eq!(source.reference().to_url(), text);
    for bad in [
        format!("registry.local/img@sha256:{HEX}"),
        format!("docker://img@sha256:{HEX}"),
        "docker://registry.local/img:tag".to_owned(),
        format!("docker://registry.local/img:tag@sha256:{HEX}"),
    ] {
        assert!(bad.parse::<Source>().is_err(), "{bad}");
    }
    assert_eq!(
        Reference::from_url("docker://busybox").unwrap(),
        read("busybox")
    );
    assert!(Reference::from_url("http://busybox").is_err());
}

#[test]
fn a_repository_has_a_registry_and_neither_tag_nor_digest() {
    assert!("reg.local/a/b".parse::<Repository>().is_ok());
    let refused = |text: &str| text.parse::<Repository>().unwrap_err();
    for text in ["a/b", "reg.local"] {
        assert_eq!(refused(text), BadReference::Registry(text.into()));
    }
    let tagged = "reg.local/a:t";
    assert_eq!(refused(tagged), BadReference::Path(tagged.into()));
}

#[test]
fn json_carries_the_text_and_checks_it() {
    let reference = read("reg.local/a:t");
    let json = serde_json::to_string(&reference).unwrap();
    assert_eq!(json, "\"reg.local/a:t\"");
    assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
    assert!(serde_json::from_str::<Tag>("\"a/b\"").is_err());
}

proptest! {
    #[test]
    fn attack_21_any_text_is_refused_or_prints_as_it_is_read_again(text in "\\PC{0,60}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(read(&reference.to_string()), reference);
        }
    }

    #[test]
    fn every_name_of_the_grammar_is_read(
        text in "([a-z0-9]{1,8}\\.[a-z]{2,3}(:[1-9][0-9]{1,3})?/)?[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,2}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,10})?"
    ) {
        prop_assert!(text.parse::<Reference>().is_ok(), "{}", text);
    }
}
