-- Requests per subject and day (days since 1970, UTC), and how far the present hour and minute of that day are used up. The subject is a
-- key, or a person for the tokens of their command-line logins: it refers to nothing, so that a count never fails because a key has gone.
CREATE TABLE api_key_usage (
    subject UUID NOT NULL,
    day BIGINT NOT NULL,
    allowed BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    in_hour BIGINT NOT NULL,
    minute BIGINT NOT NULL,
    in_minute BIGINT NOT NULL,
    PRIMARY KEY (subject, day)
);
CREATE INDEX api_key_usage_day ON api_key_usage (day);
