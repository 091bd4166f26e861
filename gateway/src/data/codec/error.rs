//! One variant for each rule that a message can break, its name in the access log, and the status it deserves.

use std::fmt;

use http::StatusCode;

/// Declares an error enum whose variants have a stable name and a status.
macro_rules! rules {
    ($(#[$doc:meta])* $error:ident { $($(#[$rule:meta])* $variant:ident $(($value:ty))? => $name:literal, $status:ident;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $error { $($(#[$rule])* $variant $(($value))?,)* }

        impl $error {
            /// The names of all rules.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// The rule's name in the access log and the metrics; never changes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)* }
            }

            /// The status of the answer where this peer is owed one.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant { .. } => StatusCode::$status,)* }
            }
        }

        impl fmt::Display for $error {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.name())
            }
        }

        impl std::error::Error for $error {}
    };
}

rules! {
    /// Why the end of a head could not be found. The status is for a request; from an upstream each of these is 502.
    HeadError {
        /// A CR that no LF follows (RFC 9112 section 2.2).
        BareCr => "bare_cr", BAD_REQUEST;
        /// A LF that no CR precedes (RFC 9112 section 2.2).
        BareLf => "bare_lf", BAD_REQUEST;
        /// NUL (RFC 9110 section 5.5).
        Nul => "nul", BAD_REQUEST;
        /// A control other than HTAB (RFC 9110 section 5.5).
        Control(u8) => "control", BAD_REQUEST;
        /// More empty lines before the start line than are skipped (RFC 9112 section 2.2).
        LeadingEmptyLines => "leading_empty_lines", BAD_REQUEST;
        /// The request line or status line is too long.
        StartLineTooLong => "start_line_too_long", URI_TOO_LONG;
        /// The head is too large.
        HeadTooLarge => "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE;
        /// Too many fields.
        TooManyFields => "too_many_fields", REQUEST_HEADER_FIELDS_TOO_LARGE;
    }
}

rules! {
    /// Why a request was refused.
    RequestError {
        /// The head does not end in an empty line, or something follows that.
        Incomplete => "head_incomplete", BAD_REQUEST;
        /// More than one SP, a SP at an end, a tab, or not three parts in the request line (RFC 9112 section 3).
        RequestLine => "request_line", BAD_REQUEST;
        /// A method that is not a token (RFC 9110 section 9.1).
        Method => "method", BAD_REQUEST;
        /// CONNECT: this gateway opens no tunnels (RFC 9110 section 9.3.6).
        ConnectRefused => "connect_refused", METHOD_NOT_ALLOWED;
        /// TRACE: would show the client what the gateway adds (RFC 9110 section 9.3.8).
        TraceRefused => "trace_refused", METHOD_NOT_ALLOWED;
        /// A version that is not `HTTP/DIGIT.DIGIT` (RFC 9112 section 2.3).
        Version => "version", BAD_REQUEST;
        /// A version other than 1.0 and 1.1 (RFC 9110 section 15.6.6).
        VersionUnsupported => "version_unsupported", HTTP_VERSION_NOT_SUPPORTED;
        /// A target in none of the four forms, or with an octet that no form has (RFC 9112 section 3.2).
        Target => "target", BAD_REQUEST;
        /// `#` in the target (RFC 9112 section 3.2).
        TargetFragment => "target_fragment", BAD_REQUEST;
        /// `*` with a method other than OPTIONS (RFC 9112 section 3.2.4).
        TargetAsterisk => "target_asterisk", BAD_REQUEST;
        /// A scheme other than http and https in the target.
        Scheme => "scheme", BAD_REQUEST;
        /// A scheme in the target that the connection does not have (RFC 9110 section 7.4).
        SchemeMismatch => "scheme_mismatch", MISDIRECTED_REQUEST;
        /// An authority in the target that is no `uri-host [":" port]` (RFC 9110 section 4.2.4).
        TargetAuthority => "target_authority", BAD_REQUEST;
        /// No Host in HTTP/1.1 (RFC 9112 section 3.2).
        HostMissing => "host_missing", BAD_REQUEST;
        /// More than one Host (RFC 9112 section 3.2).
        HostRepeated => "host_repeated", BAD_REQUEST;
        /// A Host that is no `uri-host [":" port]` (RFC 9112 section 3.2).
        Host => "host", BAD_REQUEST;
        /// A Host that differs from the target's authority (RFC 9112 section 3.2.2).
        HostMismatch => "host_mismatch", BAD_REQUEST;
        /// More fields than the limit.
        TooManyFields => "too_many_fields", REQUEST_HEADER_FIELDS_TOO_LARGE;
        /// A field name that is not a token (RFC 9110 section 5.1).
        FieldName => "field_name", BAD_REQUEST;
        /// A field without a name (RFC 9112 section 5).
        FieldNameEmpty => "field_name_empty", BAD_REQUEST;
        /// White space between name and colon (RFC 9112 section 5.1).
        FieldNameBlank => "field_name_blank", BAD_REQUEST;
        /// A line without a colon (RFC 9112 section 5).
        FieldColon => "field_colon", BAD_REQUEST;
        /// A line that begins with white space: obs-fold, or a blank before the first field (RFC 9112 sections 2.2, 5.2).
        FieldFold => "field_fold", BAD_REQUEST;
        /// An octet that no field value has (RFC 9110 section 5.5).
        FieldValue => "field_value", BAD_REQUEST;
        /// A name with `_`, where the listener refuses those.
        FieldUnderscore => "field_underscore", BAD_REQUEST;
        /// Content-Length that is not 1 to 20 digits or above 2^63-1 (RFC 9112 section 6.3).
        ContentLength => "content_length", BAD_REQUEST;
        /// More than one Content-Length, as lines or as a list (RFC 9112 section 6.3).
        ContentLengthRepeated => "content_length_repeated", BAD_REQUEST;
        /// Both Content-Length and Transfer-Encoding (RFC 9112 section 6.1).
        LengthAndEncoding => "length_and_encoding", BAD_REQUEST;
        /// Transfer-Encoding that is no list of codings, or applies chunked twice (RFC 9112 section 6.1).
        TransferEncoding => "transfer_encoding", BAD_REQUEST;
        /// More than one Transfer-Encoding line.
        TransferEncodingRepeated => "transfer_encoding_repeated", BAD_REQUEST;
        /// A transfer coding other than chunked (RFC 9112 section 6.1).
        TransferCodingUnknown => "transfer_coding_unknown", NOT_IMPLEMENTED;
        /// Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1).
        TransferEncodingInHttp10 => "transfer_encoding_in_http_1_0", BAD_REQUEST;
        /// Connection that is no list of tokens, or a very long one (RFC 9110 section 7.6.1).
        Connection => "connection", BAD_REQUEST;
        /// Connection that names a field which must go end to end (RFC 9110 section 7.6.1).
        ConnectionNamesProtected => "connection_names_protected", BAD_REQUEST;
        /// An expectation other than 100-continue (RFC 9110 section 10.1.1).
        Expectation => "expectation", EXPECTATION_FAILED;
        /// Max-Forwards that is no number (RFC 9110 section 7.6.2).
        MaxForwards => "max_forwards", BAD_REQUEST;
    }
}

rules! {
    /// Why a path or query was refused.
    PathError {
        /// Does not begin with `/`.
        Relative => "path_relative", BAD_REQUEST;
        /// An octet that is not visible ASCII.
        Octet(u8) => "path_octet", BAD_REQUEST;
        /// A raw `\`, which many servers read as `/`.
        Backslash => "path_backslash", BAD_REQUEST;
        /// `%` without two hexadecimal digits (RFC 3986 section 2.1).
        Escape => "path_escape", BAD_REQUEST;
        /// `%00`.
        EncodedNul => "path_encoded_nul", BAD_REQUEST;
        /// A `..` above the root.
        AboveRoot => "path_above_root", BAD_REQUEST;
        /// A dot segment that appears only after a further decoding, or behind `;`.
        HiddenDotSegment => "path_hidden_dot_segment", BAD_REQUEST;
        /// `//..`: leads to one place where empty segments are kept and to another where they are merged.
        EmptyBeforeDotDot => "path_empty_before_dot_dot", BAD_REQUEST;
        /// Strict: `%2F` or `%5C`.
        EncodedSlash => "path_encoded_slash", BAD_REQUEST;
        /// Strict: an escape that decodes to an escape.
        DoubleEncoding => "path_double_encoding", BAD_REQUEST;
        /// Strict: an escaped control.
        EncodedControl => "path_encoded_control", BAD_REQUEST;
        /// Strict: `//`.
        EmptySegment => "path_empty_segment", BAD_REQUEST;
        /// An octet that no query has.
        QueryOctet(u8) => "query_octet", BAD_REQUEST;
    }
}

rules! {
    /// Why a response from an upstream was refused.
    ResponseError {
        /// The head does not end in an empty line, or something follows that.
        Incomplete => "response_head_incomplete", BAD_GATEWAY;
        /// Not a status line of HTTP/1 (RFC 9112 section 4).
        StatusLine => "response_status_line", BAD_GATEWAY;
        /// A version other than 1.0 and 1.1.
        Version => "response_version", BAD_GATEWAY;
        /// A status outside 100-599 (RFC 9110 section 15).
        Status => "response_status", BAD_GATEWAY;
        /// More fields than the limit.
        TooManyFields => "response_too_many_fields", BAD_GATEWAY;
        /// A malformed field line (RFC 9112 section 5).
        Field => "response_field", BAD_GATEWAY;
        /// Content-Length that is not 1 to 20 digits or above 2^63-1 (RFC 9112 section 6.3).
        ContentLength => "response_content_length", BAD_GATEWAY;
        /// More than one Content-Length, as lines or as a list (RFC 9112 section 6.3).
        ContentLengthRepeated => "response_content_length_repeated", BAD_GATEWAY;
        /// Both Content-Length and Transfer-Encoding (RFC 9112 section 6.3).
        LengthAndEncoding => "response_length_and_encoding", BAD_GATEWAY;
        /// Transfer-Encoding other than one `chunked` (RFC 9112 section 6.1).
        TransferEncoding => "response_transfer_encoding", BAD_GATEWAY;
        /// Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1).
        TransferEncodingInHttp10 => "response_transfer_encoding_in_http_1_0", BAD_GATEWAY;
        /// Connection that is no list of tokens, or a very long one (RFC 9110 section 7.6.1).
        Connection => "response_connection", BAD_GATEWAY;
        /// 101 without a request for it, or to another protocol (RFC 9110 section 15.2.2).
        UnexpectedUpgrade => "response_unexpected_upgrade", BAD_GATEWAY;
        /// An interim response with a large head.
        InterimTooLarge => "response_interim_too_large", BAD_GATEWAY;
        /// Content in a 205, which some clients take for the next response (RFC 9110 section 15.3.6).
        ContentInReset => "response_content_in_reset", BAD_GATEWAY;
    }
}

rules! {
    /// Why a chunked body was refused. The status is for a request; from an upstream each of these ends the exchange.
    ChunkError {
        /// A chunk size that does not begin with a hexadecimal digit.
        Size => "chunk_size", BAD_REQUEST;
        /// More than 16 digits, or above 2^63-1.
        SizeTooLarge => "chunk_size_too_large", BAD_REQUEST;
        /// Something other than CRLF or `;` after the chunk size.
        SizeEnd => "chunk_size_end", BAD_REQUEST;
        /// A chunk extension that does not follow the grammar (RFC 9112 section 7.1.1).
        Extension => "chunk_extension", BAD_REQUEST;
        /// Chunk extensions that are too long, one or all together.
        ExtensionTooLong => "chunk_extension_too_long", BAD_REQUEST;
        /// Chunk data that CRLF does not follow.
        DataEnd => "chunk_data_end", BAD_REQUEST;
        /// A malformed trailer field.
        Trailer => "trailer", BAD_REQUEST;
        /// A trailer section that is too large.
        TrailersTooLarge => "trailers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE;
        /// More framing than the payload justifies.
        Overhead => "chunk_overhead", BAD_REQUEST;
    }
}
