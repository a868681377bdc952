//! Real network namespaces, interfaces, taps and frames; needs root.

use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;

/// A pod's namespace and, at the other end of its veth, the rest of the world.
struct Pod {
    pod: String,
    world: String,
}

fn run(program: &str, args: &str) -> String {
    let output = Command::new(program)
        .args(args.split_whitespace())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

impl Pod {
    fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "rdt{}n{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let pod = Self {
            pod: format!("{name}p"),
            world: format!("{name}w"),
        };
        run("ip", &format!("netns add {}", pod.pod));
        run("ip", &format!("netns add {}", pod.world));
        pod
    }

    fn with_veth() -> Self {
        let pod = Self::empty();
        pod.inside("ip link set lo up");
        pod.inside(&format!(
            "ip link add eth0 mtu 1400 address 02:00:00:00:00:01 type veth peer name w0 netns {}",
            pod.world
        ));
        pod.inside("ip addr add 10.9.8.2/24 dev eth0");
        pod.inside("ip addr add fd00:9::2/64 dev eth0 nodad");
        pod.inside("ip link set eth0 up");
        run(
            "ip",
            &format!("-n {} addr add 10.9.8.1/24 dev w0", pod.world),
        );
        run("ip", &format!("-n {} link set w0 mtu 1400 up", pod.world));
        pod.inside("ip route add default via 10.9.8.1 dev eth0 mtu 1300");
        pod.inside("ip route add 10.77.0.0/16 dev eth0 scope link src 10.9.8.2");
        pod.inside("ip neigh add 10.9.8.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent");
        pod
    }

    fn inside(&self, command: &str) -> String {
        run("ip", &format!("netns exec {} {command}", self.pod))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.pod)
    }

    fn open(&self) -> File {
        open_netns(&self.path()).unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for name in [&self.pod, &self.world] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// The next frame from a tap that satisfies `wanted`, without its virtio-net header.
fn frame_from(queue: &File, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut buffer = [0_u8; 2048];
    for _ in 0..50 {
        let count = (&mut &*queue).read(&mut buffer).unwrap();
        let frame = &buffer[10..count];
        if wanted(frame) {
            return frame.to_vec();
        }
    }
    panic!("no such frame among the first 50");
}

#[tokio::test]
async fn a_pod_s_network_is_read_as_the_agent_needs_it() {
    let pod = Pod::with_veth();
    let survey = Survey::of(&pod.open()).await.unwrap();
    let [interface] = survey.guest.interfaces.as_slice() else {
        panic!("{survey:?}")
    };
    assert_eq!(
        (interface.name.as_str(), interface.kind.as_str()),
        ("eth0", "veth")
    );
    assert_eq!(
        (interface.mtu, interface.mac_text().as_str()),
        (1400, "02:00:00:00:00:01")
    );
    let addresses: Vec<_> = interface
        .addresses
        .iter()
        .map(|address| format!("{}/{}", address.address, address.prefix_bits))
        .collect();
    assert!(
        addresses.contains(&"10.9.8.2/24".to_owned()),
        "{addresses:?}"
    );
    assert!(
        addresses.contains(&"fd00:9::2/64".to_owned()),
        "{addresses:?}"
    );

    let gateway: IpAddr = "10.9.8.1".parse().unwrap();
    let default = survey
        .guest
        .routes
        .iter()
        .find(|r| r.gateway == Some(gateway))
        .unwrap();
    assert_eq!(
        (&default.destination, default.device.as_str(), default.mtu),
        (&None, "eth0", 1300)
    );
    let direct = survey
        .guest
        .routes
        .iter()
        .find(|route| route.gateway.is_none())
        .unwrap();
    assert_eq!(
        (direct.scope, direct.source),
        (253, "10.9.8.2".parse().ok())
    );
    // The kernel's own routes (10.9.8.0/24, fe80::/64) are not repeated to the agent.
    assert_eq!(survey.guest.routes.len(), 2, "{:?}", survey.guest.routes);

    let [neighbour] = survey.guest.neighbours.as_slice() else {
        panic!("{survey:?}")
    };
    assert_eq!((neighbour.mac, neighbour.state), ([2, 0, 0, 0, 0, 9], 0x80));
}

#[tokio::test]
async fn frames_pass_between_interface_and_tap_until_they_are_parted() {
    let pod = Pod::with_veth();
    let namespace = pod.open();
    let survey = Survey::of(&namespace).await.unwrap();
    let records = survey.records();
    assert_eq!(records[0].tap, "tap0_kata");
    let network = survey.connect(&namespace, 1).await.unwrap();
    let tap = &network.taps[0];
    assert_eq!(tap.mac, [2, 0, 0, 0, 0, 1]);
    assert!(pod.inside("ip -o link show tap0_kata").contains("mtu 1400"));

    // The world asks who has the pod's address; the question arrives at the tap.
    let command = "echo hello > /dev/udp/10.9.8.2/9";
    let status = Command::new("ip")
        .args(["netns", "exec", &pod.world, "bash", "-c", command])
        .status();
    assert!(status.unwrap().success());
    let queue = tap.queues[0].try_clone().unwrap();
    let question = tokio::time::timeout(
        Duration::from_secs(5),
        tokio::task::spawn_blocking(move || {
            let is_question = |f: &[u8]| f.get(12..14) == Some(&[8, 6]) && f.get(21) == Some(&1);
            (frame_from(&queue, is_question), queue)
        }),
    )
    .await
    .unwrap()
    .unwrap();
    let (question, mut queue) = question;

    // The answer given at the tap arrives in the world.
    let mut answer = vec![0_u8; 10];
    answer.extend_from_slice(&question[6..12]);
    answer.extend_from_slice(&tap.mac);
    answer.extend_from_slice(&question[12..20]);
    answer.extend_from_slice(&[0, 2]);
    answer.extend_from_slice(&tap.mac);
    answer.extend_from_slice(&question[38..42]);
    answer.extend_from_slice(&question[22..32]);
    queue.write_all(&answer).unwrap();
    let mut learnt = String::new();
    for _ in 0..50 {
        learnt = run("ip", &format!("-n {} neigh show 10.9.8.2", pod.world));
        if learnt.contains("02:00:00:00:00:01") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(learnt.contains("02:00:00:00:00:01"), "{learnt:?}");
    let netns = NetnsRecord::of(&pod.path()).unwrap();
    disconnect(&netns, &records).await.unwrap();
    assert!(!pod.inside("ip -o link").contains("tap0_kata"));
    assert!(!pod.inside("tc qdisc show dev eth0").contains("ingress"));
    disconnect(&netns, &records).await.unwrap();
}

#[tokio::test]
async fn a_tap_ends_with_its_descriptors() {
    let pod = Pod::with_veth();
    let namespace = pod.open();
    let survey = Survey::of(&namespace).await.unwrap();
    let records = survey.records();
    let network = survey.connect(&namespace, 2).await.unwrap();
    assert_eq!(network.taps[0].queues.len(), 2);
    drop(network);
    assert!(!pod.inside("ip -o link").contains("tap0_kata"));
    // What a killed shim leaves behind is the filter.
    assert!(pod.inside("tc qdisc show dev eth0").contains("ingress"));
    disconnect(&NetnsRecord::of(&pod.path()).unwrap(), &records)
        .await
        .unwrap();
    assert!(!pod.inside("tc qdisc show dev eth0").contains("ingress"));
}

#[tokio::test]
async fn a_namespace_with_loopback_only_gives_no_interface() {
    let pod = Pod::empty();
    pod.inside("ip link set lo up");
    let survey = Survey::of(&pod.open()).await.unwrap();
    assert!(survey.records().is_empty());
    assert_eq!(survey.guest, GuestNetwork::default());
}

#[tokio::test]
async fn an_interface_that_somebody_redirects_is_left_alone() {
    let pod = Pod::with_veth();
    pod.inside("tc qdisc add dev eth0 ingress");
    let namespace = pod.open();
    let survey = Survey::of(&namespace).await.unwrap();
    let records = survey.records();
    let error = survey.connect(&namespace, 1).await.unwrap_err();
    insta::assert_snapshot!(
        redoubt_errors::OneLine(&error),
        @"[RDT-NET-005] interface eth0 has an ingress queueing discipline already (hint: another sandbox or a CNI plugin redirects this interface; give each sandbox a namespace of its own)"
    );
    disconnect(&NetnsRecord::of(&pod.path()).unwrap(), &records)
        .await
        .unwrap();
    assert!(pod.inside("tc qdisc show dev eth0").contains("ingress"));
}

#[tokio::test]
async fn a_namespace_that_is_gone_needs_no_cleanup() {
    let pod = Pod::with_veth();
    let netns = NetnsRecord::of(&pod.path()).unwrap();
    let records = Survey::of(&pod.open()).await.unwrap().records();
    drop(pod);
    disconnect(&netns, &records).await.unwrap();
}
