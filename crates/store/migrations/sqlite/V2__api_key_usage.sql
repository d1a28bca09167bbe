-- Requests per subject and day (days since 1970, UTC), and how far the present hour and minute of that day are used up. The subject is a
-- key, or a person for the tokens of their command-line logins: it refers to nothing, so that a count never fails because a key has gone.
CREATE TABLE api_key_usage (
    subject BLOB NOT NULL,
    day INTEGER NOT NULL,
    allowed INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    in_hour INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    in_minute INTEGER NOT NULL,
    PRIMARY KEY (subject, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX api_key_usage_day ON api_key_usage (day);
