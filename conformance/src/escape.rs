//! What stays as it is when text is escaped for a URI, by those who do it.
//!
//! Base layer. Everything else becomes `%` and two hexadecimal digits.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

/// In a query: RFC 3986's unreserved characters (Python's `quote`; Go's `url.QueryEscape`, but for a space, which it writes as
/// `+`).
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// In the user part of a URI (Go's `url.UserPassword`, checked against 34 passwords of the real Percona).
pub const USERINFO: &AsciiSet =
    &UNRESERVED.remove(b'$').remove(b'&').remove(b'+').remove(b',').remove(b';').remove(b'=');

/// In JavaScript's `encodeURIComponent`.
pub const COMPONENT: &AsciiSet = &UNRESERVED.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');

/// In the user part, as the `url` crate writes it.
pub const URL_CRATE_USERINFO: &AsciiSet =
    &USERINFO.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*').add(b';').add(b'=');
