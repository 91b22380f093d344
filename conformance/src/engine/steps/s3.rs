//! `s3`: what a bucket holds.

use serde_json::{Value, json};

use super::again::Again;
use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Trouble};
use crate::s3::{Client, Endpoint};
use crate::scenario::expression::evaluate_as;
use crate::scenario::glob;
use crate::scenario::operations::S3;

/// Looks until everything holds.
pub async fn s3(s3: &S3, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let wanted: S3 = evaluate_as(s3, &context.bindings)?;
    let settings = &context.site.bindings()["s3"];
    let endpoint: Endpoint = serde_json::from_value(settings.clone())
        .map_err(|error| Trouble::Unsupported(format!("this environment has no usable S3 endpoint: {error}")))?;
    let client = Client::new(&endpoint).map_err(Trouble::broken)?;
    let bucket = wanted.bucket.as_deref().or(settings["bucket"].as_str());
    let bucket = bucket.ok_or_else(|| Trouble::broken("neither the scenario nor the environment names a bucket"))?;
    let prefix = wanted.prefix.trim_start_matches('/');
    let mut again = Again::until(deadline);
    loop {
        if let Some(outcome) = again.attempt(look(&client, bucket, prefix, &wanted)).await {
            return outcome;
        }
    }
}

async fn look(client: &Client, bucket: &str, prefix: &str, wanted: &S3) -> Result<Value, Trouble> {
    let listed = client.list(bucket, prefix).await.map_err(Trouble::broken)?;
    let keys: Vec<&str> = listed
        .iter()
        .map(|object| object.key.strip_prefix(prefix).unwrap_or(&object.key).trim_start_matches('/'))
        .collect();
    judge(&keys, &format!("s3://{bucket}/{prefix}"), wanted)?;
    Ok(json!({"objects": keys}))
}

fn judge(keys: &[&str], place: &str, wanted: &S3) -> Result<(), Failure> {
    let finds = |glob: &String| keys.iter().find(|key| glob::matches(glob, key));
    if let Some(missing) = wanted.objects.iter().find(|glob| finds(glob).is_none()) {
        return Err(Failure::new(format!("{place} holds no {missing}, but {}", listing(keys))));
    }
    if let Some((glob, key)) = wanted.absent.iter().find_map(|glob| finds(glob).map(|key| (glob, key))) {
        return Err(Failure::new(format!("{place} holds {key}, and nothing may match {glob}")));
    }
    match wanted.count {
        Some(count) if count != keys.len() as u64 => {
            Err(Failure::new(format!("{place} holds {} objects, expected {count}", keys.len())))
        }
        _ => Ok(()),
    }
}

fn listing(keys: &[&str]) -> String {
    const SHOWN: usize = 12;
    match keys {
        [] => "nothing".to_owned(),
        keys if keys.len() > SHOWN => format!("{} and {} more", keys[..SHOWN].join(", "), keys.len() - SHOWN),
        keys => keys.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn wanted(objects: &[&str], absent: &[&str], count: Option<u64>) -> S3 {
        serde_json::from_value(json!({"prefix": "p", "objects": objects, "absent": absent, "count": count})).unwrap()
    }

    #[rstest]
    #[case::all_there(wanted(&["archive/**"], &["*.tmp"], Some(2)), None)]
    #[case::missing(wanted(&["backup/**"], &[], None), Some("holds no backup/**, but archive/a, archive/b"))]
    #[case::forbidden(wanted(&[], &["archive/?"], None), Some("holds archive/a, and nothing may match archive/?"))]
    #[case::count(wanted(&[], &[], Some(3)), Some("holds 2 objects, expected 3"))]
    fn a_bucket_is_judged_by_its_keys(#[case] wanted: S3, #[case] failure: Option<&str>) {
        let judged = judge(&["archive/a", "archive/b"], "s3://b/p", &wanted);
        match (judged, failure) {
            (Ok(()), None) => {}
            (Err(found), Some(part)) => assert!(found.message.contains(part), "{}", found.message),
            (judged, _) => panic!("{judged:?}"),
        }
    }
}
