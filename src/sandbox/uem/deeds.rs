//! What people do with devices, and which webhooks follow.

use uuid::Uuid;

use super::{
    State, Uem,
    event::{EventName, EventNames, Notice},
    fleet::{DeviceSpec, Holding, Status, UemUserSpec, Unknown, pool_account},
    sender::{CheckInCarries, CheckOutCarries, Sent},
};

/// Picks one kind of event.
type Kind = fn(&EventNames) -> &EventName;

impl Uem {
    /// Adds an account, or changes the one of the same user name. Says its id and uuid.
    pub fn add_user(&self, spec: UemUserSpec) -> (i64, Uuid) {
        self.state().fleet.put_user(spec)
    }

    /// Adds a multi-user staging account.
    pub fn add_pool_account(&self, user_name: &str) -> (i64, Uuid) {
        self.state().fleet.put_user(pool_account(user_name))
    }

    /// Adds an enrolled device that its pool account has. Nobody is told.
    pub fn add_device(&self, spec: impl Into<DeviceSpec>) -> (i64, Uuid) {
        let clock = &self.plant.desk.clock;
        self.state().fleet.add_device(spec.into(), clock.real(), clock.says())
    }

    /// The user name of whoever has the device, if it is enrolled.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn holder(&self, device: &str) -> Result<Option<String>, Unknown> {
        let state = self.state();
        let user = state.fleet.device(device)?.now().user;
        Ok(user.and_then(|id| state.fleet.users.get(&id)).map(|user| user.spec.user_name.clone()))
    }

    /// A person takes the device.
    ///
    /// # Errors
    /// When there is no such device or account.
    pub async fn check_out(&self, device: &str, user: &str) -> Result<Vec<Sent>, Unknown> {
        let notice = {
            let mut state = self.state();
            let to = state.fleet.user(user)?.id;
            let from = self.becomes(&mut state, device, Some(to), Status::Enrolled)?;
            let old = state.outbox.hook.as_ref().is_some_and(|hook| hook.check_out_carries == CheckOutCarries::Old);
            notice(&mut state, device, |names| &names.check_out, if old { from } else { Some(to) })?
        };
        Ok(self.tell(vec![notice]).await)
    }

    /// The device goes from one person to another with no check-in between: a check-out by the other.
    ///
    /// # Errors
    /// When there is no such device or account.
    pub async fn change_user(&self, device: &str, user: &str) -> Result<Vec<Sent>, Unknown> {
        self.check_out(device, user).await
    }

    /// The device goes back to its pool account.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn check_in(&self, device: &str) -> Result<Vec<Sent>, Unknown> {
        let notice = {
            let mut state = self.state();
            let pool = state.fleet.device(device)?.pool;
            let from = self.becomes(&mut state, device, Some(pool), Status::Enrolled)?;
            let hook = state.outbox.hook.as_ref();
            let leaver = hook.is_some_and(|hook| hook.check_in_carries == CheckInCarries::Leaver);
            notice(&mut state, device, |names| &names.check_in, if leaver { from } else { Some(pool) })?
        };
        Ok(self.tell(vec![notice]).await)
    }

    /// The device is erased: the order, naming its user, then the end of management, naming nobody.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn wipe(&self, device: &str) -> Result<Vec<Sent>, Unknown> {
        self.leave(device, Some((|names| &names.wipe, Status::Enrolled))).await
    }

    /// Management and managed apps are taken off the device.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn enterprise_wipe(&self, device: &str) -> Result<Vec<Sent>, Unknown> {
        self.leave(device, Some((|names| &names.enterprise_wipe, Status::EnterpriseWipePending))).await
    }

    /// The management profile was removed on the device.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn unenroll(&self, device: &str) -> Result<Vec<Sent>, Unknown> {
        self.leave(device, None).await
    }

    /// The device's record is deleted; REST knows it no more.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn delete(&self, device: &str) -> Result<Vec<Sent>, Unknown> {
        let notice = {
            let mut state = self.state();
            self.becomes(&mut state, device, None, Status::Deleted)?;
            notice(&mut state, device, |names| &names.deleted, None)?
        };
        Ok(self.tell(vec![notice]).await)
    }

    /// The same iPad is enrolled again by its pool account: a new id and uuid, the same serial number and UDID. The old record
    /// stays as it is.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn re_enrol(&self, device: &str) -> Result<Vec<Sent>, Unknown> {
        let clock = &self.plant.desk.clock;
        let notice = {
            let mut state = self.state();
            let old = state.fleet.device(device)?.clone();
            let pool = state.fleet.users.get(&old.pool).map(|user| user.spec.user_name.clone());
            let spec = DeviceSpec { uuid: None, udid: Some(old.udid), pool, ..old.spec };
            let (_, uuid) = state.fleet.add_device(spec, clock.real(), clock.says());
            notice(&mut state, &uuid.to_string(), |names| &names.enrolled, Some(old.pool))?
        };
        Ok(self.tell(vec![notice]).await)
    }

    async fn leave(&self, device: &str, order: Option<(Kind, Status)>) -> Result<Vec<Sent>, Unknown> {
        let notices = {
            let mut state = self.state();
            let mut notices = Vec::new();
            if let Some((name, status)) = order {
                let user = state.fleet.device(device)?.now().user;
                self.becomes(&mut state, device, user, status)?;
                notices.push(notice(&mut state, device, name, user)?);
            }
            self.becomes(&mut state, device, None, Status::Unenrolled)?;
            notices.push(notice(&mut state, device, |names| &names.unenrolled, None)?);
            notices
        };
        Ok(self.tell(notices).await)
    }

    /// Gives the device to `user` from now on, and says who had it.
    fn becomes(
        &self,
        state: &mut State,
        device: &str,
        user: Option<i64>,
        status: Status,
    ) -> Result<Option<i64>, Unknown> {
        let clock = &self.plant.desk.clock;
        state.fleet.becomes(device, Holding { since: clock.real(), said: clock.says(), user, status })
    }
}

/// What to tell about the device as it is now.
fn notice(state: &mut State, device: &str, name: Kind, user: Option<i64>) -> Result<Notice, Unknown> {
    let names = state.outbox.hook.as_ref().map(|hook| hook.names.clone()).unwrap_or_default();
    let name = name(&names);
    let event_type = state.outbox.spelling(name);
    let device = state.fleet.device(device)?.clone();
    let holding = device.now();
    let user = user.and_then(|id| state.fleet.users.get(&id)).cloned();
    Ok(Notice { event_id: name.id, event_type, at: holding.said, status: holding.status, device, user })
}
