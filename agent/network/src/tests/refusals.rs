//! Requests that are refused, and those that are not, without a kernel.

use proptest::prelude::*;
use redoubt_errors::{OneLine, UserError};

use super::{MAC, interface, ip, neighbour, route};
use crate::check::{LinkName, Mac, Prefix};
use crate::request::{InterfaceRequest, NeighbourRequest, RouteRequest};
use crate::{MAX_ADDRESSES, MAX_NEIGHBOURS, MAX_ROUTES, NetworkError, types};

pub(super) fn code<T: std::fmt::Debug>(outcome: Result<T, NetworkError>) -> &'static str {
    outcome.unwrap_err().code().0
}

pub(super) fn one_route(route: types::Route) -> Result<RouteRequest, NetworkError> {
    RouteRequest::parse_all(&[route]).map(|mut routes| routes.remove(0))
}

#[test]
fn names_are_those_of_devices_that_may_be_changed() {
    for name in ["eth0", "a", "ens1f0np0.100", "fifteen-bytes-x"] {
        assert_eq!(LinkName::parse(name).unwrap().as_str(), name);
    }
    let wrong = [
        "",
        ".",
        "..",
        "all",
        "default",
        "a/b",
        "a b",
        "a\tb",
        "a\0",
        "a:1",
        "eth%d",
        "é",
        "a\"",
        "sixteen-bytes-xx",
    ];
    for name in wrong {
        assert_eq!(code(LinkName::parse(name)), "RDT-GNET-004", "{name:?}");
    }
    assert_eq!(code(LinkName::parse("lo")), "RDT-GNET-009");
}

#[test]
fn a_hardware_address_is_one_interface_s() {
    assert_eq!(
        Mac::parse("02:0A:0b:ff:00:01").unwrap().to_string(),
        "02:0a:0b:ff:00:01"
    );
    let wrong = [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "2:0:0:0:0:1",
        "02-00-00-00-00-01",
        "02:00:00:00:00:+1",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "01:00:5e:00:00:01",
    ];
    for text in wrong {
        assert_eq!(code(Mac::parse(text)), "RDT-GNET-005", "{text}");
    }
}

#[test]
fn an_interface_s_addresses_are_checked() {
    let parse = |address, mask| InterfaceRequest::parse(&interface("eth0", &[(address, mask)]));
    assert_eq!(
        parse("10.0.0.2", "24").unwrap().addresses[0].to_string(),
        "10.0.0.2/24"
    );
    assert_eq!(
        parse("fd00::1", "128").unwrap().addresses[0].to_string(),
        "fd00::1/128"
    );
    for address in [
        "",
        "10.0.0",
        "10.0.0.2/24",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
    ] {
        assert_eq!(code(parse(address, "24")), "RDT-GNET-006", "{address}");
    }
    for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(code(parse(address, "8")), "RDT-GNET-009", "{address}");
    }
    for bits in ["", "33", "+24", "-1", "255.255.255.0", "999999999999"] {
        assert_eq!(code(parse("10.0.0.2", bits)), "RDT-GNET-007", "{bits}");
    }
    assert_eq!(code(parse("fd00::1", "129")), "RDT-GNET-007");
}

#[test]
fn an_mtu_fits_an_ip_packet() {
    let parse = |mtu| {
        InterfaceRequest::parse(&types::Interface {
            mtu,
            ..interface("eth0", &[])
        })
        .map(|request| request.mtu)
    };
    assert_eq!(parse(0).unwrap(), None);
    assert_eq!(parse(68).unwrap(), Some(68));
    assert_eq!(parse(65_535).unwrap(), Some(65_535));
    for mtu in [1, 67, 65_536, u64::from(u32::MAX) + 1501, u64::MAX] {
        assert_eq!(code(parse(mtu)), "RDT-GNET-008", "{mtu}");
    }
}

#[test]
fn an_mtu_with_ipv6_addresses_is_no_less_than_ipv6_needs() {
    let small = types::Interface {
        mtu: 1279,
        ..interface("eth0", &[("fd00::1", "64")])
    };
    let error = InterfaceRequest::parse(&small).unwrap_err();
    insta::assert_snapshot!(OneLine(&error), @"[RDT-GNET-008] an MTU of 1279 bytes is not accepted, it must be from 1280 to 65535");
    let route = types::Route {
        mtu: 1279,
        ..route("fd00::/64", "")
    };
    assert_eq!(code(one_route(route)), "RDT-GNET-008");
}

#[test]
fn long_lists_are_refused() {
    let mut many = interface("eth0", &[]);
    many.IPAddresses = vec![ip("10.0.0.2", "24"); MAX_ADDRESSES];
    InterfaceRequest::parse(&many).unwrap();
    many.IPAddresses.push(ip("10.0.0.2", "24"));
    insta::assert_snapshot!(OneLine(&InterfaceRequest::parse(&many).unwrap_err()), @"[RDT-GNET-003] 65 addresses are too many, at most 64 are accepted");
    RouteRequest::parse_all(&vec![route("", "10.0.0.1"); MAX_ROUTES]).unwrap();
    let routes = vec![route("", "10.0.0.1"); MAX_ROUTES + 1];
    assert_eq!(code(RouteRequest::parse_all(&routes)), "RDT-GNET-003");
    let neighbours = vec![neighbour("10.0.0.1", MAC); MAX_NEIGHBOURS + 1];
    assert_eq!(
        code(NeighbourRequest::parse_all(&neighbours)),
        "RDT-GNET-003"
    );
}

#[test]
fn refused_texts_are_shown_short_and_on_one_line() {
    let name = format!("\n\u{1b}[2J{}", "x".repeat(1000));
    insta::assert_snapshot!(LinkName::parse(&name).unwrap_err(), @r#""\n\u{1b}[2Jxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…" is no interface name"#);
}

proptest! {
    #[test]
    fn texts_are_refused_or_read_back(text in "\\PC{0,40}|[0-9a-f:./]{0,40}") {
        if let Ok(name) = LinkName::parse(&text) {
            prop_assert_eq!(name.as_str(), text.as_str());
        }
        if let Ok(mac) = Mac::parse(&text) {
            prop_assert_eq!(mac.to_string(), text.to_lowercase());
        }
        if let Ok(route) = one_route(route(&text, ""))
            && let Some(to) = route.destination
        {
            let again = Prefix::parse(to.address, &to.bits.to_string()).unwrap();
            prop_assert_eq!(again, to);
        }
    }

    #[test]
    fn whole_routes_never_panic(
        dest in "[0-9a-f:./]{0,24}",
        gateway in "[0-9a-f:.]{0,24}",
        scope: u32, flags: u32, mtu: u32,
    ) {
        let _ = RouteRequest::parse_all(&[types::Route { scope, flags, mtu, ..route(&dest, &gateway) }]);
    }
}
