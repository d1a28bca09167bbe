//! Inputs of mutations, and their way into the verbs' own types.

use domain::notification::{MailSettings, NotificationSettings, Slack};
use juniper::GraphQLInputObject;
use ops::app::{AppPatch, DomainSave};
use ops::certificate::OwnCertificate;

use crate::graphql::{Ctx, Fault, Scalar};

macro_rules! inputs {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, GraphQLInputObject)]
        #[graphql(context = Ctx, scalar = Scalar)]
        pub(crate) struct $name { $($(#[$attribute])* pub(crate) $field: $kind),+ }
    )+};
}

inputs! {
    /// A hostname for an app. What is absent stays as it is, or is as usual.
    DomainInput {
        app_id: String,
        /// A full domain name, or `*.mydomain.com`.
        name: String,
        /// Whoever asks without TLS is sent there.
        #[graphql(name = "forceSSL")]
        force_ssl: Option<bool>,
        /// PEM: the domain's own certificate first, then the intermediates. Needs `privateKey`.
        certificate: Option<String>,
        /// PEM, not encrypted. It is never given out again.
        private_key: Option<String>,
    }
    /// A trigger; without `_id`, a new one. What is absent of one that exists stays as it is.
    TriggerInput {
        #[graphql(name = "_id")]
        id: Option<String>,
        app_id: String,
        name: String,
        enabled: Option<bool>,
        /// `add containers`, `remove containers` or `kill containers`.
        action: String,
        /// 1 when absent.
        min: Option<i32>,
        /// As many as an app may have when absent.
        max: Option<i32>,
        /// 1 when absent.
        step: Option<i32>,
        /// `AND` when absent, or `OR`.
        operator: Option<String>,
        rules: Vec<TriggerRuleInput>,
        /// Sunday is 0; every day when absent.
        days_of_week: Option<Vec<i32>>,
        /// -12 to 14; 0 when absent.
        utc_offset: Option<i32>,
        /// 0 to 23, included.
        start_hour: Option<i32>,
        /// 0 to 23, included.
        end_hour: Option<i32>,
        /// `5s` when absent, `3m` or `1h`.
        series_name: Option<String>,
        /// 3 when absent.
        sample_quantity: Option<i32>,
        /// At least 60, which it is when absent.
        run_every_seconds: Option<i32>,
    }
    /// A rule of a trigger.
    TriggerRuleInput {
        /// `cpu` or `memory`, in percent of the cap, or `connections`.
        metric: String,
        /// `above` or `below`.
        comparator: String,
        value: f64,
    }
    /// Settings of an app; what is absent stays.
    AppSettingsInput {
        /// Seconds between SIGTERM and SIGKILL, 10 to 600.
        container_stop_grace_period: Option<i32>,
        /// Containers that stop answering are replaced.
        unhealthy_container_replacement: Option<bool>,
        /// Visitors stay on the same container by cookie.
        sticky_sessions: Option<bool>,
        /// It stops after the operator's `sleep_after_seconds` without a connection, and the next request starts it.
        cold_start: Option<bool>,
    }
    /// Whom an account (by username) or an app (by id) tells of what.
    NotificationSettingsInput {
        username: Option<String>,
        app_id: Option<String>,
        slack: Option<SlackInput>,
        email: Option<EmailInput>,
    }
    /// Messages to a webhook that understands Slack's.
    SlackInput {
        enabled: bool,
        url: String,
        activity_types: Vec<String>,
        channels: Option<Vec<SlackChannelInput>>,
    }
    /// The channel of a type of activities.
    SlackChannelInput {
        activity_type: String,
        channel: String,
    }
    /// Messages by mail.
    EmailInput {
        enabled: bool,
        /// Mailboxes; every member of the account when there are none.
        to: Option<Vec<String>>,
        activity_types: Vec<String>,
    }
}

impl From<TriggerInput> for ops::app::TriggerInput {
    fn from(input: TriggerInput) -> Self {
        Self {
            id: input.id,
            app_id: input.app_id,
            name: input.name,
            enabled: input.enabled,
            action: input.action,
            min: input.min,
            max: input.max,
            step: input.step,
            operator: input.operator,
            rules: input.rules.into_iter().map(|rule| (rule.metric, rule.comparator, rule.value)).collect(),
            days_of_week: input.days_of_week,
            utc_offset: input.utc_offset,
            start_hour: input.start_hour,
            end_hour: input.end_hour,
            series: input.series_name,
            samples: input.sample_quantity,
            run_every: input.run_every_seconds,
        }
    }
}

impl From<AppSettingsInput> for AppPatch {
    fn from(input: AppSettingsInput) -> Self {
        Self {
            stop_grace_seconds: input.container_stop_grace_period,
            unhealthy_replacement: input.unhealthy_container_replacement,
            sticky: input.sticky_sessions,
            cold_start: input.cold_start,
        }
    }
}

impl NotificationSettingsInput {
    pub(crate) fn settings(&self) -> NotificationSettings {
        let slack = self.slack.clone().map(|slack| Slack {
            enabled: slack.enabled,
            url: slack.url,
            kinds: slack.activity_types.into_iter().collect(),
            channels: slack.channels.unwrap_or_default().into_iter().map(|one| (one.activity_type, one.channel)).collect(),
        });
        let mail = self.email.clone().map(|mail| MailSettings {
            enabled: mail.enabled,
            to: mail.to.unwrap_or_default(),
            kinds: mail.activity_types.into_iter().collect(),
        });
        NotificationSettings { slack, mail }
    }
}

impl DomainInput {
    pub(crate) fn save(self) -> Result<DomainSave, Fault> {
        let own = match (self.certificate, self.private_key) {
            (Some(chain), Some(key)) => Some(OwnCertificate { chain, key }),
            (None, None) => None,
            _ => return Err(Fault::bad_input("certificate and privateKey belong together: give both, or neither")),
        };
        Ok(DomainSave { app_id: self.app_id, name: self.name, force_https: self.force_ssl, own })
    }
}
