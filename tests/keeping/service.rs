//! A deed's surroundings without sockets: a source whose payload alone decides, and shadow mode.

use std::sync::Arc;
use std::time::Duration;

use handover::app::{App, Rulebook, Source};
use handover::custody::Moment;
use handover::intake::{Door, People, Rules};
use handover::store::Store;

/// The service over a database, at a fixed hour, in shadow mode.
pub(crate) fn app(store: Store, now: Moment) -> App {
    app_with(store, now, Rulebook::default())
}

/// The same, by other rules.
pub(crate) fn app_with(store: Store, now: Moment, rules: Rulebook) -> App {
    let source = Source {
        name: String::from("uem"),
        door: Door::dummy(),
        rules: Rules::new("uem"),
        people: People {
            upn_from: Some("{user_name}@contoso.example".parse().unwrap()),
            pool_accounts: vec![String::from("stg-ipad")],
        },
        api: None,
        sweep_every: Duration::from_secs(300),
        silence: Duration::MAX,
    };
    App::new(store, rules, vec![source], None, Arc::new(move || now), String::from("here"))
}
