//! The registry's volume, there and back, as an operator with a dead registry would do it.

use crate::needs;
use crate::support::{AnyStore, Lab, docker, sh, unique};

/// Starts the real registry on a volume and returns its address.
fn serve(name: &str, volume: &str) -> String {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let address = format!("127.0.0.1:{port}");
    docker(&[
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "host",
        "-e",
        &format!("REGISTRY_HTTP_ADDR={address}"),
        "-v",
        &format!("{volume}:/storage"),
        "dtr-registry:2.8",
    ]);
    crate::support::until("the registry answers", || {
        std::process::Command::new("curl")
            .args(["-fs", &format!("http://{address}/v2/")])
            .output()
            .is_ok_and(|o| o.status.success())
    });
    address
}

#[test]
fn a_registry_restored_by_us_or_by_gpg_zstd_and_tar_serves_the_same_digest() {
    needs!("docker", "registry", "s3", "gpg");
    let lab = Lab::new();
    let replica = unique("0123").replace('-', "");
    let volume = format!("dtr-registry-{replica}");
    let first = serve(&volume, &volume);
    let pushed = format!("{first}/team/bb:1");
    // Of its own, so that the engine has none of its layers when it pulls.
    let content = unique("content");
    sh(&format!(
        "mkdir -p {0}/root; echo {content} > {0}/root/file; tar -C {0}/root -c . | /usr/bin/docker import - {pushed} >/dev/null",
        lab.dir.display()
    ));
    docker(&["push", "-q", &pushed]);
    let digest = docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &pushed]);
    let digest = digest.split('@').nth(1).expect("a digest").to_string();
    docker(&["rmi", &pushed]);

    let store = AnyStore::S3(unique("registry"));
    lab.run(&["backup", "volume", &volume, "--to", &store.url()]).expect(0);
    docker(&["rm", "-f", &volume]);
    docker(&["volume", "rm", &volume]);

    let by_hand = format!("dtr-by-hand-{replica}");
    let tar = lab.by_gpg(&store.archive().1, &["zstd", "-d"]);
    lab.write("volume.tar", &tar);
    docker(&["volume", "create", &by_hand]);
    let mountpoint = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &by_hand]);
    sh(&format!("tar -x -p -C {mountpoint} --strip-components=2 -f {}/volume.tar", lab.dir.display()));

    // Under its own name again, and under another.
    let restored = format!("dtr-restored-{replica}");
    for to in [&volume, &restored] {
        lab.run(&["restore", &volume, "--to-volume", to, "--from", &store.url()]).expect(0);
    }

    for restored in [&by_hand, &volume, &restored] {
        let address = serve(restored, restored);
        let pulled = format!("{address}/team/bb@{digest}");
        docker(&["pull", "-q", &pulled]);
        assert!(docker(&["inspect", "-f", "{{.RepoDigests}}", &pulled]).contains(&digest));
        let export = format!(
            "id=$(/usr/bin/docker create {pulled} x); /usr/bin/docker cp $id:/file - | tar -xO; /usr/bin/docker rm $id >/dev/null"
        );
        assert_eq!(sh(&export).trim(), content, "the layers came back too");
        docker(&["rmi", &pulled]);
        docker(&["rm", "-f", restored]);
        docker(&["volume", "rm", restored]);
    }
}
