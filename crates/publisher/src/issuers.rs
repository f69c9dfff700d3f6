//! Asks issuers of tokens where their keys are, again and again (OpenID Connect Discovery 1.0,
//! section 4).
//!
//! An issuer that does not answer any more keeps what it said: one that is away for a while must
//! not shut its users out. Nobody is asked that no translation asked for.

use std::sync::Arc;
use std::time::Duration;

use dialects::Discovered;
use futures::future::BoxFuture;
use lifecycle::Tasks;

use crate::asking::{Asking, Question};
use crate::inbox::{Inbox, Pending};

/// Issuers that are asked; of one beyond, the status says so.
const MOST_ISSUERS: usize = 256;
/// Istio's, as is how long one may take to answer.
const EVERY: Duration = Duration::from_secs(20 * 60);
const AGAIN: Duration = Duration::from_secs(10);
/// Characters of what went wrong that are told.
const LONGEST: usize = 512;

/// Finds where the keys of an issuer are.
pub trait Discover: Send + Sync {
    /// The `jwks_uri` of the document at [`document`].
    ///
    /// # Errors
    /// What went wrong, as the end of a sentence.
    fn keys_of<'d>(&'d self, issuer: &'d str) -> BoxFuture<'d, Result<String, String>>;
}

/// Asks nobody: for files that are only read.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Discover for Nobody {
    fn keys_of<'d>(&'d self, _: &'d str) -> BoxFuture<'d, Result<String, String>> {
        Box::pin(std::future::ready(Err("nobody is asked here".to_owned())))
    }
}

/// Where an issuer publishes what it is: the path is added to that of the issuer, whose slash at
/// the end is left out.
pub fn document(issuer: &str) -> String {
    let issuer = issuer.trim_end_matches('/');
    format!("{issuer}/.well-known/openid-configuration")
}

/// The issuers that are asked.
pub(crate) type Issuers = Asking<Keys>;

/// Where the keys of an issuer are.
pub(crate) struct Keys(Arc<dyn Discover>);

impl Asking<Keys> {
    pub(crate) fn start(discover: Arc<dyn Discover>, inbox: &Arc<Inbox>, tasks: &Tasks) -> Self {
        Self::of(Keys(discover), inbox, tasks)
    }
}

impl Question for Keys {
    type Told = Discovered;

    const TASK: &'static str = "issuers of tokens";
    const PATIENCE: Duration = Duration::from_secs(5);
    const MOST: usize = MOST_ISSUERS;

    fn every(&self) -> Duration {
        EVERY
    }

    fn again(&self) -> Duration {
        AGAIN
    }

    async fn ask(&self, issuer: &str) -> Result<Discovered, Discovered> {
        match self.0.keys_of(issuer).await {
            Ok(uri) => Ok(Ok(uri.into())),
            Err(why) => {
                let why: String = why.chars().take(LONGEST).collect();
                Err(Err(why.into()))
            }
        }
    }

    fn silence(issuer: &str) -> Discovered {
        let why = format!("{} does not answer in time", document(issuer));
        Err(why.into())
    }

    fn too_many(_: &str) -> Discovered {
        let why = format!("{MOST_ISSUERS} other issuers are asked already");
        Err(why.into())
    }

    fn kept(issuer: &str, known: &Discovered, failure: Discovered) -> Discovered {
        if let Err(why) = failure {
            tracing::warn!(%issuer, %why, "an issuer does not say any more where its keys are");
        }
        known.clone()
    }

    fn tell(pending: &mut Pending, issuer: Arc<str>, found: Discovered) {
        pending.issuers.insert(issuer, found);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt;
    use tokio::time::Instant;

    use super::*;
    use crate::index::NameChange;

    const PATIENCE: Duration = Keys::PATIENCE;

    /// Answers with what the test said last; never, if it said nothing.
    #[derive(Default)]
    struct Book(Mutex<(usize, Option<Result<String, String>>)>);

    impl Discover for Book {
        fn keys_of<'d>(&'d self, _: &'d str) -> BoxFuture<'d, Result<String, String>> {
            let mut held = self.0.lock().expect("not poisoned");
            held.0 += 1;
            match held.1.clone() {
                Some(answer) => std::future::ready(answer).boxed(),
                None => std::future::pending().boxed(),
            }
        }
    }

    struct Rig {
        book: Arc<Book>,
        inbox: Arc<Inbox>,
        issuers: Issuers,
        _tasks: Tasks,
    }

    const ISSUER: &str = "https://issuer.example";

    impl Rig {
        fn start() -> Self {
            let (book, inbox, tasks) = (Arc::<Book>::default(), Arc::default(), Tasks::new());
            let discover = Arc::clone(&book) as Arc<dyn Discover>;
            let issuers = Issuers::start(discover, &inbox, &tasks);
            Self {
                book,
                inbox,
                issuers,
                _tasks: tasks,
            }
        }

        fn says(&self, answer: Option<Result<&str, &str>>) {
            let answer = answer.map(|it| it.map(str::to_owned).map_err(str::to_owned));
            self.book.0.lock().expect("not poisoned").1 = answer;
        }

        fn questions(&self) -> usize {
            self.book.0.lock().expect("not poisoned").0
        }

        fn wants(&self, issuer: &str) {
            let wanted = NameChange::Wanted(issuer.into());
            self.issuers.change(vec![wanted], Instant::now());
        }

        /// What came after this time.
        async fn told_after(&self, time: Duration) -> Option<Result<String, String>> {
            tokio::time::sleep(time).await;
            let told = self.inbox.take().issuers.get(ISSUER).cloned()?;
            Some(told.map(|it| it.to_string()).map_err(|it| it.to_string()))
        }
    }

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_fails_is_asked_again_soon_and_then_keeps_what_it_said() {
        let rig = Rig::start();
        rig.says(Some(Err("it is away")));
        rig.wants(ISSUER);
        assert_eq!(rig.told_after(SOON).await, Some(Err("it is away".into())));
        assert_eq!(rig.told_after(AGAIN).await, None, "that is known");
        rig.says(Some(Ok("https://issuer.example/keys")));
        let found = Some(Ok("https://issuer.example/keys".to_owned()));
        assert_eq!(rig.told_after(AGAIN).await, found);
        rig.says(Some(Err("it is away")));
        let before = rig.questions();
        assert_eq!(rig.told_after(EVERY + SOON).await, None);
        assert_eq!(rig.questions(), before + 1);
        rig.says(Some(Ok("https://issuer.example/other")));
        let found = Some(Ok("https://issuer.example/other".to_owned()));
        assert_eq!(rig.told_after(AGAIN).await, found);
        let unwanted = NameChange::Unwanted(ISSUER.into());
        rig.issuers.change(vec![unwanted], Instant::now());
        let before = rig.questions();
        assert_eq!(rig.told_after(EVERY * 2).await, None);
        assert_eq!(rig.questions(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_silent_is_told_and_so_is_one_too_many() {
        let rig = Rig::start();
        rig.wants(ISSUER);
        let silent = rig.told_after(PATIENCE + SOON).await;
        let silent = silent.expect("told").expect_err("a failure");
        assert!(silent.contains("does not answer in time"), "{silent}");
        rig.says(Some(Ok("https://a.example/keys")));
        for number in 1..MOST_ISSUERS {
            rig.wants(&format!("https://{number}.example"));
        }
        rig.wants("https://last.example");
        let pending = rig.inbox.take().issuers;
        let last = pending.get("https://last.example").expect("told");
        let why = last.as_ref().expect_err("a failure");
        assert!(why.contains("256 other issuers"), "{why}");
    }

    #[test]
    fn a_document_is_below_its_issuer() {
        let at = "https://a.example/realms/x/.well-known/openid-configuration";
        for issuer in ["https://a.example/realms/x", "https://a.example/realms/x/"] {
            assert_eq!(document(issuer), at);
        }
    }
}
