//! The client by which the harness and scenarios look into a bucket.

use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Credentials, Region};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_bucket::HeadBucketError;
use aws_smithy_http_client::tls;
use bytes::Bytes;

use super::Endpoint;
use crate::redact;

/// How long one request may take. The endpoint is on this machine or in the test cluster, so a slow one is a broken one.
const REQUEST: Duration = Duration::from_secs(10);

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct ClientError {
    what: String,
    reason: String,
    code: Option<String>,
}

impl ClientError {
    /// S3's error code, such as `NoSuchBucket`; `None` when no answer came at all.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

/// An object in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

/// An S3 client for one [`Endpoint`]. It trusts the endpoint's CA alone and never retries: whoever waits for a change in
/// a bucket asks again by itself, and an outage must show.
#[derive(Clone)]
pub struct Client {
    client: aws_sdk_s3::Client,
    endpoint: String,
}

impl Client {
    /// A client for `endpoint`. No connection is made yet.
    pub fn new(endpoint: &Endpoint) -> Result<Self, ClientError> {
        redact::register(&endpoint.secret_key);
        let trust = tls::TrustStore::empty().with_pem_certificate(endpoint.ca.as_bytes());
        let tls = tls::TlsContext::builder().with_trust_store(trust).build().map_err(|error| ClientError {
            what: format!("the CA of the object storage at {} cannot be used", endpoint.endpoint),
            reason: error.to_string(),
            code: None,
        })?;
        let address = endpoint.local.as_ref().unwrap_or(&endpoint.endpoint);
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .tls_context(tls)
            .build_https();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version_latest()
            .http_client(http)
            .endpoint_url(format!("https://{address}"))
            .region(Region::new(endpoint.region.clone()))
            .credentials_provider(Credentials::new(
                &endpoint.access_key,
                &endpoint.secret_key,
                None,
                None,
                "the conformance suite",
            ))
            .force_path_style(true)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(REQUEST).build())
            .build();
        Ok(Self { client: aws_sdk_s3::Client::from_conf(config), endpoint: endpoint.endpoint.clone() })
    }

    /// All objects whose key begins with `prefix`, in the order of their keys.
    pub async fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<Object>, ClientError> {
        let mut pages = self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failed(&format!("listing {bucket}/{prefix}"), &error))?;
            objects.extend(page.contents().iter().map(|object| Object {
                key: object.key().unwrap_or_default().to_owned(),
                size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
            }));
        }
        Ok(objects)
    }

    /// The content of one object.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Bytes, ClientError> {
        let what = format!("reading {bucket}/{key}");
        let object = self.client.get_object().bucket(bucket).key(key).send().await;
        let body = object.map_err(|error| self.failed(&what, &error))?.body.collect().await;
        body.map(aws_sdk_s3::primitives::AggregatedBytes::into_bytes).map_err(|error| ClientError {
            what: format!("{what} at {}", self.endpoint),
            reason: error.to_string(),
            code: None,
        })
    }

    /// Writes one object.
    pub async fn put(&self, bucket: &str, key: &str, content: impl Into<Bytes>) -> Result<(), ClientError> {
        let put = self.client.put_object().bucket(bucket).key(key).body(content.into().into()).send().await;
        put.map(drop).map_err(|error| self.failed(&format!("writing {bucket}/{key}"), &error))
    }

    /// Deletes one object; one that is not there is no error.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), ClientError> {
        let delete = self.client.delete_object().bucket(bucket).key(key).send().await;
        delete.map(drop).map_err(|error| self.failed(&format!("deleting {bucket}/{key}"), &error))
    }

    /// Whether `bucket` exists. A bucket that the key must not see is an error.
    pub async fn bucket_exists(&self, bucket: &str) -> Result<bool, ClientError> {
        match self.client.head_bucket().bucket(bucket).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(HeadBucketError::is_not_found) => Ok(false),
            Err(error) => Err(self.failed(&format!("looking for bucket {bucket}"), &error)),
        }
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), ClientError> {
        let create = self.client.create_bucket().bucket(bucket).send().await;
        create.map(drop).map_err(|error| self.failed(&format!("creating bucket {bucket}"), &error))
    }

    /// Removes a bucket with everything in it.
    pub async fn remove_bucket(&self, bucket: &str) -> Result<(), ClientError> {
        for object in self.list(bucket, "").await? {
            self.delete(bucket, &object.key).await?;
        }
        let delete = self.client.delete_bucket().bucket(bucket).send().await;
        delete.map(drop).map_err(|error| self.failed(&format!("deleting bucket {bucket}"), &error))
    }

    fn failed<E>(&self, what: &str, error: &SdkError<E>) -> ClientError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let code = error.code().map(str::to_owned);
        let reason = match (error, error.raw_response().map(|response| response.status().as_u16())) {
            (SdkError::ServiceError(_), Some(status)) => {
                let message = error.message().unwrap_or("no message");
                format!("HTTP {status} {}: {message}", code.as_deref().unwrap_or("without an error code"))
            }
            _ => DisplayErrorContext(error).to_string(),
        };
        ClientError { what: format!("{what} at {}", self.endpoint), reason: redact::redact(&reason), code }
    }
}
