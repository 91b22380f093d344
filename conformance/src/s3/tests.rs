//! The server and the client against each other.

use super::*;

async fn started() -> (Server, Client) {
    let server = Server::start(Options::default()).await.unwrap();
    server.create_bucket("backups").await.unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    (server, client)
}

fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    result.unwrap_err().code().unwrap_or("none").to_owned()
}

#[tokio::test]
async fn what_is_written_is_listed_and_read_back() {
    let (_server, client) = started().await;
    // Longer than a file name may be: WAL segments of a cluster with long names have such keys.
    let long = format!("pgbackrest/{}/archive", "n".repeat(300));
    client.put("backups", &long, "wal").await.unwrap();
    client.put("backups", "other/file", "x").await.unwrap();
    let listed = client.list("backups", "pgbackrest/").await.unwrap();
    assert_eq!(listed, [Object { key: long.clone(), size: 3 }]);
    assert_eq!(client.get("backups", &long).await.unwrap(), "wal");
    client.delete("backups", &long).await.unwrap();
    assert_eq!(code(client.get("backups", &long).await), "NoSuchKey");
}

#[tokio::test]
async fn a_list_goes_on_behind_the_first_page() {
    let (_server, client) = started().await;
    for number in 0..1001 {
        client.put("backups", &format!("{number:04}"), "").await.unwrap();
    }
    assert_eq!(client.list("backups", "").await.unwrap().len(), 1001);
}

#[tokio::test]
async fn a_bucket_is_there_only_after_it_was_made() {
    let (server, client) = started().await;
    assert!(!client.bucket_exists("later").await.unwrap());
    assert_eq!(code(client.put("later", "key", "x").await), "NoSuchBucket");
    client.create_bucket("later").await.unwrap();
    client.put("later", "key", "x").await.unwrap();
    assert!(client.bucket_exists("later").await.unwrap());
    client.remove_bucket("later").await.unwrap();
    assert!(!client.bucket_exists("later").await.unwrap());
    server.remove_bucket("backups").await.unwrap();
    assert!(!client.bucket_exists("backups").await.unwrap());
}

#[tokio::test]
async fn an_outage_hits_one_bucket_until_it_ends() {
    let (server, client) = started().await;
    server.create_bucket("healthy").await.unwrap();
    server.begin_outage("backups");
    let error = client.list("backups", "").await.unwrap_err();
    let port = server.endpoint().endpoint.rsplit_once(':').unwrap().1;
    insta::assert_snapshot!(
        error.to_string().replace(port, "PORT"),
        @"listing backups/ at localhost:PORT: HTTP 503 ServiceUnavailable: an outage was injected"
    );
    assert_eq!(client.list("healthy", "").await.unwrap(), []);
    server.end_outage("backups");
    assert_eq!(client.list("backups", "").await.unwrap(), []);
}

#[tokio::test]
async fn a_key_that_was_not_given_out_is_refused() {
    let (server, _) = started().await;
    let endpoint = Endpoint { access_key: "AKIAOFSOMEBODYELSE00".to_owned(), ..server.endpoint().clone() };
    assert_eq!(code(Client::new(&endpoint).unwrap().list("backups", "").await), "InvalidAccessKeyId");
}

#[tokio::test]
async fn a_wrong_secret_key_is_refused_and_never_shown() {
    let (server, _) = started().await;
    let secret_key = "wrong-secret-key-of-a-test".to_owned();
    let endpoint = Endpoint { secret_key: secret_key.clone(), ..server.endpoint().clone() };
    let error = Client::new(&endpoint).unwrap().list("backups", "").await.unwrap_err();
    assert_eq!(error.code(), Some("SignatureDoesNotMatch"));
    assert!(!format!("{error:?} {endpoint:?}").contains(&secret_key));
}

#[tokio::test]
async fn a_server_under_another_authority_is_not_trusted() {
    let (server, _) = started().await;
    let stranger = crate::pki::Authority::create("stranger").unwrap();
    let endpoint = Endpoint { ca: stranger.certificate().to_owned(), ..server.endpoint().clone() };
    let error = Client::new(&endpoint).unwrap().list("backups", "").await.unwrap_err();
    assert_eq!(error.code(), None);
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_dropped_frees_its_port() {
    let (server, client) = started().await;
    let address = server.endpoint().endpoint.replace("localhost", "127.0.0.1").parse().unwrap();
    client.list("backups", "").await.unwrap();
    let taken = Server::start(Options { address, ..Options::default() }).await;
    assert!(matches!(taken, Err(ServerError::Listen { .. })));
    drop(server);
    // The task that holds the listener ends at its next turn.
    tokio::task::yield_now().await;
    Server::start(Options { address, ..Options::default() }).await.unwrap();
}
