//! Tests each platform with its environment and mounts as `/proc` would report them, and the resulting persistence
//! report.

use jiff::Timestamp;

use super::*;

/// The root of a container, of a micro virtual machine, and of a plain host.
const OVERLAY: &str =
    "1 0 0:50 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/ab12/diff,workdir=/w\n";
const VDA: &str = "1 0 254:0 / / rw - ext4 /dev/vda rw\n";
const VOLUME: &str = "2 1 8:16 / /data rw,relatime - ext4 /dev/sdb rw\n";
const AT_UPLOADS: &str = "2 1 8:16 / /app/uploads rw,relatime - ext4 /dev/sdb rw\n";
const BACKUP_DISK: &str = "3 1 8:32 / /mnt/disk2 rw,relatime - xfs /dev/sdc rw\n";
const MEMORY: &str = "2 1 0:60 / /data rw - tmpfs tmpfs rw\n";
const EMPTY_DIR: &str =
    "2 1 8:1 /var/lib/kubelet/pods/7f9c-42/volumes/kubernetes.io~empty-dir/d /data rw - ext4 /dev/sda1 rw\n";
const CLAIM: &str = "2 1 8:48 / /data rw - ext4 /dev/sdd rw\n4 1 8:1 /var/lib/kubelet/pods/7f9c-42/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n";

const RAILWAY: &str = "RAILWAY_PROJECT_ID=p RAILWAY_DEPLOYMENT_ID=4f1c2d3e-aaaa RAILWAY_REPLICA_ID=r1";
const FLY: &str =
    "FLY_APP_NAME=a FLY_MACHINE_ID=3d8d FLY_MACHINE_VERSION=01HV FLY_IMAGE_REF=registry.fly.io/a:deployment-01";
const RENDER: &str = "RENDER=true RENDER_GIT_COMMIT=deadbeef RENDER_INSTANCE_ID=srv-1-x";

/// The deployment for these variables and mounts; a plain host if the variables contain no platform.
fn known(variables: &str, mounts: &str) -> Deployment {
    known_at(variables, &Machine::of_texts(mounts, Some("b007-1d\n"), Some("hostname-1\n")))
}

fn known_at(variables: &str, machine: &Machine) -> Deployment {
    let set: Vec<(&str, &str)> = variables.split_whitespace().filter_map(|variable| variable.split_once('=')).collect();
    let lookup = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
    let mut config = Config::from_lookup(&lookup).unwrap();
    // These tests may run in a container.
    if config.platform == Some(Platform::Container) && lookup("CONTAINER").is_none() {
        config.platform = None;
    } else if lookup("CONTAINER").is_some() {
        config.platform = Some(Platform::Container);
    }
    Deployment::of(&config, machine)
}

fn outlived(kind: &str) -> Outlived {
    let instance = Instance { kind: kind.to_owned(), id: "4f1c2d3e5a6b".to_owned() };
    Outlived { instance, since: "2026-11-20T08:00:00Z".parse::<Timestamp>().unwrap(), changes: 3 }
}

#[test]
fn data_on_instance_disk_is_ephemeral_with_remedy_for_platform() {
    let cases = [
        (format!("{RAILWAY} DATA_DIR=/data"), VDA, "Add a volume"),
        (format!("{RAILWAY} DATA_DIR=/data"), OVERLAY, "found by itself"),
        (format!("{FLY} DATA_DIR=/data"), VDA, "fly volumes create"),
        (format!("{RENDER} DATA_DIR=/data"), OVERLAY, "BACKUP_URL"),
        ("DYNO=web.1 DATA_DIR=/app".to_owned(), VDA, "STORE_URL=s3://"),
        ("K_SERVICE=s K_REVISION=s-1 DATA_DIR=/data".to_owned(), OVERLAY, "STORE_URL=s3://"),
        ("K_SERVICE=s K_REVISION=s-1 DATA_DIR=/data".to_owned(), MEMORY, "BACKUP_URL"),
        ("KUBERNETES_SERVICE_HOST=10.0.0.1 DATA_DIR=/data".to_owned(), OVERLAY, "PersistentVolumeClaim"),
        ("KUBERNETES_SERVICE_HOST=10.0.0.1 DATA_DIR=/data".to_owned(), EMPTY_DIR, "PersistentVolumeClaim"),
        ("CONTAINER=1 DATA_DIR=/data".to_owned(), OVERLAY, "-v keepsake:/data"),
        ("CONTAINER=1 DATA_DIR=/data".to_owned(), MEMORY, "-v keepsake:/data"),
        ("AWS_LAMBDA_FUNCTION_NAME=f DATA_DIR=/data".to_owned(), VDA, "STORE_URL=s3://"),
    ];
    for (variables, mounts, remedy) in cases {
        let known = known(&variables, &format!("{VDA}{mounts}"));
        // Data that was deployed with the software looks each time as if it had survived.
        for images in [None, Some(&outlived("deployment"))] {
            let judged = known.judge(images, images, None, true);
            let warning = judged.warning.unwrap_or_else(|| panic!("{variables} on {mounts}: {}", judged.evidence));
            assert_eq!(judged.status, PersistenceStatus::Ephemeral, "{variables}");
            assert!(warning.starts_with("Storage may be ephemeral") && warning.contains(remedy), "{warning}");
        }
    }
}

#[test]
fn a_volume_is_unproven_until_it_has_outlived_an_instance() {
    let cases = [
        (format!("{RAILWAY} RAILWAY_VOLUME_MOUNT_PATH=/data"), "/data"),
        (format!("{FLY} DATA_DIR=/data"), "/data"),
        (format!("{RENDER} DATA_DIR=/data/photos"), "/data"),
        ("KUBERNETES_SERVICE_HOST=10.0.0.1 DATA_DIR=/data".to_owned(), "/data"),
        ("CONTAINER=1 DATA_DIR=/data".to_owned(), "/data"),
        ("K_SERVICE=s DATA_DIR=/data".to_owned(), "/data"),
        ("DATA_DIR=/data".to_owned(), "/data"),
        ("DATA_DIR=/srv/photos".to_owned(), "/"),
    ];
    for (variables, point) in cases {
        let known = known(&variables, &format!("{VDA}{VOLUME}"));
        let judged = known.judge(None, None, None, true);
        assert_eq!((judged.status, judged.warning), (PersistenceStatus::Unproven, None), "{variables}");
        assert_eq!(
            (judged.mount.as_deref(), judged.file_system.as_deref()),
            (Some(point), Some("ext4")),
            "{variables}"
        );
        let judged = known.judge(Some(&outlived("deployment")), None, None, true);
        assert_eq!((judged.status, judged.archive_passes), (PersistenceStatus::Proven, false), "{variables}");
        let evidence =
            "data written by deployment 4f1c2d3e… on 2026-11-20T08:00:00.000Z was still here after 3 restarts";
        assert_eq!(judged.evidence, evidence);
    }
}

#[test]
fn railways_word_for_a_volume_counts_also_where_it_cannot_be_seen() {
    let known = known(&format!("{RAILWAY} RAILWAY_VOLUME_MOUNT_PATH=/vol DATA_DIR=/vol/photos"), VDA);
    let judged = known.judge(None, None, None, true);
    assert_eq!((judged.status, judged.mount.as_deref()), (PersistenceStatus::Unproven, Some("/vol")));
    let beside = format!("{RAILWAY} RAILWAY_VOLUME_MOUNT_PATH=/vol DATA_DIR=/photos");
    let judged = self::known(&beside, VDA).judge(None, None, None, true);
    assert_eq!(judged.status, PersistenceStatus::Ephemeral, "beside the volume");
    let warning = judged.warning.unwrap();
    assert!(warning.contains("mounted at /vol") && warning.contains("unset DATA_DIR"), "{warning}");
    assert!(!warning.contains("Add a volume"), "{warning}");
}

#[test]
fn survived_restart_outweighs_file_system_type_on_plain_host() {
    let known = known("DATA_DIR=/data", &format!("{VDA}{MEMORY}"));
    let judged = known.judge(None, None, None, true);
    assert_eq!((judged.status, judged.file_system.as_deref()), (PersistenceStatus::Ephemeral, Some("tmpfs")));
    assert_eq!(known.judge(Some(&outlived("boot")), None, None, true).status, PersistenceStatus::Proven);
}

#[test]
fn a_volume_at_uploads_alone_keeps_the_images_and_not_the_backups() {
    let uploads_only = known(&format!("{FLY} DATA_DIR=/app"), &format!("{VDA}{AT_UPLOADS}"));
    assert!(uploads_only.is_volume(Location::Uploads) && !uploads_only.is_volume(Location::Data));
    let judged = uploads_only.judge(None, None, None, true);
    assert_eq!((judged.status, judged.archive_passes), (PersistenceStatus::Unproven, true));
    assert_eq!((judged.mount.as_deref(), judged.warning), (Some("/app/uploads"), None));
    let judged = uploads_only.judge(Some(&outlived("deployment")), None, None, true);
    assert_eq!((judged.status, judged.archive_passes), (PersistenceStatus::Proven, true));

    let elsewhere = format!("{FLY} DATA_DIR=/app BACKUP_URL=s3://bucket");
    let judged = known(&elsewhere, &format!("{VDA}{AT_UPLOADS}")).judge(None, None, None, true);
    assert!(!judged.archive_passes);
    let host = known("DATA_DIR=/app", &format!("{VDA}{AT_UPLOADS}")).judge(None, None, None, true);
    assert!(!host.archive_passes, "a plain host keeps its disk");
}

#[test]
fn external_archive_makes_wiped_disk_durable_after_recovery() {
    for (backup, mode) in [("s3://bucket", "sync"), ("file:///mnt/disk2/copies", "sync"), ("s3://bucket", "async")] {
        let variables = format!("{RENDER} DATA_DIR=/data BACKUP_URL={backup} ARCHIVE={mode}");
        let known = known(&variables, &format!("{OVERLAY}{BACKUP_DISK}"));
        let first = known.judge(None, None, None, true);
        assert_eq!((first.status, first.warning), (PersistenceStatus::Unproven, None), "{variables}");
        let archive = outlived("deployment");
        let after = known.judge(None, Some(&archive), None, true);
        assert_eq!(after.status, PersistenceStatus::Proven, "{variables}");
        assert!(after.evidence.contains("in the archive, which brought everything back"), "{}", after.evidence);
        assert_eq!(after.evidence.contains("singleCopies"), mode == "async", "what is behind is named");
        let incomplete = known.judge(None, Some(&archive), None, false);
        assert_eq!(incomplete.status, PersistenceStatus::Unproven, "not everything came back");
    }
    // A folder beside it on the same disk is lost with it.
    let beside = format!("{RENDER} DATA_DIR=/data BACKUP_URL=file:///copies");
    assert_eq!(known(&beside, OVERLAY).judge(None, None, None, true).status, PersistenceStatus::Ephemeral);
    // On a plain host, memory is lost and the disk is not.
    let memory = known("DATA_DIR=/data BACKUP_URL=file:///copies", &format!("{VDA}{MEMORY}"));
    assert_eq!(memory.judge(None, None, None, true).status, PersistenceStatus::Unproven);
}

#[test]
fn a_bucket_is_apart_from_every_instance() {
    for variables in ["STORE_URL=s3://bucket", "STORE_URL=s3://bucket DYNO=web.1"] {
        let judged = known(variables, OVERLAY).judge(None, None, None, true);
        assert_eq!(
            (judged.status, judged.mount, judged.warning),
            (PersistenceStatus::Proven, None, None),
            "{variables}"
        );
    }
}

#[test]
fn instance_is_stable_over_restarts_and_changes_with_deployments() {
    let machine = |mounts: &str, boot: &str, hostname: &str| Machine::of_texts(mounts, Some(boot), Some(hostname));
    let here = || machine(OVERLAY, "boot-1", "host-1");
    let other_layer = || machine(&OVERLAY.replace("ab12", "cd34"), "boot-1", "host-1");
    let other_pod = || machine(&CLAIM.replace("7f9c-42", "8a8a-43"), "boot-1", "host-1");
    let rebooted = || machine(VDA, "boot-2", "host-1");
    let cases: [(&str, &str, Machine, &str, Machine); 11] = [
        ("deployment", RAILWAY, here(), "RAILWAY_PROJECT_ID=p RAILWAY_DEPLOYMENT_ID=5a", here()),
        ("deployment", FLY, here(), "FLY_APP_NAME=a FLY_MACHINE_ID=3d8d FLY_MACHINE_VERSION=01HW", here()),
        ("deployment", "FLY_APP_NAME=a", machine(VDA, "boot-1", "h"), "FLY_APP_NAME=a", rebooted()),
        ("deployment", RENDER, here(), "RENDER=true RENDER_GIT_COMMIT=deadbeef RENDER_INSTANCE_ID=srv-1-y", here()),
        ("deployment", "DYNO=web.1", here(), "DYNO=web.1", machine(OVERLAY, "boot-1", "host-2")),
        ("deployment", "DYNO=w HEROKU_RELEASE_VERSION=v1", here(), "DYNO=w HEROKU_RELEASE_VERSION=v2", here()),
        ("deployment", "K_SERVICE=s K_REVISION=s-1", here(), "K_SERVICE=s K_REVISION=s-2", here()),
        (
            "pod",
            "KUBERNETES_SERVICE_HOST=10.0.0.1",
            machine(CLAIM, "boot-1", "host-1"),
            "KUBERNETES_SERVICE_HOST=10.0.0.1",
            other_pod(),
        ),
        ("container", "CONTAINER=1", here(), "CONTAINER=1", other_layer()),
        ("container", "CONTAINER=1", machine(VDA, "b", "host-1"), "CONTAINER=1", machine(VDA, "b", "host-2")),
        ("boot", "", machine(VDA, "boot-1", "host-1"), "", rebooted()),
    ];
    for (kind, variables, at, then_variables, then_at) in cases {
        let first = known_at(variables, &at).instance.unwrap();
        assert_eq!(first.kind, kind, "{variables}");
        assert_eq!(known_at(variables, &at).instance.as_ref(), Some(&first), "{variables}: the process started again");
        let then = known_at(then_variables, &then_at).instance.unwrap();
        assert!(then != first, "{variables}: {first:?} is not told from {then:?}");
        assert!(!first.id.contains('/') || variables == FLY, "{first:?} shows a path of the host");
    }
    // A container of the same pod is recreated while the pod's volumes stay, and proves nothing.
    let again = machine(&format!("{}{CLAIM}", OVERLAY.replace("ab12", "cd34")), "boot-1", "host-1");
    let pod = "KUBERNETES_SERVICE_HOST=10.0.0.1";
    let first = machine(&format!("{OVERLAY}{CLAIM}"), "boot-1", "host-1");
    assert_eq!(known_at(pod, &first).instance, known_at(pod, &again).instance);
    assert_eq!(known_at("", &Machine::default()).instance, None, "nothing tells instances apart");
}
