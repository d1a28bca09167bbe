use proptest::prelude::*;

use super::*;

const REGION: &str = "local";

fn patch(spec: &InstanceSpec, patch: Value) -> Result<InstanceSpec, BadConfig> {
    patched(spec, patch.as_object().unwrap(), REGION)
}

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::of("[a-z][a-z ./]{0,12}[a-z]")
}

prop_compose! {
    fn spec()(
        source in prop::option::of(prop_oneof![
            "[a-z]{1,8}".prop_map(Source::Image),
            ("[a-z]{1,8}", text()).prop_map(|(repo, branch)| Source::Repo { repo, branch }),
        ]),
        texts in prop::collection::vec(text(), 6),
        lists in prop::collection::vec(prop::collection::vec("[a-z*]{1,8}", 0..3), 2),
        numbers in (prop::option::of(1u32..3600), 0u32..100, 0u32..3600, 0u32..3600),
        policy in prop_oneof![Just(RestartPolicy::OnFailure), Just(RestartPolicy::Always), Just(RestartPolicy::Never)],
        regions in prop::collection::btree_map("eu|us|asia", 1u32..9, 0..3),
        limits in (prop::option::of(64u64..100_000), prop::option::of(10u32..32_000)),
        flags in any::<[bool; 4]>(),
    ) -> InstanceSpec {
        let [builder, build_command, root_directory, dockerfile_path, config_file, start_command] = texts.try_into().unwrap();
        let [watch_patterns, pre_deploy_command] = lists.try_into().unwrap();
        let (healthcheck_timeout, restart_policy_max_retries, overlap_seconds, draining_seconds) = numbers;
        InstanceSpec {
            source,
            build: BuildSpec { builder, build_command, root_directory, dockerfile_path, watch_patterns, config_file },
            deploy: DeploySpec {
                start_command,
                pre_deploy_command,
                healthcheck_path: flags[0].then(|| "/health".into()),
                healthcheck_timeout,
                restart_policy_type: policy,
                restart_policy_max_retries,
                regions,
                cron_schedule: flags[1].then(|| "0 3 * * *".into()),
                cron_in_source: false,
                in_source: None,
                sleep_application: flags[0],
                overlap_seconds,
                draining_seconds,
                required_mount_path: flags[2].then(|| "/data".into()),
                draining_in_variable: false,
                limits: Limits { memory_bytes: limits.0.map(|mib| mib << 20), cpu_millis: limits.1 },
                sticky: flags[2],
                unhealthy_replacement: flags[3],
            },
        }
    }
}

proptest! {
    #[test]
    fn a_document_that_is_sent_back_changes_nothing(spec in spec()) {
        let same = patched(&spec, &document(&spec, REGION), REGION).unwrap();
        prop_assert_eq!(same, spec);
    }

    #[test]
    fn a_document_carries_every_setting_to_another_instance(spec in spec()) {
        let mut twin = patched(&InstanceSpec::default(), &document(&spec, REGION), REGION).unwrap();
        if spec.deploy.regions.is_empty() {
            prop_assert_eq!(twin.deploy.replicas(), 1);
        } else {
            // What is patched comes on top of the one replica that was there.
            twin.deploy.regions.retain(|region, _| spec.deploy.regions.contains_key(region));
        }
        prop_assert_eq!(InstanceSpec { deploy: DeploySpec { regions: BTreeMap::new(), ..twin.deploy }, ..twin },
            InstanceSpec { deploy: DeploySpec { regions: BTreeMap::new(), ..spec.deploy }, ..spec });
    }

    #[test]
    fn an_empty_patch_changes_nothing(spec in spec()) {
        prop_assert_eq!(patch(&spec, json!({})).unwrap(), spec);
    }

    #[test]
    fn two_patches_stacked_do_what_both_do(a in document_like(), b in document_like(), base in document_like()) {
        let mut one_by_one = base.clone();
        merge(&mut one_by_one, &a);
        merge(&mut one_by_one, &b);
        let mut stacked = a;
        stack(&mut stacked, &b);
        let mut at_once = base;
        merge(&mut at_once, &stacked);
        prop_assert_eq!(at_once, one_by_one);
    }
}

/// Objects two levels deep in which a key is always of one kind, as in the document.
fn document_like() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0..5).prop_map(|n| json!(n))];
    prop::collection::btree_map("[a-c]", leaf, 1..3)
        .prop_map(|fields| json!(fields))
        .prop_flat_map(|inner| prop::collection::btree_map("[x-z]", Just(inner), 1..3).prop_map(|fields| json!(fields)))
}

#[test]
fn keys_are_set_and_taken_back() {
    let spec =
        patch(&InstanceSpec::default(), json!({"deploy": {"startCommand": "run", "healthcheckTimeout": "20"}, "configFile": "/r.json"}))
            .unwrap();
    assert_eq!(spec.deploy.start_command.as_deref(), Some("run"));
    assert_eq!((spec.deploy.healthcheck_timeout, spec.build.config_file.as_deref()), (Some(20), Some("/r.json")));
    let back = patch(&spec, json!({"deploy": {"startCommand": null, "healthcheckTimeout": null}, "configFile": null})).unwrap();
    assert_eq!(back, InstanceSpec::default());
    assert_eq!(patch(&spec, json!({"deploy": null})).unwrap().deploy, DeploySpec::default());
}

#[test]
fn replicas_are_named_by_region_or_by_number() {
    let regions = |spec: &InstanceSpec| spec.deploy.regions.clone().into_iter().collect::<Vec<_>>();
    let two = patch(&InstanceSpec::default(), json!({"deploy": {"multiRegionConfig": {"local": {"numReplicas": 2}}}})).unwrap();
    assert_eq!(regions(&two), [("local".to_owned(), 2)]);
    let both = patch(&two, json!({"deploy": {"multiRegionConfig": {"eu": {"numReplicas": 1}}}})).unwrap();
    assert_eq!(both.deploy.replicas(), 3);
    let moved = patch(&both, json!({"deploy": {"multiRegionConfig": {"local": null}}})).unwrap();
    assert_eq!(regions(&moved), [("eu".to_owned(), 1)]);
    assert_eq!(patch(&both, json!({"deploy": {"numReplicas": 5}})).unwrap().deploy.replicas(), 5);
    assert_eq!(regions(&patch(&two, json!({"deploy": {"region": "asia"}})).unwrap()), [("asia".to_owned(), 2)]);
}

#[test]
fn what_this_server_has_not_is_named() {
    for (document, word) in [
        (json!({"deploy": {"ipv6EgressEnabled": true}}), "deploy.ipv6EgressEnabled"),
        (json!({"deploy": {"numReplicas": -1}}), "deploy.numReplicas"),
        (json!({"deploy": {"numReplicas": 51}}), "50"),
        (json!({"deploy": {"restartPolicyType": "SOMETIMES"}}), "SOMETIMES"),
        (json!({"deploy": {"healthcheckPath": "health"}}), "healthcheckPath"),
        (json!({"deploy": {"cronSchedule": "* * * * *"}}), "5 minutes"),
        (json!({"deploy": {"limitOverride": {"containers": {"cpu": -1}}}}), "vCPUs"),
        (json!({"deploy": 3}), "deploy must be"),
        (json!({"build": {"watchPatterns": [1]}}), "build.watchPatterns"),
        (json!({"source": {"image": "a", "repo": "b/c"}}), "image and a repo"),
        (json!({"configFile": 1}), "configFile"),
    ] {
        let BadConfig(told) = patch(&InstanceSpec::default(), document.clone()).unwrap_err();
        assert!(told.contains(word), "{document}: {told}");
    }
    assert!(
        patch(&InstanceSpec::default(), json!({"deploy": {"ipv6EgressEnabled": false, "runtime": "V2"}, "build": {"nixpacksPlan": {}}}))
            .is_ok()
    );
}

#[test]
fn variables_are_read_in_all_their_forms() {
    let read = variables(&json!({"A": "1", "B": {"value": 2}, "C": null, "D": {"generator": "secret(4)"}, "E": {"isSealed": true}, "F": {"defaultValue": "d"}})).unwrap();
    let set = |value: Option<&str>, generator: Option<&str>, is_sealed| VariablePatch::Set {
        value: value.map(Into::into),
        generator: generator.map(Into::into),
        is_sealed,
    };
    assert!(read["A"] == set(Some("1"), None, None) && read["B"] == set(Some("2"), None, None) && read["C"] == VariablePatch::Remove);
    assert!(
        read["D"] == set(None, Some("secret(4)"), None)
            && read["E"] == set(None, None, Some(true))
            && read["F"] == set(Some("d"), None, None)
    );
    assert!(variables(&json!({"A": [1]})).is_err() && variables(&json!([])).is_err());
}

#[test]
fn settings_are_counted() {
    assert_eq!(count(&json!({"services": {"a": {"deploy": {"x": 1, "y": null}}}, "sharedVariables": {"A": {"value": "1"}}})), 3);
    assert_eq!(count(&json!({})), 0);
}

#[test]
fn a_volume_that_a_service_requires_is_a_setting() {
    let next = patch(&InstanceSpec::default(), json!({"deploy": {"requiredMountPath": "/data"}})).unwrap();
    assert_eq!(next.deploy.required_mount_path.as_deref(), Some("/data"));
    assert_eq!(document(&next, REGION)["deploy"]["requiredMountPath"], json!("/data"));
    let without = patch(&next, json!({"deploy": {"requiredMountPath": null}})).unwrap();
    assert_eq!(without.deploy.required_mount_path, None);
    let bad = patch(&next, json!({"deploy": {"requiredMountPath": "data"}})).unwrap_err();
    assert!(bad.0.contains("requiredMountPath"), "{bad}");
}
