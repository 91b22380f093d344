//! Whether a failure says anything: what an environment that has broken down does not do is not the implementation's fault.

use super::trouble::Trouble;
use crate::environment::{EnvironmentError, Site};

/// `trouble`; but when it is a failure and the environment has broken down meanwhile, then that.
pub async fn or_breakdown(trouble: Trouble, site: &dyn Site) -> Trouble {
    let Trouble::Failed(failure) = trouble else { return trouble };
    // Every question is answered with what has broken down; this one asks for the least.
    match site.operator().await {
        Err(EnvironmentError::Broken(reason)) => {
            Trouble::broken(format!("{reason}\n(seen first: {})", failure.message))
        }
        Ok(_) | Err(EnvironmentError::Unsupported(_) | EnvironmentError::Violated(_)) => Trouble::Failed(failure),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::Value;

    use super::super::trouble::Failure;
    use super::*;
    use crate::environment::{Container, Database, DatabaseRequest, Fault, FaultId, OperatorState, Stream};

    /// Answers every question with the same error.
    struct Refusing(fn() -> EnvironmentError);

    #[async_trait]
    impl Site for Refusing {
        fn config(&self) -> kube::Config {
            unimplemented!()
        }

        fn bindings(&self) -> &Value {
            &Value::Null
        }

        async fn connect(&self, _host: &str, _port: u16) -> std::io::Result<Box<dyn Stream>> {
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
        }

        async fn inject(&self, _namespace: &str, _fault: &Fault) -> Result<FaultId, EnvironmentError> {
            Err((self.0)())
        }

        async fn clear(&self, _fault: &FaultId) -> Result<(), EnvironmentError> {
            Err((self.0)())
        }

        async fn database(&self, _namespace: &str, _request: &DatabaseRequest) -> Result<Database, EnvironmentError> {
            Err((self.0)())
        }

        async fn logs(&self, _container: &Container) -> Result<String, EnvironmentError> {
            Err((self.0)())
        }

        async fn operator(&self) -> Result<OperatorState, EnvironmentError> {
            Err((self.0)())
        }
    }

    #[tokio::test]
    async fn a_failure_in_an_environment_that_has_broken_down_is_no_verdict() {
        let site = Refusing(|| EnvironmentError::Broken("the disk is full".to_owned()));
        let trouble = or_breakdown(Failure::new("not ready").into(), &site).await;
        assert_eq!(trouble, Trouble::broken("the disk is full\n(seen first: not ready)"));
        assert_eq!(or_breakdown(Trouble::Interrupted, &site).await, Trouble::Interrupted);
    }

    #[tokio::test]
    async fn a_failure_stays_one_where_nothing_is_known_of_the_environment() {
        let site = Refusing(|| EnvironmentError::Unsupported("the operator's own state".to_owned()));
        let failed = Trouble::from(Failure::new("not ready"));
        assert_eq!(or_breakdown(failed.clone(), &site).await, failed);
    }
}
