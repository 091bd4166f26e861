//! The admin address.

use crate::support::{Client, Launch, Upstream, get, send, to_upstream};

on_both_drivers! {
    fn the_pages_are_there_and_others_are_not(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = Launch::new(driver).rest(&to_upstream(&[upstream.address], "")).start();
        for page in ["/healthz", "/readyz", "/metrics", "/"] {
            assert_eq!(get(gateway.admin, page).status, 200, "{page}");
        }
        assert_eq!(get(gateway.admin, "/nothing").status, 404);
        assert_eq!(send(gateway.admin, "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status, 405);
        let metrics = get(gateway.admin, "/metrics");
        assert_eq!(metrics.value("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        // Nothing of it is served to clients.
        assert_eq!(gateway.get("/healthz").text(), "ok");
    }

    fn requests_are_counted_by_route_method_and_status(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = Launch::new(driver)
            .rest("[[routes]]\nname = \"own\"\npath = \"/own\"\nrespond = { status = 410 }\n")
            .rest(&to_upstream(&[upstream.address], "").replace("path_prefix = \"/\"", "path_prefix = \"/up\""))
            .start();
        let mut client = Client::connect(gateway.address);
        client.send("BREW /up HTTP/1.1\r\nHost: test\r\n\r\n");
        client.response();
        // The gateway's own answers come last: they are counted before they are sent, others when they have been.
        for path in ["/up", "/up/1", "/own", "/none"] {
            client.get(path);
        }
        let count = |route, method, status| {
            gateway.metric(
                "http_server_request_duration_seconds_count",
                &[("http_route", route), ("http_request_method", method), ("http_response_status_code", status)],
            )
        };
        assert_eq!(count("all", "GET", "200"), 2.0);
        assert_eq!(count("all", "_OTHER", "200"), 1.0);
        assert_eq!(count("own", "GET", "410"), 1.0);
        assert_eq!(count("", "GET", "404"), 1.0);
        assert_eq!(gateway.metric("http_client_request_duration_seconds_count", &[("upstream", "up")]), 3.0);
    }

    fn metrics_show_the_process(driver) {
        let gateway = Launch::new(driver).start();
        let metrics = gateway.metrics();
        assert_eq!(metrics.sum("ringgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
        assert_eq!(metrics.sum("ringgate_workers", &[]), 2.0);
        let resident = metrics.sum("process_resident_memory_bytes", &[]);
        assert!(resident > 1e6 && resident < 1e9, "{resident}");
        assert!(metrics.sum("process_open_fds", &[]) > 5.0);
    }
}
