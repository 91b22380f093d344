//! Opening connections.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, Portforwarder};
use kube::{Client, ResourceExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::resolve::{Name, Target, name, target};
use crate::environment::Stream;

/// How many Services may lead to each other.
const HOPS: usize = 3;

/// Connects to `port` of a Service or pod.
///
/// # Errors
/// There is no such host, nothing behind it is ready, or the connection is refused; the message says which.
pub async fn connect(client: &Client, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
    let failed = |reason: String| io::Error::new(io::ErrorKind::NotFound, format!("{host}:{port}: {reason}"));
    let found = match name(host) {
        Some(Name::Pod { namespace, name }) => Target::Pod { namespace, name, port },
        Some(Name::Service { namespace, name }) => resolve(client, &namespace, &name, port).await.map_err(failed)?,
        None => return Err(failed("it is neither a Service (name.namespace.svc) nor a pod".to_owned())),
    };
    match found {
        Target::Pod { namespace, name, port } => {
            forwarded(client, &namespace, &name, port).await.map_err(|error| failed(format!("pod {name}: {error}")))
        }
        Target::Outside(address) => {
            let stream = TcpStream::connect(address).await;
            let stream =
                stream.map_err(|error| io::Error::new(error.kind(), format!("{host} ({address}): {error}")))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Target::Service { address, .. } => Err(failed(format!("Services lead in a circle, at {address} again"))),
    }
}

async fn resolve(client: &Client, namespace: &str, name: &str, mut port: u16) -> Result<Target, String> {
    let text = |error: kube::Error| error.to_string();
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let known = services.list(&ListParams::default()).await.map_err(text)?.items;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default()).await.map_err(text)?.items;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let mut next = known.iter().find(|service| service.name_any() == name);
    let mut last = Err("there is no such Service".to_owned());
    for _ in 0..HOPS {
        let Some(service) = next else { break };
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={}", service.name_any()));
        let slices = slices.list(&of_service).await.map_err(text)?.items;
        last = target(service, port, &slices, &known, &pods, is_here);
        let Ok(Target::Service { address, port: its }) = last else { break };
        port = its;
        let address = address.to_string();
        let has = |other: &&Service| other.spec.as_ref().and_then(|spec| spec.cluster_ip.as_ref()) == Some(&address);
        next = known.iter().find(has);
    }
    last
}

/// Whether an address is one of this machine.
fn is_here(address: IpAddr) -> bool {
    let interfaces = nix::ifaddrs::getifaddrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    interfaces.iter().filter_map(|interface| interface.address).any(|here| {
        let v4 = here.as_sockaddr_in().map(|here| IpAddr::V4(here.ip()));
        let v6 = here.as_sockaddr_in6().map(|here| IpAddr::V6(here.ip()));
        v4.or(v6) == Some(address)
    })
}

async fn forwarded(client: &Client, namespace: &str, pod: &str, port: u16) -> Result<Box<dyn Stream>, String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forwarder = pods.portforward(pod, &[port]).await.map_err(|error| error.to_string())?;
    let stream = forwarder.take_stream(port).ok_or("the API server gave no stream")?;
    let error = forwarder.take_error(port).ok_or("the API server gave no channel for errors")?;
    Ok(Box::new(Forwarded { stream: Box::new(stream), error: Some(Box::pin(error)), _forwarder: forwarder }))
}

/// A forwarded connection. What the kubelet says about one that it could not open comes as the error of reading.
struct Forwarded {
    stream: Box<dyn Stream>,
    error: Option<Pin<Box<dyn Future<Output = Option<String>> + Send>>>,
    _forwarder: Portforwarder,
}

impl AsyncRead for Forwarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let ended = matches!(&read, Poll::Ready(Ok(()))) && buffer.filled().len() == before && buffer.remaining() > 0;
        if let (true, Some(error)) = (ended, self.error.as_mut())
            && let Poll::Ready(said) = error.as_mut().poll(context)
        {
            self.error = None;
            if let Some(said) = said {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, said)));
            }
        }
        read
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
