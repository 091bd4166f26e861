//! Routes by more than host and prefix: captures, regular expressions, methods, header fields, query, client network.

use crate::support::{Client, Launch, send};

/// A route with a fixed answer that is its name.
fn route(name: &str, lines: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\n{lines}\nrespond = {{ body = \"{name}\" }}\n")
}

on_both_drivers! {
    fn each_kind_of_path_and_condition_routes(driver) {
        let gateway = Launch::new(driver)
            .rest(&route("any", "path_prefix = \"/\""))
            .rest(&route("user", "path = \"/users/{id}\""))
            .rest(&route("me", "path = \"/users/me\""))
            .rest(&route("image", "path_regex = \"/[a-z/]+[.]png\""))
            .rest(&route("put", "path = \"/users/{id}\"\nmethods = [\"PUT\"]"))
            .rest(&route("v2", "headers = { X-Version = \"2\" }"))
            .rest(&route("phone", "headers_regex = { user-agent = \"(?i).*phone.*\" }"))
            .rest(&route("debug", "query = { debug = \"1\" }"))
            .rest(&route("here", "path = \"/here\"\nclient_networks = [\"127.0.0.0/8\"]"))
            .rest(&route("there", "path = \"/there\"\nclient_networks = [\"192.0.2.0/24\", \"2001:db8::/32\"]"))
            .start();
        let mut client = Client::connect(gateway.address);
        for (line, fields, expected) in [
            ("GET /", "", "any"),
            ("GET /users/7", "", "user"),
            ("GET /users/me", "", "me"),
            ("GET /users/m%65", "", "me"),
            ("GET /users/7%2F8", "", "user"),
            ("GET /users/", "", "any"),
            ("PUT /users/7", "", "put"),
            ("GET /a/b.png", "", "image"),
            ("GET /a/x/../b.png", "", "image"),
            ("GET /a/b.png/c", "", "any"),
            ("GET /x", "x-version: 2\r\n", "v2"),
            ("GET /x", "x-version: 1\r\nX-VERSION:  2 \r\n", "v2"),
            ("GET /x", "x-version: 22\r\n", "any"),
            ("GET /x", "User-Agent: A Phone/3\r\n", "phone"),
            ("GET /x?a=b&d%65bug=%31", "", "debug"),
            // A header field counts for more than a parameter.
            ("GET /x?debug=1", "x-version: 2\r\n", "v2"),
            // A path counts for more than any condition.
            ("GET /users/7", "x-version: 2\r\n", "user"),
            ("GET /here", "", "here"),
            ("GET /there", "", "any"),
        ] {
            client.send(format!("{line} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
            let answer = client.response();
            assert_eq!((answer.status, answer.text()), (200, expected), "{line} {fields}");
        }
    }

    fn a_method_that_no_route_takes_gets_405_and_those_that_would_be_taken(driver) {
        let gateway = Launch::new(driver)
            .rest(&route("read", "path = \"/a\"\nmethods = [\"GET\"]"))
            .rest(&route("purge", "path = \"/a\"\nmethods = [\"PURGE\", \"PUT\"]"))
            .rest(&route("with", "path = \"/a\"\nmethods = [\"DELETE\"]\nheaders = { x-a = \"1\" }"))
            .start();
        let mut client = Client::connect(gateway.address);
        client.send("POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc");
        let answer = client.response();
        assert_eq!(answer.problem(405), "method_not_allowed");
        assert_eq!(answer.value("allow"), "GET, HEAD, PUT, PURGE");
        // The connection stays, and the body was no request.
        client.send("HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.response_to_head().status, 200);
        client.send("POST /b HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.response().problem(404), "no_route");
        let record = gateway.record_of("/a");
        assert_eq!(record["error.type"], "method_not_allowed");
        assert_eq!(record["ringgate.end"], "no_route");
        let methods = send(gateway.address, "PURGE /a HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(methods.text(), "purge");
    }

    fn another_way_to_write_a_path_does_not_get_around_a_route_that_denies(driver) {
        let gateway = Launch::new(driver)
            .rest("[[routes]]\nname = \"no\"\npath = \"/users/{id}/secret\"\nrespond = { status = 403 }\n")
            .rest(&route("any", "path_prefix = \"/\""))
            .start();
        for (path, status) in [
            ("/users/7/secret", 403),
            ("/users/7/%73ecret", 403),
            ("/users/7/./secret", 403),
            ("/users/7%2Fsecret", 400),
            ("/users//7/secret", 400),
            ("/users/7/secret;x=1", 400),
            ("/users/7/secret%3Bx", 400),
            ("/users/7/open", 200),
        ] {
            let answer = send(gateway.address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            assert_eq!(answer.status, status, "{path}");
        }
    }
}
