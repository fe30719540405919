//! An attempt to log in.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::certificate::DistinguishedName;
use super::directory::{Account, Directory, Settings, Stamp};
use super::principal::Principal;
use super::throttle::{Attempt, Throttle};

/// How long whoever is wrong waits for the answer. It hides how long the check took, and so whether there is
/// such a user. ActiveMQ answers at once and closes the connection two seconds later.
const ANSWER_AFTER: Duration = Duration::from_secs(1);

/// How long an attempt may wait for its turn, before it is refused without a look.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// How long an attempt may wait for its hash to be computed: whoever comes first after a start may be many.
const LONGEST_QUEUE: Duration = Duration::from_secs(60);

/// How often the files are looked at, at most, and only when somebody logs in.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Hashes that are computed at the same time, at most. Each takes a core, and Argon2 takes memory.
const MOST_HASHING: usize = 4;

/// Where an attempt comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// None within the process.
    pub(crate) address: Option<IpAddr>,
    /// The name in the certificate it showed, which TLS has checked.
    pub(crate) certificate: Option<DistinguishedName>,
}

/// Why nobody was let in. Clients throw it as a `JMSSecurityException`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoginError {
    /// There is no such user, or the password is another one.
    Wrong { user: Option<String> },
    /// There is no user with that certificate, and no name and password were given.
    Certificate(DistinguishedName),
    /// It was not looked at: there were too many before, most likely wrong ones.
    TooMany,
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong { user } => {
                let user = user.as_deref().unwrap_or("null");
                write!(f, "User name [{user}] or password is invalid.")
            }
            Self::Certificate(name) => write!(f, "No user has the certificate of {name}."),
            Self::TooMany => f.write_str("Too many attempts to log in, try again later."),
        }
    }
}

/// Lets people in.
pub(crate) struct Authenticator {
    settings: Settings,
    directory: RwLock<Arc<Directory>>,
    /// What the files looked like, and when.
    files: Mutex<(Vec<Option<Stamp>>, Instant)>,
    throttle: Mutex<Throttle>,
    hashing: Arc<Semaphore>,
    /// For the digests of passwords that were right.
    key: hmac::Key,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Reads the files, on a thread where that may take its time.
    ///
    /// # Errors
    ///
    /// Which file or user is wrong, and why.
    pub(crate) async fn new(settings: Settings) -> Result<Self, String> {
        // Looked at before they are read: a change meanwhile is then seen as one.
        let load = move || {
            let stamps = settings.stamps();
            let directory = Directory::load(&settings, &Directory::default())?;
            Ok((settings, stamps, directory))
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        let (settings, stamps, directory) = loaded.map_err(|panic| panic.to_string()).flatten()?;
        let cores = available_parallelism().map_or(1, usize::from);
        Ok(Self {
            settings,
            directory: RwLock::new(Arc::new(directory)),
            files: Mutex::new((stamps, Instant::now())),
            throttle: Mutex::default(),
            hashing: Arc::new(Semaphore::new(cores.div_ceil(2).min(MOST_HASHING))),
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
                .map_err(|_| "the system has no randomness".to_owned())?,
        })
    }

    /// Nobody has to say who they are.
    pub(crate) fn is_open(&self) -> bool {
        self.settings.is_open()
    }

    /// Who gives neither a name nor a password, if that is allowed.
    pub(crate) fn anonymous(&self) -> Option<Principal> {
        let (user, group) = self.settings.anonymous.as_ref()?;
        Some(Principal::new(user.as_str(), [group]))
    }

    /// Looks at an attempt. An answer that lets nobody in takes a second or more. If the future is dropped, what
    /// was found out counts all the same.
    pub(crate) async fn login(
        self: Arc<Self>,
        caller: Caller,
        user: Option<String>,
        password: Option<String>,
    ) -> Result<Principal, LoginError> {
        self.refresh().await;
        let directory = self.directory.read().clone();
        if let Some(certificate) = &caller.certificate {
            if let Some(user) = directory.user_of(certificate) {
                return Ok(directory.principal(user));
            }
            if user.is_none() && password.is_none() && self.settings.anonymous.is_none() {
                sleep(ANSWER_AFTER).await;
                return Err(LoginError::Certificate(certificate.clone()));
            }
        }
        if user.is_none()
            && password.is_none()
            && let Some(anonymous) = self.anonymous()
        {
            return Ok(anonymous);
        }
        let attempt = self.throttle.lock().attempt(caller.address, user.as_deref());
        let known = user.as_deref().and_then(|user| directory.account(user)).cloned();
        match self.check(attempt, known, &directory, password).await {
            Ok(true) => Ok(directory.principal(user.as_deref().unwrap_or_default())),
            Ok(false) => Err(LoginError::Wrong { user }),
            Err(TooMany) => Err(LoginError::TooMany),
        }
    }

    /// Waits for the attempt's turn and tells whether it is right.
    async fn check(
        self: &Arc<Self>,
        attempt: Attempt,
        known: Option<Arc<Account>>,
        directory: &Directory,
        password: Option<String>,
    ) -> Result<bool, TooMany> {
        let give_up = Instant::now() + LONGEST_WAIT;
        loop {
            self.turn(&attempt, give_up).await?;
            let looked_at = Instant::now();
            let right = match self.at_once(known.as_ref(), directory, password.as_deref()) {
                Ok(right) => {
                    self.note(&attempt, right);
                    right
                }
                Err(slow) => {
                    let failures = self.failures(&attempt);
                    let queue = self.hashing.clone().acquire_owned();
                    let Ok(Ok(permit)) = timeout(LONGEST_QUEUE, queue).await else {
                        return Err(TooMany);
                    };
                    // Others of the same kind were wrong meanwhile, or right.
                    let changed = self.failures(&attempt) > failures
                        || self
                            .at_once(known.as_ref(), directory, Some(&slow.password))
                            .is_ok();
                    if changed {
                        continue;
                    }
                    let this = self.clone();
                    let (account, is_known, password) = (slow.account, known.is_some(), slow.password);
                    // What was begun is finished and counted, whether or not its client waits for it.
                    let checked = tokio::task::spawn_blocking(move || {
                        let right = account.password.is(&password) && is_known;
                        if right {
                            *account.verified.lock() = Some(hmac::sign(&this.key, password.as_bytes()));
                        }
                        this.note(&attempt, right);
                        drop(permit);
                        right
                    });
                    checked.await.unwrap_or(false)
                }
            };
            if !right {
                sleep_until(looked_at + ANSWER_AFTER).await;
            }
            return Ok(right);
        }
    }

    /// Tells whether the password is right if that takes no time, or else what has to be computed. For a user
    /// that there is not, that is the same as for others.
    fn at_once(
        &self,
        known: Option<&Arc<Account>>,
        directory: &Directory,
        password: Option<&str>,
    ) -> Result<bool, Slow> {
        let Some(password) = password else {
            return Ok(false);
        };
        let account = match (known, directory.decoy()) {
            (Some(known), _) if !known.password.is_slow() => return Ok(known.password.is(password)),
            (Some(known), _) if known.remembers(&self.key, password) => return Ok(true),
            (Some(known), _) => known.clone(),
            (None, Some(decoy)) => decoy.clone(),
            (None, None) => return Ok(false),
        };
        Err(Slow {
            account,
            password: password.to_owned(),
        })
    }

    /// Waits until the throttle lets the attempt pass.
    async fn turn(&self, attempt: &Attempt, give_up: Instant) -> Result<(), TooMany> {
        loop {
            let now = Instant::now();
            let wait = self.throttle.lock().wait(attempt, now.into_std());
            match wait {
                None => return Ok(()),
                Some(wait) if now + wait > give_up => {
                    sleep(ANSWER_AFTER).await;
                    return Err(TooMany);
                }
                Some(wait) => sleep(wait).await,
            }
        }
    }

    fn note(&self, attempt: &Attempt, right: bool) {
        let now = Instant::now().into_std();
        let mut throttle = self.throttle.lock();
        if right {
            throttle.succeeded(attempt, now);
        } else {
            throttle.failed(attempt, now);
        }
    }

    fn failures(&self, attempt: &Attempt) -> u32 {
        self.throttle.lock().failures(attempt, Instant::now().into_std())
    }

    /// Reads files that changed. If they are wrong, what was read before holds on.
    async fn refresh(self: &Arc<Self>) {
        {
            let mut files = self.files.lock();
            if files.0.is_empty() || files.1.elapsed() < LOOK_EVERY {
                return;
            }
            files.1 = Instant::now();
        }
        let this = self.clone();
        // A panic there was reported; what was read before holds on.
        let _ = tokio::task::spawn_blocking(move || {
            let stamps = this.settings.stamps();
            if stamps == this.files.lock().0 {
                return;
            }
            this.files.lock().0 = stamps;
            let before = this.directory.read().clone();
            match Directory::load(&this.settings, &before) {
                Ok(directory) => {
                    *this.directory.write() = Arc::new(directory);
                    info!("users and groups were read again");
                }
                Err(why) => warn!("users and groups stay as they were: {why}"),
            }
        })
        .await;
    }
}

/// A hash that has to be computed.
struct Slow {
    account: Arc<Account>,
    password: String,
}

/// The attempt's turn would come too late.
struct TooMany;

impl Account {
    /// The password was found to be right before.
    fn remembers(&self, key: &hmac::Key, password: &str) -> bool {
        let verified = *self.verified.lock();
        verified.is_some_and(|digest| hmac::verify(key, password.as_bytes(), digest.as_ref()).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::future::Future;

    use tempfile::TempDir;

    use super::super::directory::Secret;
    use super::super::password::tests::argon2;
    use super::*;

    async fn authenticator(settings: Settings) -> Arc<Authenticator> {
        Arc::new(Authenticator::new(settings).await.unwrap())
    }

    fn users() -> Settings {
        let user = |name: &str, password: String| (name.to_owned(), Secret(password));
        Settings {
            users: vec![
                user("ada", "lovelace".to_owned()),
                user("bob", argon2("builder")),
                user("no", String::new()),
            ],
            groups: vec![("users".to_owned(), vec!["ada".to_owned(), "bob".to_owned()])],
            ..Settings::default()
        }
    }

    fn login(
        authenticator: &Arc<Authenticator>,
        user: Option<&str>,
        password: Option<&str>,
    ) -> impl Future<Output = Result<Principal, LoginError>> + Send + 'static {
        let caller = Caller {
            address: Some(IpAddr::from([192, 0, 2, 1])),
            certificate: None,
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        authenticator.clone().login(caller, owned(user), owned(password))
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_right_password_of_a_known_user_is_let_in() {
        for (user, password, right) in [
            (Some("ada"), Some("lovelace"), true),
            (Some("bob"), Some("builder"), true),
            (Some("no"), Some(""), true),
            (None, None, false),
            (None, Some("lovelace"), false),
            (Some("ada"), None, false),
            (Some("ada"), Some(""), false),
            (Some("ada"), Some("lovelac"), false),
            (Some("bob"), Some("lovelace"), false),
            (Some("bob"), Some(&argon2("builder")), false),
            (Some("no"), None, false),
            (Some("nobody"), Some(""), false),
            (Some("nobody"), Some("builder"), false),
        ] {
            let authenticator = authenticator(users()).await;
            for _ in 0..2 {
                let result = login(&authenticator, user, password).await;
                if right {
                    assert_eq!(&**result.unwrap().user(), user.unwrap());
                } else {
                    let words = format!("User name [{}] or password is invalid.", user.unwrap_or("null"));
                    assert_eq!(result.unwrap_err().to_string(), words);
                }
            }
        }
    }

    /// The answer comes a second after the look, whatever the look took: time stands still while hashes are computed.
    #[tokio::test(start_paused = true)]
    async fn the_time_to_be_refused_tells_nothing() {
        for (user, password) in [
            (Some("ada"), Some("wrong")),
            (Some("bob"), Some("wrong")),
            (Some("nobody"), Some("wrong")),
            (None, None),
        ] {
            let authenticator = authenticator(users()).await;
            let started = Instant::now();
            login(&authenticator, user, password).await.unwrap_err();
            assert_eq!(started.elapsed().as_secs(), 1, "{user:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_takes_ever_longer_and_is_then_refused_without_a_look() {
        let authenticator = authenticator(users()).await;
        let started = Instant::now();
        for _ in 0..20 {
            login(&authenticator, Some("bob"), Some("wrong"))
                .await
                .unwrap_err();
        }
        assert!(
            started.elapsed() > Duration::from_secs(60),
            "{:?}",
            started.elapsed()
        );
        let at_once: Vec<_> = (0..50)
            .map(|_| tokio::spawn(login(&authenticator, Some("bob"), Some("wrong"))))
            .collect();
        let (mut looked_at, mut refused) = (0, 0);
        for attempt in at_once {
            match attempt.await.unwrap().unwrap_err() {
                LoginError::TooMany => refused += 1,
                _ => looked_at += 1,
            }
        }
        assert!(looked_at <= 4 && refused >= 46, "{looked_at}");
        // Right, but not before its turn.
        let turn = Instant::now();
        login(&authenticator, Some("bob"), Some("builder")).await.unwrap();
        assert!(turn.elapsed() > Duration::from_secs(1));
        // Somebody else comes from there as well, and is held up less.
        let turn = Instant::now();
        login(&authenticator, Some("ada"), Some("lovelace"))
            .await
            .unwrap();
        assert!(turn.elapsed() <= Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_nobody_waits_for_counts() {
        let authenticator = authenticator(users()).await;
        for _ in 0..30 {
            let attempt = tokio::spawn(login(&authenticator, Some("ada"), Some("wrong")));
            tokio::task::yield_now().await;
            attempt.abort();
            let _ = attempt.await;
        }
        let turn = Instant::now();
        login(&authenticator, Some("ada"), Some("lovelace"))
            .await
            .unwrap();
        assert!(turn.elapsed() > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_herd_needs_few_hashes() {
        let authenticator = authenticator(users()).await;
        login(&authenticator, Some("bob"), Some("builder")).await.unwrap();
        // Nobody computes a hash any more.
        authenticator
            .hashing
            .clone()
            .acquire_many_owned(1)
            .await
            .unwrap()
            .forget();
        for _ in 0..1000 {
            login(&authenticator, Some("bob"), Some("builder")).await.unwrap();
        }
        let directory = authenticator.directory.read().clone();
        assert!(
            !directory
                .account("bob")
                .unwrap()
                .remembers(&authenticator.key, "lovelace")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_anonymous_where_that_is_allowed() {
        let authenticator = authenticator(Settings {
            anonymous: Some(("guest".to_owned(), "guests".to_owned())),
            ..users()
        })
        .await;
        let guest = Principal::new("guest", ["guests"]);
        assert_eq!(login(&authenticator, None, None).await, Ok(guest));
        for (user, password) in [
            (Some("guest"), None),
            (None, Some("")),
            (Some("ada"), Some("wrong")),
        ] {
            login(&authenticator, user, password).await.unwrap_err();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_enough() {
        let authenticator = authenticator(Settings {
            certificates: vec![("ada".to_owned(), "CN=Ada, O=Acme".to_owned())],
            ..users()
        })
        .await;
        let caller = |name: &str| Caller {
            address: None,
            certificate: Some(DistinguishedName::parse(name).unwrap()),
        };
        let login = |name, user: Option<&str>, password: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            authenticator
                .clone()
                .login(caller(name), owned(user), owned(password))
        };
        let ada = Principal::new("ada", ["users"]);
        assert_eq!(login("CN=Ada,O=Acme", None, None).await, Ok(ada.clone()));
        // The certificate decides.
        assert_eq!(login("CN=Ada,O=Acme", Some("bob"), Some("wrong")).await, Ok(ada));
        let error = login("CN=Eve,O=Acme", None, None).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "No user has the certificate of CN=Eve, O=Acme."
        );
        assert!(login("CN=Eve,O=Acme", Some("bob"), Some("builder")).await.is_ok());
    }

    #[tokio::test]
    async fn files_are_read_again_when_they_change() {
        let dir = TempDir::new().unwrap();
        let (users, groups) = (dir.path().join("users"), dir.path().join("groups"));
        fs::write(&users, "ada=one\n").unwrap();
        fs::write(&groups, "users=ada\n").unwrap();
        let authenticator = authenticator(Settings {
            users_file: Some(users.clone()),
            groups_file: Some(groups.clone()),
            ..Settings::default()
        })
        .await;
        let look = || authenticator.files.lock().1 = Instant::now() - LOOK_EVERY;
        let ada = |groups: &[&str]| Ok(Principal::new("ada", groups));
        assert_eq!(
            login(&authenticator, Some("ada"), Some("one")).await,
            ada(&["users"])
        );

        fs::write(&users, "ada=another\n").unwrap();
        fs::write(&groups, "admins=ada\nusers=ada\n").unwrap();
        look();
        assert_eq!(
            login(&authenticator, Some("ada"), Some("another")).await,
            ada(&["admins", "users"])
        );

        fs::write(&users, "ada=$6$x\n").unwrap();
        look();
        assert_eq!(
            login(&authenticator, Some("ada"), Some("another")).await,
            ada(&["admins", "users"])
        );
    }
}
