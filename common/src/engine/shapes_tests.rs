use super::*;

#[test]
fn a_quota_that_was_lifted_is_the_same_as_none() {
    let id = "ab".repeat(32);
    let quota = |text: &str| {
        let answer = format!(
            r#"{{"Id":"{id}","State":{{"Running":true}},"HostConfig":{{"CpuQuota":{text}}}}}"#
        );
        let answer: ContainerInspectResponse = serde_json::from_str(&answer).unwrap();
        container(answer).unwrap().limits.cpu_quota_us
    };
    assert_eq!((quota("-1"), quota("0"), quota("50000")), (0, 0, 50_000));
    assert_eq!(quota(&BEYOND_ANY_HOST_US.to_string()), 0);
}

#[test]
fn a_container_is_read_with_what_an_engine_leaves_out() {
    let read = |state: &str, rest: &str| {
        let id = "ab".repeat(32);
        let answer = format!(r#"{{"Id":"{id}","State":{{{state}}}{rest}}}"#);
        container(serde_json::from_str(&answer).unwrap()).unwrap()
    };
    for (started, before) in [
        ("0001-01-01T00:00:00Z", false),
        ("2026-11-30T00:00:00Z", true),
    ] {
        let state = format!(r#""StartedAt":"{started}""#);
        assert_eq!(read(&state, "").started_before, before, "{started}");
    }
    assert!(!read("", "").started_before);
    for (pid, expected) in [("0", None), ("1", Some(1)), ("77", Some(77)), ("-1", None)] {
        let state = format!(r#""Pid":{pid}"#);
        assert_eq!(read(&state, "").pid, expected);
    }
    for (signal, expected) in [("", None), ("SIGINT", Some("SIGINT"))] {
        let config = format!(r#","Config":{{"StopSignal":"{signal}"}}"#);
        assert_eq!(read("", &config).stop_signal.as_deref(), expected);
    }
    for (memory, with_swap, swap) in [(100, 130, 30), (100, 100, 0), (100, -1, 0), (100, 0, 0)] {
        let host = format!(r#","HostConfig":{{"Memory":{memory},"MemorySwap":{with_swap}}}"#);
        let limits = read("", &host).limits;
        assert_eq!((limits.memory, limits.swap), (memory, swap), "{with_swap}");
    }
}

#[test]
fn a_quota_of_more_than_any_host_has_bounds_nothing() {
    assert_eq!(BEYOND_ANY_HOST_US, 819_200_000);
    assert_eq!(quota(819_199_999), 819_199_999);
    // runc 1.1.5 on cgroup v1.
    assert!(is_quota_file(
        "failed to write \"-1\" to \"/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us\""
    ));
    assert!(!is_quota_file(
        "failed to write \"1\" to \"memory.limit_in_bytes\""
    ));
}

#[test]
fn a_container_without_a_bound_of_processes_is_made_without_one() {
    for (pids, expected) in [(0, None), (1, Some(1))] {
        let mut spec = spec(false);
        spec.limits.pids = pids;
        let body = create_body(&spec).unwrap().host_config.unwrap();
        assert_eq!(body.pids_limit, expected);
    }
}

fn spec(terminal: bool) -> CreateSpec {
    CreateSpec {
        name: crate::ContainerName::of(crate::VmId::new(5)),
        image: format!("docker://front:5000/x@sha256:{}", "ab".repeat(32))
            .parse()
            .unwrap(),
        hostname: "web".parse().unwrap(),
        labels: std::collections::BTreeMap::new(),
        cmd: None,
        runtime: "onedock",
        terminal,
        no_volume_at: vec!["/etc/hosts"],
        limits: Limits {
            cpu_shares: 512,
            cpu_quota_us: 0,
            memory: 1 << 28,
            swap: 0,
            pids: 0,
        },
        body: Default::default(),
        host: Default::default(),
        storage_mib: None,
    }
}

#[test]
fn attack_3_and_23_and_27_the_engine_is_asked_for_this_container_and_nothing_else() {
    let asked = CreateSpec {
        labels: [("org.opennebula.vm".to_owned(), "5".to_owned())].into(),
        cmd: Some(vec!["/init".to_owned()]),
        limits: Limits {
            cpu_shares: 512,
            cpu_quota_us: 50_000,
            memory: 1 << 28,
            swap: 1 << 20,
            pids: 4096,
        },
        body: Default::default(),
        host: Default::default(),
        storage_mib: Some(74),
        ..spec(false)
    };
    let body = serde_json::to_value(create_body(&asked).unwrap()).unwrap();
    let expected = serde_json::json!({
        "Hostname": "web",
        "Image": format!("front:5000/x@sha256:{}", "ab".repeat(32)),
        "Cmd": ["/init"],
        "Tty": false,
        "OpenStdin": false,
        "NetworkDisabled": true,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {"org.opennebula.vm": "5"},
        "HostConfig": {
            "NetworkMode": "none",
            "Runtime": "onedock",
            "RestartPolicy": {"Name": "no"},
            "CpuShares": 512,
            "CpuPeriod": 100_000,
            "CpuQuota": 50_000,
            "Memory": 1 << 28,
            "MemorySwap": (1 << 28) + (1 << 20),
            "PidsLimit": 4096,
            "Tmpfs": {"/etc/hosts": ""},
            "StorageOpt": {"size": "74M"},
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": "10m", "max-file": "2"},
            },
        },
    });
    assert_eq!(body, expected);
    let update = serde_json::to_value(update_body(
        spec(false).limits,
        asked.limits,
        QuotaChange::Leave,
    ))
    .unwrap();
    let expected = serde_json::json!({
        "CpuShares": 512, "Memory": 1 << 28, "MemorySwap": (1 << 28) + (1 << 20),
        "PidsLimit": 4096,
    });
    assert_eq!(update, expected);
}

#[test]
fn a_bound_of_processes_is_set_changed_and_lifted() {
    let limits = |pids| Limits {
        pids,
        ..spec(false).limits
    };
    for (before, after, asked) in [
        (0, 0, None),
        (0, 100, Some(100)),
        (100, 4096, Some(4096)),
        (100, 0, Some(BEYOND_ANY_PIDS)),
    ] {
        let body = update_body(limits(before), limits(after), QuotaChange::Leave);
        assert_eq!(body.pids_limit, asked, "{before} to {after}");
    }
    assert_eq!([-1, 0, 100, BEYOND_ANY_PIDS].map(pids), [0, 0, 100, 0]);
}

#[test]
fn a_login_names_its_user_its_password_and_its_registry() {
    let repository: Repository = "front:5000/x".parse().unwrap();
    let login = Credential {
        user: "node".into(),
        password: "secret".into(),
    };
    let login = credentials(&repository, Some(&login)).unwrap();
    assert_eq!(login.username.as_deref(), Some("node"));
    assert_eq!(login.password.as_deref(), Some("secret"));
    assert_eq!(login.serveraddress.as_deref(), Some("front:5000"));
    assert!(credentials(&repository, None).is_none());
}

#[test]
fn the_bound_of_a_root_disk_is_in_mib_and_none_where_none_is_asked_for() {
    for (storage_mib, option) in [(None, None), (Some(74), Some("74M"))] {
        let bounded = CreateSpec {
            storage_mib,
            ..spec(true)
        };
        let options = create_body(&bounded)
            .unwrap()
            .host_config
            .unwrap()
            .storage_opt;
        let size = options.map(|options| options["size"].clone());
        assert_eq!(size.as_deref(), option);
    }
}

#[test]
fn a_vm_has_a_terminal_whose_input_stays_open_and_a_tree_has_none() {
    for terminal in [true, false] {
        let body = create_body(&spec(terminal)).unwrap();
        assert_eq!(body.tty, Some(terminal));
        assert_eq!(body.open_stdin, Some(terminal));
        // An engine closes the input with its first reader where this is set.
        assert_eq!(body.stdin_once, None);
        let tmpfs = body.host_config.unwrap().tmpfs.unwrap();
        assert_eq!(tmpfs.keys().collect::<Vec<_>>(), ["/etc/hosts"]);
    }
}

#[test]
fn a_vm_without_vcpu_has_no_quota_in_any_update() {
    let limits = |cpu_quota_us| Limits {
        cpu_shares: 512,
        cpu_quota_us,
        memory: 1 << 28,
        swap: 0,
        pids: 0,
    };
    for (before, after, expected) in [
        (0, 0, None),
        (0, 50_000, Some(50_000)),
        (50_000, 200_000, Some(200_000)),
        (200_000, 200_000, Some(200_000)),
        (50_000, 0, Some(-1)),
    ] {
        let change = QuotaChange::between(limits(before), limits(after));
        let body = update_body(limits(before), limits(after), change);
        assert_eq!(body.cpu_quota, expected, "{before} to {after}");
        let bounds = expected.is_some_and(|quota| quota > 0);
        assert_eq!(body.cpu_period, bounds.then_some(CPU_PERIOD_US));
        assert_eq!(body.cpu_shares, Some(512));
    }
}

#[test]
fn fault_42_only_a_wait_that_was_answered_says_that_a_container_has_gone() {
    let answered = |status_code| {
        is_answer_of_wait(&Error::DockerResponseServerError {
            status_code,
            message: "x".into(),
        })
    };
    assert!(answered(404));
    assert!(!answered(500));
    assert!(!is_answer_of_wait(&Error::RequestTimeoutError));
}

/// As 20.10 answers, and 28.5 with containerd's store for layers that it has in another form.
#[test]
fn an_image_of_which_the_engine_says_nothing_is_none_without_a_command() {
    let read = |answer| image(serde_json::from_value(answer).unwrap());
    let known = read(serde_json::json!({
        "Id": "sha256:ab",
        "Config": {"Cmd": ["httpd"], "Entrypoint": null, "Volumes": {"/data/../srv//": {}}},
        "RootFS": {"Type": "layers", "Layers": []},
    }));
    let config = ImageConfig {
        entrypoint: Vec::new(),
        cmd: vec!["httpd".into()],
        volumes: vec!["/srv".into()],
    };
    assert_eq!(known, ImageState::Known(config));
    for unknown in [
        serde_json::json!({"Id": "sha256:ab"}),
        serde_json::json!({"Id": "sha256:ab", "Config": {"Cmd": null}}),
        serde_json::json!({"Id": "sha256:ab", "RootFS": {"Type": "layers"}}),
    ] {
        assert_eq!(read(unknown), ImageState::Unknown);
    }
    // The client itself refuses what the engine writes then.
    let written = serde_json::json!({"Id": "sha256:ab", "RootFS": {}});
    assert!(serde_json::from_value::<ImageInspect>(written).is_err());
}

#[test]
fn what_a_user_asks_of_the_engine_stands_beside_the_drivers_own() {
    let mut asked = spec(true);
    asked.no_volume_at = vec!["/etc/hosts"];
    asked.labels = [("org.opennebula.vm".to_owned(), "5".to_owned())].into();
    let map = |value: serde_json::Value| value.as_object().unwrap().clone();
    asked.body =
        map(serde_json::json!({"User": "web", "Labels": {"a": "b", "org.opennebula.vm": "6"}}));
    asked.host = map(serde_json::json!({
        "CapAdd": ["NET_ADMIN"], "Tmpfs": {"/run": "size=1m"},
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}
    }));
    let body = serde_json::to_value(create_body(&asked).unwrap()).unwrap();
    assert_eq!(body["User"], "web");
    assert_eq!(
        body["Labels"],
        serde_json::json!({"a": "b", "org.opennebula.vm": "5"})
    );
    let host = &body["HostConfig"];
    assert_eq!(host["CapAdd"], serde_json::json!(["NET_ADMIN"]));
    assert_eq!(
        host["Tmpfs"],
        serde_json::json!({"/etc/hosts": "", "/run": "size=1m"})
    );
    assert_eq!(host["RestartPolicy"]["Name"], "on-failure");
    assert_eq!(
        (&host["Runtime"], &host["NetworkMode"]),
        (&"onedock".into(), &"none".into())
    );
    asked.host = map(serde_json::json!({"CapAdd": 5}));
    assert!(create_body(&asked).is_err());
}
