//! The registry's volume, there and back, as an operator with a dead registry would do it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::needs;
use crate::support::nights::{sealed, settle};
use crate::support::{AnyStore, Lab, docker, noise, sh, unique};

/// Starts the real registry on a volume and returns its address.
pub fn serve(name: &str, volume: &str) -> String {
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

/// An image of its own, which the engine has nothing of once it is pushed; its manifest's digest.
#[track_caller]
pub fn push(lab: &Lab, address: &str, tag: &str, seed: u64) -> String {
    let (pushed, root) = (format!("{address}/team/bb:{tag}"), lab.path(tag));
    std::fs::create_dir_all(&root).expect("a folder");
    std::fs::write(root.join("file"), noise(seed, 1 << 20)).expect("a file");
    sh(&format!("tar -C {} -c . | /usr/bin/docker import - {pushed} >/dev/null", root.display()));
    docker(&["push", "-q", &pushed]);
    let digest = docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &pushed]);
    docker(&["rmi", &pushed]);
    digest.split_once('@').expect("a digest").1.into()
}

/// Deletes a manifest, and has the registry collect what nobody needs any more; it is the same one afterwards.
fn collect(name: &str, volume: &str, address: &str, digest: &str) -> String {
    let manifests = format!("http://{address}/v2/team/bb/manifests");
    sh(&format!("curl -fsS -X DELETE {manifests}/{digest}"));
    docker(&["rm", "-f", name]);
    let storage = format!("{volume}:/storage");
    let collector = ["run", "--rm", "--network", "none", "-v", &storage, "--entrypoint", "/bin/registry"];
    let said =
        docker(&[&collector[..], &["dtr-registry:2.8", "garbage-collect", "-m", "/etc/config.yml"]].concat());
    assert!(said.contains("blob eligible for deletion"), "{said}");
    serve(name, volume)
}

/// What a registry says of a tag: its manifest's digest, if it has one.
fn digest_of(address: &str, tag: &str) -> Option<String> {
    let accept = "Accept: application/vnd.docker.distribution.manifest.v2+json";
    let url = format!("http://{address}/v2/team/bb/manifests/{tag}");
    let head = sh(&format!("curl -sS -I -H '{accept}' {url}"));
    let line = head.lines().find(|line| line.to_lowercase().starts_with("docker-content-digest: "));
    line.map(|line| line.split_once(": ").expect("a value").1.trim().into())
}

#[test]
fn each_night_of_increments_serves_the_tags_that_it_had_through_pushes_and_garbage_collections() {
    needs!("docker", "registry", "s3");
    let lab = Lab::new();
    let volume = unique("nights");
    let store = AnyStore::S3(unique("nights"));
    let mut address = serve(&volume, &volume);
    let mut tags = BTreeMap::new();
    let mut nights = Vec::new();
    for night in 0..3_u64 {
        match night {
            0 => {
                tags.extend(
                    [("gone", 1), ("moved", 2), ("stays", 3)]
                        .map(|(tag, seed)| (tag, push(&lab, &address, tag, seed))),
                );
            }
            1 => {
                tags.insert("new", push(&lab, &address, "new", 4));
                let digest = tags.remove("gone").expect("a tag");
                address = collect(&volume, &volume, &address, &digest);
            }
            _ => {
                // The digest that the tag had is of no tag any more.
                tags.insert("moved", push(&lab, &address, "moved", 5));
                let digest = tags.remove("new").expect("a tag");
                address = collect(&volume, &volume, &address, &digest);
                // A digest that was there before is there again, in files of their own.
                tags.insert("gone", push(&lab, &address, "gone", 1));
            }
        }
        settle();
        let words = ["backup", "volume", &volume, "--incremental", "--json", "--to", &store.url()];
        let sealed = sealed(&lab.run(&words).expect(0));
        nights.push((sealed["id"].as_str().expect("an id").to_string(), sealed, tags.clone()));
    }
    docker(&["rm", "-f", &volume]);
    docker(&["volume", "rm", &volume]);

    let kept = |night: usize| nights[night].1["kept"]["needs"].clone();
    let ids: Vec<_> = nights.iter().map(|(id, ..)| id.clone()).collect();
    assert_eq!((kept(0), kept(1)), (Value::Null, serde_json::json!([ids[0]])));
    assert_eq!(kept(2)[0], ids[0], "the layer that stays is of the first night");
    let stored = |night: usize| nights[night].1["stored"].as_u64().expect("bytes");
    assert!(stored(0) > 3 << 20 && stored(1) < 2 << 20 && stored(2) < 3 << 20, "{nights:?}");

    for (id, _, tags) in &nights {
        let (archive, restored) = (format!("{volume}@{id}"), unique("restored"));
        lab.run(&["verify", &archive, "--whole", "--from", &store.url()]).expect(0);
        lab.run(&["restore", &archive, "--to-volume", &restored, "--from", &store.url()]).expect(0);
        let address = serve(&restored, &restored);
        for tag in ["gone", "moved", "stays", "new"] {
            assert_eq!(digest_of(&address, tag).as_ref(), tags.get(tag), "{tag} of {id}");
        }
        for digest in tags.values() {
            // The engine holds every layer against its digest.
            let pulled = format!("{address}/team/bb@{digest}");
            docker(&["pull", "-q", &pulled]);
            docker(&["rmi", &pulled]);
        }
        docker(&["rm", "-f", &restored]);
        docker(&["volume", "rm", &restored]);
    }
}
