//! The buckets of the in-process server, in memory.
//!
//! `s3s` does the protocol and the signatures. Its companion `s3s-fs` is not used, for three reasons seen in its source
//! (0.14.1): it makes a missing bucket on the first write, which hides the mistake that Percona's users make; it puts
//! the base64 of a key into a file name, so that a WAL segment under a path of namespace and name does not fit into
//! 255 bytes; and it leaves the attributes of deleted objects behind.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CommonPrefix, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, GetObjectInput, GetObjectOutput, HeadBucketInput,
    HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput,
    PutObjectOutput, StreamingBlob, Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

/// What S3 answers at most for one list request.
const PAGE: usize = 1000;

/// All buckets. A clone is another handle on the same ones.
#[derive(Clone, Default)]
pub(super) struct Store {
    buckets: Arc<Mutex<BTreeMap<String, Bucket>>>,
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, BTreeMap<i32, Bytes>>,
}

#[derive(Clone)]
struct Object {
    body: Bytes,
    tag: String,
    modified: SystemTime,
}

impl Object {
    fn new(body: Bytes) -> Self {
        let tag = hex::encode(Md5::checksum(&body));
        Self { body, tag, modified: SystemTime::now() }
    }

    fn tag(&self) -> ETag {
        ETag::Strong(self.tag.clone())
    }

    fn length(&self) -> i64 {
        i64::try_from(self.body.len()).unwrap_or(i64::MAX)
    }
}

impl Store {
    /// Makes a bucket; one that is there already stays as it is.
    pub(super) fn create(&self, bucket: &str) {
        self.lock().entry(bucket.to_owned()).or_default();
    }

    /// Removes a bucket and everything in it.
    pub(super) fn remove(&self, bucket: &str) {
        self.lock().remove(bucket);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, bucket: &str, use_it: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        use_it(self.lock().get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?)
    }

    fn object(&self, bucket: &str, key: &str) -> S3Result<Object> {
        self.with(bucket, |bucket| bucket.objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey)))
    }
}

async fn read(body: Option<StreamingBlob>, md5: Option<&str>) -> S3Result<Bytes> {
    let body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    let bytes: BytesMut = body
        .try_fold(BytesMut::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .map_err(|error| s3s::S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error))?;
    let engine = base64::engine::general_purpose::STANDARD;
    match md5 {
        Some(expected) if engine.encode(Md5::checksum(&bytes)) != expected => Err(s3_error!(BadDigest)),
        _ => Ok(bytes.freeze()),
    }
}

/// One page of a list request: keys, the common prefixes that stand for many keys, and where to go on.
#[derive(Default)]
struct Page {
    contents: Vec<s3s::dto::Object>,
    prefixes: Vec<CommonPrefix>,
    next: Option<String>,
}

fn list(bucket: &Bucket, input: &ListObjectsV2Input) -> Page {
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let after = input.continuation_token.as_deref().max(input.start_after.as_deref()).unwrap_or_default();
    let limit = input.max_keys.map_or(PAGE, |keys| usize::try_from(keys).unwrap_or(0).min(PAGE));
    let mut page = Page::default();
    let mut last = after;
    for (key, object) in bucket.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix)) {
        let common = delimiter
            .and_then(|delimiter| key[prefix.len()..].find(delimiter).map(|at| at + prefix.len() + delimiter.len()))
            .map(|end| &key[..end]);
        let name = common.unwrap_or(key);
        // Keys come sorted, so all keys of a common prefix follow each other.
        if name <= last {
            continue;
        }
        if page.contents.len() + page.prefixes.len() == limit {
            page.next = Some(last.to_owned());
            break;
        }
        last = name;
        match common {
            Some(prefix) => page.prefixes.push(CommonPrefix { prefix: Some(prefix.to_owned()) }),
            None => page.contents.push(s3s::dto::Object {
                key: Some(key.clone()),
                size: Some(object.length()),
                e_tag: Some(object.tag()),
                last_modified: Some(object.modified.into()),
                ..Default::default()
            }),
        }
    }
    page
}

#[async_trait::async_trait]
impl S3 for Store {
    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        match self.lock().entry(request.input.bucket) {
            Entry::Occupied(_) => Err(s3_error!(BucketAlreadyOwnedByYou)),
            Entry::Vacant(entry) => {
                entry.insert(Bucket::default());
                Ok(S3Response::new(CreateBucketOutput::default()))
            }
        }
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        match self.lock().entry(request.input.bucket) {
            Entry::Vacant(_) => Err(s3_error!(NoSuchBucket)),
            Entry::Occupied(entry) if !entry.get().objects.is_empty() => Err(s3_error!(BucketNotEmpty)),
            Entry::Occupied(entry) => {
                entry.remove();
                Ok(S3Response::new(DeleteBucketOutput {}))
            }
        }
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.with(&request.input.bucket, |_| Ok(S3Response::new(HeadBucketOutput::default())))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let page = self.with(&input.bucket, |bucket| Ok(list(bucket, &input)))?;
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(page.contents.len() + page.prefixes.len()).ok(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next,
            contents: Some(page.contents),
            common_prefixes: Some(page.prefixes),
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            ..Default::default()
        }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let object = Object::new(read(input.body, input.content_md5.as_deref()).await?);
        let e_tag = Some(object.tag());
        self.with(&input.bucket, |bucket| {
            bucket.objects.insert(input.key, object);
            Ok(S3Response::new(PutObjectOutput { e_tag, ..Default::default() }))
        })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let object = self.object(&input.bucket, &input.key)?;
        let whole = object.body.len();
        let (body, content_range) = match input.range {
            None => (object.body.clone(), None),
            Some(range) => {
                let range = range.check(whole as u64)?;
                let header = format!("bytes {}-{}/{whole}", range.start, range.end - 1);
                let inside = |bound| usize::try_from(bound).unwrap_or(whole);
                (object.body.slice(inside(range.start)..inside(range.end)), Some(header))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(body.len()).ok(),
            content_range,
            body: Some(Body::from(body).into()),
            e_tag: Some(object.tag()),
            last_modified: Some(Timestamp::from(object.modified)),
            ..Default::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.object(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(object.length()),
            e_tag: Some(object.tag()),
            last_modified: Some(Timestamp::from(object.modified)),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.with(&request.input.bucket, |bucket| {
            bucket.objects.remove(&request.input.key);
            Ok(S3Response::new(DeleteObjectOutput::default()))
        })
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let delete = request.input.delete;
        let deleted = self.with(&request.input.bucket, |bucket| {
            let remove = |object: s3s::dto::ObjectIdentifier| {
                bucket.objects.remove(&object.key);
                DeletedObject { key: Some(object.key), ..Default::default() }
            };
            Ok(delete.objects.into_iter().map(remove).collect::<Vec<_>>())
        })?;
        let deleted = (!delete.quiet.unwrap_or_default()).then_some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let upload = hex::encode(rand::random::<[u8; 16]>());
        self.with(&input.bucket, |bucket| {
            bucket.uploads.insert(upload.clone(), BTreeMap::new());
            Ok(())
        })?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let part = read(input.body, input.content_md5.as_deref()).await?;
        let e_tag = Some(Object::new(part.clone()).tag());
        self.with(&input.bucket, |bucket| {
            let parts = bucket.uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
            parts.insert(input.part_number, part);
            Ok(S3Response::new(UploadPartOutput { e_tag, ..Default::default() }))
        })
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let e_tag = self.with(&input.bucket, |bucket| {
            let parts = bucket.uploads.remove(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
            let mut body = BytesMut::new();
            for part in named {
                let number = part.part_number.unwrap_or_default();
                body.extend_from_slice(parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?);
            }
            let object = Object::new(body.freeze());
            let e_tag = object.tag();
            bucket.objects.insert(input.key.clone(), object);
            Ok(e_tag)
        })?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(e_tag),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.with(&request.input.bucket, |bucket| {
            bucket.uploads.remove(&request.input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
            Ok(S3Response::new(AbortMultipartUploadOutput::default()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str], input: &ListObjectsV2Input) -> (Vec<String>, Option<String>) {
        let mut bucket = Bucket::default();
        bucket.objects.extend(keys.iter().map(|key| ((*key).to_owned(), Object::new(Bytes::new()))));
        let page = list(&bucket, input);
        let objects = page.contents.into_iter().filter_map(|object| object.key);
        (objects.chain(page.prefixes.into_iter().filter_map(|prefix| prefix.prefix)).collect(), page.next)
    }

    #[rstest::rstest]
    #[case::all(None, None, None, &["a/b/1", "a/b/2", "a/c", "ab", "b"], None)]
    #[case::prefix(Some("a/"), None, None, &["a/b/1", "a/b/2", "a/c"], None)]
    #[case::delimiter(Some("a/"), Some("/"), None, &["a/c", "a/b/"], None)]
    #[case::first_page(None, Some("/"), None, &["ab", "b", "a/"], None)]
    #[case::cut_after_a_prefix(Some("a"), Some("/"), Some(1), &["a/"], Some("a/"))]
    #[case::cut_after_a_key(None, None, Some(2), &["a/b/1", "a/b/2"], Some("a/b/2"))]
    fn a_list_groups_and_pages_like_s3(
        #[case] prefix: Option<&str>,
        #[case] delimiter: Option<&str>,
        #[case] max_keys: Option<i32>,
        #[case] expected: &[&str],
        #[case] next: Option<&str>,
    ) {
        let input = ListObjectsV2Input {
            prefix: prefix.map(Into::into),
            delimiter: delimiter.map(Into::into),
            max_keys,
            ..Default::default()
        };
        let (found, token) = page(&["a/b/1", "a/b/2", "a/c", "ab", "b"], &input);
        assert_eq!((found, token.as_deref()), (expected.iter().map(ToString::to_string).collect(), next));
    }

    #[test]
    fn a_token_goes_on_behind_the_page_before() {
        let keys = ["a/b", "a/c", "ab"];
        let input = ListObjectsV2Input {
            delimiter: Some("/".into()),
            continuation_token: Some("a/".into()),
            ..Default::default()
        };
        assert_eq!(page(&keys, &input), (vec!["ab".to_owned()], None));
    }
}
