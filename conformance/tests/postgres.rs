//! A real PostgreSQL: how it starts, who gets in, how it ends.

mod support;

use conformance::pki::Authority;
use conformance::postgres::{Addresses, Error, Server, ServerOptions, SslMode, Target, Trust};

use crate::support::Bench;

struct Fixture {
    options: ServerOptions,
    authority: Authority,
    _bench: Bench,
}

impl Fixture {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let directory = bench.run.directory();
        let authority = Authority::create("test").unwrap();
        let options = ServerOptions {
            name: "PostgreSQL of the test".to_owned(),
            installation: bench.installation().await,
            data: directory.join("data"),
            directory: directory.join("server"),
            address: Addresses::default().take().unwrap().listen,
            identity: authority.server(["demo-primary.a.svc"]).unwrap(),
            archive_command: "true".to_owned(),
            spawner: bench.spawner.clone(),
        };
        Self { options, authority, _bench: bench }
    }

    fn target(&self, sslmode: SslMode) -> Target {
        Target {
            host: "demo-primary.a.svc".to_owned(),
            port: self.options.address.port(),
            user: "dittofs".to_owned(),
            password: Some("a+b/c@d:e".to_owned()),
            dbname: "postgres".to_owned(),
            sslmode,
        }
    }

    async fn login(&self, target: &Target, trust: &Trust) -> Result<conformance::postgres::Session, Error> {
        let stream = tokio::net::TcpStream::connect(self.options.address).await.unwrap();
        target.connect(stream, trust).await
    }
}

async fn with_user(server: &Server) {
    let superuser = server.superuser("postgres").await.unwrap();
    superuser.query("create role dittofs login password 'a+b/c@d:e'").await.unwrap();
}

#[tokio::test]
async fn only_tls_gets_in_and_the_certificate_is_the_right_one() {
    let fixture = Fixture::new().await;
    let server = fixture.options.start().await.unwrap();
    with_user(&server).await;

    let verified = Trust::Ca(fixture.authority.certificate().to_owned());
    for (sslmode, trust) in [
        (SslMode::Prefer, &Trust::Any),
        (SslMode::Require, &Trust::Any),
        (SslMode::VerifyCa, &verified),
        (SslMode::VerifyFull, &verified),
    ] {
        let session = fixture.login(&fixture.target(sslmode), trust).await.unwrap();
        let identity = session.identity().await.unwrap();
        assert_eq!(identity.tls.as_deref(), Some("TLSv1.3"), "{sslmode:?}");
        assert_eq!((identity.user.as_str(), identity.database.as_str()), ("dittofs", "postgres"));
        assert_eq!(identity.server, Some(fixture.options.address.to_string()));
    }

    let plain = fixture.login(&fixture.target(SslMode::Disable), &Trust::Any).await.unwrap_err();
    assert_eq!(plain.sqlstate(), Some("28000"), "{plain}");
    let wrong = Target { password: Some("wrong-password".to_owned()), ..fixture.target(SslMode::Require) };
    let refused = fixture.login(&wrong, &Trust::Any).await.unwrap_err();
    assert_eq!(refused.to_string(), "FATAL 28P01: password authentication failed for user \"dittofs\"");
    let stranger = Trust::Ca(Authority::create("stranger").unwrap().certificate().to_owned());
    let untrusted = fixture.login(&fixture.target(SslMode::VerifyFull), &stranger).await.unwrap_err();
    assert!(matches!(untrusted, Error::Tls { .. }), "{untrusted:?}");
    let elsewhere = Target { host: "other.a.svc".to_owned(), ..fixture.target(SslMode::VerifyFull) };
    let misnamed = fixture.login(&elsewhere, &verified).await.unwrap_err();
    assert!(matches!(misnamed, Error::Tls { .. }), "{misnamed:?}");
    server.stop().await;
}

#[tokio::test]
async fn what_was_written_survives_a_kill_and_a_stop() {
    let fixture = Fixture::new().await;
    let server = fixture.options.start().await.unwrap();
    with_user(&server).await;
    let open = fixture.login(&fixture.target(SslMode::Prefer), &Trust::Any).await.unwrap();
    let before = open.identity().await.unwrap().started;

    server.kill().await;
    assert!(open.query("select 1").await.is_err());
    let again = fixture.options.start().await.unwrap();
    let session = fixture.login(&fixture.target(SslMode::Prefer), &Trust::Any).await.unwrap();
    assert_ne!(session.identity().await.unwrap().started, before);

    again.stop().await;
    let stopped = tokio::net::TcpStream::connect(fixture.options.address).await;
    assert!(stopped.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let fixture = Fixture::new().await;
    let _taken = std::net::TcpListener::bind(fixture.options.address).unwrap();
    let error = fixture.options.start().await.unwrap_err().to_string();
    assert!(error.contains("PostgreSQL of the test ended") && error.contains("could not bind"), "{error}");
}

/// A pod that was deleted while its data was made leaves a part of it.
#[tokio::test]
async fn a_server_replaces_data_that_is_not_whole() {
    let fixture = Fixture::new().await;
    let data = &fixture.options.data;
    std::fs::create_dir_all(data.join("base/1")).unwrap();
    std::fs::write(data.join("base/1/1259"), "a part of a table").unwrap();
    let server = fixture.options.start().await.unwrap();
    with_user(&server).await;
    fixture.login(&fixture.target(SslMode::Prefer), &Trust::Any).await.unwrap().query("select 1").await.unwrap();
    server.stop().await;
}
