//! Mail, through the operator's server.

use lettre::message::{Mailbox, header::ContentType};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

/// How mail is sent.
#[derive(Clone)]
pub struct MailConfig {
    /// `smtps://user:password@host` or `smtp://host:25`.
    pub server: String,
    /// Whom it comes from: `Orrery <orrery@example.com>`.
    pub from: String,
}

impl std::fmt::Debug for MailConfig {
    /// The server's address holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailConfig").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Sends one mail, or says in words for its owner why not.
pub(crate) async fn send(config: Option<&MailConfig>, to: &[String], subject: &str, text: &str) -> Result<(), String> {
    let config = config.ok_or("this server sends no mail: the operator sets ORRERY_MAIL_SERVER and mail_from")?;
    let from: Mailbox = config.from.parse().map_err(|_| "the operator's mail_from is not a mail address")?;
    let mut message = Message::builder().from(from).subject(subject).header(ContentType::TEXT_PLAIN);
    for address in to {
        message = message.to(address.parse().map_err(|_| format!("{address:?} is not a mail address"))?);
    }
    let message = message.body(text.to_owned()).map_err(|error| error.to_string())?;
    let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(&config.server);
    let server = server.map_err(|_| "the operator's ORRERY_MAIL_SERVER is not an address like smtps://user:password@host")?.build();
    server.send(message).await.map(|_| ()).map_err(|error| format!("the mail server did not take it: {error}"))
}
