//! The wire format, against what a real client sent and against OpenSSL's decryption.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};

use flate2::read::ZlibDecoder;
use serde_json::Value;

use super::*;

/// The largest payload of a UDP datagram over IPv4.
const UDP: usize = 65_507;

/// What `monitord` does with a message (`Message::parse_from`).
fn parse(wire: &str) -> (String, String, u32, u64, Vec<u8>) {
    let mut fields = wire.splitn(5, ' ');
    let mut next = || fields.next().unwrap().to_owned();
    let (kind, status) = (next(), next());
    let (host, time) = (next().parse().unwrap(), next().parse().unwrap());
    let packed = BASE64_STANDARD.decode(next()).unwrap();
    let mut data = Vec::new();
    ZlibDecoder::new(&packed[..])
        .read_to_end(&mut data)
        .unwrap();
    (kind, status, host, time, data)
}

fn kind_of(name: &str) -> Kind {
    let kinds = [
        Kind::BeaconHost,
        Kind::SystemHost,
        Kind::MonitorHost,
        Kind::MonitorVm,
        Kind::StateVm,
    ];
    kinds.into_iter().find(|k| k.name() == name).unwrap()
}

#[test]
fn recorded_messages_decode_by_the_same_rules_as_ours_and_ours_say_the_same() {
    let recorded = include_str!("../tests/data/monitord-messages-7.4.0.jsonl");
    for line in recorded.lines() {
        let one: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| one[key].as_str().unwrap().to_owned();
        // The recorder left "07" behind each message, which is no base64.
        let wire = text("wire");
        let (kind, status, host, time, data) = parse(wire.strip_suffix("07").unwrap());
        assert_eq!(String::from_utf8(data).unwrap(), text("payload"));
        let ours = message(
            kind_of(&kind),
            HostId::new(host),
            time,
            &text("payload"),
            None,
        )
        .unwrap();
        let again = parse(&ours);
        assert_eq!(
            again,
            (kind, status, host, time, text("payload").into_bytes())
        );
    }
    assert_eq!(recorded.lines().count(), 16);
}

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "openssl {args:?}");
    out.stdout
}

#[test]
fn attack_32_openssl_decrypts_what_is_encrypted_with_monitord_s_key_block_by_block() {
    let dir = tempfile::tempdir().unwrap();
    let private = dir.path().join("key.pem");
    let private = private.to_str().unwrap();
    openssl(&["genrsa", "-out", private, "2048"], b"");
    let public = openssl(&["rsa", "-in", private, "-RSAPublicKey_out"], b"");
    // As it arrives: `run_monitord_client` makes blanks of line ends.
    let public = String::from_utf8(public).unwrap().replace('\n', " ");
    let key = Key::from_pem(&public).unwrap();
    let data: String = (0..600).map(|n| format!("LINE{n}=\"{n}\"\n")).collect();
    let wire = message(Kind::SystemHost, HostId::new(4), 9, &data, Some(&key)).unwrap();
    let (.., encrypted) = parse(&wire);
    assert!(encrypted.len() % 256 == 0 && encrypted.len() > data.len());
    let mut plain = Vec::new();
    for block in encrypted.chunks(256) {
        plain.extend(openssl(&["pkeyutl", "-decrypt", "-inkey", private], block));
    }
    assert_eq!(String::from_utf8(plain).unwrap(), data);
}

#[test]
fn another_form_of_key_is_refused_with_what_is_expected() {
    for bad in [
        "x",
        "-----BEGIN PUBLIC KEY----- AAAA -----END PUBLIC KEY-----",
        "-----BEGIN RSA PUBLIC KEY----- AAAA -----END RSA PUBLIC KEY-----",
    ] {
        let error = Key::from_pem(bad).unwrap_err().to_string();
        assert!(error.contains("BEGIN RSA PUBLIC KEY"), "{error}");
    }
}

/// Text that neither compresses nor repeats.
fn noise(bytes: usize) -> String {
    let mut file = fs::File::open("/dev/urandom").unwrap();
    let mut raw = vec![0; bytes / 4 * 3];
    file.read_exact(&mut raw).unwrap();
    BASE64_STANDARD.encode(raw)
}

#[test]
fn fault_62_a_thousand_vms_are_split_between_records_and_every_datagram_fits_even_encrypted() {
    let records: Vec<String> = (0..1000)
        .map(|vm| {
            format!(
                "VM = [ ID=\"{vm}\", DEPLOY_ID=\"one-{vm}\", MONITOR=\"{}\" ]",
                noise(400)
            )
        })
        .collect();
    let parts = datagrams(&records);
    assert!(parts.len() > 10);
    let again: Vec<&str> = parts.iter().flat_map(|p| p.lines()).collect();
    assert_eq!(again, records);
    let dir = tempfile::tempdir().unwrap();
    let private = dir.path().join("key.pem");
    let private = private.to_str().unwrap();
    openssl(&["genrsa", "-out", private, "1024"], b"");
    let public = openssl(&["rsa", "-in", private, "-RSAPublicKey_out"], b"");
    let key = Key::from_pem(&String::from_utf8(public).unwrap()).unwrap();
    for key in [None, Some(&key)] {
        let full = noise(DATAGRAM);
        let wire = message(Kind::MonitorVm, HostId::new(1), u64::MAX, &full, key).unwrap();
        assert!(wire.len() <= UDP, "{}", wire.len());
    }
    assert!(datagrams(&[]).is_empty());
}

#[test]
fn a_datagram_is_full_to_its_last_byte_and_a_record_that_fills_one_stands_alone() {
    let record = |bytes: usize| "r".repeat(bytes);
    let half = DATAGRAM / 2;
    assert_eq!(DATAGRAM, 32_768);
    let full = format!("{}\n{}", record(half), record(half - 1));
    assert_eq!(datagrams(&[record(half), record(half - 1)]), [full]);
    for more in [
        [record(half), record(half)],
        [record(2 * DATAGRAM), record(1)],
    ] {
        assert_eq!(datagrams(&more), more);
    }
}

#[test]
fn the_first_answer_has_the_elements_of_the_stock_client_in_its_order() {
    let first = First {
        system_host: "A=1".into(),
        monitor_host: "B=2".into(),
        state_vm: "C=3".into(),
        monitor_vm: String::new(),
    };
    assert_eq!(
        first.document(5),
        "<MONITOR_MESSAGES><SYSTEM_HOST>QT0x</SYSTEM_HOST>\n<MONITOR_HOST>Qj0y</MONITOR_HOST>\n\
         <STATE_VM>Qz0z</STATE_VM>\n<EXEC_VM></EXEC_VM>\n<MONITOR_VM></MONITOR_VM>\n\
         <MONITOR_VM></MONITOR_VM>\n<TIMESTAMP>5</TIMESTAMP></MONITOR_MESSAGES>"
    );
}
