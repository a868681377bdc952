//! Routes in a kernel.

use redoubt_errors::OneLine;

use super::namespace::{ip, lines, run};
use super::{interface, route};
use crate::*;

/// The routes that somebody configured, as `ip` shows them.
fn configured() -> Vec<String> {
    let mut routes = lines("-4 route show proto static");
    routes.extend(lines("-4 route show proto boot"));
    routes.extend(lines("-6 route show proto static"));
    routes
}

async fn eth0() {
    bring_loopback_up().await.unwrap();
    let wanted = interface("eth0", &[("10.9.0.2", "24"), ("fd00:9::2", "64")]);
    update_interface(&wanted).await.unwrap();
}

fn find<'a>(routes: &'a [types::Route], dest: &str, gateway: &str) -> &'a types::Route {
    let found = routes
        .iter()
        .find(|route| route.dest == dest && route.gateway == gateway);
    found.unwrap_or_else(|| panic!("no {dest:?} via {gateway:?} in {routes:?}"))
}

#[test]
fn routes_are_replaced_direct_ones_first() {
    run(async || {
        eth0().await;
        ip("route add 10.50.0.0/16 via 10.9.0.77");
        ip("route add 10.51.0.0/16 dev lo");
        let mut direct = route("169.254.1.1/32", "");
        direct.scope = 253;
        direct.source = "10.9.0.2".to_owned();
        let mut default = route("", "169.254.1.1");
        default.mtu = 1300;
        // The gateway is known only by the route that comes after it.
        let now = update_routes(&[default, direct]).await.unwrap();
        let direct = find(&now, "169.254.1.1/32", "");
        assert_eq!((direct.scope, direct.source.as_str()), (253, "10.9.0.2"));
        let default = find(&now, "", "169.254.1.1");
        assert_eq!((default.mtu, default.device.as_str()), (1300, "eth0"));
        // Its own routes are the kernel's business.
        find(&now, "10.9.0.0/24", "");
        find(&now, "10.51.0.0/16", "");
        assert_eq!(
            configured(),
            [
                "169.254.1.1 dev eth0 scope link src 10.9.0.2",
                "default via 169.254.1.1 dev eth0 mtu 1300",
                "10.51.0.0/16 dev lo scope link",
            ]
        );
        assert_eq!(list_routes().await.unwrap(), now);
    });
}

#[test]
fn both_families_are_told_apart() {
    run(async || {
        eth0().await;
        let mut v6 = route("", "fd00:9::1");
        v6.source = "fd00:9::2".to_owned();
        let wanted = [
            route("0.0.0.0/0", "10.9.0.1"),
            v6,
            route("fd00:77::/32", "fd00:9::1"),
        ];
        let now = update_routes(&wanted).await.unwrap();
        let family = |gateway| find(&now, "", gateway).family.enum_value();
        assert_eq!(family("10.9.0.1"), Ok(types::IPFamily::v4));
        assert_eq!(family("fd00:9::1"), Ok(types::IPFamily::v6));
        assert_eq!(find(&now, "", "fd00:9::1").source, "fd00:9::2");
        find(&now, "fd00:77::/32", "fd00:9::1");
    });
}

#[test]
fn an_onlink_gateway_needs_no_route() {
    run(async || {
        eth0().await;
        let mut default = route("", "192.0.2.1");
        default.flags = 4 | 16;
        let now = update_routes(&[default]).await.unwrap();
        assert_eq!(find(&now, "", "192.0.2.1").flags, 4);
    });
}

#[test]
fn what_is_listed_can_be_asked_for_again() {
    run(async || {
        eth0().await;
        let wanted = [
            route("", "10.9.0.1"),
            route("", "fd00:9::1"),
            route("10.3.0.0/16", ""),
        ];
        let first = update_routes(&wanted).await.unwrap();
        // The kernel's link-local routes and those of the interface's addresses are among them.
        assert!(
            first.iter().any(|route| route.dest.starts_with("fe80::/")),
            "{first:?}"
        );
        assert_eq!(update_routes(&first).await.unwrap(), first);
    });
}

#[test]
fn after_an_error_the_former_routes_are_there() {
    run(async || {
        eth0().await;
        let mut direct = route("169.254.1.1", "");
        direct.scope = 253;
        let mut default = route("", "169.254.1.1");
        default.mtu = 1300;
        let former = [direct, default, route("", "fd00:9::1")];
        let former = update_routes(&former).await.unwrap();
        let before = configured();

        let wanted = [route("10.3.0.0/16", ""), route("10.4.0.0/16", "192.0.2.1")];
        let error = update_routes(&wanted).await.unwrap_err();
        insta::assert_snapshot!(OneLine(&error), @"[RDT-GNET-002] cannot add route to 10.4.0.0/16: Received a netlink error message Network is unreachable (os error 101)");
        assert_eq!(configured(), before);
        assert_eq!(list_routes().await.unwrap().len(), former.len());

        let mut lost = route("", "10.9.0.1");
        lost.device = "eth7".to_owned();
        let error = update_routes(&[lost]).await.unwrap_err();
        assert!(matches!(error, NetworkError::NoDevice { .. }), "{error:?}");
        assert_eq!(configured(), before);
    });
}

#[test]
fn an_empty_list_removes_them_all() {
    run(async || {
        eth0().await;
        update_routes(&[route("", "10.9.0.1"), route("", "fd00:9::1")])
            .await
            .unwrap();
        update_routes(&[]).await.unwrap();
        assert!(configured().is_empty());
        assert!(!ip("-4 route").is_empty());
    });
}
