//! Routes and neighbours that are refused, and those that are not, without a kernel.

use redoubt_errors::OneLine;

use super::refusals::{code, one_route};
use super::{MAC, neighbour, route};
use crate::request::{NeighbourRequest, RouteRequest};
use crate::{NetworkError, types};

fn one_neighbour(neighbour: types::ARPNeighbor) -> Result<Option<NeighbourRequest>, NetworkError> {
    NeighbourRequest::parse_all(&[neighbour]).map(|mut neighbours| neighbours.pop())
}

#[test]
fn destinations_are_read_in_all_their_forms() {
    let to = |dest| {
        one_route(route(dest, ""))
            .unwrap()
            .destination
            .map(|to| to.to_string())
    };
    assert_eq!(to("10.3.0.0/16").as_deref(), Some("10.3.0.0/16"));
    assert_eq!(to("10.3.0.1").as_deref(), Some("10.3.0.1/32"));
    assert_eq!(to("fd00::1").as_deref(), Some("fd00::1/128"));
    for default in ["", "0.0.0.0/0", "::/0"] {
        assert_eq!(to(default), None, "{default}");
    }
    assert!(one_route(route("::/0", "")).unwrap().ipv6);
    assert!(!one_route(route("0.0.0.0/0", "")).unwrap().ipv6);
    for wrong in [
        "default",
        "0.0.0.0",
        "0.0.0.0/8",
        "224.0.0.0/4",
        "ff00::/8",
        "/",
        "10.0.0.0//8",
    ] {
        let code = code(one_route(route(wrong, "")));
        assert!(
            ["RDT-GNET-006", "RDT-GNET-007"].contains(&code),
            "{wrong}: {code}"
        );
    }
}

#[test]
fn loopback_appears_in_no_route_or_neighbour() {
    let loopback = [
        route("127.0.0.0/8", ""),
        route("::1/128", ""),
        route("10.0.0.0/8", "127.0.0.1"),
        types::Route {
            source: "127.0.0.1".to_owned(),
            ..route("10.0.0.0/8", "")
        },
        types::Route {
            device: "lo".to_owned(),
            ..route("10.0.0.0/8", "")
        },
    ];
    for route in loopback {
        assert_eq!(code(one_route(route.clone())), "RDT-GNET-009", "{route:?}");
    }
    assert_eq!(
        code(one_neighbour(neighbour("127.0.0.5", MAC))),
        "RDT-GNET-009"
    );
    let device = types::ARPNeighbor {
        device: "lo".to_owned(),
        ..neighbour("10.0.0.5", MAC)
    };
    assert_eq!(code(one_neighbour(device)), "RDT-GNET-009");
}

#[test]
fn a_route_has_one_family_and_its_addresses_decide() {
    let v6 = types::IPFamily::v6.into();
    assert!(
        !one_route(types::Route {
            family: v6,
            ..route("", "10.0.0.1")
        })
        .unwrap()
        .ipv6
    );
    assert!(
        one_route(types::Route {
            family: v6,
            ..route("", "")
        })
        .unwrap()
        .ipv6
    );
    assert_eq!(
        code(one_route(route("10.0.0.0/8", "fd00::1"))),
        "RDT-GNET-012"
    );
    let source = types::Route {
        source: "10.0.0.2".to_owned(),
        ..route("::/0", "fd00::1")
    };
    insta::assert_snapshot!(OneLine(&one_route(source).unwrap_err()), @r#"[RDT-GNET-012] the route to "::/0" has no one address family"#);
    let mut unknown = route("", "");
    unknown.family = protobuf::EnumOrUnknown::from_i32(7);
    assert_eq!(code(one_route(unknown)), "RDT-GNET-012");
}

#[test]
fn scopes_and_gateways_are_checked() {
    assert_eq!(
        code(one_route(types::Route {
            scope: 256,
            ..route("", "")
        })),
        "RDT-GNET-013"
    );
    for gateway in ["0.0.0.0", "::", "224.0.0.1", "gateway"] {
        assert_eq!(
            code(one_route(route("", gateway))),
            "RDT-GNET-006",
            "{gateway}"
        );
    }
}

#[test]
fn link_local_routes_are_left_out_and_direct_ones_come_first() {
    let routes = [
        route("", "10.0.0.1"),
        route("fe80::/64", ""),
        route("10.0.0.0/8", ""),
    ];
    let parsed = RouteRequest::parse_all(&routes).unwrap();
    let gateways: Vec<_> = parsed.iter().map(|route| route.gateway.is_some()).collect();
    assert_eq!(gateways, [false, true]);
}

#[test]
fn neighbours_are_checked() {
    let plain = one_neighbour(neighbour("10.0.0.9", MAC)).unwrap().unwrap();
    assert_eq!((plain.state, plain.flags), (0x80, 0));
    let with = |state, flags| {
        one_neighbour(types::ARPNeighbor {
            state,
            flags,
            ..neighbour("10.0.0.9", MAC)
        })
    };
    assert_eq!(with(2, 0x80).unwrap().unwrap().state, 2);
    for unknown in [0x01, 0x20] {
        assert_eq!(with(unknown, 0).unwrap(), None);
    }
    for state in [-1, 3, 0x100, 0x10080] {
        assert_eq!(code(with(state, 0)), "RDT-GNET-014", "{state}");
    }
    // NTF_PROXY, NTF_SELF, and what is no flag at all.
    for flags in [8, 2, 0x100, -1] {
        assert_eq!(code(with(2, flags)), "RDT-GNET-015", "{flags}");
    }
    let nowhere = types::ARPNeighbor::default();
    assert_eq!(code(one_neighbour(nowhere)), "RDT-GNET-006");
    assert_eq!(
        code(one_neighbour(neighbour("10.0.0.9", ""))),
        "RDT-GNET-005"
    );
}
