//! The webhook sender: at most once, or twice, or later, or never.
//!
//! What happens to a webhook is decided when it is due, under the lock, by the dice and the orders given; what was decided is
//! then done without the lock. Each attempt is in [`super::Uem::sent`], also one that was lost on purpose.

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::{
    Uem,
    event::{EventName, EventNames, Format, Notice, TimeForm, written},
};

/// How many attempts are kept.
const KEPT: usize = 100_000;

/// Whom a check-in event names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckInCarries {
    /// The pool account that has the device now.
    #[default]
    Pool,
    /// The person who gave it back.
    Leaver,
}

/// Whom a check-out event names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutCarries {
    /// The person who has the device now.
    #[default]
    New,
    /// Whoever had it before.
    Old,
}

/// Where webhooks go and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hook {
    /// The target.
    pub url: String,
    /// For HTTP Basic; nothing is sent when empty.
    pub user_name: String,
    /// For HTTP Basic.
    pub password: String,
    /// JSON or XML.
    pub format: Format,
    /// The generation: 15, 16, 24 or 26 fields.
    pub fields: u8,
    /// How times are written.
    pub time: TimeForm,
    /// What events are called.
    pub names: EventNames,
    /// Whom a check-in names.
    pub check_in_carries: CheckInCarries,
    /// Whom a check-out names.
    pub check_out_carries: CheckOutCarries,
    /// Whether a deed returns only once its webhooks were answered.
    pub wait: bool,
    /// Every n-th webhook is sent twice; none when 0.
    pub duplicate_every: u32,
    /// The share of webhooks sent twice.
    pub duplicate_probability: f64,
    /// The share of webhooks lost.
    pub loss_probability: f64,
    /// The share of webhooks sent later, never waited for.
    pub delay_probability: f64,
    /// The longest such delay.
    pub delay_ms: u64,
    /// How long an answer is waited for.
    pub timeout_ms: u64,
}

impl Default for Hook {
    fn default() -> Self {
        Self {
            url: String::new(),
            user_name: String::new(),
            password: String::new(),
            format: Format::Json,
            fields: 26,
            time: TimeForm::Iso,
            names: EventNames::default(),
            check_in_carries: CheckInCarries::Pool,
            check_out_carries: CheckOutCarries::New,
            wait: true,
            duplicate_every: 0,
            duplicate_probability: 0.0,
            loss_probability: 0.0,
            delay_probability: 0.0,
            delay_ms: 1_000,
            timeout_ms: 10_000,
        }
    }
}

impl Hook {
    /// An ordinary hook to `url` with these credentials.
    pub fn to(url: &str, user_name: &str, password: &str) -> Self {
        Self { url: url.to_owned(), user_name: user_name.to_owned(), password: password.to_owned(), ..Self::default() }
    }
}

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// On its way, or delayed.
    Sending,
    /// Answered with the status.
    Answered,
    /// Sent, but no answer came.
    Failed,
    /// Lost on purpose; never sent.
    Lost,
    /// Kept back until [`Uem::release`].
    Held,
}

/// One webhook.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// Counted from 1.
    pub number: u64,
    /// When it was due, in true time.
    pub at: DateTime<Utc>,
    /// The body.
    pub body: String,
    /// The status it was answered with.
    pub status: Option<u16>,
    /// The answer's body.
    pub answer: String,
    /// What became of it.
    pub fate: Fate,
    /// Whether it repeats the one before.
    pub duplicate: bool,
}

/// The sender's state.
pub(super) struct Outbox {
    pub(super) hook: Option<Hook>,
    pub(super) quiet: bool,
    pub(super) lose_next: u32,
    pub(super) hold_next: u32,
    pub(super) sent: VecDeque<Sent>,
    held: Vec<u64>,
    last: u64,
    due: u64,
    dice: StdRng,
}

/// What was decided about one webhook.
struct Plan {
    number: u64,
    after: Option<Duration>,
}

impl Outbox {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hook: None,
            quiet: false,
            lose_next: 0,
            hold_next: 0,
            sent: VecDeque::new(),
            held: Vec::new(),
            last: 0,
            due: 0,
            // Not the same dice as the faults', which start from the same seed.
            dice: StdRng::seed_from_u64(seed ^ 0x5e4d),
        }
    }

    /// A spelling of this kind of event.
    pub(super) fn spelling(&mut self, name: &EventName) -> String {
        match name.texts.len() {
            0 => String::new(),
            many => name.texts[self.dice.random_range(0..many)].clone(),
        }
    }

    fn plan(&mut self, notice: &Notice, now: DateTime<Utc>) -> Vec<Plan> {
        let Some(hook) = self.hook.clone().filter(|_| !self.quiet) else { return Vec::new() };
        let body = written(notice, hook.format, hook.fields, hook.time);
        self.due += 1;
        if self.lose_next > 0 || self.throws(hook.loss_probability) {
            self.lose_next = self.lose_next.saturating_sub(1);
            self.note(body, now, Fate::Lost, false);
            return Vec::new();
        }
        if self.hold_next > 0 {
            self.hold_next -= 1;
            let number = self.note(body, now, Fate::Held, false);
            self.held.push(number);
            return Vec::new();
        }
        let after = self
            .throws(hook.delay_probability)
            .then(|| Duration::from_millis(self.dice.random_range(0..=hook.delay_ms)));
        let nth = hook.duplicate_every > 0 && self.due.is_multiple_of(u64::from(hook.duplicate_every));
        let twice = nth || self.throws(hook.duplicate_probability);
        let mut plans = vec![Plan { number: self.note(body.clone(), now, Fate::Sending, false), after }];
        if twice {
            plans.push(Plan { number: self.note(body, now, Fate::Sending, true), after });
        }
        plans
    }

    fn throws(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.dice.random_bool(probability.min(1.0))
    }

    fn note(&mut self, body: String, at: DateTime<Utc>, fate: Fate, duplicate: bool) -> u64 {
        self.last += 1;
        if self.sent.len() == KEPT {
            self.sent.pop_front();
        }
        let answer = String::new();
        self.sent.push_back(Sent { number: self.last, at, body, status: None, answer, fate, duplicate });
        self.last
    }

    fn entry(&mut self, number: u64) -> Option<&mut Sent> {
        let first = self.sent.front()?.number;
        self.sent.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

impl Uem {
    /// Sends what these notices lead to, and says what became of it.
    pub(super) async fn tell(&self, notices: Vec<Notice>) -> Vec<Sent> {
        let now = self.plant.desk.clock.real();
        let (plans, wait, numbers) = {
            let mut state = self.state();
            let outbox = &mut state.outbox;
            let first = outbox.last + 1;
            let plans: Vec<_> = notices.iter().flat_map(|notice| outbox.plan(notice, now)).collect();
            (plans, outbox.hook.as_ref().is_some_and(|hook| hook.wait), first..=outbox.last)
        };
        for Plan { number, after } in plans {
            if wait && after.is_none() {
                self.post(number).await;
                continue;
            }
            let uem = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after.unwrap_or_default()).await;
                uem.post(number).await;
            });
        }
        self.entries(numbers)
    }

    /// Sends the held webhooks, newest first, and waits for their answers.
    pub async fn release(&self) -> Vec<Sent> {
        let held = std::mem::take(&mut self.state().outbox.held);
        for number in held.iter().rev() {
            self.post(*number).await;
        }
        self.entries(held)
    }

    fn entries(&self, numbers: impl IntoIterator<Item = u64>) -> Vec<Sent> {
        let mut state = self.state();
        numbers.into_iter().filter_map(|number| state.outbox.entry(number).cloned()).collect()
    }

    /// The console's *Test Connection*: a GET to the target. Says the status, if there was an answer.
    pub async fn test_connection(&self) -> Option<u16> {
        let hook = self.state().outbox.hook.clone()?;
        let request = with_credentials(self.plant.client.get(&hook.url), &hook);
        request.send().await.ok().map(|response| response.status().as_u16())
    }

    async fn post(&self, number: u64) {
        let (hook, body) = {
            let mut state = self.state();
            let Some(hook) = state.outbox.hook.clone() else { return };
            let Some(sent) = state.outbox.entry(number) else { return };
            sent.fate = Fate::Sending;
            (hook, sent.body.clone())
        };
        let content_type = match hook.format {
            Format::Json => "application/json",
            Format::Xml => "application/xml",
        };
        let request = with_credentials(self.plant.client.post(&hook.url), &hook)
            .header("content-type", content_type)
            .timeout(Duration::from_millis(hook.timeout_ms))
            .body(body);
        let answer = match request.send().await {
            Ok(response) => Some((response.status().as_u16(), response.text().await.unwrap_or_default())),
            Err(_) => None,
        };
        if let Some(sent) = self.state().outbox.entry(number) {
            sent.fate = if answer.is_some() { Fate::Answered } else { Fate::Failed };
            if let Some((status, text)) = answer {
                sent.status = Some(status);
                sent.answer = text;
            }
        }
    }
}

fn with_credentials(request: reqwest::RequestBuilder, hook: &Hook) -> reqwest::RequestBuilder {
    if hook.user_name.is_empty() { request } else { request.basic_auth(&hook.user_name, Some(&hook.password)) }
}
