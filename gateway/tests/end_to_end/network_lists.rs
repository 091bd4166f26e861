//! Lists of networks: who gets in from where, in which order, and how a list is introduced.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use crate::support::{Client, Driver, Folder, Gateway, Launch, Response};

fn gateway(driver: Driver, lists: &str, names: &str) -> Gateway {
    Launch::new(driver)
        .rest(&format!(
            "{lists}\n[[routes]]\nname = \"all\"\nnetwork_lists = [{names}]\nrespond = {{ body = \"in\" }}\n"
        ))
        .start()
}

/// The answer to a client at 127.0.THIRD.LAST.
fn from(gateway: &Gateway, third: u8, last: u8) -> Response {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, third, last), 0));
    Client::connect_from(address, gateway.address).get("/")
}

fn decisions(gateway: &Gateway, list: &str, outcome: &str) -> f64 {
    let labels = [("list", list), ("outcome", outcome)];
    gateway.metric("ringgate_network_decisions_total", &labels)
}

on_both_drivers! {
    fn the_longest_network_decides(driver) {
        let list = "[network_lists.a]\notherwise = \"deny\"\nallow = [\"127.0.0.0/16\", \"127.0.1.7\", \"127.0.2.2\"]\n\
                    deny = [\"127.0.1.0/24\", \"127.0.2.2\"]";
        let gateway = gateway(driver, list, "\"a\"");
        let statuses = [(0, 1), (1, 1), (1, 7), (1, 8), (2, 1), (2, 2)]
            .map(|(third, last)| from(&gateway, third, last).status);
        assert_eq!(statuses, [200, 403, 200, 403, 200, 403]);
        assert_eq!(from(&gateway, 1, 1).problem(403), "network_denied");
        assert_eq!((decisions(&gateway, "a", "allowed"), decisions(&gateway, "a", "denied")), (3.0, 4.0));
        let rejected = gateway.metric("ringgate_rejected_requests_total", &[("reason", "network_denied")]);
        assert_eq!(rejected, 4.0);
    }

    fn what_no_network_holds_is_as_the_list_says(driver) {
        let lists = "[network_lists.open]\notherwise = \"allow\"\ndeny = [\"127.0.3.0/24\"]\n\
                     [network_lists.closed]\notherwise = \"deny\"\nallow = [\"127.0.0.0/24\", \"127.0.3.0/24\"]";
        let open = gateway(driver, lists, "\"open\"");
        assert_eq!([0, 3, 4].map(|third| from(&open, third, 1).status), [200, 403, 200]);
        let closed = gateway(driver, lists, "\"closed\"");
        assert_eq!([0, 3, 4].map(|third| from(&closed, third, 1).status), [200, 200, 403]);
        // Of several all must allow; those after a refusal are not asked.
        let both = gateway(driver, lists, "\"open\", \"closed\"");
        assert_eq!([0, 3, 4].map(|third| from(&both, third, 1).status), [200, 403, 403]);
        assert_eq!((decisions(&both, "closed", "allowed"), decisions(&both, "closed", "denied")), (1.0, 1.0));
    }

    fn a_list_in_shadow_counts_and_refuses_nobody(driver) {
        let list = "[network_lists.a]\notherwise = \"deny\"\nmode = \"shadow\"";
        let gateway = gateway(driver, list, "\"a\"");
        assert_eq!(from(&gateway, 0, 1).status, 200);
        assert_eq!((decisions(&gateway, "a", "shadow_denied"), decisions(&gateway, "a", "denied")), (1.0, 0.0));
    }

    fn a_file_of_a_hundred_thousand_networks_is_served(driver) {
        let folder = Folder::new();
        let file = folder.path().join("deny");
        let mut text = String::from("# made by a test\n127.0.9.0/24 # ours\n");
        for number in 0..100_000_u32 {
            let [_, b, c, d] = number.to_be_bytes();
            writeln!(text, "10.{b}.{c}.{d}").unwrap();
        }
        fs::write(&file, text).unwrap();
        let list = format!("[network_lists.a]\notherwise = \"allow\"\ndeny_file = \"{}\"", file.display());
        let gateway = gateway(driver, &list, "\"a\"");
        assert_eq!([8, 9, 10].map(|third| from(&gateway, third, 1).status), [200, 403, 200]);
    }
}
