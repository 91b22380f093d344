//! TCP connections into a cluster, from outside: by port-forwarding through its API server, without local ports.
//!
//! Parts layer. A host is what a pod would use: the name of a Service (`name.namespace.svc`) or of a pod
//! (`pod.service.namespace.svc`). What it leads to is asked of the API server, once for each connection, as a DNS server and
//! a proxy would.

mod resolve;
mod stream;

pub use resolve::Target;
pub use stream::connect;
