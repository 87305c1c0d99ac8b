//! Whole documents and templates, and the policy over them.

use std::path::Path;

use super::policy::Policy;
use super::*;
use crate::opennebula::nic::DEFAULT_PREFIX;

/// A recorded VM: it has RAW with CapAdd, and DOCKER_ENV.
const RECORDED: &str = include_str!("../../testdata/deploy-7.4.0.xml");

fn vm(text: &str) -> Vm {
    Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX).unwrap()
}

/// The recorded VM without options, with these attributes in its user template and its context.
fn with(user: &str, context: &str) -> Vm {
    let text = RECORDED
        .replace("<DOCKER_ENV><![CDATA[A=1]]></DOCKER_ENV>", user)
        .replace("<SET_HOSTNAME>", &format!("{context}<SET_HOSTNAME>"))
        .replace("<TYPE><![CDATA[onedock]]></TYPE>", "<TYPE>kvm</TYPE>");
    vm(&text)
}

fn docker(text: &str) -> Vm {
    with(&format!("<DOCKER>{text}</DOCKER>"), "")
}

fn user_data(text: &str) -> Vm {
    with("", &format!("<USER_DATA><![CDATA[{text}]]></USER_DATA>"))
}

fn policy(text: &str) -> Policy {
    Policy::parse(text, Path::new("/etc/onedock/policy.toml")).unwrap()
}

fn of(vm: &Vm) -> Result<Options, String> {
    of_vm(vm, None, &Policy::default()).map_err(|e| e.to_string())
}

fn all_allowed(vm: &Vm) -> Options {
    of_vm(vm, None, &policy("[default]\nallow = [\"*\"]")).unwrap()
}

#[test]
fn what_the_recorded_vm_asks_is_in_force() {
    let options = of(&vm(RECORDED)).unwrap();
    assert_eq!(
        options.engine.host["CapAdd"],
        serde_json::json!(["NET_ADMIN"])
    );
    assert_eq!(options.environment, ["A=1".parse().unwrap()]);
    assert!(options.notes.is_empty(), "{:?}", options.notes);
    let text = options.engine.text().unwrap();
    assert_eq!(EngineOptions::of_text(&text), options.engine);
    assert_eq!(EngineOptions::of_text("x"), EngineOptions::default());
    let none = of(&with("", "")).unwrap();
    assert_eq!(none.engine.text(), None);
    assert_eq!(
        none.notes,
        ["RAW of TYPE kvm is another hypervisor's, and has no effect"]
    );
}

/// The example of nova-docker's fork, as it stands in its README, behind a policy that allows all of it.
#[test]
fn ud_10_the_whole_payload_of_nova_docker_is_accepted_as_it_stands() {
    let payload = r#"{
      "Hostname":"", "Domainname": "", "User":"", "Memory":0, "MemorySwap":0, "CpuShares": 512,
      "Cpuset": "0,1", "AttachStdin":false, "AttachStdout":true, "AttachStderr":true, "Tty":false,
      "OpenStdin":false, "StdinOnce":false, "Env":null, "Cmd":[ "date" ], "Entrypoint": "",
      "Image":"base", "Volumes":{ "/tmp": {} }, "WorkingDir":"", "NetworkDisabled": false,
      "MacAddress":"12:34:56:78:9a:bc", "ExposedPorts":{ "22/tcp": {} }, "SecurityOpt": [""],
      "HostConfig": {
        "Binds":["/tmp:/tmp"], "Links":["redis3:redis"], "LxcConf":{"lxc.utsname":"docker"},
        "PortBindings":{ "22/tcp": [{ "HostPort": "11022" }] }, "PublishAllPorts":false,
        "Privileged":false, "Dns": ["8.8.8.8"], "DnsSearch": [""],
        "VolumesFrom": ["parent", "other:ro"], "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"],
        "RestartPolicy": { "Name": "", "MaximumRetryCount": 0 }, "NetworkMode": "bridge", "Devices": []
      }
    }"#;
    let options = all_allowed(&user_data(payload));
    assert_eq!(options.command, Some(vec!["date".to_owned()]));
    assert_eq!(options.entrypoint, None);
    assert_eq!(options.limits.cpu_shares, Some(512));
    assert_eq!(options.dns, ["8.8.8.8".parse().unwrap()]);
    let host = &options.engine.host;
    assert_eq!(host["Binds"], serde_json::json!(["/tmp:/tmp"]));
    assert_eq!(
        host["VolumesFrom"],
        serde_json::json!(["parent", "other:ro"])
    );
    assert_eq!(host["CapDrop"], serde_json::json!(["MKNOD"]));
    assert_eq!(host["CpusetCpus"], "0,1");
    assert!(!host.contains_key("RestartPolicy") && !host.contains_key("Privileged"));
    // What a VM has no use for is said: MAC, links, LXC, bindings, network, image; and the RAW.
    assert_eq!(options.notes.len(), 7, "{:#?}", options.notes);
    // By itself nobody has the half of it.
    let error = of(&user_data(payload)).unwrap_err();
    assert!(
        error.contains("is not allowed: the built-in rule"),
        "{error}"
    );
}

#[test]
fn ud_11_the_yaml_examples_of_nova_docker_are_accepted_as_they_stand() {
    let environment = "environment :\n    etcd : 10.144.192.168\n";
    let options = of(&user_data(environment)).unwrap();
    assert_eq!(
        options.environment,
        ["etcd=10.144.192.168".parse().unwrap()]
    );
    for (text, bind) in [
        (
            "volumes :\n  /var/run/docker.sock : /var/run/docker.sock\n",
            "/var/run/docker.sock:/var/run/docker.sock",
        ),
        (
            "volumes :\n  /tmp/test112233 : /tmp/test112233\n",
            "/tmp/test112233:/tmp/test112233",
        ),
    ] {
        let vm = user_data(text);
        assert_eq!(
            all_allowed(&vm).engine.host["Binds"],
            serde_json::json!([bind])
        );
        let error = of(&vm).unwrap_err();
        assert!(
            error.contains(
                "CONTEXT/USER_DATA volumes is not allowed: the built-in rule allows none"
            ),
            "{error}"
        );
    }
}

#[test]
fn ud_1_and_2_user_data_may_be_base64_and_a_part_of_a_mime_document() {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let command = |vm: &Vm| of(vm).unwrap().command;
    let date = Some(vec!["date".to_owned()]);
    assert_eq!(command(&user_data("{\"Cmd\": [\"date\"]}")), date);
    assert_eq!(command(&user_data(&encode("command: date"))), date);
    let mime = "Content-Type: multipart/mixed; boundary=\"===1\"\nMIME-Version: 1.0\n\n\
        --===1\nContent-Type: text/cloud-config\nContent-Disposition: attachment; filename=\"cloud-config\"\n\n\
        #cloud-config\n--===1\nContent-Type: text/plain\n\
        Content-Disposition: attachment; filename=\"cfn-userdata\"\n\ncommand: date\n--===1--\n";
    assert_eq!(command(&user_data(mime)), date);
    assert_eq!(command(&user_data(&encode(mime))), date);
    for (text, note) in [
        ("#cloud-config\nusers: []", "is for cloud-init"),
        ("#!/bin/sh\nid", "is for cloud-init"),
        (
            &mime.replace("cfn-userdata", "other"),
            "without a part cfn-userdata",
        ),
    ] {
        let options = of(&user_data(text)).unwrap();
        assert_eq!(options.command, None, "{text}");
        assert!(
            options.notes.iter().any(|line| line.contains(note)),
            "{:?}",
            options.notes
        );
    }
    let wrong = with(
        "",
        "<USER_DATA>***</USER_DATA><USER_DATA_ENCODING>base64</USER_DATA_ENCODING>",
    );
    assert!(
        of(&wrong)
            .unwrap()
            .notes
            .iter()
            .any(|line| line.contains("is not the base64"))
    );
}

#[test]
fn ud_3_a_document_that_cannot_be_read_is_refused_and_says_why() {
    for text in [
        "just a text",
        "[1, 2]",
        "{\"ignition\": {\"version\": \"3\"}}",
        "key: value",
        "H4sIAAAA",
    ] {
        let options = of(&user_data(text)).unwrap();
        assert!(
            options
                .notes
                .iter()
                .any(|line| line.contains("has no option of Docker")),
            "{text}"
        );
    }
    for text in [
        "{\"Cmd\": [",
        "command: [",
        "{\"Cmd\": {\"a\": 1}}",
        "command: date\nfoo: 1",
    ] {
        let error = of(&user_data(text)).unwrap_err();
        assert!(error.starts_with("CONTEXT/USER_DATA"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    // YAML that would grow without end.
    let mut bomb = "command: x\na: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (one, other) in ('a'..='y').zip('b'..='z') {
        bomb += &format!(
            "{other}: &{other} [*{one},*{one},*{one},*{one},*{one},*{one},*{one},*{one}]\n"
        );
    }
    assert!(of(&user_data(&bomb)).is_err());
}

#[test]
fn a_template_spells_each_option_as_it_likes() {
    let options = of(&docker(
        "<COMMAND>nginx -g 'daemon off;'</COMMAND><ENTRYPOINT>[\"/entry\", \"a b\"]</ENTRYPOINT>\
         <ENV>A='x y' B=2</ENV><USER>0</USER><WORKING_DIR>/srv</WORKING_DIR><KEEPALIVE>yes</KEEPALIVE>\
         <TERMINAL>no</TERMINAL><CAP_DROP>MKNOD, cap_net_raw</CAP_DROP><ULIMITS>nofile=1024:2048 nproc=5</ULIMITS>\
         <SYSCTLS>net.core.somaxconn=99</SYSCTLS><SHM_SIZE>64m</SHM_SIZE><READ_ONLY>YES</READ_ONLY>\
         <TMPFS>/run:size=1m /tmp</TMPFS><EXTRA_HOSTS>db:10.0.0.7</EXTRA_HOSTS><DNS>1.1.1.1</DNS>\
         <RESTART>on-failure:3</RESTART><HOSTNAME>web</HOSTNAME><DOMAINNAME>lan</DOMAINNAME><INIT>NO</INIT>\
         <SECURITY_OPT>no-new-privileges</SECURITY_OPT><PRIVILEGED>NO</PRIVILEGED><LABELS>a=b</LABELS>",
    ))
    .unwrap();
    assert_eq!(options.command.unwrap(), ["nginx", "-g", "daemon off;"]);
    assert_eq!(options.entrypoint.unwrap(), ["/entry", "a b"]);
    let variables: Vec<String> = options.environment.into_iter().map(String::from).collect();
    assert_eq!(variables, ["A=x y", "B=2"]);
    assert!(options.keep_alive && options.init == Some(false) && options.terminal == Some(false));
    assert_eq!(options.hostname.unwrap().as_str(), "web");
    let engine = serde_json::json!({
        "body": {"User": "0", "WorkingDir": "/srv", "Labels": {"a": "b"}},
        "host": {
            "CapDrop": ["MKNOD", "NET_RAW"], "ShmSize": 67_108_864, "ReadonlyRootfs": true,
            "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}, {"Name": "nproc", "Soft": 5, "Hard": 5}],
            "Sysctls": {"net.core.somaxconn": "99"}, "Tmpfs": {"/run": "size=1m", "/tmp": ""},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "SecurityOpt": ["no-new-privileges"]
        }
    });
    assert_eq!(
        serde_json::json!({"body": options.engine.body, "host": options.engine.host}),
        engine
    );
}

#[test]
fn the_vm_s_word_stands_over_user_data_and_that_over_the_image_and_variables_add_up() {
    let user = "<DOCKER><ENV>B=vm</ENV></DOCKER><DOCKER_USER>vm</DOCKER_USER>";
    let context = "<USER_DATA>{\"User\": \"data\", \"Cmd\": \"data\", \"Env\": [\"B=data\", \"C=data\"]}</USER_DATA>";
    let image = "{\"User\": \"image\", \"Cmd\": \"image\", \"WorkingDir\": \"/image\", \"Env\": {\"A\": \"image\"}}";
    let options = of_vm(&with(user, context), Some(image), &Policy::default()).unwrap();
    assert_eq!(options.engine.body["User"], "vm");
    assert_eq!(options.engine.body["WorkingDir"], "/image");
    assert_eq!(options.command.unwrap(), ["data"]);
    let mut variables: Vec<String> = options.environment.into_iter().map(String::from).collect();
    variables.sort();
    assert_eq!(variables, ["A=image", "B=vm", "C=data"]);
    // The later place takes back what the earlier one asked for.
    let image = "{\"Privileged\": true, \"User\": \"image\"}";
    for user in [
        "<DOCKER><PRIVILEGED>NO</PRIVILEGED><USER/></DOCKER>",
        "<DOCKER_PRIVILEGED>NO</DOCKER_PRIVILEGED><DOCKER_USER/>",
    ] {
        let options = of_vm(&with(user, ""), Some(image), &Policy::default()).unwrap();
        assert_eq!(options.engine, EngineOptions::default());
    }
}

#[test]
fn ud_8_binds_of_one_document_add_up_by_whatever_they_are_called() {
    let text = "{\"volumes\": {\"/a\": \"/b\"}, \"host_config\": {\"Binds\": [\"/c:/d:ro\"]}, \"Volumes\": {\"/e\": {}}}";
    let binds = all_allowed(&user_data(text)).engine.host["Binds"].clone();
    let mut binds: Vec<&str> = binds
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|b| b.as_str())
        .collect();
    binds.sort_unstable();
    assert_eq!(binds, ["/a:/b", "/c:/d:ro"]);
}

#[test]
fn a_variable_or_setting_of_zero_is_one() {
    let text = "environment: {REPLICAS: 0, TLS: false, DEBUG: \"\"}\nsysctls: {net.ipv6.conf.all.disable_ipv6: 0}\n";
    let options = of(&user_data(text)).unwrap();
    let mut variables: Vec<String> = options.environment.into_iter().map(String::from).collect();
    variables.sort();
    assert_eq!(variables, ["DEBUG=", "REPLICAS=0", "TLS=false"]);
    assert_eq!(
        options.engine.host["Sysctls"],
        serde_json::json!({"net.ipv6.conf.all.disable_ipv6": "0"})
    );
}

/// Attacks 2, 3 and 4: what would be root on the host, under each of its names.
#[test]
fn attack_3_and_4_no_spelling_and_no_place_leads_around_the_policy() {
    let harmful = [
        ("PRIVILEGED", "YES"),
        ("Privileged", "true"),
        ("BINDS", "/:/host"),
        ("VOLUMES", "/etc:/etc"),
        (
            "MOUNTS",
            "[{\"Type\":\"bind\",\"Source\":\"/\",\"Target\":\"/h\"}]",
        ),
        ("VOLUMES_FROM", "other"),
        ("DEVICES", "/dev/sda"),
        ("DEVICE_CGROUP_RULES", "b *:* rwm"),
        ("GPUS", "[{\"Count\":-1}]"),
        ("CAP_ADD", "SYS_ADMIN"),
        ("cap_add", "all"),
        ("SECURITY_OPT", "seccomp=unconfined"),
        ("SECURITY_OPT", "apparmor:unconfined"),
        ("PID", "host"),
        ("PID_MODE", "container:x"),
        ("IPC", "host"),
        ("UTS", "host"),
        ("USERNS", "host"),
        ("CGROUPNS", "host"),
        ("CGROUP_PARENT", "/"),
        ("LOG_CONFIG", "{\"Type\":\"syslog\"}"),
        ("OOM_SCORE_ADJ", "-1000"),
        ("OOM_KILL_DISABLE", "YES"),
        ("SYSCTLS", "kernel.core_pattern=x"),
        ("ULIMITS", "memlock=-1"),
        ("MEMORY", "64g"),
        ("MEMSWAP_LIMIT", "-1"),
        ("CPU_SHARES", "262144"),
        ("CPUSET", "0-1"),
        ("PIDS_LIMIT", "100000"),
    ];
    for (name, value) in harmful {
        let escaped = value.replace('<', "&lt;");
        let error = of(&docker(&format!("<{name}>{escaped}</{name}>"))).unwrap_err();
        assert!(error.starts_with(&format!("DOCKER/{name}")), "{error}");
        assert!(error.contains("is not allowed"), "{error}");
        let error = of(&with(
            &format!("<DOCKER_{name}>{escaped}</DOCKER_{name}>"),
            "",
        ))
        .unwrap_err();
        assert!(error.starts_with(&format!("DOCKER_{name}")), "{error}");
        // In a document, at its top and within HostConfig, where the same key stands in the API.
        let json: serde_json::Value = serde_json::from_str(value).unwrap_or(value.into());
        for document in [
            serde_json::json!({name: json}),
            serde_json::json!({"HostConfig": {name: json}}),
            serde_json::json!({"host_config": {name: json}}),
        ] {
            let error = of(&user_data(&document.to_string())).unwrap_err();
            assert!(error.contains("is not allowed"), "{document}: {error}");
            let image = of_vm(
                &with("", ""),
                Some(&document.to_string()),
                &Policy::default(),
            );
            assert!(image.is_err(), "{document}");
        }
    }
}

#[test]
fn attack_2_what_cannot_be_had_at_all_is_refused_whoever_asks() {
    let everything = policy("[default]\nallow = [\"*\"]");
    for (name, value) in [
        ("RUNTIME", "runc"),
        ("NETWORK_MODE", "host"),
        ("NET", "container:other"),
        ("STORAGE_OPT", "size=1g"),
        ("HEALTHCHECK", "{\"Test\":[\"CMD\",\"true\"]}"),
    ] {
        let vm = docker(&format!("<{name}>{value}</{name}>"));
        let error = of_vm(&vm, None, &everything).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("DOCKER/{name} is not possible")),
            "{error}"
        );
    }
    for (name, value) in [
        ("RESTART", "always"),
        ("RESTART_POLICY", "unless-stopped"),
        ("LABELS", "org.opennebula.vm=7"),
        ("BINDS", "named:/x"),
        ("BINDS", "/a/../b:/x"),
        ("BINDS", "/a:/x:rshared"),
        ("ENV", "1A=x"),
        ("HOSTNAME", "a b"),
        ("COMMAND", "a 'b"),
        ("WORKING_DIR", "srv"),
        ("CPU_QUOTA", "-1"),
    ] {
        let vm = docker(&format!("<{name}>{value}</{name}>"));
        let error = of_vm(&vm, None, &everything).unwrap_err().to_string();
        assert!(error.starts_with(&format!("DOCKER/{name}: ")), "{error}");
    }
    for name in ["MEMORY", "MEMORY_SWAP"] {
        let vm = docker(&format!("<{name}>-1</{name}>"));
        let error = of_vm(&vm, None, &everything).unwrap_err().to_string();
        assert_eq!(error, format!("{name}: it takes a number of bytes above 0"));
    }
    let period = docker("<CPU_PERIOD>50000</CPU_PERIOD>");
    let notes = of_vm(&period, None, &everything).unwrap().notes;
    assert!(
        notes.iter().any(|note| note.contains("without CPU_QUOTA")),
        "{notes:?}"
    );
    let both = docker("<CPU_PERIOD>50000</CPU_PERIOD><CPU_QUOTA>25000</CPU_QUOTA>");
    let limits = of_vm(&both, None, &everything).unwrap().limits;
    assert_eq!(limits.cpu_quota_us, Some(50_000));
    let error = of(&docker("<FOO>1</FOO>")).unwrap_err();
    assert!(error.contains("DOCKER FOO is not an option"), "{error}");
    let options = of(&with("<DOCKER_FOO>1</DOCKER_FOO>", "")).unwrap();
    assert!(
        options
            .notes
            .iter()
            .any(|line| line.starts_with("DOCKER_FOO is not an option"))
    );
}

#[test]
fn a_rule_of_the_user_stands_over_the_group_s_and_that_over_the_default() {
    let file = "[default]\ndeny = [\"user\"]\n[default.limit]\ncap_add = [\"SYS_TIME\"]\nbinds = [\"/srv/shared\"]\n\
        shm_size = \"128m\"\n[group.oneadmin]\nallow = [\"privileged\"]\n[user.oneadmin]\nallow = [\"USER\"]\n\
        [user.alice]\nallow = [\"*\"]\n";
    let policy = policy(file);
    let ask = |text: &str, user: &str| {
        let mut vm = docker(text);
        vm.owner = crate::opennebula::vm::Owner {
            user: Some(user.to_owned()),
            group: Some("users".into()),
        };
        if user == "oneadmin" {
            vm.owner.group = Some("oneadmin".into());
        }
        of_vm(&vm, None, &policy).map_err(|e| e.to_string())
    };
    let (user, privileged) = ("<USER>x</USER>", "<PRIVILEGED>YES</PRIVILEGED>");
    assert!(ask(user, "oneadmin").is_ok() && ask(privileged, "oneadmin").is_ok());
    let error = ask(user, "bob").unwrap_err();
    assert_eq!(
        error,
        "DOCKER/USER is not allowed: [default] of /etc/onedock/policy.toml denies it"
    );
    assert!(
        ask(privileged, "bob")
            .unwrap_err()
            .contains("built-in rule denies it")
    );
    assert!(ask(privileged, "alice").is_ok() && ask(user, "alice").is_ok());
    for (text, good) in [
        ("<CAP_ADD>SYS_TIME</CAP_ADD>", true),
        ("<CAP_ADD>SYS_TIME CHOWN</CAP_ADD>", false),
        ("<BINDS>/srv/shared:/s:ro</BINDS>", true),
        ("<BINDS>/srv//shared/.:/s</BINDS>", true),
        ("<BINDS>/srv/shared/deeper:/s</BINDS>", false),
        ("<BINDS>/srv:/s</BINDS>", false),
        ("<SHM_SIZE>128m</SHM_SIZE>", true),
        ("<SHM_SIZE>129m</SHM_SIZE>", false),
    ] {
        assert_eq!(ask(text, "bob").is_ok(), good, "{text}");
    }
    let raw = vm(RECORDED);
    assert!(
        of_vm(&raw, None, &policy).is_ok(),
        "RAW is an administrator's"
    );
    let denied = Policy::parse("[default]\ndeny = [\"CapAdd\"]", Path::new("/p")).unwrap();
    let error = of_vm(&raw, None, &denied).unwrap_err().to_string();
    assert_eq!(
        error,
        "RAW/DATA CapAdd is not allowed: [default] of /p denies it"
    );
}

#[test]
fn a_policy_that_is_wrong_is_refused_with_its_line_or_its_section() {
    for (text, part) in [
        (
            "[default]\nallow = [\"nonsense\"]",
            "[default]: nonsense is not an option",
        ),
        ("[default]\nallow = [1]", "line 2"),
        ("[defaults]", "line 1"),
        (
            "[user.bob.limit]\nshm_size = \"x\"",
            "[user.bob]: limit shm_size",
        ),
        ("allow", "line 1"),
    ] {
        let error = Policy::parse(text, Path::new("/p"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the policy /p: ") && error.contains(part),
            "{error}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Policy::read(&dir.path().join("none")).unwrap(), None);
    assert!(Policy::read(dir.path()).is_err());
}
