//! What a PostgreSQL URL says: which servers, as whom, and how the way there is secured.
//!
//! It promises that a connection is encrypted and that the server's certificate and name are checked, unless the URL itself
//! says otherwise (K17). Nothing else can say so: neither the environment that PostgreSQL's own tools read, nor a server that
//! would rather not. A parameter we do not know is refused, since a slip in `sslmode` must not become a default.
//!
//! What would surprise: a socket of this machine (`host=/run/postgresql`) is not encrypted, because nothing is there to listen in on.

use std::path::Path;
use std::str::FromStr as _;

use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::{STATEMENTS, Settings};
use crate::store::Error;

/// How Handover names itself to the server.
const NAME: &str = "handover";

/// The port of a server that names none.
const PORT: u16 = 5432;

/// The parameters a URL may have.
const KNOWN: &[&str] =
    &["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "application_name", "target_session_attrs"];

/// One server that may be the primary.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// `host:port`, for people.
    pub(super) shown: String,
    /// How it is reached.
    pub(super) options: PgConnectOptions,
}

/// The servers that the settings name, in their order. Paths in the URL count from `base`.
pub(super) fn read(settings: &Settings, base: &Path) -> Result<Vec<Address>, Error> {
    let url = &settings.url;
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or_else(|| unfit("it must begin with sqlite:// or postgres://"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    hosts.split(',').map(|host| one(&format!("postgres://{user}{at}{host}{tail}"), settings, base)).collect()
}

fn one(url: &str, settings: &Settings, base: &Path) -> Result<Address, Error> {
    let parsed = Url::parse(url).map_err(|error| unfit(format!("{error}")))?;
    let mut asked = Asked::default();
    let mut kept = Vec::new();
    for (key, value) in parsed.query_pairs() {
        match &*key {
            "sslmode" => asked.mode = Some(mode(&value)?),
            "host" if value.starts_with('/') => asked.is_socket = true,
            "host" => return Err(unfit("write the host before the slash; host= is for the folder of a socket")),
            "target_session_attrs" if !["read-write", "primary"].contains(&&*value) => {
                return Err(unfit("target_session_attrs must be read-write: Handover works on the primary alone"));
            }
            known if KNOWN.contains(&known) => {}
            unknown => {
                let known = KNOWN.join(", ");
                return Err(unfit(format!("it has a parameter {unknown}, which is not known; known are {known}")));
            }
        }
        let path = ["sslrootcert", "sslcert", "sslkey"].contains(&&*key);
        if key != "target_session_attrs" {
            kept.push((key, if path { base.join(&*value).display().to_string() } else { value.into_owned() }));
        }
    }
    let name = parsed.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    if name.is_empty() && !asked.is_socket {
        return Err(unfit("it names no host"));
    }
    if parsed.path().trim_start_matches('/').is_empty() {
        return Err(unfit("it names no database after the slash"));
    }
    if parsed.username().is_empty() {
        return Err(unfit("it names no user before the @"));
    }
    if parsed.password().is_some() && settings.password.is_some() {
        return Err(unfit("it has a password, and database.password gives one as well; keep one of them"));
    }
    let mut plain = parsed.clone();
    plain.set_query(None);
    if !kept.is_empty() {
        plain.query_pairs_mut().extend_pairs(kept);
    }
    let mut options = PgConnectOptions::from_str(plain.as_str()).map_err(|error| unfit(error.to_string()))?;
    if !name.is_empty() && !asked.is_socket {
        options = options.host(&name).port(parsed.port().unwrap_or(PORT));
    }
    if let Some(password) = &settings.password {
        options = options.password(password.expose_secret());
    }
    if !parsed.query_pairs().any(|(key, _)| key == "application_name") {
        options = options.application_name(NAME);
    }
    let unsaid = if asked.is_socket { PgSslMode::Disable } else { PgSslMode::VerifyFull };
    let options = options.ssl_mode(asked.mode.unwrap_or(unsaid)).statement_cache_capacity(STATEMENTS);
    let shown = if asked.is_socket {
        String::from("a socket of this machine")
    } else {
        format!("{name}:{}", parsed.port().unwrap_or(PORT))
    };
    Ok(Address { shown, options })
}

/// What the URL says about the way.
#[derive(Default)]
struct Asked {
    mode: Option<PgSslMode>,
    is_socket: bool,
}

/// `prefer` and `allow` would go on in clear text with a server that asks for it, or with whoever stands before it.
fn mode(text: &str) -> Result<PgSslMode, Error> {
    match text {
        "disable" => Ok(PgSslMode::Disable),
        "require" => Ok(PgSslMode::Require),
        "verify-ca" => Ok(PgSslMode::VerifyCa),
        "verify-full" => Ok(PgSslMode::VerifyFull),
        _ => Err(unfit("sslmode must be verify-full, verify-ca, require or disable")),
    }
}

fn unfit(says: impl Into<String>) -> Error {
    Error::Url(says.into())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn all(url: &str) -> Result<Vec<Address>, String> {
        read(&Settings::new(url), Path::new("/etc/handover")).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case("postgres://h@db.example/handover", "verify-full")]
    #[case("postgres://h@127.0.0.1/handover", "verify-full")]
    #[case("postgres://h@db.example/handover?sslmode=verify-ca", "verify-ca")]
    #[case("postgres://h@db.example/handover?sslmode=require", "require")]
    #[case("postgres://h@db.example/handover?sslmode=disable", "disable")]
    #[case("postgres://h@localhost/handover?host=/run/postgresql", "disable")]
    fn the_way_is_verified_unless_the_url_says_otherwise(#[case] url: &str, #[case] mode: &str) {
        let address = all(url).unwrap().remove(0);

        let expected = PgSslMode::from_str(mode).unwrap();
        assert_eq!(format!("{:?}", address.options.get_ssl_mode()), format!("{expected:?}"));
    }

    #[rstest]
    #[case("postgres://h@db/handover?sslmode=prefer", "sslmode must be")]
    #[case("postgres://h@db/handover?sslmode=", "sslmode must be")]
    #[case("postgres://h@db/handover?sslmod=disable", "a parameter sslmod, which is not known")]
    #[case("postgres://h@db/handover?target_session_attrs=any", "must be read-write")]
    #[case("postgres://h@db", "names no database")]
    #[case("postgres://db/handover", "names no user")]
    #[case("postgres://h@/handover", "empty host")]
    #[case("postgres://h@one,/handover", "empty host")]
    #[case("postgres://h@one:x,two/handover", "port")]
    #[case("mysql://h@db/handover", "must begin with")]
    fn what_does_not_fit_is_refused_in_words(#[case] url: &str, #[case] says: &str) {
        let refused = all(url).map(drop).unwrap_err();

        assert!(refused.contains(says), "{refused}");
    }

    #[test]
    fn several_hosts_share_everything_else() {
        let url = "postgres://h%40me:p%2Fw@one:5433,[::1],two.example:1/handover?sslmode=require&target_session_attrs=read-write";

        let all = all(url).unwrap();

        let shown: Vec<_> = all.iter().map(|one| one.shown.as_str()).collect();
        assert_eq!(shown, ["one:5433", "::1:5432", "two.example:1"]);
        let reached: Vec<_> = all.iter().map(|one| (one.options.get_host(), one.options.get_port())).collect();
        assert_eq!(reached, [("one", 5433), ("::1", 5432), ("two.example", 1)]);
        assert!(all.iter().all(|one| one.options.get_username() == "h@me"));
        assert!(all.iter().all(|one| one.options.get_database() == Some("handover")));
    }

    #[test]
    fn a_password_stands_in_one_place_and_in_no_message() {
        let mut settings = Settings::new("postgres://h:geheim@db/handover");
        settings.password = Some("geheim".to_owned().into());

        let refused = read(&settings, Path::new("/")).map(drop).unwrap_err().to_string();

        assert!(refused.contains("database.password"), "{refused}");
        assert!(!refused.contains("geheim"), "{refused}");
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
