//! Interfaces in a kernel.

use std::time::Duration;

use redoubt_errors::OneLine;

use super::namespace::{add_pair, ip, run, run_empty};
use super::{MAC, interface, neighbour};
use crate::*;

fn addresses(interface: &types::Interface) -> Vec<String> {
    let text = |ip: &types::IPAddress| format!("{}/{}", ip.address, ip.mask);
    let mut texts: Vec<_> = interface.IPAddresses.iter().map(text).collect();
    texts.retain(|text| !text.starts_with("fe80:"));
    texts.sort();
    texts
}

fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "no {part:?} in {text}");
}

#[test]
fn an_interface_is_found_by_its_mac_and_set_up() {
    run(async || {
        let mut wanted = interface("eth0", &[("10.9.0.2", "24"), ("fd00:9::2", "64")]);
        wanted.mtu = 1400;
        let now = update_interface(&wanted).await.unwrap();
        assert_eq!((now.name.as_str(), now.device.as_str()), ("eth0", "eth0"));
        assert_eq!(
            (now.mtu, now.hwAddr.as_str(), now.raw_flags),
            (1400, MAC, 0)
        );
        assert_eq!(now.type_, "veth");
        assert_eq!(addresses(&now), ["10.9.0.2/24", "fd00:9::2/64"]);
        let v6 = now
            .IPAddresses
            .iter()
            .find(|ip| ip.address == "fd00:9::2")
            .unwrap();
        assert_eq!(v6.family.enum_value(), Ok(types::IPFamily::v6));

        let link = ip("-o link show eth0");
        assert_contains(&link, "mtu 1400");
        assert_contains(&link, ",UP");
        assert_contains(
            &ip("-o -4 addr show eth0"),
            "inet 10.9.0.2/24 brd 10.9.0.255",
        );
        // A tentative address could not be used at once.
        let v6 = ip("-o -6 addr show dev eth0 to fd00:9::2");
        assert_contains(&v6, "fd00:9::2/64");
        assert!(!v6.contains("tentative"), "{v6}");
    });
}

#[test]
fn a_second_request_replaces_the_addresses_and_keeps_the_mtu() {
    run(async || {
        let mut first = interface("eth0", &[("10.9.0.2", "24"), ("10.9.0.3", "24")]);
        first.mtu = 1400;
        first.IPAddresses.push(super::ip("fd00:9::2", "64"));
        update_interface(&first).await.unwrap();
        let second = interface("eth0", &[("10.9.0.3", "24"), ("fd00:9::2", "80")]);
        let now = update_interface(&second).await.unwrap();
        assert_eq!(addresses(&now), ["10.9.0.3/24", "fd00:9::2/80"]);
        assert_eq!(now.mtu, 1400);
        assert_eq!(update_interface(&second).await.unwrap(), now);
        assert_contains(&ip("-o -6 addr show dev eth0"), "fe80::");
    });
}

#[test]
fn a_name_that_is_taken_is_exchanged() {
    run(async || {
        ip("link set a0 up");
        ip("addr add 10.7.0.1/24 dev b0");
        let now = update_interface(&interface("b0", &[("10.9.0.2", "24")]))
            .await
            .unwrap();
        assert_eq!((now.name.as_str(), now.hwAddr.as_str()), ("b0", MAC));
        let other = ip("-o link show a0");
        assert_contains(&other, "02:00:00:00:00:0b");
        assert_contains(&other, ",UP");
        assert_contains(&ip("-o addr show a0"), "10.7.0.1/24");
        assert!(!ip("-o link").contains("swap"));
    });
}

#[test]
fn the_arp_flag_follows_the_request() {
    run(async || {
        let mut wanted = interface("eth0", &[]);
        wanted.raw_flags = 0x1043 | 0x80;
        assert_eq!(update_interface(&wanted).await.unwrap().raw_flags, 0x80);
        assert_contains(&ip("-o link show eth0"), "NOARP");
        wanted.raw_flags = 0;
        assert_eq!(update_interface(&wanted).await.unwrap().raw_flags, 0);
        assert!(!ip("-o link show eth0").contains("NOARP"));
    });
}

#[test]
fn an_interface_that_appears_later_is_waited_for() {
    run_empty(async || {
        let wanted = interface("eth0", &[("10.9.0.2", "24")]);
        let appear = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            add_pair();
        };
        let (updated, ()) = tokio::join!(update_interface(&wanted), appear);
        assert_eq!(addresses(&updated.unwrap()), ["10.9.0.2/24"]);
    });
}

#[test]
fn an_interface_that_never_appears_is_refused_in_time() {
    run_empty(async || {
        let wanted = interface("eth0", &[]);
        let refused = tokio::time::timeout(APPEARANCE_TIMEOUT * 2, update_interface(&wanted));
        let error = refused.await.unwrap().unwrap_err();
        insta::assert_snapshot!(OneLine(&error), @"[RDT-GNET-010] no interface with hardware address 02:00:00:00:00:0a appeared within 2s (hint: the virtual machine has no such network device; its MAC must be the pod interface's)");
    });
}

#[test]
fn loopback_comes_up_and_is_listed() {
    run_empty(async || {
        bring_loopback_up().await.unwrap();
        bring_loopback_up().await.unwrap();
        let [loopback] = list_interfaces().await.unwrap().try_into().unwrap();
        assert_eq!(loopback.name, "lo");
        assert_eq!(addresses(&loopback), ["127.0.0.1/8", "::1/128"]);
        assert!(list_routes().await.unwrap().is_empty());
    });
}

#[test]
fn a_loopback_device_of_another_name_is_left_alone() {
    run(async || {
        ip("link set lo name eth0");
        let error = update_interface(&interface("eth0", &[])).await.unwrap_err();
        insta::assert_snapshot!(OneLine(&error), @"[RDT-GNET-009] eth0 belongs to the loopback device, which is not to be changed");
        assert_contains(&ip("-o link show eth0"), "LOOPBACK");
        let error = update_routes(&[super::route("", "10.9.0.1")])
            .await
            .unwrap_err();
        assert!(matches!(error, NetworkError::Loopback { .. }), "{error:?}");
    });
}

#[test]
fn neighbours_are_added_and_changed() {
    run(async || {
        update_interface(&interface("eth0", &[("10.9.0.2", "24")]))
            .await
            .unwrap();
        let mut reachable = neighbour("fd00:9::9", "02:00:00:00:00:99");
        reachable.state = 2;
        reachable.flags = 0x80;
        let mut failed = neighbour("10.9.0.8", "");
        failed.state = 0x20;
        let first = [
            neighbour("10.9.0.9", "02:00:00:00:00:09"),
            reachable,
            failed,
        ];
        add_arp_neighbors(&first).await.unwrap();
        let shown = ip("neigh show dev eth0");
        assert_contains(&shown, "10.9.0.9 lladdr 02:00:00:00:00:09 PERMANENT");
        assert_contains(&shown, "fd00:9::9 lladdr 02:00:00:00:00:99 router");
        assert!(!shown.contains("10.9.0.8"), "{shown}");

        add_arp_neighbors(&[neighbour("10.9.0.9", "02:00:00:00:00:19")])
            .await
            .unwrap();
        assert_contains(
            &ip("neigh show dev eth0"),
            "10.9.0.9 lladdr 02:00:00:00:00:19",
        );

        let mut lost = neighbour("10.9.0.7", "02:00:00:00:00:07");
        lost.device = "eth7".to_owned();
        let both = [neighbour("10.9.0.6", "02:00:00:00:00:06"), lost];
        let error = add_arp_neighbors(&both).await.unwrap_err();
        insta::assert_snapshot!(OneLine(&error), @"[RDT-GNET-011] there is no interface eth7 (hint: interfaces are set up before routes and neighbours)");
        assert!(!ip("neigh show dev eth0").contains("10.9.0.6"));
    });
}
