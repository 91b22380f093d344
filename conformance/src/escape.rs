//! What stays as it is when text is escaped for a URI, by those who do it.
//!
//! Base layer. Everything else becomes `%` and two hexadecimal digits.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

/// In a query: RFC 3986's unreserved characters (Python's `quote_plus` and Go's `url.QueryEscape`, but for a space, which they write as
/// `+`).
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// In the user part of a URI (Go's `url.UserPassword`, checked against 34 passwords of the real Percona).
pub const USERINFO: &AsciiSet =
    &UNRESERVED.remove(b'$').remove(b'&').remove(b'+').remove(b',').remove(b';').remove(b'=');

/// In JavaScript's `encodeURIComponent`.
pub const COMPONENT: &AsciiSet = &UNRESERVED.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');

/// In a segment of a path (Go's `url.PathEscape`).
pub const PATH_SEGMENT: &AsciiSet =
    &UNRESERVED.remove(b'$').remove(b'&').remove(b'+').remove(b'=').remove(b':').remove(b'@');

/// In a path (Python's `quote`, unless told otherwise).
pub const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// In the user part, as the `url` crate writes it.
pub const URL_CRATE_USERINFO: &AsciiSet =
    &USERINFO.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*').add(b';').add(b'=');
