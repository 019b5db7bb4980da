//! What HTTP asks for, done by `app`.

use bytes::Bytes;
use uuid::Uuid;

use crate::app::App;
use crate::app::operate::{Action, NotDone};
use crate::app::receive;
use crate::app::record;
use crate::store::Error;
use crate::web::{Deeds, Doing, Line, Many, Received, Refused, Trouble};

impl Deeds for App {
    fn greet(&self, source: &str, authorization: Option<&[u8]>) -> bool {
        App::greet(self, source, authorization)
    }

    fn receive(
        &self,
        source: String,
        content_type: Option<String>,
        body: Bytes,
    ) -> Doing<'_, Result<Received, Trouble>> {
        Box::pin(async move {
            match App::receive(self, &source, content_type, body).await.map_err(trouble)? {
                receive::Received::Recorded(event) => Ok(Received::Recorded(event)),
                receive::Received::Duplicate(event) => Ok(Received::Duplicate(event)),
                receive::Received::Quarantined(body) => Ok(Received::Quarantined(body)),
                receive::Received::Malformed(why) => Err(Trouble::Malformed(why)),
            }
        })
    }

    fn receive_many(&self, source: String, lines: Vec<Bytes>) -> Doing<'_, Result<Many, Trouble>> {
        Box::pin(async move {
            let json = Some(String::from("application/json"));
            let received = App::receive_many(self, &source, json, lines).await.map_err(trouble)?;
            let mut many = Many::default();
            for (line, received) in (1..).zip(received) {
                match received {
                    receive::Received::Recorded(_) => many.recorded += 1,
                    receive::Received::Duplicate(_) => many.duplicate += 1,
                    receive::Received::Quarantined(_) => many.quarantined += 1,
                    receive::Received::Malformed(why) => many.refused.push(Line { line, why }),
                }
            }
            Ok(many)
        })
    }

    fn retry(&self, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>> {
        operate(self, Action::Retry, id, actor, reason)
    }

    fn release(&self, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>> {
        operate(self, Action::Release, id, actor, reason)
    }

    fn waive(&self, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>> {
        operate(self, Action::Waive, id, actor, reason)
    }
}

fn operate(app: &App, action: Action, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>> {
    Box::pin(async move {
        app.operate(action, id, &actor, &reason).await.map_err(|error| match error {
            NotDone::Unknown(_) => Refused::Unknown,
            NotDone::Unfit { state } => Refused::DoesNotFit(state),
            NotDone::Store(Error::Overtaken(_)) => Refused::Overtaken,
            NotDone::Store(error) => Refused::Unwritten(Box::new(error)),
        })
    })
}

fn trouble(refused: record::Refused) -> Trouble {
    match refused {
        record::Refused::Busy => Trouble::Overloaded,
        record::Refused::Database => Trouble::Unwritten(Box::new(refused)),
    }
}
