use super::*;

const WEB: &str = "NAME = web # the name\nCPU=0.5\nMEMORY=64\n\
    DISK=[ IMAGE=\"docker://host:5000/web:1\", DOCKERRUN=\"httpd -f\" ]\n\
    NIC=[ BRIDGE=br0, IP=10.0.0.5, MASK=24, GATEWAY=10.0.0.1 ]\n\
    CONTEXT=[ NETWORK=YES, GREETING=\"it's $5\" ]\nOS=[ BOOT=disk0 ]\nDOCKER_ENV=\"A=1\"\n";

fn problem(text: &str) -> (Option<usize>, String) {
    let Problem { line, what } = Template::parse(text, "file").unwrap_err();
    (line, what)
}

#[test]
fn a_template_is_read_with_what_is_passed_on() {
    let template = Template::parse(WEB, "file").unwrap();
    assert_eq!(
        (template.name.as_str(), template.cpu.as_str()),
        ("web", "0.5")
    );
    assert_eq!(template.disks[0].path, "docker://host:5000/web:1");
    assert_eq!(template.disks[0].dockerrun.as_deref(), Some("httpd -f"));
    let nic = &template.nics[0];
    assert_eq!(nic.mask.as_deref(), Some("24"));
    assert_eq!(nic.rest[0].name, "GATEWAY");
    assert_eq!(template.context.unwrap().len(), 2);
    assert_eq!(template.template[0].name, "OS");
    assert_eq!(template.user[0].name, "DOCKER_ENV");
}

#[test]
fn a_vm_without_a_name_is_called_like_its_file() {
    let template =
        Template::parse("CPU=1\nMEMORY=64\nDISK=[IMAGE=\"docker://a/b\"]", "web").unwrap();
    assert_eq!(template.name, "web");
}

#[test]
fn what_an_opennebula_would_know_is_refused_with_its_line() {
    let with = |line: &str| problem(&format!("CPU=1\nMEMORY=64\n{line}\n"));
    for (line, expected) in [
        ("DISK=[IMAGE=\"web\"]", "no PATH"),
        ("DISK=[IMAGE_ID=5]", "IMAGE_ID"),
        ("DISK=[TYPE=fs,SIZE=10]", "neither IMAGE nor PATH"),
        ("DISK=[PATH=\"/there/is/none.tar\"]", "there is no file"),
        (
            "DISK=[IMAGE=\"docker://a/b\",PERSISTENT=maybe]",
            "YES or NO",
        ),
        ("NIC=[NETWORK=private]", "give BRIDGE and IP"),
        ("NIC=[IP=10.0.0.1]", "no BRIDGE"),
        ("NIC=[BRIDGE=br0,IP=10.0.0.256]", "is not an IPv4 address"),
        ("NIC=[BRIDGE=br0,MAC=0:0]", "NIC/MAC"),
        ("NIC=[BRIDGE=\"a/b\"]", "NIC/BRIDGE"),
        ("NIC=[BRIDGE=a,BRIDGE=b]", "given twice"),
        ("NIC=br0", "is a vector"),
        ("CONTEXT=[KEY=\"$USER[SSH_PUBLIC_KEY]\"]", "asks OpenNebula"),
        ("CPU=2", "CPU is given twice"),
        ("PCI=[VENDOR=1]", "not supported"),
        ("DISK=[IMAGE=a", "',' or ']'"),
        ("9A=1", "begins with a digit"),
    ] {
        let (at, what) = with(line);
        assert!(what.contains(expected), "{line}: {what}");
        // What ends behind the last line is missed there.
        assert!(at == Some(3) || at == Some(4), "{line}: {at:?}");
    }
}

#[test]
fn what_is_missing_is_named() {
    assert!(problem("MEMORY=1").1.contains("CPU is missing"));
    assert!(problem("CPU=1").1.contains("MEMORY is missing"));
    assert!(problem("CPU=1\nMEMORY=1").1.contains("no DISK"));
}
