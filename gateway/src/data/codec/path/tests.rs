//! Which paths are one and the same, and which are refused.

use super::*;

fn normal(path: &str, policy: PathPolicy) -> Result<String, &'static str> {
    let mut out = Vec::new();
    match normalise_path(path.as_bytes(), policy, &mut out).map_err(PathError::name)? {
        Normalised::AsIs => Ok(path.to_owned()),
        Normalised::Rewritten => Ok(String::from_utf8(out).unwrap()),
    }
}

fn standard(path: &str) -> Result<String, &'static str> {
    normal(path, PathPolicy::Standard)
}

fn generous(path: &str) -> String {
    let mut out = Vec::new();
    most_generous_form(path.as_bytes(), true, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn dot_segments_are_removed_as_rfc_3986_says() {
    for (path, expected) in [
        ("", "/"),
        ("/.", "/"),
        ("/./", "/"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/./b", "/a/b"),
        ("/a/b/../c", "/a/c"),
        ("/a/b/../../c", "/c"),
        ("/a/b/c/./../../g", "/a/g"),
        ("/%2e/a", "/a"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e", "/"),
        ("/...", "/..."),
        ("/.a/..b/c..", "/.a/..b/c.."),
        ("/a//b", "/a//b"),
        ("/a//./b", "/a//b"),
    ] {
        assert_eq!(standard(path).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn escapes_have_one_spelling() {
    for (path, expected) in [
        ("/%61%5a%30%2d%5f%7e", "/aZ0-_~"),
        ("/a%20b", "/a%20b"),
        ("/a%2fb%3a%c3%a9", "/a%2Fb%3A%C3%A9"),
        ("/100%25", "/100%25"),
    ] {
        assert_eq!(standard(path).as_deref(), Ok(expected), "{path}");
    }
    let mut out = Vec::new();
    let untouched = normalise_path(b"/a%2Fb%20c", PathPolicy::Standard, &mut out);
    assert_eq!(untouched, Ok(Normalised::AsIs));
}

#[test]
fn what_no_policy_allows_is_refused() {
    for (path, name) in [
        ("a", "path_relative"),
        ("%2fa", "path_relative"),
        ("/..", "path_above_root"),
        ("/../a", "path_above_root"),
        ("/a/../../b", "path_above_root"),
        ("/%2e%2e/a", "path_above_root"),
        ("/a\\b", "path_backslash"),
        ("/a%", "path_escape"),
        ("/a%2", "path_escape"),
        ("/a%zz", "path_escape"),
        ("/%u0061", "path_escape"),
        ("/%%32%65", "path_escape"),
        ("/a%00", "path_encoded_nul"),
        ("/a b", "path_octet"),
        ("/a\u{e9}", "path_octet"),
        ("/a\x7f", "path_octet"),
        ("/a#b", "path_octet"),
        ("/a//../b", "path_empty_before_dot_dot"),
        ("//..", "path_empty_before_dot_dot"),
        ("/a/..;/b", "path_hidden_dot_segment"),
        ("/a/.;x/b", "path_hidden_dot_segment"),
        ("/a/..%2fb", "path_hidden_dot_segment"),
        ("/a%2f..%2fb", "path_hidden_dot_segment"),
        ("/a%5c..%5cb", "path_hidden_dot_segment"),
        ("/a/%252e%252e/b", "path_hidden_dot_segment"),
        ("/a/%25%32%65%25%32%65/b", "path_hidden_dot_segment"),
        ("/a/%252e%252e%252fb", "path_hidden_dot_segment"),
        ("/a/..%20/b", "path_hidden_dot_segment"),
        ("/a/..%09/b", "path_hidden_dot_segment"),
        ("/a/..%3fb", "path_hidden_dot_segment"),
        ("/a/..%3bb", "path_hidden_dot_segment"),
        ("/a/..%2f", "path_hidden_dot_segment"),
        ("/a/%2e%2e%5c", "path_hidden_dot_segment"),
    ] {
        assert_eq!(standard(path), Err(name), "{path}");
        assert!(normal(path, PathPolicy::Strict).is_err(), "{path}");
    }
}

#[test]
fn strict_refuses_what_two_servers_read_in_two_ways() {
    for (path, name) in [
        ("/a%2Fb", "path_encoded_slash"),
        ("/a%5cb", "path_encoded_slash"),
        ("/a%252Fb", "path_double_encoding"),
        ("/a%2541", "path_double_encoding"),
        ("/a%25%34%31", "path_double_encoding"),
        ("/a//b", "path_empty_segment"),
        ("//a", "path_empty_segment"),
        ("/a//", "path_empty_segment"),
        ("/a%0d%0aSet-Cookie", "path_encoded_control"),
        ("/a%7f", "path_encoded_control"),
    ] {
        assert_eq!(normal(path, PathPolicy::Strict), Err(name), "{path}");
        assert!(standard(path).is_ok(), "{path}");
    }
    for path in [
        "/",
        "/a",
        "/a/",
        "/a;b=c/d",
        "/a%20b",
        "/100%25",
        "/a.b/.well-known/x",
        "/a%C3%A9",
    ] {
        assert_eq!(
            normal(path, PathPolicy::Strict).as_deref(),
            Ok(path),
            "{path}"
        );
    }
}

#[test]
fn the_generous_form_sees_through_every_disguise() {
    for path in [
        "/admin",
        "/ADMIN",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/%2561dmin",
        "/%25%36%31dmin",
        "/admin;a=b",
        "/;x/admin",
        "/x%2f..%2fadmin",
        "/x\\..\\admin",
        "/x%5c..%5cadmin",
        "/x/..;y/admin",
        "/%252e%252e/admin",
        "/admin%20",
        "/admin%09",
        "/ad%00min",
        "/admin%3fx",
        "/admin%23x",
        "/admin%253fx",
        "/../../admin",
    ] {
        assert_eq!(generous(path), "/admin", "{path}");
    }
    for (path, expected) in [
        ("/admin/", "/admin/"),
        ("/admin%2fx", "/admin/x"),
        ("/administrator", "/administrator"),
    ] {
        assert_eq!(generous(path), expected);
    }
    let mut out = Vec::new();
    most_generous_form(b"/Ab", false, &mut out);
    assert_eq!(out, b"/Ab");
}

#[test]
fn queries_pass_as_they_came_but_for_blanks_and_controls() {
    for query in [
        "",
        "a=b&c=%20d;e=/?:@",
        "q=100%",
        "q=%zz",
        "q={\"a\":[1|2]}",
        "u=http://b//c\\d",
    ] {
        assert_eq!(
            check_query(query.as_bytes(), PathPolicy::Strict),
            Ok(()),
            "{query}"
        );
    }
    for query in ["a b", "a\tb", "a\0b", "a\x7fb", "a#b"] {
        let name = check_query(query.as_bytes(), PathPolicy::Standard).map_err(PathError::name);
        assert_eq!(name, Err("query_octet"), "{query:?}");
    }
    let utf8 = "q=\u{e9}".as_bytes();
    assert_eq!(check_query(utf8, PathPolicy::Standard), Ok(()));
    assert_eq!(
        check_query(utf8, PathPolicy::Strict),
        Err(PathError::QueryOctet(0xc3))
    );
}

#[test]
fn an_octet_that_no_query_holds_is_found_wherever_it_stands() {
    for length in 0..50_usize {
        for at in 0..length {
            for byte in 0..=255_u8 {
                let mut query = vec![b'a'; length];
                query[at] = byte;
                for policy in [PathPolicy::Standard, PathPolicy::Strict] {
                    let strict = policy == PathPolicy::Strict;
                    let bad = matches!(byte, 0..=b' ' | 0x7f | b'#') || strict && byte >= 0x80;
                    let expected = if bad {
                        Err(PathError::QueryOctet(byte))
                    } else {
                        Ok(())
                    };
                    assert_eq!(check_query(&query, policy), expected, "{length} {at}");
                }
            }
        }
    }
}
