//! Installing the operator under test by its chart, when that was asked for, and removing what was not there before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::config::Kubeconfig;
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::context::alone;
use super::remedies::{Before, Flags, note_left};
use crate::exit::Exit;
use crate::implementation::Implementation;
use crate::kind::{Helm, install_operator};
use crate::private;
use crate::process::{Run, Spawner, default_base, sweep};
use crate::supervisor::StartError;
use crate::tools::{self, Cache, Display, Workshop};

/// How long the operator's namespace may take to go.
const GONE_WITHIN: Duration = Duration::from_mins(1);

/// What is installed, and with what.
#[derive(Clone, Debug)]
pub struct Install {
    /// The operator's image, `repository:tag`: the nodes must be able to get it.
    pub image: String,
    /// How much it logs.
    pub log_level: String,
    /// Where Helm is looked for.
    pub tools: tools::Options,
}

/// An installation that this run makes, and what was there before it.
pub struct Installed {
    install: Install,
    workshop: Workshop,
    helm: Helm,
    client: Client,
    /// For commands that people are told.
    flags: Flags,
    before: Before,
    /// Its name and namespace, as soon as it may be there.
    release: tokio::sync::OnceCell<(String, String)>,
}

impl Installed {
    /// Notes what is there. Nothing is changed. The kubeconfig comes with its path, if that was named.
    ///
    /// # Errors
    /// The cluster or Helm cannot be used, or `interrupted` is cancelled meanwhile.
    pub async fn begin(
        install: &Install,
        client: &Client,
        (path, kubeconfig): (Option<&Path>, Kubeconfig),
        context: &str,
        display: &Display,
        interrupted: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let run = Arc::new(Run::create(&default_base())?);
        let spawner = Spawner::new(Arc::clone(&run), None)?;
        let cache = Cache::open(Cache::default_root()?)?;
        let workshop = Workshop { cache, spawner: spawner.clone(), progress: display.progress() };
        let prepared = async {
            // As every command that starts something: what killed runs have left goes first.
            tokio::task::spawn_blocking(|| sweep(&default_base())).await??;
            let kubeconfig = write_kubeconfig(run.directory(), kubeconfig, context)?;
            let tool = tools::helm(&workshop, &install.tools).await?;
            let before = Before { crds: definitions(client).await?, namespaces: namespaces(client).await? };
            anyhow::Ok((Helm { tool, spawner, kubeconfig }, before))
        };
        let prepared = interrupted.run_until_cancelled(Box::pin(prepared)).await;
        match prepared.unwrap_or_else(|| Err(anyhow!("interrupted"))) {
            Ok((helm, before)) => Ok(Self {
                install: install.clone(),
                workshop,
                helm,
                client: client.clone(),
                flags: Flags::new(path, context),
                before,
                release: tokio::sync::OnceCell::new(),
            }),
            Err(error) => {
                if let Err(left) = run.remove() {
                    tracing::warn!("{left}");
                }
                Err(error)
            }
        }
    }

    /// Installs the operator, and waits until it works.
    ///
    /// # Errors
    /// Another one is there, or it does not come up: says why.
    pub async fn install(&self, implementation: &Implementation) -> anyhow::Result<()> {
        let Some(cluster) = &implementation.cluster else {
            let name = &implementation.name;
            return Err(usage(format!(
                "the implementation file of {name} has no `cluster` section: it names no chart"
            )));
        };
        let image = &self.install.image;
        let Some((repository, tag)) = image.rsplit_once(':') else {
            return Err(usage(format!("the image {image} has no tag")));
        };
        let namespace = &implementation.service_account.namespace;
        if self.helm.is_installed(&cluster.release, namespace).await? {
            bail!(
                "Helm's release {} is in namespace {namespace} already; leave --install-operator out to judge that one",
                cluster.release
            );
        }
        self.release.set((cluster.release.clone(), namespace.clone()))?;
        note_left(self.before.remedies(&self.flags, &cluster.release, namespace));
        let log_level = &self.install.log_level;
        install_operator(&self.workshop, self.helm.clone(), &self.client, implementation, (repository, tag), log_level)
            .await
            .map(drop)
    }

    /// Removes what was installed: the release, and CRDs and namespace that were not there before.
    ///
    /// # Errors
    /// Something is still there: says what, and how to remove it.
    pub async fn remove(&self) -> anyhow::Result<()> {
        let removed = self.uninstall().await;
        if let Err(left) = self.workshop.spawner.run().remove() {
            return Err(removed.err().map_or_else(|| anyhow!("{left}"), |error| anyhow!("{error:#}\n{left}")));
        }
        removed
    }

    /// Each part is tried, whatever became of the one before.
    async fn uninstall(&self) -> anyhow::Result<()> {
        let Some((release, namespace)) = self.release.get() else { return Ok(()) };
        let uninstalled = self.helm.uninstall(release, namespace).await;
        let mut outcomes =
            vec![uninstalled.with_context(|| format!("Helm's release {release} in namespace {namespace}"))];
        outcomes.extend(self.remove_definitions().await);
        outcomes.push(self.remove_namespace(namespace).await);
        let failed = outcomes.into_iter().filter_map(Result::err);
        let left: Vec<String> = failed.map(|error| format!("{error:#}").trim_end().to_owned()).collect();
        if left.is_empty() {
            note_left(Vec::new());
            return Ok(());
        }
        let remedies = self.before.remedies(&self.flags, release, namespace);
        bail!("{}\nit is removed by\n  {}", left.join("\n"), remedies.join("\n  "))
    }

    async fn remove_definitions(&self) -> Vec<anyhow::Result<()>> {
        let found = match definitions(&self.client).await {
            Ok(found) => found,
            Err(error) => return vec![Err(error.context("the operator's CRDs"))],
        };
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let mut outcomes = Vec::new();
        for crd in found.iter().filter(|crd| !self.before.has_crd(crd)) {
            outcomes.push(match api.delete(crd, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                deleted => deleted.map(drop).with_context(|| format!("CRD {crd}")),
            });
        }
        outcomes
    }

    async fn remove_namespace(&self, namespace: &str) -> anyhow::Result<()> {
        if self.before.has_namespace(namespace) {
            return Ok(());
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let deleted = match api.delete(namespace, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            deleted => deleted.with_context(|| format!("namespace {namespace}"))?,
        };
        let uid = deleted.either(|namespace| namespace.metadata.uid, |_| None).unwrap_or_default();
        let gone = tokio::time::timeout(GONE_WITHIN, await_condition(api, namespace, is_deleted(&uid))).await;
        let late = || format!("namespace {namespace} is still there after {} s", GONE_WITHIN.as_secs());
        gone.with_context(late)?.with_context(|| format!("waiting for the end of namespace {namespace}"))?;
        Ok(())
    }
}

/// Writes Helm's own kubeconfig into `directory`: nobody's current context is touched, and it holds what leads to this one.
fn write_kubeconfig(directory: &Path, kubeconfig: Kubeconfig, context: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join("kubeconfig");
    let text = serde_yaml::to_string(&alone(kubeconfig, context))?;
    private::write(&path, text).context("writing a kubeconfig for Helm")?;
    Ok(path)
}

/// What the user has to say otherwise.
pub(super) fn usage(message: String) -> anyhow::Error {
    StartError { exit: Exit::Usage, message }.into()
}

/// The names of the operator's CRDs that are there: only of its group, for others may install theirs meanwhile.
async fn definitions(client: &Client) -> anyhow::Result<Vec<String>> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let listed = api.list_metadata(&ListParams::default()).await.context("listing CRDs")?;
    let names = listed.items.into_iter().filter_map(|crd| crd.metadata.name);
    Ok(names.filter(|name| name.ends_with(".dittofs.dittofs.com")).collect())
}

async fn namespaces(client: &Client) -> anyhow::Result<Vec<String>> {
    let api: Api<Namespace> = Api::all(client.clone());
    let listed = api.list_metadata(&ListParams::default()).await.context("listing namespaces")?;
    Ok(listed.items.into_iter().filter_map(|namespace| namespace.metadata.name).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::existing::capabilities::SERVERS;
    use crate::tools::{Progress, Tool};

    /// Far above what is needed to see that a token is cancelled.
    const AT_ONCE: Duration = Duration::from_secs(30);

    /// An installation where Helm ends with 1, whatever it is asked, in a cluster that answers a request with a status and
    /// an object.
    fn installed(directory: &std::path::Path, answer: fn(&Request<Body>) -> (u16, Value)) -> Installed {
        let run = Arc::new(Run::create(directory).unwrap());
        let spawner = Spawner::new(run, Some("/bin/false".into())).unwrap();
        let cluster = tower::service_fn(move |request: Request<Body>| async move {
            let (status, object) = answer(&request);
            Response::builder().status(status).body(Body::from(object.to_string().into_bytes()))
        });
        let tool = Tool::named("helm");
        let tools = tools::Options::default();
        Installed {
            install: Install { image: "x:1".to_owned(), log_level: "info".to_owned(), tools },
            workshop: Workshop {
                cache: Cache::open(directory.join("cache")).unwrap(),
                spawner: spawner.clone(),
                progress: Progress::silent(),
            },
            helm: Helm { tool, spawner, kubeconfig: directory.join("kubeconfig") },
            client: Client::new(cluster, "default"),
            flags: Flags::new(None, "staging"),
            before: Before { crds: Vec::new(), namespaces: vec!["default".to_owned()] },
            release: tokio::sync::OnceCell::new_with(Some(("theirs".to_owned(), "system".to_owned()))),
        }
    }

    fn status(code: u16, reason: &str) -> (u16, Value) {
        let message = format!("{reason}, says a test");
        let told = json!({ "status": "Failure", "message": message, "reason": reason, "code": code });
        (code, told)
    }

    fn definitions_of_the_operator() -> (u16, Value) {
        let of = |kind: &str| json!({ "apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": {} });
        let (mut list, mut item) = (of("PartialObjectMetadataList"), of("PartialObjectMetadata"));
        item["metadata"]["name"] = json!(SERVERS);
        list["items"] = json!([item]);
        (200, list)
    }

    #[tokio::test]
    async fn each_part_is_removed_whatever_became_of_the_others_and_what_is_left_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let all_fail = installed(directory.path(), |request| match *request.method() {
            Method::GET => definitions_of_the_operator(),
            _ => status(403, "Forbidden"),
        });
        let error = format!("{:#}", all_fail.remove().await.unwrap_err());
        let named: Vec<&str> = error.lines().map(|line| line.split(':').next().unwrap_or_default()).collect();
        insta::assert_snapshot!(named.join("\n"), @r"
        Helm's release theirs in namespace system
        CRD dittoservers.dittofs.dittofs.com
        namespace system
        it is removed by
          helm uninstall theirs --namespace system --kube-context staging
          kubectl --context staging delete crd dittoservers.dittofs.dittofs.com
          kubectl --context staging delete namespace system
        ");
    }

    #[tokio::test]
    async fn what_is_gone_already_is_not_left() {
        let directory = tempfile::tempdir().unwrap();
        let gone = installed(directory.path(), |request| match *request.method() {
            Method::GET => definitions_of_the_operator(),
            _ => status(404, "NotFound"),
        });
        let error = format!("{:#}", gone.remove().await.unwrap_err());
        assert!(error.starts_with("Helm's release theirs in namespace system: `helm uninstall theirs"), "{error}");
        assert!(!error.contains("CRD") && !error.contains("says a test"), "{error}");
    }

    #[tokio::test]
    async fn an_interrupted_run_does_not_wait_for_the_cluster() {
        let silent =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>());
        let client = Client::new(silent, "default");
        // Named, so that nothing is fetched or built.
        let tools = tools::Options { helm: Some("/bin/true".into()), ..tools::Options::default() };
        let install = Install { image: "x:1".to_owned(), log_level: "info".to_owned(), tools };
        let interrupted = CancellationToken::new();
        interrupted.cancel();
        let display = Display::stderr();
        let begun =
            Installed::begin(&install, &client, (None, Kubeconfig::default()), "staging", &display, &interrupted);
        let begun = tokio::time::timeout(AT_ONCE, Box::pin(begun)).await.expect("it waits");
        assert_eq!(begun.err().map(|error| error.to_string()).as_deref(), Some("interrupted"));
    }

    #[test]
    fn helm_gets_one_context_and_nobody_else_may_read_it() {
        let text = "{apiVersion: v1, kind: Config, current-context: other, \
                    clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443'}}], \
                    users: [{name: u, user: {token: of-staging}}, {name: o, user: {token: of-others}}], \
                    contexts: [{name: staging, context: {cluster: c, user: u}}, \
                    {name: other, context: {cluster: c, user: o}}]}";
        let directory = tempfile::tempdir().unwrap();
        let path = write_kubeconfig(directory.path(), Kubeconfig::from_yaml(text).unwrap(), "staging").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let written = Kubeconfig::read_from(&path).unwrap();
        assert_eq!(written.current_context.as_deref(), Some("staging"));
        let users: Vec<&str> = written.auth_infos.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(users, ["u"]);
    }

    #[test]
    fn a_wrong_command_line_is_told_as_such() {
        assert_eq!(StartError::of(&usage("the image x has no tag".to_owned())).exit, Exit::Usage);
    }
}
