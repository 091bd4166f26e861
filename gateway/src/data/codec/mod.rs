//! HTTP/1.1 on bytes: heads, framing, paths. No I/O, no runtime types, no clock.
